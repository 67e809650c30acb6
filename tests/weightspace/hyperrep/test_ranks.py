from functools import partial

import numpy as np
import pytest
import torch

from tests.weightspace.hyperrep.small_model import CPU, make_config, make_data
from weightspace.config import BadInput
from weightspace.hyperrep.batches import draw_batch
from weightspace.hyperrep.learner import build_learner
from weightspace.hyperrep.ranks import ALONE, Ranks, train_in_processes
from weightspace.hyperrep.state import FILE_NAME
from weightspace.hyperrep.train import prepare_run, train_hyperrep

CONFIG = make_config(training={"steps": 4, "validate_every": 2})


def train_rank(config, scratch, device, ranks):
    """Train in one of several processes; a module's function, since processes take no other."""
    train_hyperrep(make_data(), config, scratch, device, None, ranks)


def test_two_processes_give_what_one_gives(tmp_path):
    train_in_processes(partial(train_rank, CONFIG, tmp_path), 2, CPU, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    together = train_hyperrep(make_data(), CONFIG, tmp_path, CPU)
    alone = train_hyperrep(make_data(), CONFIG, None, CPU)
    assert together.history["step"].tolist() == [2, 4]
    np.testing.assert_allclose(together.history, alone.history, rtol=1e-4)
    for name, value in alone.hyperrep.model.state_dict().items():
        torch.testing.assert_close(together.hyperrep.model.state_dict()[name], value, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_what_a_process_finds_wrong_is_told(tmp_path):
    config = make_config(window=10000)
    with pytest.raises(BadInput, match=r"^window: got 10000 tokens"):
        train_in_processes(partial(train_rank, config, tmp_path), 2, CPU, tmp_path)


def test_shares_are_the_batch():
    run = prepare_run(make_data(), CONFIG, CPU)
    batch = draw_batch(run.pool, run.batching, CONFIG.training, 0)
    shares = [Ranks(rank, 2).share(batch) for rank in range(2)]
    for part in ("inputs", "targets"):
        first, second = getattr(batch, part).chunk(2)
        for rank, share in enumerate(shares):
            assert torch.equal(getattr(share, part), torch.cat([first[rank::2], second[rank::2]]))
    assert torch.equal(ALONE.share(batch).inputs, batch.inputs)


def test_batches_that_cannot_be_shared_evenly_are_refused():
    run = prepare_run(make_data(), CONFIG, CPU)
    with pytest.raises(BadInput, match=r"training.batch_size: got 8, wanted a multiple of training.processes, 3"):
        build_learner(run.model, run.criterion, CONFIG.training, Ranks(0, 3))
