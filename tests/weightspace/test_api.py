from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.weightspace.hyperrep.small_model import NoConfig, build_untrained, make_config, make_data
from tests.weightspace.samples.small_study import ARCHITECTURE
from weightspace.api import Hyperrep
from weightspace.config import BadInput
from weightspace.hyperrep.hyperrep import MODEL_NAME, PREPROCESSING_NAME
from weightspace.record import write_record
from weightspace.store import Checkpoints
from weightspace.weights.align import match_weights
from weightspace.weights.canonical import list_orientable, weigh_units
from weightspace.weights.config import EpochList, WeightsConfig
from weightspace.weights.permute import draw_permutations, invert_permutations, permute_weights
from weightspace.weights.weight_data import write_weight_data

ORIGIN = WeightsConfig.model_validate(
    {
        "zoo": "z",
        "epochs": {"kind": "range", "first": 0, "last": None, "every": 1},
        "filters": [],
        "max_abs_weight": None,
        "canonical": {"scale": False, "orient": False},
        "split": {"kind": "random", "train": 0.7, "val": 0.15, "test": 0.15, "seed": 0},
        "alignment": {"kind": "weight_matching", "reference": {"kind": "best"}, "seed": 0, "max_sweeps": 20},
        "standardization": {"kind": "robust"},
    }
)
DATA = make_data(12)
LAYOUT = DATA.checkpoints.layout
WEIGHTS = torch.from_numpy(DATA.checkpoints.weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("h")
    replace(build_untrained(make_config(window="whole")), origin=ORIGIN).save(folder)
    return folder


@pytest.fixture(scope="module")
def hyperrep(folder):
    return Hyperrep.load(folder, "cpu")


def only(hyperrep):
    (model,) = hyperrep.models.values()
    return model


def make_state(row):
    return {name: tensor.clone() for name, tensor in LAYOUT.split(WEIGHTS[row]).items()}


def make_module(row):
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(27, 4), nn.Tanh(), nn.Linear(4, 3)
    )
    module.load_state_dict(dict(zip(module.state_dict(), make_state(row).values(), strict=True)))
    return module


def reorder(weights, seed=0):
    """Copies with their hidden units in another order."""
    orders = draw_permutations(LAYOUT, len(weights), torch.Generator().manual_seed(seed))
    return permute_weights(LAYOUT, weights, orders)


def write_data_set(folder, weights, about, reference=None, **columns):
    folder.mkdir()
    kept = DATA.checkpoints
    table = kept.table.assign(**columns)
    checkpoints = Checkpoints(LAYOUT, table, weights.numpy(), about)
    reference = DATA.reference if reference is None else reference
    write_weight_data(folder, replace(DATA, checkpoints=checkpoints, reference=reference))
    return folder


def test_every_form_of_a_network_gives_the_same_embedding(hyperrep, tmp_path):
    save_file(make_state(0), tmp_path / "a.safetensors")
    torch.save({"state_dict": make_state(0)}, tmp_path / "b.pt")
    forms = [make_state(0), make_module(0), tmp_path / "a.safetensors", str(tmp_path / "b.pt")]
    embeddings = hyperrep.embed(forms)
    assert embeddings.table["member"].tolist() == ["network 0", "network 1", *map(str, forms[2:])]
    np.testing.assert_allclose(embeddings.tokens, embeddings.tokens[:1].repeat(4, 0), atol=1e-5)
    for form in forms:
        np.testing.assert_allclose(hyperrep.embed(form).summary, embeddings.summary[:1], atol=1e-5)


def test_a_folder_of_files_is_a_list_of_them(hyperrep, tmp_path):
    for name, row in (("b", 1), ("a", 0)):
        save_file(make_state(row), tmp_path / f"{name}.safetensors")
    (tmp_path / "notes.txt").write_text("not a network")
    embeddings = hyperrep.embed(tmp_path)
    assert [Path(member).name for member in embeddings.table["member"]] == ["a.safetensors", "b.safetensors"]
    np.testing.assert_allclose(embeddings.summary[0], hyperrep.embed(make_state(0)).summary[0], atol=1e-5)


def test_the_order_of_units_does_not_change_an_embedding(hyperrep):
    copies = reorder(WEIGHTS[:1].expand(8, -1))
    assert (copies != WEIGHTS[0]).any(1).sum() >= 7
    states = [LAYOUT.split(copy) for copy in copies]
    embeddings = hyperrep.embed(states)
    np.testing.assert_allclose(embeddings.tokens, embeddings.tokens[:1].repeat(8, 0), atol=1e-5)


def know(hyperrep, **changes):
    """Give the same hyper-representation, as if the networks it learned from had been prepared otherwise."""
    origin = WeightsConfig.model_validate(ORIGIN.model_dump() | changes)
    ((name, model),) = hyperrep.models.items()
    return Hyperrep({name: replace(model, origin=origin)})


