from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.weightspace.embeddings.small_config import configure_embeddings
from tests.weightspace.hyperrep.small_model import build_untrained, make_config, make_data
from tests.weightspace.samples.small_study import EPOCHS
from tests.weightspace.weights.made_up_zoo import configure, match_weights_to
from weightspace.config import BadInput
from weightspace.embeddings.embed import embed_checkpoints
from weightspace.layout import Layout
from weightspace.store import Checkpoints
from weightspace.weights.align import match_weights
from weightspace.weights.canonical import sort_units
from weightspace.weights.permute import permute_weights
from weightspace.weights.weight_data import WeightData

CONFIG = configure_embeddings(networks_at_once=5, untrained_baseline=True)
DIVERGED = [4, 30]
SCALED = {"scale": True, "orient": False}
MATCHED = match_weights_to(kind="best")
BY_BOTH, BY_INCOMING = ({"kind": "sort", "key": key} for key in ("both", "incoming"))


@pytest.fixture(scope="module")
def data():
    data = make_data()
    data.checkpoints.table.loc[DIVERGED, "diverged"] = True
    data.checkpoints.weights[DIVERGED] = np.nan
    return data


@pytest.fixture(scope="module")
def hyperrep():
    return build_untrained()


@pytest.fixture(scope="module")
def embedded(data, hyperrep):
    return embed_checkpoints(data, hyperrep, None, CONFIG)


def test_table_is_that_of_the_weight_data_without_diverged_rows(data, embedded):
    embeddings = embedded.embeddings
    kept = data.checkpoints.table.drop(index=DIVERGED).reset_index(drop=True)
    assert embeddings.table.drop(columns="reconstruction_error").equals(kept)
    assert embeddings.table["reconstruction_error"].notna().all()


def test_each_row_is_the_embedding_of_its_checkpoint(data, hyperrep, embedded):
    embeddings = embedded.embeddings
    table = data.checkpoints.table
    for row in (0, 4, 17, len(embeddings.table) - 1):
        key = embeddings.table.loc[row]
        (source,) = np.flatnonzero((table["member"] == key["member"]) & (table["epoch"] == key["epoch"]))
        assert table["split"][source] == key["split"]
        latents = hyperrep.encode(torch.from_numpy(data.checkpoints.weights[source : source + 1]), CONFIG.halo)
        np.testing.assert_allclose(embeddings.tokens[row], latents[0].numpy(), atol=1e-5, rtol=1e-4)


def test_untrained_summary_is_that_of_the_untrained_model(data, hyperrep, embedded):
    embeddings = embed_checkpoints(data, build_untrained(seed=2), hyperrep, CONFIG).embeddings
    np.testing.assert_allclose(embeddings.untrained, embedded.embeddings.summary, atol=1e-5)
    assert not np.allclose(embeddings.summary, embedded.embeddings.summary, atol=1e-3)
    assert embedded.embeddings.untrained is None


def test_summary_is_of_the_same_row(hyperrep, embedded):
    embeddings = embedded.embeddings
    place = hyperrep.tokenizer.layer_tokens(0)
    wanted = embeddings.tokens[:, place].mean(1)
    np.testing.assert_allclose(embeddings.summary[:, : hyperrep.d_latent], wanted, atol=1e-5)


def test_errors_are_listed_by_checkpoint_method_and_layer(hyperrep, embedded):
    embeddings, errors = embedded.embeddings, embedded.errors
    layers = {hyperrep.layout.layer_name(i) for i in range(hyperrep.layout.num_layers)} | {"all"}
    assert set(errors["layer"]) == layers
    assert set(errors["method"]) == {"hyperrep", "pca"}
    for _, part in errors.groupby(["method", "layer"]):
        keys = ["member", "epoch", "split"]
        assert part[keys].reset_index(drop=True).equals(embeddings.table[keys])


def test_error_column_is_that_of_the_reconstruction(data, hyperrep, embedded):
    embeddings = embedded.embeddings
    sound = np.flatnonzero(~data.checkpoints.table["diverged"])
    weights = torch.from_numpy(data.checkpoints.weights[sound])
    again = hyperrep.reconstruct(weights, CONFIG.halo)
    standard, other = (hyperrep.statistics.standardize(hyperrep.layout, some).numpy() for some in (weights, again))
    mean = standard[(embeddings.table["split"] == "train").to_numpy()].mean(0)
    wanted = [np.square(o - s).sum() / np.square(s - mean).sum() for s, o in zip(standard, other, strict=True)]
    np.testing.assert_allclose(embeddings.table["reconstruction_error"], wanted, rtol=1e-3)


