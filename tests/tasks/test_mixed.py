"""Two zoos of two architectures, from the zoos to one hyper-representation and its embeddings."""

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.embeddings import make_embeddings
from tasks.hyperrep import HISTORY_NAME, make_hyperrep
from tasks.probes import make_probes
from tasks.samples import make_samples
from tasks.weights import make_weights
from tests.weightspace.embeddings.small_config import configure_embeddings
from tests.weightspace.hyperrep.small_model import CPU, NoConfig, make_config
from tests.weightspace.samples.small_study import make_samples_config
from tests.weightspace.weights.made_up_zoo import ARCHITECTURE, EPOCHS, MEMBERS, MLP, configure, write_zoo
from weightspace.api import Hyperrep as Api
from weightspace.config import BadInput
from weightspace.embeddings.embeddings import read_embeddings, read_reconstruction
from weightspace.embeddings.health import HEALTH_NAME
from weightspace.hyperrep.hyperrep import LAST_NAME, load_hyperreps
from weightspace.probes.config import ProbesConfig
from weightspace.record import read_record, write_record
from weightspace.report.hyperrep import estimate_zoo_errors, show_health
from weightspace.report.metrics import gather_reconstruction
from weightspace.report.read import read_entry
from weightspace.store import list_layouts

CONFIG = make_config(
    window=20,
    tokens={"kind": "sparse", "d_token": 40},
    views={"erase": 0.0},
    training={"steps": 4, "validate_every": 2, "sampling": {"kind": "uniform"}},
)
EMBEDDINGS = configure_embeddings(summary="pooled", networks_at_once=64, untrained_baseline=True)


def make_probes_config(**changes):
    said = {
        "weights": "w",
        "embeddings": "e",
        "first_epoch": 0,
        "every_epochs": 1,
        "ridge": {"scaling": "standard", "penalties": [1.0]},
        "logistic": {"penalties": [1.0], "iterations": 20},
        "boosted": {"targets": [], "iterations": 5, "learning_rate": 0.3, "leaves": 7, "bins": 63, "widest": 50},
        "resamples": 10,
        "seed": 0,
    }
    return ProbesConfig.model_validate(said | changes)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    for seed, (name, architecture) in enumerate({"a": ARCHITECTURE, "b": MLP}.items()):
        folder = root / "data/zoo" / name
        folder.mkdir(parents=True)
        write_zoo(folder, architecture=architecture, seed=seed)
        write_record(folder, "zoo", name, NoConfig(), {})
    make_weights("w", configure(zoo=".", alignment={"kind": "sort", "key": "both"}), root)
    make_hyperrep("h", CONFIG, root)
    make_embeddings("e", EMBEDDINGS, root)
    return root


def test_history_tells_of_each_zoo(study):
    history = pd.read_parquet(study / "data/hyperrep/h" / HISTORY_NAME)
    both = history[["val_reconstruction_a", "val_reconstruction_b"]].mean(axis=1)
    np.testing.assert_allclose(history["val_reconstruction"], both, rtol=1e-5)


def test_same_inputs_give_the_same_bytes(study):
    make_hyperrep("again", CONFIG, study)
    files = [read_record(study / "data/hyperrep" / name).files for name in ("h", "again")]
    assert files[0] == files[1]
    assert {"preprocessing.cnn_s.safetensors", "preprocessing.mlp.safetensors"} < set(files[0])


def test_the_last_model_is_kept_beside_the_best(study):
    folder = study / "data/hyperrep/h"
    best, last = (load_hyperreps(folder, CPU, name) for name in ("model.safetensors", LAST_NAME))
    assert set(best) == set(last) == {"cnn_s", "mlp"}
    assert best["cnn_s"].model is best["mlp"].model
    # Validation is best after the last step here.
    assert torch.equal(*(one["mlp"].model.state_dict()["to_latent.weight"] for one in (best, last)))


