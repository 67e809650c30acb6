import pytest
import torch

from tests.weightspace.weights.made_up_zoo import ARCHITECTURES, write_zoo


@pytest.fixture(params=list(ARCHITECTURES))
def architecture(request):
    """Each architecture in turn."""
    return ARCHITECTURES[request.param]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def zoo(tmp_path):
    """Folder of a made-up zoo."""
    folder = tmp_path / "zoo"
    write_zoo(folder)
    return folder


@pytest.fixture
def target(tmp_path):
    """Empty folder for a weight data set."""
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder
