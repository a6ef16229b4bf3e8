"""Running a model: pictures in, results out, one engine per kind of file.

An engine turns arrays into dense outputs and knows no task; the predictor around it decodes, prepares,
batches and asks the task for results, alike for every engine. Importing this needs no torch.
"""
