"""Read SVHN's cropped digits from their MATLAB files."""

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from weightspace.config import BadInput
from weightspace.images.raw import Part, RawImages, hash_bytes, join_parts, take_labels

NAMES = ("train_32x32.mat", "test_32x32.mat")
SHAPE = (32, 32, 3)


def read_svhn(folder: Path) -> RawImages:
    """Read `train_32x32.mat` and `test_32x32.mat`; the published zoos leave the third, `extra`, out.

    Raises:
        BadInput: a file is missing or damaged.
    """
    (train, train_digest), (test, test_digest) = (read_part(folder / name) for name in NAMES)
    return join_parts(train, test, dict(zip(NAMES, (train_digest, test_digest), strict=True)))


def read_part(path: Path) -> tuple[Part, str]:
    """Read images and labels with the file's digest; the label 10, which stands for the digit 0, becomes 0.

    Raises:
        BadInput: the file is missing or damaged, or has no such arrays or a label that no digit has.
    """
    try:
        content = path.read_bytes()
        arrays = loadmat(BytesIO(content), variable_names=["X", "y"])
        images, labels = np.asarray(arrays["X"]), np.asarray(arrays["y"]).ravel()
    except FileNotFoundError as error:
        raise BadInput(f"{path}: missing, wanted SVHN's cropped digits") from error
    except (
        MatReadError,
        NotImplementedError,
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        TypeError,
        LookupError,
    ) as error:
        raise BadInput(f"{path}: cannot be read as SVHN's MATLAB file ({error}); it may be cut short") from error
    if images.dtype != np.uint8 or images.shape != (*SHAPE, len(labels)):
        raise BadInput(
            f"{path}: images of {images.dtype} and shape {images.shape} for {len(labels)} labels, "
            "wanted uint8 and (32, 32, 3, labels)"
        )
    pixels = np.ascontiguousarray(images.transpose(3, 2, 0, 1))
    return Part(pixels, take_labels(labels, 1, 10, path) % 10), hash_bytes(content)
