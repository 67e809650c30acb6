from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

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
from weightspace.samples.config import ROWS
from weightspace.samples.generate import SampleTables, generate_samples
from weightspace.samples.sample_store import read_samples, write_samples
from weightspace.zoo.evaluate import evaluate_members

CPU = torch.device("cpu")
DATA = build_weight_data()
EMBEDDINGS = build_embeddings(DATA)


def generate(**changes: object) -> SampleTables:
    return generate_samples(make_samples_config(**changes), DATA, EMBEDDINGS, decode, build_image_set(), CPU)


@pytest.fixture(scope="module")
def tables() -> SampleTables:
    return generate()


def pick(table: pd.DataFrame, row: str) -> pd.DataFrame:
    return table[table["row"] == row]


def test_every_row_is_there(tables):
    assert tables.scores["row"].unique().tolist() == list(ROWS)
    assert tables.diversity["row"].tolist() == list(ROWS)


def test_only_rows_from_train_anchors_count_as_seen(tables):
    seen = tables.scores.groupby("row")["seen"].all()
    assert set(seen.index[~seen]) == {"random_init", "random_init_sane", "unseen", "unseen_reconstructed"}
    split = DATA.checkpoints.table.groupby("member")["split"].first()
    assert set(split[pick(tables.scores, "anchors")["member"]]) == {"train"}
    assert set(split[pick(tables.scores, "unseen")["member"]]) == {"test"}


def test_copies_of_anchors_are_told_by_distance_and_errors(tables):
    for row in ("anchors", "anchors_reconstructed"):
        assert (pick(tables.scores, row)["nearest_distance"] < 1e-6).all()
        assert (pick(tables.scores, row)["error_iou"] == 1).all()
    assert (pick(tables.scores, "unseen")["nearest_distance"] > 0.5).all()
    assert (pick(tables.scores, "random_init_sane")["nearest_distance"] > 0.5).all()


def test_accuracies_are_those_of_the_stored_weights(tables):
    images = prepare_images(build_image_set(), CPU)
    rows = np.flatnonzero(tables.samples.table["activation"] == "relu")
    weights = torch.from_numpy(tables.samples.weights[rows])
    _, val = evaluate_members(ARCHITECTURE, weights, "relu", images.val, images.val_labels)
    loss, test = evaluate_members(ARCHITECTURE, weights, "relu", images.test, images.test_labels)
    scores = tables.scores.iloc[rows]
    np.testing.assert_allclose(scores["val_accuracy"], val, atol=1e-6)
    np.testing.assert_allclose(scores["test_accuracy"], test, atol=1e-6)
    np.testing.assert_allclose(scores["test_loss"], loss, rtol=1e-4)


def test_one_more_sampler_leaves_the_other_rows_alone(tables):
    fewer = generate(samplers=[{"kind": "anchor_noise", "noise": 0.1}])
    keep = tables.samples.table["row"].isin(fewer.samples.table["row"].unique()).to_numpy()
    assert (tables.samples.weights[keep] == fewer.samples.weights).all()


def test_the_same_seed_gives_the_same_tables_and_another_does_not(tables):
    again, other = generate(), generate(seed=1)
    pd.testing.assert_frame_equal(tables.scores, again.scores)
    assert (tables.samples.weights == again.samples.weights).all()
    assert (tables.samples.weights != other.samples.weights).any()


def test_random_starts_are_drawn_anew_and_not_members_first_checkpoints(tables):
    first = DATA.checkpoints.weights[DATA.checkpoints.table["epoch"] == 0]
    random = tables.samples.weights[(tables.samples.table["row"] == "random_init").to_numpy()]
    assert not (random[:, None] == first[None]).all(2).any()
    assert len(np.unique(random, axis=0)) == len(random)


def test_sane_starts_differ_from_the_zoos_own_in_init(tables):
    assert set(pick(tables.samples.table, "random_init_sane")["init"]) == {"kaiming_uniform"}
    assert "kaiming_uniform" not in set(pick(tables.samples.table, "random_init")["init"])


