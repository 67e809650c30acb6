import pytest
import torch

from flows.orchestration.runners import Processes
from flows.orchestration.workers import make_terms, run_on_workers
from weightspace.config import Config
from weightspace.images.image_set import ImageSet, write_image_set
from weightspace.record import write_record


class NoConfig(Config):
    """Configuration of made-up images."""


@pytest.fixture
def tiny_study(tmp_path):
    """A study's folder with one image set, `noise`: 60 random images of ten classes."""
    folder = tmp_path / "data/images/noise"
    folder.mkdir(parents=True)
    pixels = torch.randint(0, 256, (60, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = {"train": torch.arange(40), "val": torch.arange(40, 50), "test": torch.arange(50, 60)}
    images = ImageSet(
        images=pixels,
        labels=torch.arange(60) % 10,
        split=split,
        mean=torch.tensor([0.5]),
        std=torch.tensor([0.3]),
        rows=torch.arange(60),
        source={},
    )
    write_image_set(folder, images)
    write_record(folder, "images", "noise", NoConfig(), {})
    return tmp_path


@pytest.fixture
def run_elsewhere():
    """Makes the parts of a stage in two processes of their own."""

    def run_all(function, calls):
        runner = Processes(kind="processes", num_workers=2, threads_per_worker=torch.get_num_threads())
        run_on_workers(runner, [(function, arguments, make_terms(runner)) for arguments in calls])

    return run_all
