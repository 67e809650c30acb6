import gzip
import struct

import numpy as np
import pytest

from weightspace.images.config import ImagesConfig

IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def pack_idx(array):
    """Write an array as MNIST's page describes the format, in other words than the reader's."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def arrays():
    """Images and labels of a small MNIST-like set: 40 for training, 20 for testing, 4 classes, 6x6."""
    rng = np.random.default_rng(0)
    arrays = []
    for count in (40, 20):
        arrays += [rng.integers(0, 256, (count, 6, 6), dtype=np.uint8), (np.arange(count) % 4).astype(np.uint8)]
    return dict(zip(IDX_NAMES, arrays, strict=True))


@pytest.fixture
def write_idx():
    """Give a function that writes arrays as IDX files into a folder."""

    def write(folder, arrays, zipped=False):
        folder.mkdir(exist_ok=True)
        for name, array in arrays.items():
            content = pack_idx(array)
            path = folder / (f"{name}.gz" if zipped else name)
            path.write_bytes(gzip.compress(content) if zipped else content)
        return folder

    return write


@pytest.fixture
def make_config():
    """Give a function that makes the configuration of a small set, with what is named changed."""

    def make(**changes):
        values = {
            "source": {"kind": "idx", "origin": {"kind": "folder", "path": "set"}},
            "classes": 4,
            "side": 6,
            "fit": "resize",
            "channels": 1,
            "split": {"kind": "official", "train": 24, "val": 12, "test": 16, "seed": 1},
            "normalize": {"kind": "train"},
        }
        return ImagesConfig.model_validate(values | changes)

    return make
