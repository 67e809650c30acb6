from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.weightspace.samples.small_study import (
    ARCHITECTURE,
    build_embeddings,
    build_image_set,
    build_weight_data,
    decode,
    make_samples_config,
)
from weightspace.config import BadInput
from weightspace.images.image_set import prepare_images
from weightspace.samples.anchors import rank_checkpoints
from weightspace.samples.generate import generate_samples
from weightspace.transfer.config import TransferConfig
from weightspace.transfer.curves import TransferTables, choose_rates, compare_rates, plan_runs, train_runs
from weightspace.transfer.starts import gather_starts
from weightspace.zoo.evaluate import evaluate_members

CPU = torch.device("cpu")
DATA = build_weight_data()
TABLES = generate_samples(make_samples_config(), DATA, build_embeddings(DATA), decode, build_image_set(), CPU)
SAMPLES = TABLES.samples
ROWS = ("scratch", "scratch_sane", "members", "kde_joint", "anchor_average")


def make_config(**changes: object) -> TransferConfig:
    said = {
        "samples": "s",
        "weights": "w",
        "images": "i",
        "rows": ROWS,
        "num_per_row": 3,
        "epochs": 2,
        "optimizer": "adam",
        "lr": (1e-2, 1e-6),
        "weight_decay": 0.0,
        "dropout": 0.0,
        "batch_size": 16,
        "train_fraction": 1.0,
        "seed": 0,
        "engine": "torch",
        "device": "cpu",
    }
    return TransferConfig.model_validate(said | changes)


def transfer(config: TransferConfig) -> TransferTables:
    starts, images = gather_starts(config, DATA, SAMPLES), prepare_images(build_image_set(), CPU)
    return compare_rates(config, train_runs(config, ARCHITECTURE, starts, plan_runs(config, starts), images, CPU))


@pytest.fixture(scope="module")
def tables():
    return transfer(make_config())


def test_every_row_has_a_curve_from_epoch_0(tables):
    shape = tables.curves.groupby("row")["epoch"].agg(["min", "max", "size"])
    assert set(shape.index) == set(ROWS)
    assert (shape["min"] == 0).all()
    assert (shape["max"] == 2).all()
    assert shape.loc["members", "size"] == 3 * 3
    assert shape.loc["anchor_average", "size"] == 2 * 3  # one for each of two activations


def test_curves_start_where_the_samples_are(tables):
    config = make_config(rows=["kde_joint"])
    starts = gather_starts(config, DATA, SAMPLES)
    images = prepare_images(build_image_set(), CPU)
    curves = tables.curves[(tables.curves["row"] == "kde_joint") & (tables.curves["epoch"] == 0)]
    for i, activation in enumerate(starts.table["activation"]):
        weights = torch.from_numpy(starts.weights[[i]])
        _, accuracy = evaluate_members(ARCHITECTURE, weights, activation, images.test, images.test_labels)
        assert curves["test_accuracy"].iloc[i] == pytest.approx(float(accuracy), abs=1e-6)
        assert curves["activation"].iloc[i] == activation


def test_scratch_starts_from_the_zoos_own_initial_weights():
    starts = gather_starts(make_config(rows=["scratch", "scratch_sane"]), DATA, SAMPLES)
    random = SAMPLES.weights[(SAMPLES.table["row"] == "random_init").to_numpy()]
    sane = SAMPLES.weights[(SAMPLES.table["row"] == "random_init_sane").to_numpy()]
    assert (starts.weights == np.concatenate([random[:3], sane[:3]])).all()


def test_members_are_the_best_on_the_zoos_validation_images():
    starts = gather_starts(make_config(rows=["members"]), DATA, SAMPLES)
    best = rank_checkpoints(DATA, "w", "train", "last")[:3]
    assert (starts.weights == DATA.checkpoints.weights[best]).all()


def test_training_on_helps(tables):
    mean = tables.curves.groupby(["row", "epoch"])["train_loss"].mean().unstack()
    assert (mean[2] < mean[0]).all()


def test_each_row_keeps_the_rate_that_is_best_on_validation_images(tables):
    best = tables.candidates.sort_values("val_accuracy", ascending=False, kind="stable").groupby("row").head(1)
    assert best["chosen"].all()
    assert tables.candidates["chosen"].sum() == len(ROWS)
    assert tables.curves.groupby("row")["lr"].nunique().eq(1).all()


def test_test_accuracy_has_no_say_in_the_choice_of_rates():
    curves = pd.DataFrame(
        {
            "row": "members",
            "lr": [0.1, 0.1, 0.2, 0.2],
            "epoch": [0, 1, 0, 1],
            "val_accuracy": [0.5, 0.6, 0.9, 0.55],
            "test_accuracy": [0.1, 0.1, 0.9, 0.9],
            "diverged": False,
        }
    )
    config = make_config(rows=["members"], lr=(0.1, 0.2), epochs=1)
    assert choose_rates(curves, config)["chosen"].tolist() == [True, False]


def test_a_diverged_network_counts_as_nothing():
    curves = pd.DataFrame(
        {
            "row": "members",
            "lr": [0.1, 0.2],
            "epoch": 1,
            "val_accuracy": [0.3, np.nan],
            "test_accuracy": 0.0,
            "diverged": [False, True],
        }
    )
    config = make_config(rows=["members"], lr=(0.1, 0.2), epochs=1)
    assert choose_rates(curves, config)["val_accuracy"].tolist() == [0.3, 0.0]


def test_the_same_seed_gives_the_same_curves(tables):
    again = transfer(make_config())
    pd.testing.assert_frame_equal(tables.curves, again.curves)


def test_a_row_trains_alike_whatever_other_rows_there_are(tables):
    alone = transfer(make_config(rows=["kde_joint"])).curves
    among = tables.curves[tables.curves["row"] == "kde_joint"]
    np.testing.assert_allclose(alone["test_loss"], among["test_loss"], rtol=1e-4)


def test_a_row_that_the_samples_lack_is_refused():
    keep = (SAMPLES.table["row"] != "kde_joint").to_numpy()
    with pytest.raises(BadInput, match="rows: got 'kde_joint', but samples s has only random_init"):
        gather_starts(make_config(), DATA, SAMPLES.select(keep))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("val_accuracy", "weights w: val_accuracy is not known of any checkpoint on side train"),
        ("activation", "weights w: got 'nothing' for an activation"),
    ],
)
def test_members_of_which_too_little_is_known_are_refused(column, message):
    table = DATA.checkpoints.table
    table = table.assign(**{column: table[column].mask(table["split"] == "train")})
    with pytest.raises(BadInput, match=message):
        gather_starts(make_config(), replace(DATA, checkpoints=replace(DATA.checkpoints, table=table)), SAMPLES)


def test_samples_of_another_layout_are_refused():
    foreign = replace(DATA, checkpoints=replace(DATA.checkpoints, layout=rename_layer(DATA.checkpoints.layout)))
    with pytest.raises(BadInput, match="samples s: of another layout"):
        gather_starts(make_config(), foreign, SAMPLES)


def rename_layer(layout):
    places = [place.model_copy(update={"name": f"other.{place.name}"}) for place in layout.places]
    return layout.model_copy(update={"places": tuple(places)})
