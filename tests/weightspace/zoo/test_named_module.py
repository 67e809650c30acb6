import sys

import numpy as np
import pandas as pd
import pytest
import torch

from tests.weightspace.zoo.user_modules import Frozen, Small
from weightspace.config import BadInput
from weightspace.embeddings.scores import read_architecture
from weightspace.networks import read_chain
from weightspace.store import Checkpoints, name_part, read_checkpoints, write_part
from weightspace.zoo.config import Draw, Module
from weightspace.zoo.kinds import lay_out_network
from weightspace.zoo.members import choose_architecture, draw_members
from weightspace.zoo.modules import lay_out_module, read_vector, run_module
from weightspace.zoo.named_module import describe_named

HERE = "tests.weightspace.zoo.user_modules"
SHAPE = (1, 8, 8)


def describe(name, num_classes=3, shape=SHAPE, **arguments):
    return describe_named(f"{HERE}:{name}", arguments, shape, num_classes)


def test_every_parameter_and_buffer_has_a_place_layer_after_layer():
    places = lay_out_module(Small(), {}).places
    assert [place.name for place in places] == [
        "scale",
        *("conv.weight", "conv.bias"),
        *("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"),
        *("hidden.weight", "hidden.bias", "plain.weight", "plain.bias", "head.weight", "head.bias"),
    ]
    assert [place.name for place in places if not place.trained] == ["norm.running_mean", "norm.running_var"]
    assert {place.name: place.kind for place in places if "norm" in place.name} == {
        "norm.weight": "norm",
        "norm.bias": "bias",
        "norm.running_mean": "buffer",
        "norm.running_var": "buffer",
    }


def test_a_shared_tensor_has_one_place_and_a_frozen_one_is_not_trained():
    module = Frozen()
    layout = lay_out_module(module, {})
    names = [place.name for place in layout.places]
    assert ("again.weight" in names, "last.weight" in names) == (True, False)
    assert not next(place for place in layout.places if place.name == "conv.weight").trained
    vector, images = torch.randn(layout.num_weights), torch.randn(2, *SHAPE)
    other = Frozen().eval()
    state = {name: part.reshape(other.state_dict()[name].shape) for name, part in layout.split(vector).items()}
    other.load_state_dict({**state, "last.weight": state["again.weight"]}, strict=False)
    torch.testing.assert_close(run_module(module.eval(), layout, vector, images), other(images), equal_nan=True)


def test_a_vector_read_and_run_is_the_module():
    module = Small().train()
    module(torch.randn(8, *SHAPE))
    module.eval()
    layout, images = lay_out_module(module, {}), torch.randn(3, *SHAPE)
    assert torch.equal(run_module(Small().eval(), layout, read_vector(module, layout), images), module(images))


def test_a_function_may_make_the_module():
    network = choose_architecture(
        Module(kind="module", path=f"{HERE}:make_small", arguments={"num_classes": 4}), SHAPE, 4
    )
    assert (network.name, network.num_classes, network.image_shape) == ("make_small", 4, SHAPE)


def test_another_source_is_another_network(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
    digests = set()
    for number in range(2):
        (tmp_path / "changing.py").write_text(text + f"# {number}\n")
        digests.add(describe_named("changing:make", {}, SHAPE, 3).source)
        sys.modules.pop("changing")
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("Small", r"got 'Small', wanted package.module:Name of a torch.nn.Module"),
        ("no_such_place:Small", r"got 'no_such_place:Small' \(No module named 'no_such_place'\), wanted"),
        (f"{HERE}:Large", r"Large' \(module .* has no attribute 'Large'\), wanted"),
        (f"{HERE}:HERE", r"has no attribute"),
        ("math:pi", r"got 'math:pi', which is float, wanted"),
        (f"{HERE}:make_pair", r"make_pair makes tuple, wanted"),
        (f"{HERE}:Nothing", r"Nothing has nothing to train"),
        (f"{HERE}:Idle", r"spare.weight of .*:Idle does not change its output"),
        (f"{HERE}:Noisy", r"drop \(Dropout2d\) of .*:Noisy draws random numbers"),
    ],
)
def test_what_no_zoo_can_be_made_of_is_refused(path, problem):
    with pytest.raises(BadInput, match=problem):
        describe_named(path, {}, SHAPE, 3)


def test_arguments_that_are_not_taken_are_named():
    with pytest.raises(BadInput, match=r"architecture.arguments: .*Small\(size=3\) fails .*unexpected keyword"):
        describe("Small", size=3)


def test_images_that_do_not_fit_are_named():
    with pytest.raises(BadInput, match=r"Small fails on images of shape \(2, 1, 9, 13\) \(.*\)"):
        describe("Small", shape=(1, 9, 13))


def test_outputs_of_another_size_are_named():
    with pytest.raises(BadInput, match=r"gives outputs of shape \(2, 3\) for 2 images, wanted \(2, 10\)"):
        describe("Small", num_classes=10)


FACTORS = {
    name: {"kind": "fixed", "value": value}
    for name, value in {
        "init": "default",
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 0,
        "batch_size": 8,
        "train_fraction": 1,
    }.items()
}


def draw(network, **factors):
    said = {name: {"kind": "fixed", "value": value} for name, value in factors.items()}
    return draw_members(Draw(kind="draw", count=2, seed=0, factors=FACTORS | said), network)


def test_a_module_has_its_own_activation_and_dropout():
    assert not {"activation", "dropout"} & set(draw(describe("Small")))
    with pytest.raises(BadInput, match=r"factors.dropout: of a module, wanted it left out"):
        draw(describe("Small"), dropout=0.1)
    with pytest.raises(BadInput, match=r"activation, dropout missing"):
        draw(None)


def test_what_metadata_names_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit):
        describe_named("evil:Evil", {}, SHAPE, 3)
    said = describe("Small").model_dump(mode="json") | {"path": "evil:Evil"}
    assert read_chain(said) is None
    layout, table = lay_out_module(Small(), {}), pd.DataFrame({"member": ["m"], "epoch": [0], "diverged": [False]})
    weights = np.zeros((1, layout.num_weights), np.float32)
    write_part(tmp_path / name_part(0), Checkpoints(layout, table, weights, {"architecture": said}))
    checkpoints = read_checkpoints(tmp_path)
    with pytest.raises(BadInput, match="weights w: got Small, a module, wanted one that can be run"):
        read_architecture(checkpoints, "w")


def test_a_layout_does_not_depend_on_torchs_generator():
    state = torch.get_rng_state()
    lay_out_network(describe("Small"))
    assert torch.equal(torch.get_rng_state(), state)