def test_every_checkpoint_is_embedded_with_one_length_of_summary(study):
    embeddings = read_embeddings(study / "data/embeddings/e")
    assert embeddings.table.groupby("zoo").size().to_dict() == {"a": MEMBERS * EPOCHS, "b": MEMBERS * EPOCHS}
    assert embeddings.summary.shape == (2 * MEMBERS * EPOCHS, CONFIG.model.d_latent)
    assert embeddings.tokens is None
    for name in ("cnn_s", "mlp"):
        one = read_embeddings(study / "data/embeddings/e", name)
        rows = (embeddings.table["layout"] == name).to_numpy()
        np.testing.assert_array_equal(one.summary, embeddings.summary[rows])
        np.testing.assert_allclose(one.tokens.mean(1), one.summary, atol=1e-5)


def test_reconstruction_and_latents_are_told_by_zoo_and_layout(study):
    errors = read_reconstruction(study / "data/embeddings/e")
    whole = errors[(errors["layer"] == "all") & (errors["method"] == "hyperrep")]
    assert set(whole["zoo"]) == {"a", "b"}
    assert {"cnn_s/conv1", "mlp/linear1"} & set(errors["layer"])
    health = pd.read_parquet(study / "data/embeddings/e" / HEALTH_NAME)
    assert set(zip(health["layout"], health["split"], strict=True)) == {
        (layout, split) for layout in ("cnn_s", "mlp") for split in ("train", "val", "test")
    }


def test_summaries_by_layer_are_refused(study):
    with pytest.raises(BadInput, match="summary: got 'features' for networks of several layouts, cnn_s, mlp"):
        make_embeddings("f", EMBEDDINGS.model_copy(update={"summary": "features"}), study)


def test_the_api_embeds_a_data_set_of_both(study):
    folder = study / "data/weights/w"
    found = Api.load(study / "data/hyperrep/h", "cpu").embed(folder, summary="pooled", halo=2)
    wanted = read_embeddings(study / "data/embeddings/e")
    assert found.table["member"].tolist() == wanted.table["member"].tolist()
    np.testing.assert_allclose(found.summary, wanted.summary, atol=1e-5)
    assert found.tokens is None
    assert list(list_layouts(folder)) == found.table["layout"].unique().tolist()


def test_probes_read_the_summaries_of_both(study):
    config = make_probes_config(targets=["val_accuracy"], features=["embedding", "epoch_only"])
    make_probes("p", config, study)
    scores = pd.read_parquet(study / "data/probes/p/scores.parquet")
    assert set(scores["features"]) == {"embedding", "epoch_only"}
    assert scores.loc[scores["split"] == "train", "num_checkpoints"].max() > MEMBERS * EPOCHS


def test_probes_of_weights_are_refused(study):
    config = make_probes_config(targets=["epoch"], features=["embedding", "weights", "embedding_tokens"])
    with pytest.raises(BadInput, match="features: got weights, embedding_tokens, which networks of several layouts"):
        make_probes("q", config, study)


def test_the_report_shows_each_zoo_and_the_use_of_latents(study):
    entry = read_entry(study / "data/embeddings/e", "embeddings")
    assert {zoo for zoo, _ in estimate_zoo_errors(entry)} == {"a", "b"}
    tree: dict = {}
    gather_reconstruction(tree, entry)
    assert set(tree["reconstruction"]["zoos"]) == {"a", "b"}
    assert "effective_rank_unseen" in tree["latent"]["layouts"]["mlp"]
    (part,) = show_health(entry)
    assert [row[0].text for row in part.tables[0].rows] == [
        f"{layout}, {side}" for layout in ("cnn_s", "mlp") for side in ("seen", "unseen")
    ]


def test_samples_of_both_at_once_are_refused(study):
    config = make_samples_config().model_copy(update={"weights": "w", "hyperrep": "h", "embeddings": "e"})
    images = study / "data/images" / config.images
    images.mkdir(parents=True)
    write_record(images, "images", config.images, NoConfig(), {})
    with pytest.raises(BadInput, match="weights w: holds networks of several layouts, cnn_s, mlp; samples are made of"):
        make_samples("s", config, study)