def test_an_average_is_the_mean_of_the_anchors_of_its_activation():
    tables = generate(num_samples=50)
    anchors = (tables.samples.table["row"] == "anchors").to_numpy()
    average = (tables.samples.table["row"] == "anchor_average").to_numpy()
    for activation in ("relu", "tanh"):
        same = (tables.samples.table["activation"] == activation).to_numpy()
        mean = tables.samples.weights[anchors & same].mean(0)
        np.testing.assert_allclose(tables.samples.weights[average & same][0], mean, atol=1e-6)


def test_samples_come_back_from_disk(tables, tmp_path):
    write_samples(tmp_path, tables)
    samples = read_samples(tmp_path)
    assert (samples.weights == tables.samples.weights).all()
    assert samples.about == tables.samples.about
    pd.testing.assert_frame_equal(samples.table, tables.samples.table, check_dtype=False)


def test_missing_samples_are_named(tmp_path):
    with pytest.raises(BadInput, match=r"samples\.parquet: missing"):
        read_samples(tmp_path)


def test_images_of_another_shape_are_refused():
    with pytest.raises(BadInput, match="images i"):
        generate_samples(make_samples_config(), DATA, EMBEDDINGS, decode, build_image_set(size=9), CPU)


def test_images_of_more_classes_are_refused():
    with pytest.raises(BadInput, match="images i: 4 classes"):
        generate_samples(make_samples_config(), DATA, EMBEDDINGS, decode, build_image_set(classes=4), CPU)


def test_a_side_without_trained_members_is_refused():
    table = DATA.checkpoints.table
    empty = replace(DATA, checkpoints=DATA.checkpoints.select((table["split"] != "test").to_numpy()))
    with pytest.raises(BadInput, match="no trained checkpoint on side test"):
        generate_samples(make_samples_config(), empty, EMBEDDINGS, decode, build_image_set(), CPU)


@pytest.mark.parametrize("init", [None, "he_normal"])
def test_random_starts_of_unknown_init_are_left_out_and_told(caplog, init):
    table = DATA.checkpoints.table
    best = table.loc[(table["split"] == "train") & (table["epoch"] == table["epoch"].max())]
    member = best.sort_values("val_accuracy")["member"].iloc[-1]
    changed = table.assign(init=table["init"].where(table["member"] != member, init))
    data = replace(DATA, checkpoints=replace(DATA.checkpoints, table=changed))
    made = generate_samples(make_samples_config(num_samples=50), data, EMBEDDINGS, decode, build_image_set(), CPU)
    assert made.scores["row"].unique().tolist() == [row for row in ROWS if row != "random_init"]
    told = [message for message in caplog.messages if "no row random_init" in message]
    assert len(told) == 1
    assert f"weights w say {init or 'nothing'!r} of an init, wanted one of uniform" in told[0]
    anchors = pick(made.samples.table, "anchors").set_index("member")["init"]
    assert anchors[member] == (init or "")
    assert set(anchors.drop(member)) <= {"uniform", "kaiming_normal"}


def test_a_zoo_that_says_nothing_of_inits_has_samples_all_the_same():
    gaps = DATA.checkpoints.table.assign(init=np.nan)
    for table in (gaps, gaps.drop(columns="init")):
        data = replace(DATA, checkpoints=replace(DATA.checkpoints, table=table))
        made = generate_samples(make_samples_config(), data, EMBEDDINGS, decode, build_image_set(), CPU)
        assert set(made.samples.table["init"]) == {"", "kaiming_uniform"}
        assert "random_init" not in set(made.scores["row"])


def test_a_sampler_named_twice_is_refused():
    noise = {"kind": "anchor_noise", "noise": 0.1}
    with pytest.raises(ValidationError, match="each kind of sampler once"):
        make_samples_config(samplers=[noise, noise])
