"""A network with every kind of block and images for it, small enough to train in a moment."""

import torch

from weightspace.images.image_set import PreparedImages
from weightspace.networks import Architecture, Block

NETWORK = Architecture(
    name="tiny",
    channels=1,
    height=8,
    width=8,
    blocks=(
        Block(kind="conv", features=3, kernel=3, pool=True, dropout=True),
        Block(kind="conv", features=4, kernel=2),
        Block(kind="linear", features=6, dropout=True),
        Block(kind="linear", features=3, activate=False),
    ),
)
"""For 8x8 images of three classes."""


def make_images() -> PreparedImages:
    """Make random images whose class is their brightest third."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    images = 0.5 * torch.randn(90, 1, 8, 8, generator=generator)
    for i, label in enumerate(labels):
        images[i, :, :, 3 * label : 3 * label + 2] += 1
    return PreparedImages(images[:50], labels[:50], images[50:70], labels[50:70], images[70:], labels[70:])
