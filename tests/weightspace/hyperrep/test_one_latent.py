import pytest
import torch

from tests.weightspace.embeddings.small_config import configure_embeddings
from tests.weightspace.hyperrep.small_model import CPU, build_untrained, make_config, make_data, one_latent
from weightspace.embeddings.embed import embed_checkpoints
from weightspace.embeddings.embeddings import read_embeddings, write_embeddings
from weightspace.embeddings.summary import summarize_tokens
from weightspace.hyperrep.batches import draw_batch
from weightspace.hyperrep.criterion import measure_losses
from weightspace.hyperrep.hyperrep import Hyperrep
from weightspace.hyperrep.kinds import PADDING, tell_kinds
from weightspace.hyperrep.model import LayerMaps
from weightspace.hyperrep.train import prepare_run

VARIANTS = [
    ("token", "linear", "tanh"),
    ("token", "repeat", "mlp"),
    ("flatten", "linear", "linear"),
    ("flatten", "repeat", "tanh"),
    ("average", "linear", "mlp"),
    ("average", "repeat", "linear"),
]


@pytest.fixture(scope="module", params=VARIANTS, ids="-".join)
def hyperrep(request):
    return build_untrained(make_config(**one_latent(*request.param)))


@pytest.fixture(scope="module")
def weights():
    return torch.from_numpy(make_data().checkpoints.weights[:6])


def test_a_network_has_one_latent(hyperrep, weights):
    latents, features = hyperrep.embed(weights)
    assert latents.shape == (6, 1, hyperrep.d_latent)
    assert features.shape == (6, hyperrep.tokenizer.num_tokens, hyperrep.config.model.d_model)
    assert (latents[1:] - latents[:-1]).abs().amax((1, 2)).min() > 1e-4


def test_reconstruction_is_decoding_of_the_latent(hyperrep, weights):
    latents = hyperrep.encode(weights)
    decoded = hyperrep.decode(latents)
    assert decoded.shape == weights.shape
    assert torch.equal(decoded, hyperrep.reconstruct(weights))
    assert (decoded[1:] - decoded[:-1]).abs().amax(1).min() > 1e-4


def test_round_trip_to_disk_is_exact(hyperrep, weights, tmp_path):
    hyperrep.save(tmp_path)
    assert torch.equal(Hyperrep.load(tmp_path, CPU).reconstruct(weights), hyperrep.reconstruct(weights))


def test_a_networks_result_does_not_depend_on_the_others(hyperrep, weights):
    together = hyperrep.encode(weights)
    torch.testing.assert_close(hyperrep.encode(weights, networks_at_once=1), together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hyperrep.encode(weights.flip(0)).flip(0), together, atol=1e-5, rtol=1e-5)
    alone = hyperrep.decode(together, networks_at_once=1)
    torch.testing.assert_close(hyperrep.decode(together), alone, atol=1e-5, rtol=1e-5)


def test_padding_and_absent_tokens_have_no_effect(hyperrep, weights):
    model, tokenizer = hyperrep.model, hyperrep.tokenizer
    kinds = tell_kinds(tokenizer)
    kinds[-2:] = PADDING
    tokens = tokenizer.tokenize(weights)
    latents = model.encode(tokens, kinds, tokenizer.positions)
    dirty = torch.where(kinds == PADDING, torch.nan, tokens)
    assert torch.equal(model.encode(dirty, kinds, tokenizer.positions), latents)
    assert (model.decode(latents, kinds, tokenizer.positions)[:, kinds == PADDING] == 0).all()


def test_every_token_matters(hyperrep, weights):
    model, tokenizer = hyperrep.model, hyperrep.tokenizer
    kinds, tokens = tell_kinds(tokenizer), tokenizer.tokenize(weights)
    latents = model.encode(tokens, kinds, tokenizer.positions)
    for token in range(tokenizer.num_tokens):
        other = tokens.clone()
        other[:, token] += 1.0
        assert (model.encode(other, kinds, tokenizer.positions) - latents).abs().max() > 1e-5, token


