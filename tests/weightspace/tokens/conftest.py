import pytest
import torch

from weightspace.networks import Architecture, Block, build_cnn_l, build_cnn_s

MLP = Architecture(
    name="mlp",
    channels=1,
    height=6,
    width=5,
    blocks=(
        Block(kind="linear", features=7),
        Block(kind="linear", features=5, dropout=True),
        Block(kind="linear", features=3, activate=False),
    ),
)
ARCHITECTURES = {"cnn_s": build_cnn_s(), "cnn_s_rgb": build_cnn_s(3), "cnn_l": build_cnn_l(), "mlp": MLP}


@pytest.fixture(params=list(ARCHITECTURES))
def architecture(request):
    """Each architecture in turn."""
    return ARCHITECTURES[request.param]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
