import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.weightspace.embeddings.small_config import configure_embeddings
from tests.weightspace.hyperrep.small_model import build_untrained, make_data
from tests.weightspace.samples.small_study import EPOCHS, build_image_set
from weightspace.config import BadInput
from weightspace.embeddings.config import EmbeddingsConfig
from weightspace.embeddings.embed import embed_checkpoints
from weightspace.embeddings.kept import choose_networks, compare_networks
from weightspace.weights.weight_data import WeightData

CONFIG = configure_embeddings(images="i", untrained_baseline=True, kept_networks=4)
DATA = make_data()
HYPERREP = build_untrained()


def compare(images=None, data: WeightData = DATA, **rebuild):
    images = images or build_image_set()
    return compare_networks(data.checkpoints, rebuild, HYPERREP, images, CONFIG)


def test_what_loses_nothing_keeps_everything():
    table = compare(same=lambda weights: weights)
    assert (table["error"] == 0).all()
    assert (table["agreement"] == 1).all()
    for side in ("val", "test"):
        assert (table[f"{side}_accuracy"] == table[f"{side}_accuracy_reconstructed"]).all()


def test_the_mean_of_train_networks_has_error_one():
    train = DATA.checkpoints.weights[(DATA.table["split"] == "train").to_numpy()]
    mean = torch.from_numpy(train.astype(np.float64).mean(0).astype(np.float32))
    table = compare(mean=lambda weights: mean.expand(len(weights), -1))
    np.testing.assert_allclose(table["error"], 1, rtol=1e-4)


def test_a_method_that_breaks_networks_is_told_from_one_that_does_not():
    table = compare(same=lambda weights: weights, zeros=torch.zeros_like)
    images = build_image_set()
    share_of_class_0 = (images.labels[images.split["test"]] == 0).float().mean().item()
    kept = table.groupby("method")["test_accuracy_reconstructed"].mean()
    assert kept["zeros"] == pytest.approx(share_of_class_0)
    assert kept["same"] == pytest.approx(table["test_accuracy"].mean())


def test_members_of_both_sides_are_compared_at_the_last_epoch():
    table = compare(same=lambda weights: weights)
    assert table.groupby("split")["member"].nunique().to_dict() == {"test": 4, "train": 4}
    assert set(table["epoch"]) == {EPOCHS - 1}
    side = DATA.table.groupby("member")["split"].first()
    assert (side[table["member"]].to_numpy() == table["split"]).all()


def test_the_members_chosen_do_not_depend_on_how_many_others_there_are():
    few, many = (make_data(members).table for members in (16, 24))
    chosen = set(many["member"].iloc[choose_networks(many, 2)])
    assert chosen & set(few["member"]) <= set(few["member"].iloc[choose_networks(few, 2)])


def test_every_representation_that_is_asked_for_is_compared_on_the_same_members():
    kept = embed_checkpoints(DATA, HYPERREP, build_untrained(seed=2), CONFIG, build_image_set()).kept
    assert kept is not None
    assert kept["method"].unique().tolist() == ["hyperrep", "untrained", "pca"]
    members = kept.groupby("method")["member"].apply(list)
    assert members["hyperrep"] == members["untrained"] == members["pca"]
    errors = kept.groupby("method")["error"].mean()
    assert errors["pca"] < errors["hyperrep"] != errors["untrained"]


def test_errors_are_those_of_the_table_of_all_checkpoints():
    embedded = embed_checkpoints(DATA, HYPERREP, None, CONFIG, build_image_set())
    assert embedded.kept is not None
    whole = embedded.errors[embedded.errors["layer"] == "all"]
    keys = ["method", "member", "epoch"]
    both = embedded.kept.merge(whole, on=keys, suffixes=("", "_of_all"))
    assert len(both) == len(embedded.kept)
    np.testing.assert_allclose(both["error"], both["error_of_all"], rtol=1e-3, atol=1e-6)


def test_no_images_compare_nothing():
    assert embed_checkpoints(DATA, HYPERREP, None, CONFIG).kept is None


def test_images_of_another_shape_are_refused():
    with pytest.raises(BadInput, match="images i: shape"):
        compare(build_image_set(size=9))


def test_networks_without_images_to_run_on_are_refused():
    with pytest.raises(ValidationError, match=r"kept_networks 4 with images '\.'; wanted the image set"):
        EmbeddingsConfig.model_validate(CONFIG.model_dump() | {"images": "."})


def test_a_reconstruction_that_is_not_finite_gets_nothing_right():
    table = compare(broken=lambda weights: weights * torch.nan)
    assert (table["test_accuracy_reconstructed"] == 0).all()
