"""`digits`: 1,797 handwritten digits of 43 people, 8x8 gray, as scikit-learn carries them.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998,
doi:10.24432/C50P49 (its test part), CC BY 4.0.
"""

import numpy as np

from striate.data.dataset import Dataset, Item
from striate.data.storage import ArrayStorage
from striate.errors import EnvironmentProblem

__all__ = ["DESCRIPTION", "read"]

DESCRIPTION = "1,797 scans of handwritten digits, 8x8 gray, 10 classes; from scikit-learn (CC BY 4.0)"

BRIGHTEST = 16
"""Each value counts the inked pixels of a 4x4 block of the original scan."""


def read() -> Dataset:
    """The 1,797 digits as a classification dataset of classes "0".."9", ink bright on black.

    Raises EnvironmentProblem if scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise EnvironmentProblem(
            "digits", "it comes with scikit-learn, which is not installed", "pip install 'striate[train]'"
        ) from error
    scans, labels = load_digits(return_X_y=True)
    pixels = np.rint(scans * (255 / BRIGHTEST)).astype(np.uint8)
    storage = ArrayStorage(pixels.reshape(-1, 8, 8, 1), "digits")
    items = tuple(Item(key, label=int(label)) for key, label in zip(storage.keys(), labels, strict=True))
    return Dataset("digits", "built in", "classification", tuple("0123456789"), items, storage)