def test_units_are_sorted_for_a_model_that_knows_sorted_networks(hyperrep):
    sorting = know(hyperrep, alignment={"kind": "sort", "key": "both"})
    copy = permute_weights(LAYOUT, WEIGHTS[:1], draw_permutations(LAYOUT, 1, torch.Generator().manual_seed(5)))
    one, other, unsorted = (
        model.embed([LAYOUT.split(weights[0])]).tokens
        for model, weights in ((sorting, WEIGHTS), (sorting, copy), (hyperrep, WEIGHTS))
    )
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(one, unsorted, atol=1e-3)


def know_scaled(hyperrep, *activations):
    """The same, as if it had learned from networks of canonical scale and sign."""
    form = {"scale": True, "orient": True}
    scaled = know(hyperrep, canonical=form, alignment={"kind": "sort", "key": "both"})
    told = {"architecture": ARCHITECTURE.model_dump(mode="json"), "activations": activations}
    return Hyperrep({name: replace(model, **told) for name, model in scaled.models.items()})


def rescale(weights, activation):
    """A copy whose units have other scales or signs and another order, and which does the same."""
    copy = weights.clone()
    for name, size in LAYOUT.permutation_sizes.items():
        if activation == "tanh" and name not in list_orientable(ARCHITECTURE):
            continue
        factors = torch.tensor([0.5, -2.0, 3.0, 0.1])[:size].expand(len(copy), size)
        weigh_units(LAYOUT, copy, name, factors.abs() if activation == "relu" else factors.sign())
    return reorder(copy)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_scale_and_sign_of_units_do_not_change_what_a_model_of_canonical_networks_says(hyperrep, activation):
    scaling, copies = know_scaled(hyperrep, activation), rescale(WEIGHTS[:3], activation)
    found, again = (scaling.embed([LAYOUT.split(one) for one in some]).tokens for some in (WEIGHTS[:3], copies))
    np.testing.assert_allclose(again, found, atol=1e-4)
    assert not np.allclose(hyperrep.embed([LAYOUT.split(one) for one in copies]).tokens, found, atol=1e-2)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_reconstructions_have_the_scales_and_signs_that_networks_came_with(hyperrep, activation):
    scaling, copy = know_scaled(hyperrep, activation), rescale(WEIGHTS[:1], activation)
    plain, other = (LAYOUT.join(scaling.reconstruct([LAYOUT.split(one)])[0]) for one in (WEIGHTS[0], copy[0]))
    torch.testing.assert_close(rescale(plain.unsqueeze(0), activation)[0], other, atol=1e-4, rtol=1e-4)


def test_an_activation_that_is_needed_and_not_told_is_asked_for(hyperrep):
    scaling = know_scaled(hyperrep, "relu", "tanh")
    for given, got in ((None, "none"), ("gelu", "'gelu'")):
        with pytest.raises(BadInput, match=f"activation: got {got}, wanted relu, tanh; the model learned from"):
            scaling.embed([make_state(0)], activation=given)
    one = know_scaled(hyperrep, "relu").embed([make_state(0)])
    np.testing.assert_array_equal(scaling.embed([make_state(0)], activation="relu").tokens, one.tokens)


def test_reconstruction_loses_what_the_table_says(hyperrep):
    states = [make_state(row) for row in range(5)]
    vectors = torch.stack([LAYOUT.join(state) for state in hyperrep.reconstruct(states)])
    statistics = DATA.statistics
    standard, back = (statistics.standardize(LAYOUT, one) for one in (WEIGHTS[:5], vectors))
    lost = (back - standard).square().sum(1) / standard.square().sum(1)
    np.testing.assert_allclose(hyperrep.embed(states).table["lost"], lost, rtol=1e-4)


def test_reconstruction_keeps_the_order_of_units(hyperrep):
    copy = reorder(WEIGHTS[:1], seed=3)
    plain, moved = hyperrep.reconstruct([make_state(0), LAYOUT.split(copy[0])])
    expected = reorder(LAYOUT.join(plain).unsqueeze(0), seed=3)[0]
    torch.testing.assert_close(LAYOUT.join(moved), expected, atol=1e-5, rtol=1e-5)


def test_a_module_loads_its_reconstruction(hyperrep):
    module = make_module(0)
    module.register_buffer("seen", torch.tensor(3))
    wrapped = {f"module.{name}": value.double() for name, value in make_module(0).state_dict().items()}
    (plain,), (other,) = hyperrep.reconstruct(module), hyperrep.reconstruct(wrapped)
    module.load_state_dict(plain)
    assert int(plain["seen"]) == 3
    assert list(other) == list(wrapped)
    assert other["module.0.weight"].dtype == torch.float64
    torch.testing.assert_close(other["module.0.weight"].float(), plain["0.weight"])
    assert not torch.equal(plain["0.weight"], make_state(0)["conv1.weight"])


