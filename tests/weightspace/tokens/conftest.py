import pytest
import torch

from tests.weightspace.weights.made_up_zoo import ARCHITECTURES


@pytest.fixture(params=list(ARCHITECTURES))
def architecture(request):
    """Each architecture in turn."""
    return ARCHITECTURES[request.param]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
