from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.weightspace.samples.small_study import build_embeddings, build_weight_data
from weightspace.config import BadInput
from weightspace.embeddings.embeddings import Embeddings
from weightspace.probes.config import ProbesConfig
from weightspace.probes.predict import ProbeTables, run_probes
from weightspace.weights.weight_data import WeightData

DATA = build_weight_data(members=80)
TABLE = DATA.checkpoints.table
EMBEDDINGS = build_embeddings(DATA)


def make_config(**changes: object) -> ProbesConfig:
    said = {
        "weights": "w",
        "embeddings": "e",
        "targets": ["test_accuracy", "lr", "activation"],
        "features": ["embedding"],
        "first_epoch": 0,
        "every_epochs": 1,
        "ridge": {"scaling": "standard", "penalties": [1e-3, 1.0, 1e3]},
        "logistic": {"penalties": [1.0, 100.0], "iterations": 50},
        "boosted": {"targets": [], "iterations": 20, "learning_rate": 0.3, "leaves": 7, "bins": 63, "widest": 50},
        "resamples": 50,
        "seed": 0,
    }
    return ProbesConfig.model_validate(said | changes)


def embed(summary: np.ndarray) -> Embeddings:
    return replace(EMBEDDINGS, summary=summary.astype(np.float32))


def change_table(data: WeightData, **columns: object) -> WeightData:
    return replace(data, checkpoints=replace(data.checkpoints, table=data.checkpoints.table.assign(**columns)))


def look_up(tables: ProbeTables, **keys: str) -> float:
    scores = tables.scores
    for name, value in keys.items():
        scores = scores[scores[name] == value]
    assert len(scores) == 1
    return float(scores["value"].iloc[0])


def test_a_feature_that_states_the_target_scores_1_on_unseen_members():
    summary = TABLE[["test_accuracy", "epoch"]].to_numpy()
    tables = run_probes(make_config(targets=["test_accuracy"]), DATA, embed(summary))
    assert look_up(tables, split="test", measure="r2") > 0.999
    assert look_up(tables, split="test", measure="kendall_tau") > 0.999


def test_a_feature_that_names_the_member_tells_nothing_about_unseen_members():
    member = pd.factorize(TABLE["member"])[0]
    accuracy = np.random.default_rng(0).random(80)[member].astype(np.float32)
    data = change_table(DATA, test_accuracy=accuracy)
    tables = run_probes(make_config(targets=["test_accuracy"]), data, embed(np.eye(80)[member]))
    assert look_up(tables, split="train", measure="r2") > 0.9
    assert look_up(tables, split="test", measure="r2") < 0.01


def test_truths_of_test_members_change_no_prediction():
    is_test = (TABLE["split"] == "test").to_numpy()
    changed = change_table(
        DATA,
        test_accuracy=np.where(is_test, 5.0, TABLE["test_accuracy"]),
        activation=np.where(is_test, "gelu", TABLE["activation"]),
    )
    boosted = {
        "targets": ["test_accuracy"],
        "iterations": 20,
        "learning_rate": 0.3,
        "leaves": 7,
        "bins": 63,
        "widest": 50,
    }
    config = make_config(features=["embedding", "statistics_7"], boosted=boosted)
    one, other = (run_probes(config, data, EMBEDDINGS) for data in (DATA, changed))
    assert (one.predictions["prediction"] == other.predictions["prediction"]).all()
    seen = one.scores["split"] != "test"
    pd.testing.assert_frame_equal(one.scores[seen], other.scores[seen])


def test_a_class_that_is_stated_is_told_and_the_majority_is_not_beaten_without():
    summary = (TABLE[["activation"]] == "tanh").to_numpy()
    tables = run_probes(make_config(targets=["activation"]), DATA, embed(summary))
    assert look_up(tables, split="test", features="embedding") == 1
    test = TABLE[TABLE["split"] == "test"]
    rate = (test["activation"] == "relu").mean()
    assert look_up(tables, split="test", features="majority") == pytest.approx(rate)


def test_a_target_that_does_not_vary_is_left_out():
    tables = run_probes(make_config(targets=["weight_decay", "optimizer", "lr"]), DATA, EMBEDDINGS)
    assert set(tables.scores["target"]) == {"lr"}


