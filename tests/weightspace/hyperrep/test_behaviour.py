from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.weightspace.hyperrep.small_model import CPU, behave, make_config, make_data, with_weights
from tests.weightspace.samples.small_study import ARCHITECTURE, build_image_set
from weightspace.config import BadInput
from weightspace.hyperrep.batches import ACTIVATION_NAMES, draw_batch
from weightspace.hyperrep.behaviour import compare_outputs, draw_images, measure_behaviour
from weightspace.hyperrep.config import CrossEntropyBehaviour, DistillationBehaviour, SoftmaxBehaviour
from weightspace.hyperrep.train import prepare_run
from weightspace.images.image_set import prepare_images
from weightspace.networks import run_networks

SHARED: dict[str, Any] = {"weight": 0.9, "num_networks": 5, "num_images": 20}
KINDS = [{"kind": "softmax"}, {"kind": "cross_entropy"}, {"kind": "distillation", "temperature": 2.0}]


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def images():
    return build_image_set()


def prepare(data, images, **changes):
    run = prepare_run(data, make_config(**behave(**changes)), CPU, images)
    assert run.criterion.behaviour is not None
    return run, run.criterion.behaviour, draw_batch(run.pool, run.batching, run.config.training, 0)


def shift(batch, by=0.3):
    return batch.targets + by * torch.randn(batch.targets.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["kind"])
def test_a_batch_of_many_activations_is_the_mean_over_networks_one_by_one(data, images, kind):
    _, behaviour, batch = prepare(data, images, **kind)
    outputs, seen = shift(batch), draw_images(behaviour, 3)
    assert len(batch.activation[:5].unique()) == 2
    layout, losses = behaviour.tokenizer.layout, []
    for row in range(5):
        name = ACTIVATION_NAMES[int(batch.activation[row])]
        logits = [
            run_networks(
                ARCHITECTURE,
                layout.split(data.statistics.restore(layout, behaviour.tokenizer.detokenize(tokens[row : row + 1]))),
                seen,
                name,
            )
            for tokens in (outputs, batch.targets)
        ]
        losses.append(compare_outputs(logits[0], logits[1], behaviour.rules))
    found = measure_behaviour(behaviour, outputs, batch.targets, batch.activation, 3)
    torch.testing.assert_close(found, torch.cat(losses).mean())


def test_targets_do_what_the_members_do(data, images):
    _, behaviour, batch = prepare(data, images)
    layout = behaviour.tokenizer.layout
    restored = data.statistics.restore(layout, behaviour.tokenizer.detokenize(batch.targets[:8]))
    members = torch.from_numpy(data.checkpoints.weights)
    row = torch.cdist(restored, members).argmin(1)
    torch.testing.assert_close(restored, members[row], atol=1e-5, rtol=1e-5)
    names = data.checkpoints.table["activation"].to_numpy()[row.numpy()]
    assert [ACTIVATION_NAMES[code] for code in batch.activation] == names.tolist()
    assert set(names) == {"tanh", "relu"}


def test_softmax_is_the_published_difference_of_probabilities():
    logits, wanted = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    rules = SoftmaxBehaviour(kind="softmax", **SHARED)
    by_hand = (logits.softmax(-1) - wanted.softmax(-1)).square().mean((1, 2))
    torch.testing.assert_close(compare_outputs(logits, wanted, rules), by_hand)


def test_cross_entropy_is_to_the_class_of_the_original():
    logits, wanted = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    rules = CrossEntropyBehaviour(kind="cross_entropy", **SHARED)
    by_hand = torch.stack([F.cross_entropy(logits[i], wanted[i].argmax(-1)) for i in range(3)])
    torch.testing.assert_close(compare_outputs(logits, wanted, rules), by_hand)


def test_distillation_is_the_softened_divergence():
    logits, wanted = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    rules = DistillationBehaviour(kind="distillation", temperature=2.0, **SHARED)
    p, q = (wanted / 2).softmax(-1), (logits / 2).softmax(-1)
    torch.testing.assert_close(compare_outputs(logits, wanted, rules), 4 * (p * (p / q).log()).sum(-1).mean(1))


@pytest.mark.parametrize("kind", KINDS[::2], ids=lambda kind: kind["kind"])
def test_a_perfect_reconstruction_costs_nothing(data, images, kind):
    _, behaviour, batch = prepare(data, images, **kind)
    loss = measure_behaviour(behaviour, batch.targets, batch.targets, batch.activation, 0)
    assert float(loss) == pytest.approx(0, abs=1e-6)


