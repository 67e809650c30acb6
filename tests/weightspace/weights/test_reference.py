import numpy as np
import pytest

from tests.weightspace.weights.made_up_zoo import EPOCHS, match_weights_to, prepare, write_zoo
from weightspace.config import BadInput
from weightspace.store import read_checkpoints


def test_reference_is_the_best_train_member_on_validation_images(zoo, target):
    data = prepare(zoo, target)
    table = data.checkpoints.table
    last = table[(table["epoch"] == EPOCHS - 1) & (table["split"] == "train")]
    best = last["val_accuracy"].idxmax()
    assert np.array_equal(data.reference.numpy(), read_checkpoints(zoo).weights[best])


def test_reference_may_be_named(zoo, target):
    reference = {"kind": "member", "member": "m00017"}
    alignment = {"kind": "weight_matching", "reference": reference, "seed": 0, "max_sweeps": 100}
    data = prepare(zoo, target, alignment=alignment)
    row = np.flatnonzero(data.checkpoints.table["member"] == "m00017")[-1]
    assert np.array_equal(data.reference.numpy(), data.checkpoints.weights[row])


def test_unknown_reference_is_refused(zoo, target):
    alignment = {"kind": "weight_matching", "reference": {"kind": "member", "member": "x"}, "seed": 0, "max_sweeps": 9}
    with pytest.raises(BadInput, match=r"alignment\.reference\.member: got 'x'"):
        prepare(zoo, target, alignment=alignment)


def find_last_row(table, member):
    return np.flatnonzero(table["member"] == member)[-1]


def test_reference_may_be_the_first_train_member(zoo, target):
    data = prepare(zoo, target, alignment=match_weights_to(kind="first"))
    table = data.checkpoints.table
    first = min(table["member"][table["split"] == "train"])
    assert np.array_equal(data.reference.numpy(), data.checkpoints.weights[find_last_row(table, first)])


@pytest.mark.parametrize("alignment", [match_weights_to(kind="first"), {"kind": "none"}])
def test_first_reference_is_no_member_that_diverges(zoo, target, tmp_path, alignment):
    table = prepare(zoo, target).checkpoints.table
    first, second = sorted(set(table["member"][table["split"] == "train"]))[:2]

    def diverge(part):
        last = (part.table["member"] == first) & (part.table["epoch"] == EPOCHS - 1)
        part.table.loc[last, "diverged"] = True

    write_zoo(tmp_path / "other", diverge)
    data = prepare(tmp_path / "other", target, alignment=alignment)
    assert np.array_equal(data.reference.numpy(), data.checkpoints.weights[find_last_row(table, second)])


@pytest.mark.parametrize("known", [True, False])
def test_zoo_without_validation_accuracy_says_what_to_use(tmp_path, target, known):
    def forget(part):
        part.table["val_accuracy"] = np.float32(np.nan)
        if not known:
            del part.table["val_accuracy"]

    write_zoo(tmp_path / "zoo", forget)
    message = (
        r"`kind: best` needs a validation accuracy.*wanted `kind: first`, or `kind: member` with a name such as 'm0"
    )
    with pytest.raises(BadInput, match=message):
        prepare(tmp_path / "zoo", target)
    assert len(prepare(tmp_path / "zoo", target, alignment=match_weights_to(kind="first")).reference)


def test_without_alignment_a_zoo_needs_no_validation_accuracy(tmp_path, target):
    def forget(part):
        del part.table["val_accuracy"]

    write_zoo(tmp_path / "zoo", forget)
    data = prepare(tmp_path / "zoo", target, alignment={"kind": "none"})
    assert np.array_equal(data.checkpoints.weights, read_checkpoints(tmp_path / "zoo").weights)
    assert data.reference.isfinite().all()
