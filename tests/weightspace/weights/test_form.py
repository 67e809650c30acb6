import numpy as np
import pytest
import torch

from tests.weightspace.weights.made_up_zoo import ARCHITECTURE, EPOCHS, LAYOUT, MEMBERS, configure, prepare, write_zoo
from weightspace.config import BadInput
from weightspace.networks import run_networks
from weightspace.store import read_checkpoints
from weightspace.weights.permute import draw_permutations, permute_weights
from weightspace.weights.weight_data import read_alignment

SORT = {"kind": "sort", "key": "incoming"}


def scatter(part):
    """Reorder the units of each member, the same for all its epochs."""
    members = len(part.table) // EPOCHS
    orders = draw_permutations(LAYOUT, members, torch.Generator().manual_seed(3))
    orders = {name: order.repeat_interleave(EPOCHS, 0) for name, order in orders.items()}
    part.weights[:] = permute_weights(LAYOUT, torch.from_numpy(part.weights), orders).numpy()


def use_relu(part):
    part.table["activation"] = "relu"


def run(weights, activation):
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return run_networks(ARCHITECTURE, LAYOUT.split(torch.from_numpy(weights)), images, activation)


def test_sorted_members_are_the_same_however_their_units_lay(zoo, target, tmp_path):
    write_zoo(tmp_path / "scattered", scatter)
    (tmp_path / "other").mkdir()
    first = prepare(zoo, target, alignment=SORT)
    second = prepare(tmp_path / "scattered", tmp_path / "other", alignment=SORT)
    assert not np.array_equal(first.checkpoints.weights, read_checkpoints(zoo).weights)
    assert np.array_equal(first.checkpoints.weights, second.checkpoints.weights)
    assert torch.equal(first.reference, second.reference)


@pytest.mark.parametrize("alignment", [SORT | {"key": "both"}, {"kind": "none"}])
def test_scaled_units_have_norm_1_and_networks_compute_what_they_did(tmp_path, target, alignment):
    write_zoo(tmp_path / "zoo", use_relu)
    data = prepare(tmp_path / "zoo", target, canonical={"scale": True, "orient": False}, alignment=alignment)
    unit = LAYOUT.split(torch.from_numpy(data.checkpoints.weights))
    norms = (unit["conv1.weight"].flatten(2).square().sum(2) + unit["conv1.bias"].square()).sqrt()
    torch.testing.assert_close(norms, torch.ones_like(norms))
    before = read_checkpoints(tmp_path / "zoo").weights
    torch.testing.assert_close(run(data.checkpoints.weights, "relu"), run(before, "relu"), atol=1e-4, rtol=1e-4)


def test_turned_signs_are_a_members_at_all_epochs_and_are_written_down(zoo, target):
    data = prepare(zoo, target, canonical={"scale": False, "orient": True}, alignment={"kind": "none"})
    alignment = read_alignment(target)
    before = read_checkpoints(zoo).weights
    assert any((sign == -1).any() for sign in alignment.signs.values())
    assert all(sign.shape[0] == MEMBERS for sign in alignment.signs.values())
    assert not np.array_equal(data.checkpoints.weights, before)
    assert np.array_equal(np.abs(data.checkpoints.weights), np.abs(before))
    torch.testing.assert_close(run(data.checkpoints.weights, "tanh"), run(before, "tanh"), atol=1e-5, rtol=1e-5)


def test_matched_members_are_turned_first(zoo, target):
    data = prepare(zoo, target, canonical={"scale": False, "orient": True})
    alignment = read_alignment(target)
    last = torch.from_numpy(data.checkpoints.weights[EPOCHS - 1 :: EPOCHS])
    torch.testing.assert_close((last - data.reference).norm(dim=1), alignment.after)
    assert (alignment.after == 0).sum() == 1


def test_scale_of_networks_that_nobody_knows_is_refused(tmp_path, target):
    def forget(part):
        del part.about["architecture"]

    write_zoo(tmp_path / "zoo", forget)
    with pytest.raises(BadInput, match="canonical: got scale or orient for networks whose architecture is not known"):
        prepare(tmp_path / "zoo", target, canonical={"scale": True, "orient": False})


def test_sorting_by_a_norm_that_scale_makes_one_is_refused():
    with pytest.raises(ValueError, match=r"alignment\.key is both where canonical\.scale"):
        configure(canonical={"scale": True, "orient": False}, alignment=SORT)