def test_hidden_units_may_come_in_another_order(data, images):
    _, behaviour, batch = prepare(data, images)
    permuted = batch.targets.roll(len(batch.activation), 0)
    assert (permuted[:5] - batch.targets[:5]).abs().max() > 0.1
    loss = measure_behaviour(behaviour, permuted, batch.targets, batch.activation, 0)
    assert float(loss) == pytest.approx(0, abs=1e-6)


def test_only_training_images_are_seen(data, images):
    _, behaviour, _ = prepare(data, images)
    assert torch.equal(behaviour.images, prepare_images(images, CPU).train)
    assert len(behaviour.images) == 50


def test_images_follow_from_the_step_alone_and_are_the_same_in_validation(data, images):
    _, behaviour, _ = prepare(data, images)
    later = draw_images(behaviour, 4)
    draw_images(behaviour, 3)
    assert torch.equal(draw_images(behaviour, 4), later)
    assert len(later) == len(later.flatten(1).unique(dim=0)) == 20
    assert not torch.equal(draw_images(behaviour, 5), later)
    assert torch.equal(draw_images(behaviour, None), draw_images(behaviour, None))


def test_no_more_networks_than_asked_for_have_a_part(data, images):
    _, behaviour, batch = prepare(data, images)
    outputs = shift(batch)
    loss = measure_behaviour(behaviour, outputs, batch.targets, batch.activation, 0)
    outputs[5:] += 1.0
    assert torch.equal(measure_behaviour(behaviour, outputs, batch.targets, batch.activation, 0), loss)
    outputs[4] += 1.0
    assert not torch.equal(measure_behaviour(behaviour, outputs, batch.targets, batch.activation, 0), loss)


def test_a_network_whose_outputs_are_not_finite_is_left_out(data, images):
    _, behaviour, batch = prepare(data, images)
    outputs = shift(batch)
    broken = outputs.clone()
    broken[1] *= 1e30
    broken.requires_grad_()
    loss = measure_behaviour(behaviour, broken, batch.targets, batch.activation, 0)
    loss.backward()
    others = torch.tensor([0, 2, 3, 4])
    alone = measure_behaviour(behaviour, outputs[others], batch.targets[others], batch.activation[others], 0)
    torch.testing.assert_close(loss, alone)
    assert broken.grad is not None
    assert broken.grad.isfinite().all()
    assert (broken.grad[others] != 0).any((1, 2)).all()


def test_gradients_reach_the_whole_model(data, images):
    run, behaviour, batch = prepare(data, images)
    latents, _ = run.model.embed(batch.inputs, batch.kinds, batch.positions)
    outputs = run.model.decode(latents, batch.kinds, batch.positions)
    measure_behaviour(behaviour, outputs, batch.targets, batch.activation, 0).backward()
    for name, parameter in run.model.named_parameters():
        if not name.startswith("projection"):
            assert parameter.grad is not None, name
            assert (parameter.grad != 0).any(), name


def test_images_of_another_shape_are_refused(data):
    with pytest.raises(BadInput, match=r"images i: shape \(1, 9, 9\), but tiny takes \(1, 8, 8\)"):
        prepare(data, build_image_set(9))


def test_networks_of_an_unknown_activation_are_refused(images):
    data = make_data()
    data.checkpoints.table["activation"] = "maxout"
    with pytest.raises(BadInput, match="weights w: no architecture or activation that can be run"):
        prepare(data, images)


def test_networks_without_an_architecture_are_refused(images):
    data = with_weights(make_data(), torch.from_numpy(make_data().checkpoints.weights))
    bare = replace(data, checkpoints=replace(data.checkpoints, about={}))
    with pytest.raises(BadInput, match="weights w: no architecture or activation that can be run"):
        prepare(bare, images)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"images": "."}, r"images '\.' with loss.behaviour 'softmax'; wanted the image set"),
        ({"window": 9}, "window 9 with loss.behaviour; wanted 'whole'"),
        ({"training": {"keep_best": "reconstruction"}, **behave(weight=1.0)}, "'reconstruction'; wanted one of loss, "),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(changes, problem):
    with pytest.raises(ValueError, match=problem):
        make_config(**(behave() | changes))
