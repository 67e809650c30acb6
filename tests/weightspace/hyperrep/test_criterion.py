import pytest
import torch

from tests.weightspace.hyperrep.small_model import CPU, behave, make_config, make_data
from tests.weightspace.samples.small_study import build_image_set
from weightspace.hyperrep.batches import draw_batch
from weightspace.hyperrep.criterion import measure_losses
from weightspace.hyperrep.train import prepare_run

DATA, IMAGES = make_data(), build_image_set()


def measure(changes, step=0):
    run = prepare_run(DATA, make_config(**changes), CPU, IMAGES)
    batch = draw_batch(run.pool, run.batching, run.config.training, step)
    return run, measure_losses(run.model, batch, run.criterion, step)


def with_behaviour(scale="none", contrast_weight=0.2):
    changes = behave(weight=0.9)
    loss = {**changes["loss"], "scale": scale, "contrast_weight": contrast_weight}
    return changes | {"loss": loss}


def test_terms_are_weighted_as_published():
    _, terms = measure(with_behaviour())
    structure, behaviour = 0.1 * terms["reconstruction"], 0.9 * terms["behaviour"]
    torch.testing.assert_close(terms["loss"], 0.2 * terms["contrast"] + 0.8 * (structure + behaviour))


def test_terms_divided_by_their_first_values_start_at_one():
    run, terms = measure(with_behaviour("first_step"))
    assert terms["loss"].item() == pytest.approx(1)
    assert {"reconstruction", "contrast", "behaviour"} == set(run.criterion.shares)
    assert terms["behaviour"].item() < 0.5  # the history shows each term in its own unit


def test_later_steps_are_divided_by_the_values_of_the_first():
    _, first = measure(with_behaviour("first_step"))
    _, later = measure(with_behaviour("first_step"), step=2)
    parts = {"contrast": 0.2, "reconstruction": 0.8 * 0.1, "behaviour": 0.8 * 0.9}
    wanted = sum(share * later[name].item() / first[name].item() for name, share in parts.items())
    assert later["loss"].item() == pytest.approx(wanted)
    assert later["loss"].item() != pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("contrast_weight", "kept", "idle"),
    [(0.0, "reconstruction", ("projection",)), (1.0, "contrast", ("decoder", "to_token", "path_out"))],
)
def test_a_term_without_a_share_sends_nothing_back(contrast_weight, kept, idle):
    run, terms = measure({"loss": {"contrast_weight": contrast_weight}, "training": {"keep_best": kept}})
    assert min(terms["reconstruction"].item(), terms["contrast"].item()) > 0
    terms["loss"].backward()
    assert all(p.grad is None for name, p in run.model.named_parameters() if name.startswith(idle))
    assert run.model.encoder.embed.weight.grad is not None


@pytest.mark.parametrize(("contrast_weight", "kept"), [(0.0, "contrast"), (1.0, "reconstruction"), (0.5, "behaviour")])
def test_a_model_is_not_kept_by_what_it_did_not_learn(contrast_weight, kept):
    with pytest.raises(ValueError, match=f"training.keep_best '{kept}'; wanted one of loss, "):
        make_config(loss={"contrast_weight": contrast_weight}, training={"keep_best": kept})