def test_contrast_looks_at_the_latent(hyperrep, weights):
    latents, features = hyperrep.embed(weights)
    projected = hyperrep.model.project(latents, features)
    assert projected.shape == (6, hyperrep.config.model.d_projection)
    assert torch.equal(hyperrep.model.project(latents, features + 1), projected)


def test_every_parameter_has_a_part_in_the_loss(hyperrep):
    run = prepare_run(make_data(), hyperrep.config, CPU)
    batch = draw_batch(run.pool, run.batching, run.config.training, 0)
    measure_losses(run.model, batch, run.criterion, 0)["loss"].backward()
    for name, parameter in run.model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("kind", ["pooled", "latents"])
def test_the_latent_is_its_own_summary(hyperrep, weights, kind):
    latents, features = hyperrep.embed(weights)
    assert torch.equal(summarize_tokens(latents, features, hyperrep.tokenizer, kind), latents[:, 0])


def test_embeddings_keep_the_latent_and_decode_it_again(hyperrep, tmp_path):
    config = configure_embeddings(summary="pooled", halo=0)
    data = make_data(12)
    embedded = embed_checkpoints(data, hyperrep, None, config)
    write_embeddings(tmp_path, embedded.embeddings)
    tokens = read_embeddings(tmp_path).tokens
    assert tokens.shape == (36, 1, hyperrep.d_latent)
    assert (embedded.embeddings.summary == tokens[:, 0]).all()
    decoded = hyperrep.decode(torch.from_numpy(tokens.copy()))
    reconstructed = hyperrep.reconstruct(torch.from_numpy(data.checkpoints.weights))
    torch.testing.assert_close(decoded, reconstructed, atol=1e-4, rtol=1e-4)
    assert set(embedded.errors["method"]) == {"hyperrep", "pca"}


def test_the_latent_is_the_same_without_the_features_of_tokens(weights):
    hyperrep = build_untrained(make_config(**one_latent("token")))
    tokenizer, model = hyperrep.tokenizer, hyperrep.model
    inputs = tokenizer.tokenize(weights), tell_kinds(tokenizer), tokenizer.positions
    with_all, features = model.embed(*inputs)
    alone, none = model.embed(*inputs, all_features=False)
    torch.testing.assert_close(alone, with_all)
    assert (features.shape[1], none.shape[1]) == (tokenizer.num_tokens, 0)


def test_tanh_bounds_the_latent(weights):
    hyperrep = build_untrained(make_config(**one_latent("flatten")))
    assert hyperrep.encode(1000 * weights).abs().max() <= 1


def test_each_layer_has_a_map_of_its_own():
    maps = LayerMaps(3, 4, 2, bias=True)
    generator = torch.Generator().manual_seed(0)
    for parameter in maps.parameters():
        parameter.data.normal_(generator=generator)
    assert maps.biases is not None
    x, layers = torch.randn(5, 4, 4, generator=generator), torch.tensor([0, 2, 2, 1])
    by_hand = torch.stack([x[:, i] @ maps.maps[layer].T + maps.biases[layer] for i, layer in enumerate(layers)], dim=1)
    torch.testing.assert_close(maps(x, layers), by_hand)
    torch.testing.assert_close(maps(x, layers.expand(5, -1)), by_hand)


def test_a_map_of_each_layer_goes_with_latents_of_tokens_too(weights):
    hyperrep = build_untrained(make_config(model={"embedding": "layer"}))
    latents = hyperrep.encode(weights)
    assert latents.shape == (6, hyperrep.tokenizer.num_tokens, hyperrep.d_latent)
    assert hyperrep.decode(latents).shape == weights.shape


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"linear_path": "random"}, "linear_path 'random', token_scale False with latent.kind 'network'"),
        ({"token_scale": True}, "linear_path 'none', token_scale True with latent.kind 'network'"),
    ],
)
def test_what_goes_by_tokens_is_refused(changes, problem):
    with pytest.raises(ValueError, match=problem):
        make_config(**one_latent(**changes))


def test_a_window_of_a_part_is_refused():
    with pytest.raises(ValueError, match="window 9 with one latent for the network; wanted 'whole'"):
        make_config(**one_latent() | {"window": 9})
