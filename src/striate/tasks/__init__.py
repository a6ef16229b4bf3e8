"""What differs between the tasks: targets, collation, results, metric and drawing, one file per task.

numpy and Pillow only: the same code turns the dense outputs of every engine into results.
"""
