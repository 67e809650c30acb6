"""Torch modules as a user might write them, some of which no zoo can be made of."""

import torch
from torch import nn
from torch.nn import functional as F


class Small(nn.Module):
    """A convolution with a batch norm, a layer norm and a token; `rate` drops units twice with one layer."""

    def __init__(self, rate=0.0, num_classes=3):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(rate)
        self.hidden = nn.Linear(4 * 16, 5)
        self.plain = nn.LayerNorm(5)
        self.head = nn.Linear(5, num_classes)

    def forward(self, x):
        x = self.drop(F.max_pool2d(F.relu(self.norm(self.conv(x))), 2))
        return self.head(torch.tanh(self.plain(self.drop(self.hidden(x.flatten(1)))))) * self.scale


class Branching(Small):
    """Takes one of two ways, as the numbers decide."""

    def forward(self, x):
        logits = super().forward(x)
        return logits if logits.sum() > 0 else logits * 2


class Normed(Small):
    """Norms each hidden unit over the batch."""

    def __init__(self):
        super().__init__()
        self.plain = nn.BatchNorm1d(5)


class Noisy(Small):
    """Drops whole channels as torch's generator decides."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout2d(0.5)


class Idle(Small):
    """Has a layer that nothing uses."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)


class Frozen(Small):
    """Has a layer that is not trained, and weights that two layers share."""

    def __init__(self):
        super().__init__()
        self.conv.weight.requires_grad_(False)
        self.again = nn.Linear(5, 5)
        self.last = nn.Linear(5, 5)
        self.last.weight = self.again.weight

    def forward(self, x):
        x = F.max_pool2d(self.norm(self.conv(x)), 2).flatten(1)
        return self.head(self.last(self.again(self.plain(self.hidden(x))))) * self.scale


def make_small(num_classes):
    """Make a module, as a function."""
    return Small(num_classes=num_classes)


def make_pair():
    """Make something that is no module."""
    return (1, 2)


class Nothing(nn.Module):
    """Has nothing to train."""

    def forward(self, x):
        return x.flatten(1)[:, :3]


class Wide(nn.Sequential):
    """Averages over images of any size."""

    def __init__(self, num_classes):
        super().__init__(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
            *(nn.Dropout(0.2), nn.Linear(16, num_classes)),
        )