@pytest.mark.parametrize(
    ("target", "features"), [("epoch", "epoch_only"), ("epoch", "factors_epoch"), ("lr", "factors")]
)
def test_features_never_contain_the_target(target, features):
    boosted = {"targets": [target], "iterations": 5, "learning_rate": 0.3, "leaves": 4, "bins": 63, "widest": 50}
    config = make_config(targets=[target, "test_accuracy"], features=[features], boosted=boosted)
    scores = run_probes(config, DATA, EMBEDDINGS).scores
    told = scores[(scores["target"] == target) & (scores["split"] == "test") & (scores["measure"] == "r2")]
    assert (told["value"] < 0.5).all()


def test_learning_rates_are_predicted_as_logarithms():
    predictions = run_probes(make_config(targets=["lr"]), DATA, EMBEDDINGS).predictions
    lr = TABLE.groupby("member")["lr"].first()
    np.testing.assert_allclose(predictions["truth"], np.log10(lr[predictions["member"]]), rtol=1e-5)


def test_diverged_checkpoints_do_not_count():
    diverged = (TABLE["epoch"] == 2).to_numpy() & (TABLE["split"] == "train").to_numpy()
    weights = DATA.checkpoints.weights.copy()
    weights[diverged] = np.nan
    data = change_table(DATA, diverged=diverged)
    data = replace(data, checkpoints=replace(data.checkpoints, weights=weights))
    kept = np.flatnonzero(~diverged)
    embeddings = Embeddings(
        EMBEDDINGS.table.iloc[kept].reset_index(drop=True), EMBEDDINGS.summary[kept], EMBEDDINGS.tokens[kept], None
    )
    tables = run_probes(make_config(features=["weights", "embedding"]), data, embeddings)
    assert set(tables.scores.loc[tables.scores["split"] == "train", "num_checkpoints"]) == {40 * 2}
    assert tables.scores["value"].notna().all()


def test_epochs_are_chosen_by_first_and_step():
    tables = run_probes(make_config(first_epoch=1, every_epochs=2), DATA, EMBEDDINGS)
    assert set(tables.predictions["epoch"]) == {1}


def test_sets_wider_than_the_bound_are_not_boosted():
    boosted = {
        "targets": ["test_accuracy"],
        "iterations": 5,
        "learning_rate": 0.3,
        "leaves": 4,
        "bins": 63,
        "widest": 50,
    }
    config = make_config(features=["weights", "statistics_7"], boosted=boosted)
    scores = run_probes(config, DATA, EMBEDDINGS).scores
    assert set(scores.loc[scores["probe"] == "boosted", "features"]) == {"statistics_7"}


def test_every_set_of_features_is_scored_and_a_second_run_agrees():
    features = ["embedding", "embedding_tokens", "weights", "last_layer", "statistics_14", "statistics_7"]
    features += ["statistics_pooled", "factors", "epoch_only", "factors_epoch"]
    features += ["untrained_encoder"]
    config = make_config(features=features)
    embeddings = replace(EMBEDDINGS, untrained=-EMBEDDINGS.summary)
    one, again = (run_probes(config, DATA, embeddings) for _ in range(2))
    assert set(one.scores["features"]) == {*features, "majority"}
    pd.testing.assert_frame_equal(one.scores, again.scores)
    pd.testing.assert_frame_equal(one.predictions, again.predictions)


def test_untrained_encoder_has_to_be_among_the_embeddings():
    with pytest.raises(BadInput, match="wanted `untrained_baseline: true` in embeddings e"):
        run_probes(make_config(features=["untrained_encoder"]), DATA, EMBEDDINGS)


@pytest.mark.parametrize("scaling", ["none", "standard", "ranks"])
def test_a_constant_epoch_predicts_no_better_than_the_mean(scaling):
    one_epoch = DATA.checkpoints.select((TABLE["epoch"] == 1).to_numpy())
    config = make_config(features=["epoch_only", "weights"], ridge={"scaling": scaling, "penalties": [1.0]})
    tables = run_probes(config, replace(DATA, checkpoints=one_epoch), EMBEDDINGS)
    scores = tables.scores[(tables.scores["features"] == "epoch_only") & (tables.scores["measure"] == "r2")]
    assert (scores["value"] <= 1e-6).all()


