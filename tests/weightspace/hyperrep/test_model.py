import math

import pytest
import torch

from tests.weightspace.hyperrep.small_model import CPU, build_untrained, make_config, make_data
from weightspace.hyperrep.kinds import PADDING, WEIGHT, tell_kinds
from weightspace.hyperrep.model import measure_moments
from weightspace.hyperrep.train import prepare_run


@pytest.fixture(params=[False, True], ids=["plain", "token_scale"])
def model(request):
    return build_untrained(make_config(model={"token_scale": request.param}, window="whole")).model


@pytest.fixture
def tokenizer():
    return build_untrained().tokenizer


@pytest.fixture
def tokens(tokenizer):
    return tokenizer.tokenize(torch.from_numpy(make_data().checkpoints.weights[:5]))


def test_padding_has_no_effect_on_latents(model, tokenizer, tokens):
    assert not tokenizer.mask.all()
    latents = model.encode(tokens, tell_kinds(tokenizer), tokenizer.positions)
    dirty = torch.where(tokenizer.mask, tokens, 1e3)
    assert torch.equal(model.encode(dirty, tell_kinds(tokenizer), tokenizer.positions), latents)


def test_not_a_number_in_padding_has_no_effect(model, tokenizer, tokens):
    latents = model.encode(tokens, tell_kinds(tokenizer), tokenizer.positions)
    dirty = torch.where(tokenizer.mask, tokens, torch.nan)
    assert torch.equal(model.encode(dirty, tell_kinds(tokenizer), tokenizer.positions), latents)


def test_absent_tokens_have_no_effect_on_the_others(model, tokenizer, tokens):
    kinds, positions = tell_kinds(tokenizer), tokenizer.positions
    short = model.encode(tokens[:, :6], kinds[:6], positions[:6])
    gone = kinds.clone()
    gone[6:] = PADDING
    torch.testing.assert_close(model.encode(tokens, gone, positions)[:, :6], short, atol=1e-5, rtol=1e-5)
    latents = torch.cat([short, torch.full_like(short[:, :1], 9.0).expand(-1, len(kinds) - 6, -1)], dim=1)
    decoded = model.decode(latents, gone, positions)
    torch.testing.assert_close(decoded[:, :6], model.decode(short, kinds[:6], positions[:6]), atol=1e-5, rtol=1e-5)
    assert (decoded[:, 6:] == 0).all()


def test_each_network_may_have_its_own_mask_and_positions(model, tokenizer, tokens):
    kinds, positions = tell_kinds(tokenizer).repeat(2, 1, 1), tokenizer.positions.repeat(2, 1, 1)
    kinds[1, -2:] = PADDING
    both = model.encode(tokens[:2], kinds, positions)
    for i in range(2):
        alone = model.encode(tokens[i : i + 1], kinds[i], positions[i])
        present = (kinds[i] != PADDING).any(-1)
        torch.testing.assert_close(both[i, present], alone[0, present], atol=1e-5, rtol=1e-5)


