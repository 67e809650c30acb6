import numpy as np
import pandas as pd
import pytest

from weightspace.embeddings.health import describe_spread, measure_collapse, measure_health


def draw(networks=400, tokens=5, used=6, unused=0, seed=0):
    rng = np.random.default_rng(seed)
    place = rng.normal(0, 3, (1, tokens, used + unused))  # differs between tokens, not between networks
    noise = np.concatenate([rng.normal(size=(networks, tokens, used)), np.zeros((networks, tokens, unused))], axis=2)
    return (place + noise).astype(np.float32)


def tabulate(networks):
    return pd.DataFrame({"split": "train", "member": [f"m{i}" for i in range(networks)]})


@pytest.mark.parametrize(("used", "unused"), [(6, 0), (3, 2)])
def test_dimensions_that_tell_networks_apart_are_counted(used, unused):
    (row,) = measure_health(draw(used=used, unused=unused), tabulate(400))
    assert row["dimensions"] == used + unused
    assert row["participation"] == pytest.approx(used, rel=0.05)
    assert row["effective_rank"] == pytest.approx(used, rel=0.05)
    assert row["idle"] == pytest.approx(unused / (used + unused))


def test_one_direction_has_rank_1():
    spread = describe_spread(np.ones((4, 4)))
    assert spread["participation"] == pytest.approx(1)
    assert spread["effective_rank"] == pytest.approx(1)


def test_what_does_not_vary_has_no_rank():
    (row,) = measure_health(np.ones((5, 2, 3), np.float32), tabulate(5))
    assert np.isnan(row["effective_rank"])
    assert row["idle"] == 1
    assert row["collapse"] == pytest.approx(1)


def test_collapse_is_the_mean_cosine_of_networks_of_different_members():
    latents = np.random.default_rng(0).normal(size=(6, 4)) + 0.5
    members = np.array(list("aabbbc"))
    units = latents / np.linalg.norm(latents, axis=1, keepdims=True)
    cosines = [units[i] @ units[j] for i in range(6) for j in range(6) if members[i] != members[j]]
    assert measure_collapse(latents, members) == pytest.approx(np.mean(cosines))
    assert np.isnan(measure_collapse(latents, np.array(["a"] * 6)))


def test_each_side_of_the_split_is_measured_alone():
    tokens = draw(200)
    table = tabulate(200).assign(split=["train"] * 100 + ["test"] * 100)
    tokens[100:] = 1
    train, test = measure_health(tokens, table)
    assert train["split"] == "train"
    assert train == measure_health(tokens[:100], table[:100])[0]
    assert test["collapse"] == pytest.approx(1)
