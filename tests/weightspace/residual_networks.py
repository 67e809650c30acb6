"""Networks with batch norms and shortcuts as torch modules, small enough for tests."""

import torch
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two convolutions; named as in torchvision."""

    expansion = 1

    def __init__(self, before, width, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        add_shortcut(self, before, width, stride, shortcut)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + run_shortcut(self, x))


class Bottleneck(nn.Module):
    """Three convolutions, the last to twice as many channels."""

    expansion = 2

    def __init__(self, before, width, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(2 * width)
        add_shortcut(self, before, 2 * width, stride, shortcut)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + run_shortcut(self, x))


class Pad(nn.Module):
    """The shortcut without weights: every other pixel, and zeros around the channels."""

    def __init__(self, before, after):
        super().__init__()
        self.left = (after - before) // 2
        self.right = after - before - self.left

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.left, self.right))


def add_shortcut(block, before, after, stride, shortcut):
    """Give a block what its input needs to be added to its output."""
    if before == after and stride == 1:
        block.past = None
    elif shortcut == "pad":
        block.pad = Pad(before, after)
        block.past = "pad"
    else:
        setattr(block, shortcut, nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)))
        block.past = shortcut


def run_shortcut(block, x):
    """Compute what a block adds to its output."""
    return x if block.past is None else getattr(block, block.past)(x)


class ResNet(nn.Module):
    """A residual network for small images; `head` and `shortcut` are the names of these modules."""

    def __init__(self, block=BasicBlock, width=4, depths=(2, 2, 2, 2), shortcut="downsample", head="fc", widen=2):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before, self.stages, self.head = width, len(depths), head
        for stage, depth in enumerate(depths):
            blocks = []
            for number in range(depth):
                stride = 2 if stage and number == 0 else 1
                blocks.append(block(before, width * widen**stage, stride, shortcut))
                before = width * widen**stage * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        setattr(self, head, nn.Linear(before, 3))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return getattr(self, self.head)(x.mean((2, 3)))


def make_vgg():
    """A chain of convolutions with batch norms, one without shift and scale, and two linear layers."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5, affine=False), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(5 * 2 * 2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)),
    )


NETWORKS = {
    "resnet18": ResNet,
    "cifar": lambda: ResNet(width=4, depths=(2, 1, 2), shortcut="shortcut", head="linear"),
    "padded": lambda: ResNet(width=4, depths=(1, 2), shortcut="pad", head="linear"),
    "bottleneck": lambda: ResNet(Bottleneck, width=3, depths=(2, 1)),
    "vgg": make_vgg,
}
WIRING = {name: "chain" if name == "vgg" else "by_name" for name in NETWORKS}


def make_network(kind, seed=0):
    """Make a network that has seen images: its running statistics and norms differ from channel to channel."""
    torch.manual_seed(seed)
    network = NETWORKS[kind]()
    for _ in range(3):
        network(torch.randn(16, 3, 8, 8))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network.eval()


def read_shapes(network):
    """Tell the shapes of the numbers of a network, as an import sees them."""
    return {name: tuple(t.shape) for name, t in network.state_dict().items() if "num_batches" not in name}


def read_vector(structure, network):
    """Lay the numbers of a network end to end, as its structure says."""
    state = network.state_dict()
    return torch.cat([state[name].flatten() for name in structure.names])


def load_vector(structure, network, vector):
    """Put a weight vector into a network."""
    tensors = structure.layout.split(vector).values()
    network.load_state_dict(dict(zip(structure.names, tensors, strict=True)), strict=False)