def test_a_factor_that_is_not_known_of_all_is_left_out():
    table = TABLE.assign(init=None, lr=TABLE["lr"].where(TABLE["member"] != TABLE["member"].iloc[0]))
    known = TABLE.drop(columns=["init", "lr"])
    config = make_config(features=["factors"], targets=["test_accuracy"])
    one, other = (
        run_probes(config, replace(DATA, checkpoints=replace(DATA.checkpoints, table=t)), EMBEDDINGS)
        for t in (table, known)
    )
    pd.testing.assert_frame_equal(one.scores, other.scores)


def test_features_of_nothing_known_are_refused():
    table = TABLE[["member", "epoch", "split", "diverged", "test_accuracy"]]
    data = replace(DATA, checkpoints=replace(DATA.checkpoints, table=table))
    with pytest.raises(BadInput, match="features factors: no factor is known of all members"):
        run_probes(make_config(features=["factors"], targets=["test_accuracy"]), data, EMBEDDINGS)


def test_a_target_unknown_to_the_data_is_named():
    table = TABLE.drop(columns="dropout")
    data = replace(DATA, checkpoints=replace(DATA.checkpoints, table=table))
    with pytest.raises(BadInput, match="targets: got 'dropout', but weights w has no such column"):
        run_probes(make_config(targets=["dropout"]), data, EMBEDDINGS)


def test_too_few_members_are_refused():
    few = DATA.checkpoints.select((TABLE["split"] != "val").to_numpy())
    with pytest.raises(BadInput, match="weights w: 0 members on side val"):
        run_probes(make_config(), replace(DATA, checkpoints=few), EMBEDDINGS)


def test_features_that_are_not_finite_are_named():
    summary = EMBEDDINGS.summary.copy()
    summary[7] = np.inf
    with pytest.raises(BadInput, match=r"features embedding: not finite for member m\d+ at epoch"):
        run_probes(make_config(), DATA, embed(summary))


def test_schedule_label_noise_and_augmentation_can_be_predicted():
    number = TABLE.groupby(["split", "member"]).ngroup().to_numpy()  # sides have some of each
    columns = {
        "schedule": np.where(number % 2, "cosine", "constant"),
        "augmentation": np.where(number % 3, "flip", "none"),
        "label_noise": np.where(number % 4 < 2, 0.0, 0.2),
    }
    data = change_table(DATA, **columns)
    summary = np.stack([number % 2, number % 3 > 0, number % 4 < 2], axis=1)
    tables = run_probes(make_config(targets=list(columns)), data, embed(summary))
    for target, measure in (("schedule", "accuracy"), ("augmentation", "accuracy"), ("label_noise", "r2")):
        features = {"features": "embedding", "split": "test", "measure": measure}
        assert look_up(tables, target=target, **features) > 0.99


def test_factors_tell_schedule_and_noise_but_never_the_target_itself():
    number = TABLE.groupby(["split", "member"]).ngroup().to_numpy()  # sides have some of each
    noise = np.where(number % 2, 0.0, 0.2)
    data = change_table(DATA, label_noise=noise, schedule=np.where(number % 2, "cosine", "constant"))
    tables = run_probes(make_config(targets=["label_noise"], features=["factors"]), data, EMBEDDINGS)
    assert look_up(tables, split="test", measure="r2") > 0.99  # the schedule gives it away
    alone = change_table(DATA, label_noise=noise)
    tables = run_probes(make_config(targets=["label_noise"], features=["factors"]), alone, EMBEDDINGS)
    assert look_up(tables, split="test", measure="r2") < 0.5


def test_a_target_that_is_unknown_of_some_checkpoints_is_refused():
    schedule = pd.Series(["cosine"] * len(TABLE), dtype="str").where(TABLE["epoch"] > 0)
    with pytest.raises(BadInput, match=r"targets: got 'schedule', which weights w does not know of 80 of"):
        run_probes(make_config(targets=["schedule"]), change_table(DATA, schedule=schedule), EMBEDDINGS)
