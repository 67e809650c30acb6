import subprocess
import sys

import pytest
import torch

from tests.weightspace.hyperrep.small_model import CPU, make_config, make_data
from weightspace.hyperrep.batches import draw_batch
from weightspace.hyperrep.train import prepare_run

COMPARE_COMPILED = """
from tests.weightspace.hyperrep.small_model import CPU, make_config, make_data
from weightspace.hyperrep.train import train_hyperrep
plain, compiled = (
    train_hyperrep(make_data(), make_config(training={"steps": 3, "compile": on}), None, CPU).history
    for on in (False, True)
)
assert ((plain - compiled).abs() <= 1e-4 * plain.abs()).all(axis=None), (plain, compiled)
"""


def learn_once(**changes):
    """Measure the loss of one step; returns it with the gradients."""
    run = prepare_run(make_data(), make_config(training=changes), CPU)
    terms = run.learner(draw_batch(run.pool, run.batching, run.config.training, 0), 0)
    terms["loss"].backward()
    return terms, torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])


def test_half_precision_is_near_and_measures_in_full():
    (full, gradient), (half, other) = learn_once(), learn_once(precision="bfloat16")
    assert half["loss"].dtype == torch.float32
    assert not torch.equal(full["reconstruction"], half["reconstruction"])
    for name, term in full.items():
        torch.testing.assert_close(half[name], term, rtol=0.02, atol=0.02)
    assert other.dtype == torch.float32
    assert torch.cosine_similarity(gradient, other, dim=0) > 0.98


def test_gradients_come_from_the_loss_alone():
    terms, _ = learn_once()
    assert [name for name, term in terms.items() if term.requires_grad] == ["loss"]


@pytest.mark.slow
def test_compiled_training_equals_plain_training():
    # In a process of its own: torch.compile cannot see through the checks of shapes that tests run with.
    subprocess.run([sys.executable, "-c", COMPARE_COMPILED], check=True)
