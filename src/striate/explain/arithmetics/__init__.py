"""What each kind of operation does to make one number: a kind or a few alike a file, found by the folder.

A file offers `RULES`: name of torch's operation -> rule, and may offer `MODULES`: class -> rule, for modules
that are understood as a whole. A rule takes an `Element` and gives how it is made in float64, or why it
cannot tell.
"""