def test_the_data_set_it_learned_from_is_canonical_already(hyperrep, tmp_path):
    moved = reorder(WEIGHTS)
    about = {"weights": ORIGIN.model_dump(mode="json")}
    folder = write_data_set(tmp_path / "w", moved, about, only(hyperrep).reference)
    latents, _ = only(hyperrep).embed(moved)
    np.testing.assert_allclose(hyperrep.embed(folder).tokens, latents.numpy(), atol=1e-6)


def test_a_data_set_of_other_epochs_that_is_aligned_to_the_same_network_is_canonical_already(hyperrep, tmp_path):
    moved, other = reorder(WEIGHTS), ORIGIN.model_copy(update={"epochs": EpochList(kind="list", epochs=(1,))})
    about = {"weights": other.model_dump(mode="json")}
    folder = write_data_set(tmp_path / "w", moved, about, only(hyperrep).reference)
    latents, _ = only(hyperrep).embed(moved)
    np.testing.assert_allclose(hyperrep.embed(folder).tokens, latents.numpy(), atol=1e-6)


@pytest.mark.parametrize("form", [{}, {"canonical": {"scale": True, "orient": True}}])
def test_a_data_set_aligned_to_another_network_is_aligned_to_the_models(hyperrep, tmp_path, form):
    knowing = know(hyperrep, **form)
    moved, model = reorder(WEIGHTS), only(knowing)
    about = {"weights": model.origin.model_dump(mode="json")}
    folder = write_data_set(tmp_path / "w", moved, about, model.reference + 1)
    epochs = DATA.checkpoints.table["epoch"].nunique()
    last = match_weights(LAYOUT, moved[epochs - 1 :: epochs], model.reference, seed=0, max_sweeps=20)
    orders = {name: order.repeat_interleave(epochs, 0) for name, order in last.items()}
    latents, _ = model.embed(permute_weights(LAYOUT, moved, orders))
    np.testing.assert_allclose(knowing.embed(folder).tokens, latents.numpy(), atol=1e-6)
    back = knowing.reconstruct(folder)
    wanted = permute_weights(LAYOUT, model.decode(latents), invert_permutations(orders))
    np.testing.assert_allclose(back.weights, wanted.numpy(), atol=1e-5)


def test_checkpoints_of_a_data_set_are_aligned_as_their_members_last_one(hyperrep, tmp_path):
    epochs = DATA.checkpoints.table["epoch"].nunique()
    last = match_weights(LAYOUT, WEIGHTS[epochs - 1 :: epochs], only(hyperrep).reference, seed=0, max_sweeps=20)
    orders = {name: order.repeat_interleave(epochs, 0) for name, order in last.items()}
    latents, _ = only(hyperrep).embed(permute_weights(LAYOUT, WEIGHTS, orders))
    embeddings = hyperrep.embed(write_data_set(tmp_path / "w", WEIGHTS, {}))
    assert list(embeddings.table.columns[:2]) == ["member", "epoch"]
    np.testing.assert_allclose(embeddings.tokens, latents.numpy(), atol=1e-6)


def test_diverged_checkpoints_are_left_out(hyperrep, tmp_path):
    weights, diverged = WEIGHTS.clone(), np.zeros(len(WEIGHTS), bool)
    weights[4], diverged[4] = torch.nan, True
    folder = write_data_set(tmp_path / "w", weights, {}, diverged=diverged)
    assert len(hyperrep.embed(folder).table) == len(WEIGHTS) - 1
    back = hyperrep.reconstruct(folder)
    assert isinstance(back, Checkpoints)
    assert back.weights.shape == (len(WEIGHTS) - 1, LAYOUT.num_weights)


def test_samples_with_next_to_no_noise_are_the_anchors_reconstructions(hyperrep):
    anchors = [make_state(row) for row in range(3)]
    reconstructed = torch.stack([LAYOUT.join(state) for state in hyperrep.reconstruct(anchors)])
    samples = torch.stack([LAYOUT.join(state) for state in hyperrep.sample(anchors, 6, bandwidth=1e-9)])
    assert samples.shape == (6, LAYOUT.num_weights)
    sizes = reconstructed.sort(1).values  # the samples are in canonical order
    assert all((sizes - sample).abs().max(1).values.min() < 1e-4 for sample in samples.sort(1).values)


