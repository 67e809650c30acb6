import pytest
import torch

from weightspace.images.image_set import PreparedImages
from weightspace.networks import Architecture, Block


@pytest.fixture(scope="session")
def tiny_architecture():
    """A network with every kind of block, small enough to train in a moment: 8x8 images, three classes."""
    blocks = (
        Block(kind="conv", features=3, kernel=3, pool=True, dropout=True),
        Block(kind="conv", features=4, kernel=2),
        Block(kind="linear", features=6, dropout=True),
        Block(kind="linear", features=3, activate=False),
    )
    return Architecture(name="tiny", channels=1, height=8, width=8, blocks=blocks)


@pytest.fixture(scope="session")
def tiny_images():
    """Random images whose class is their brightest third."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    images = 0.5 * torch.randn(90, 1, 8, 8, generator=generator)
    for i, label in enumerate(labels):
        images[i, :, :, 3 * label : 3 * label + 2] += 1
    return PreparedImages(images[:50], labels[:50], images[50:70], labels[50:70], images[70:], labels[70:])