def test_a_network_is_encoded_the_same_beside_others(model, tokenizer, tokens):
    kinds, positions = tell_kinds(tokenizer), tokenizer.positions
    together = model.encode(tokens, kinds, positions)
    others = torch.cat([tokens[:1], 50 * tokens[1:].flip(0)])
    torch.testing.assert_close(model.encode(others, kinds, positions)[0], together[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.encode(tokens[:1], kinds, positions)[0], together[0], atol=1e-5, rtol=1e-5)


def test_tokens_see_each_other(model, tokenizer, tokens):
    latents = model.encode(tokens, tell_kinds(tokenizer), tokenizer.positions)
    other = tokens.clone()
    other[:, -1] = other[:, -1].flip(-1) + 3
    changed = model.encode(other, tell_kinds(tokenizer), tokenizer.positions)
    assert (latents[:, 0] - changed[:, 0]).abs().max() > 1e-4


def test_place_of_a_token_matters(model, tokenizer):
    tokens = torch.ones(1, tokenizer.num_tokens, tokenizer.d_token)
    kinds = torch.full_like(tell_kinds(tokenizer), WEIGHT)
    latents = model.encode(tokens, kinds, tokenizer.positions)[0]
    assert (latents[1:] - latents[:-1]).abs().amax(1).min() > 1e-4


def test_decoded_padding_is_zero(model, tokenizer, tokens):
    latents = model.encode(tokens, tell_kinds(tokenizer), tokenizer.positions)
    decoded = model.decode(latents, tell_kinds(tokenizer), tokenizer.positions)
    assert (decoded[:, ~tokenizer.mask] == 0).all()
    assert (decoded[:, tokenizer.mask] != 0).all()


def test_all_zero_tokens_stay_finite(model, tokenizer, tokens):
    latents = model.encode(torch.zeros_like(tokens), tell_kinds(tokenizer), tokenizer.positions)
    assert latents.isfinite().all()
    assert model.decode(latents, tell_kinds(tokenizer), tokenizer.positions).isfinite().all()


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_positions_beyond_the_learned_ones_are_finite_and_distinct(positions):
    model = build_untrained(make_config(model={"positions": positions})).model
    index = torch.arange(40).unsqueeze(1).expand(-1, 3) + 1000
    vectors = model.encoder.positions(index)
    assert vectors.isfinite().all()
    assert len(vectors.unique(dim=0)) == 40


def test_principal_start_is_the_best_linear_code_of_a_token():
    loss = {"normalization": "none", "balance": "numbers"}
    config = make_config(model={"linear_path": "principal", "token_scale": False}, loss=loss)
    run = prepare_run(make_data(), config, CPU)
    tokenizer = run.batching.tokenizer
    tokens = tokenizer.tokenize(run.pool.take(torch.arange(run.pool.num_networks)))
    kinds, positions = tell_kinds(tokenizer), tokenizer.positions
    with torch.no_grad():
        decoded = run.model.decode(run.model.encode(tokens, kinds, positions), kinds, positions)
    for layer in range(tokenizer.layout.num_layers):
        place = tokenizer.layer_tokens(layer)
        real = (kinds[place] != PADDING).all(0)  # setting decoded padding to zero may do better than a linear code
        rows, got = tokens[:, place].flatten(0, 1), decoded[:, place].flatten(0, 1)
        lost = float(torch.linalg.svdvals(rows.double())[config.model.d_latent :].square().sum())
        error = float((got - rows).square().sum())
        assert error <= lost * 1.001 + 1e-6
        if real.sum() == (kinds[place] != PADDING).any(0).sum():
            assert error == pytest.approx(lost, rel=1e-3, abs=1e-6)


def test_moments_tell_networks_of_any_size_apart_and_ignore_order(tokenizer, tokens):
    kinds = tell_kinds(tokenizer)
    moments = measure_moments(tokens, kinds)
    weights = kinds == WEIGHT
    turned = tokens.clone()
    for row in range(tokens.shape[1]):
        turned[:, row, weights[row]] = tokens[:, row, weights[row]].flip(1)
    torch.testing.assert_close(measure_moments(turned, kinds), moments, atol=1e-5, rtol=1e-5)
    for scale in (1.0, 10.0, 100.0):
        apart = measure_moments(2 * scale * tokens, kinds) - measure_moments(scale * tokens, kinds)
        assert (apart[..., 1] - math.log(2)).abs().max() < 1e-4


def test_features_are_what_latents_come_from(model, tokenizer, tokens):
    latents, features = model.embed(tokens, tell_kinds(tokenizer), tokenizer.positions)
    assert torch.equal(latents, model.encode(tokens, tell_kinds(tokenizer), tokenizer.positions))
    assert features.shape == (*tokens.shape[:2], model.config.d_model)
