import pytest

from tests.weightspace.zoo.tiny import NETWORK, make_images


@pytest.fixture(scope="session")
def tiny_architecture():
    return NETWORK


@pytest.fixture(scope="session")
def tiny_images():
    return make_images()
