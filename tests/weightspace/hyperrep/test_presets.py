import subprocess
import sys
from typing import get_args

import pytest
import torch
from torch import nn

from tests.weightspace.hyperrep.small_model import CPU, make_data
from tests.weightspace.samples.small_study import build_image_set
from weightspace.config import BadInput
from weightspace.hyperrep.config import HyperrepConfig, ModelConfig, Sizes
from weightspace.hyperrep.model import Autoencoder, LayerMaps
from weightspace.hyperrep.presets import METHODS, PresetName, SizeName, build_preset
from weightspace.hyperrep.train import measure_sizes, train_hyperrep
from weightspace.networks import build_cnn_l, build_cnn_s, build_layout
from weightspace.tokens.tokenizer import Tokenizer, build_tokenizer

NAMES: tuple[PresetName, ...] = get_args(PresetName)


def images_of(name: str) -> str:
    return "i" if name == "behavioural" else "."


def build_empty(config: ModelConfig, sizes: Sizes) -> Autoencoder:
    """The model with shapes and no numbers."""
    with torch.device("meta"):
        return Autoencoder(config, sizes)


def count(*modules: nn.Module | None) -> int:
    return sum(parameter.numel() for module in modules if module for parameter in module.parameters())


def count_padding(maps: nn.Module, tokenizer: Tokenizer, width: int, out: bool) -> int:
    """Numbers of a layer's map that meet padding only; published maps are as wide as their layer."""
    assert isinstance(maps, LayerMaps)
    missing = sum(tokenizer.d_token - rows.num_columns for rows in tokenizer.rows)
    return missing * (width + (1 if out else 0))


@pytest.mark.parametrize("size", get_args(SizeName))
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_a_configuration_that_says_all(name, size):
    config = build_preset(name, size, "w", images_of(name))
    assert config == HyperrepConfig.model_validate(config.model_dump(mode="json"))
    assert config.weights == "w"
    assert config.model.d_model % config.model.num_heads == 0
    assert METHODS[name].source.startswith("arXiv ")


# Encoder and decoder of MNIST-SEED, MNIST-HYP-1-FIX, -1-RAND and -5-RAND, in millions, as counted in the released code
# of 2021: 26.9 of the decoder's 35.2 are the map that follows the latent. Ours has no biases in its blocks: 0.03 less.
@pytest.mark.parametrize(
    ("changes", "encoder", "decoder"),
    [
        ({}, 8.9, 35.2),
        ({"num_layers": 4, "num_heads": 2, "d_feedforward": 1000}, 17.5, 43.9),
        ({"num_layers": 4, "num_heads": 2}, 16.9, 43.2),
        ({"num_layers": 4, "num_heads": 2, "d_latent": 500}, 16.7, 35.6),
    ],
)
def test_2021_has_the_published_parameters(changes, encoder, decoder):
    config = build_preset("ecd_2021", "published", "w")
    tokenizer = build_tokenizer(build_layout(build_cnn_s()), config.tokens)
    said = config.model.model_copy(update=changes)
    model = build_empty(said, measure_sizes([tokenizer], config))
    assert tokenizer.num_tokens == 48
    into = count_padding(model.encoder.embed, tokenizer, said.d_model, out=False)
    back = count_padding(model.to_token, tokenizer, said.d_model, out=True)
    assert (count(model.encoder, model.to_latent) - into) / 1e6 == pytest.approx(encoder, abs=0.08)
    assert (count(model.decoder, model.to_token) - back) / 1e6 == pytest.approx(decoder, abs=0.08)
    if not changes:
        assert count(model.decoder.embed) / 1e6 == pytest.approx(26.9, abs=0.05)


def test_2021_has_the_published_sizes():
    model = build_preset("ecd_2021", "published", "w").model
    assert (model.num_layers, model.d_model, model.num_heads, model.d_feedforward) == (2, 800, 4, 900)
    assert (model.d_latent, model.projection_widths, model.d_projection) == (700, (400,) * 4, 50)
    assert 2464 / model.d_latent == pytest.approx(3.5, abs=0.05)


def test_methods_of_2021_differ_by_their_loss_alone():
    said = {name: build_preset(name, "published", "w") for name in NAMES if name.endswith("_2021")}
    losses = {name: (config.loss.contrast_weight, config.loss.contrast) for name, config in said.items()}
    assert losses == {
        "ec_2021": (1.0, "nt_xent"),
        "ec_positive_2021": (1.0, "positive"),
        "ed_2021": (0.0, "nt_xent"),
        "ecd_2021": (0.1, "nt_xent"),
        "ec_positive_d_2021": (0.1, "positive"),
    }
    models = [config.model for config in said.values()]
    assert all(model == models[0] for model in models)


def test_sane_for_cnns_has_the_published_sizes():
    config = build_preset("sane_cnn", "published", "w")
    tokenizer = build_tokenizer(build_layout(build_cnn_l()), config.tokens)
    assert (tokenizer.d_token, tokenizer.num_tokens, config.window) == (289, 93, 64)
    model = build_empty(config.model, measure_sizes([tokenizer], config))
    assert count(model) / 1e9 == pytest.approx(0.20, abs=0.005)


# SANE's largest positions (n, l, k), then MultiZoo's; both share one table of positions between encoder and decoder.
@pytest.mark.parametrize(
    ("name", "positions", "parameters"), [("sane_resnet18", (55000, 100, 550), 0.86), ("mln", (60000, 150, 600), 0.87)]
)
def test_models_for_resnets_have_the_published_sizes(name, positions, parameters):
    config = build_preset(name, "published", "w")
    model = build_empty(config.model, Sizes(d_token=288, window=256, num_positions=positions))
    assert config.window == 256
    assert (count(model) - count(model.decoder.positions)) / 1e9 == pytest.approx(parameters, abs=0.008)


def test_behavioural_has_the_published_sizes():
    config = build_preset("behavioural", "published", "w", "i")
    tokenizer = build_tokenizer(build_layout(build_cnn_l()), config.tokens)
    model = build_empty(config.model, measure_sizes([tokenizer], config))
    assert count(model) / 1e6 == pytest.approx(13, abs=0.5)
    assert tokenizer.num_tokens * config.model.d_latent == 93 * 64
    behaviour = config.loss.behaviour
    assert behaviour.kind == "softmax"
    assert (behaviour.weight, behaviour.num_images, config.loss.scale) == (0.9, 256, "first_step")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("sane_resnet18", "mln")])
def test_small_presets_train(name):
    config = build_preset(name, "small", "w", images_of(name))
    short = config.training.model_copy(update={"steps": 2, "batch_size": 8, "validation_rows": 8})
    config = config.model_copy(update={"training": short})
    images = build_image_set() if name == "behavioural" else None
    trained = train_hyperrep(make_data(12), config, None, CPU, images)
    weights = torch.from_numpy(make_data(12).checkpoints.weights[:3])
    assert trained.hyperrep.reconstruct(weights).isfinite().all()


def test_unknown_names_are_refused():
    with pytest.raises(BadInput, match="preset: got 'sanity' of size 'small', wanted one of ec_2021"):
        build_preset("sanity", "small", "w")  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match=r"of size 'huge'.*; small, base, published"):
        build_preset("mln", "huge", "w")  # pyright: ignore[reportArgumentType]


def test_networks_that_are_run_need_images():
    with pytest.raises(BadInput, match=r"preset behavioural: got images '\.', wanted the image set of the zoo"):
        build_preset("behavioural", "small", "w", ".")


def test_presets_need_no_torch():
    code = "import sys, weightspace.hyperrep.presets; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