def test_samples_follow_the_seed(hyperrep):
    anchors = [make_module(row) for row in range(3)]
    first, again, other = (hyperrep.sample(anchors, 2, bandwidth=0.5, seed=seed) for seed in (1, 1, 2))
    assert list(first[0]) == list(anchors[0].state_dict())
    assert all(torch.equal(first[1][name], again[1][name]) for name in first[1])
    assert not torch.equal(first[0]["0.weight"], other[0]["0.weight"])


@pytest.mark.parametrize("kind", ["kde_joint", "kde_independent"])
def test_samples_around_a_data_set_are_checkpoints_with_the_anchors_factors(hyperrep, tmp_path, kind):
    samples = hyperrep.sample(write_data_set(tmp_path / "w", WEIGHTS, {}), 7, bandwidth=0.1, kind=kind)
    table = samples.table
    assert table["sample"].tolist() == list(range(7))
    told = DATA.checkpoints.table.drop_duplicates("member").set_index("member")["activation"]
    assert table["activation"].tolist() == told[table["member"]].tolist()


def test_a_network_that_does_not_fit_is_refused(hyperrep):
    state = make_state(0)
    state["fc1.weight"] = torch.zeros(5, 27)
    with pytest.raises(BadInput, match=r"network 1: does not fit; got .*fc1.weight 5x27.*; wanted .*fc1.weight 4x27"):
        hyperrep.embed([make_state(0), state])
    with pytest.raises(BadInput, match="does not fit"):
        hyperrep.embed(make_state(0) | {"fc3.weight": torch.zeros(3, 3)})


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(hyperrep, value):
    state = make_state(0)
    state["fc1.bias"][2] = value
    with pytest.raises(BadInput, match=r"network 0: fc1.bias has numbers that are not finite"):
        hyperrep.embed(state)


def test_unmarked_checkpoints_that_are_not_finite_are_refused(hyperrep, tmp_path):
    weights = WEIGHTS.clone()
    weights[3, 5] = torch.nan
    with pytest.raises(BadInput, match=r"1 checkpoints have weights that are not finite, m000001 the first"):
        hyperrep.embed(write_data_set(tmp_path / "w", weights, {}))


def test_a_file_that_wants_to_execute_something_is_refused(hyperrep, tmp_path):
    torch.save(make_module(0), tmp_path / "m.pt")
    with pytest.raises(BadInput, match=r"m.pt: wants torch.nn.modules.container.Sequential, refused"):
        hyperrep.embed(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("no.pt", None, "cannot be read"),
        ("cut.safetensors", b"\x01\x02", "cannot be read as safetensors"),
        ("empty", "folder", "a folder without Parquet parts"),
    ],
)
def test_unreadable_networks_are_named(hyperrep, tmp_path, name, content, said):
    if content == "folder":
        (tmp_path / name).mkdir()
    elif content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"{name}: {said}"):
        hyperrep.embed(tmp_path / name)


def test_a_data_set_does_not_mix_with_other_networks(hyperrep, tmp_path):
    folder = write_data_set(tmp_path / "w", WEIGHTS, {})
    with pytest.raises(BadInput, match="is a data set, wanted it alone"):
        hyperrep.embed([make_state(0), folder])


def test_no_networks_are_refused(hyperrep):
    with pytest.raises(BadInput, match="got none, wanted at least one"):
        hyperrep.embed([])


def test_an_altered_hyperrep_is_refused(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_record(tmp_path, "hyperrep", "h", NoConfig(), {})
    Hyperrep.load(tmp_path)
    content = bytearray((tmp_path / MODEL_NAME).read_bytes())
    content[-1] ^= 1
    (tmp_path / MODEL_NAME).write_bytes(content)
    with pytest.raises(BadInput, match=f"{MODEL_NAME}: its content is not what its record lists"):
        Hyperrep.load(tmp_path)


def test_preprocessing_of_another_layout_is_refused(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    other = {"mean": torch.zeros(2), "std": torch.ones(2), "reference": torch.zeros(9)}
    save_file(other, tmp_path / PREPROCESSING_NAME)
    with pytest.raises(BadInput, match=f"{PREPROCESSING_NAME}: is not of the 6 tensors"):
        Hyperrep.load(tmp_path)


def test_parameters_of_another_model_are_refused(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    build_untrained(make_config(window="whole", model={"d_latent": 5})).save_model(tmp_path / MODEL_NAME)
    with pytest.raises(BadInput, match=f"{MODEL_NAME}: its parameters are not those of the model"):
        Hyperrep.load(tmp_path)


def test_preprocessing_of_other_networks_of_the_same_layout_is_refused(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    other = load_file(folder / PREPROCESSING_NAME)
    save_file(other | {"std": 2 * other["std"]}, tmp_path / PREPROCESSING_NAME)
    with pytest.raises(BadInput, match=f"{PREPROCESSING_NAME}: is not the preprocessing that the model beside it"):
        Hyperrep.load(tmp_path)