def test_baseline_is_left_out_where_not_wanted(data, hyperrep):
    embedded = embed_checkpoints(data, hyperrep, None, CONFIG.model_copy(update={"reconstruction_baseline": False}))
    assert set(embedded.errors["method"]) == {"hyperrep"}


def test_baseline_learns_from_train_members_only(data, hyperrep, embedded):
    weights = data.checkpoints.weights.copy()
    val = (data.checkpoints.table["split"] == "val").to_numpy()
    weights[val] = 3.0
    kept = data.checkpoints
    other = WeightData(Checkpoints(kept.layout, kept.table, weights, kept.about), data.statistics, data.reference)
    changed = embed_checkpoints(other, hyperrep, None, CONFIG).errors
    before, after = (
        e[e["split"] != "val"].set_index(["member", "epoch", "method", "layer"]) for e in (embedded.errors, changed)
    )
    np.testing.assert_allclose(after["error"], before["error"], rtol=1e-4, atol=1e-6)


def test_another_layout_is_refused(data, hyperrep):
    places = tuple(p.model_copy(update={"name": f"x{p.name}"}) for p in data.checkpoints.layout.places)
    kept = data.checkpoints
    other = Checkpoints(Layout(places=places), kept.table, kept.weights, kept.about)
    with pytest.raises(BadInput, match="weights/w: got networks"):
        embed_checkpoints(WeightData(other, data.statistics, data.reference), hyperrep, None, CONFIG)


def test_weights_that_are_not_finite_are_refused_unless_diverged(hyperrep):
    data = make_data(8)
    data.checkpoints.weights[3, 3] = np.nan
    with pytest.raises(BadInput, match="not finite"):
        embed_checkpoints(data, hyperrep, None, CONFIG)


def test_halo_too_wide_is_refused(data, hyperrep):
    with pytest.raises(BadInput, match="halo: got 9"):
        embed_checkpoints(data, hyperrep, None, CONFIG.model_copy(update={"halo": 9}))


def test_model_of_another_seed_embeds_otherwise(data, embedded):
    other = build_untrained(make_config(training={"seed": 5}))
    others = embed_checkpoints(data, other, None, CONFIG).embeddings.tokens
    assert not np.allclose(others, embedded.embeddings.tokens, atol=1e-3)


def embed_as(hyperrep, data, weights, reference, **made):
    """Embed a data set with other weights, as if it had been made otherwise."""
    about = {"weights": configure(zoo="z", **made).model_dump(mode="json")}
    kept = Checkpoints(data.layout, data.table, weights.numpy(), about)
    other = replace(data, checkpoints=kept, reference=reference)
    return embed_checkpoints(other, hyperrep, None, CONFIG).embeddings.tokens


@pytest.mark.parametrize(("known", "other"), [(MATCHED, MATCHED), (BY_BOTH, BY_INCOMING)])
def test_networks_in_another_order_are_brought_to_the_one_that_the_model_knows(hyperrep, known, other):
    data = make_data(8)
    layout, reference, weights = data.layout, hyperrep.reference, torch.from_numpy(data.checkpoints.weights)
    last = weights[EPOCHS - 1 :: EPOCHS]
    found = match_weights(layout, last, reference, 0, 100) if known == MATCHED else sort_units(layout, last, "both")
    orders = {name: order.repeat_interleave(EPOCHS, 0) for name, order in found.items()}
    model = replace(hyperrep, origin=configure(zoo="z", alignment=known))
    wanted = embed_as(model, data, permute_weights(layout, weights, orders), reference, alignment=known)
    got = embed_as(model, data, weights, reference + 1, alignment=other)
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    as_it_is = embed_as(model, data, weights, reference, alignment=known)
    assert not np.allclose(got, as_it_is, atol=1e-2)


def test_networks_of_another_canonical_form_are_refused(data, hyperrep):
    aligned = configure(zoo="z")
    known = replace(hyperrep, origin=aligned)
    for changes, said in (({"alignment": {"kind": "none"}}, "alignment"), ({"canonical": SCALED}, "canonical")):
        about = {"weights": configure(zoo="z", **changes).model_dump(mode="json")}
        other = replace(data, checkpoints=replace(data.checkpoints, about=about))
        with pytest.raises(BadInput, match=f"weights/w: made with {said} .*, wanted .*, as in weights/w"):
            embed_checkpoints(other, known, None, CONFIG)
