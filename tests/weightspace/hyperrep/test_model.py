import pytest
import torch

from tests.weightspace.hyperrep.small_model import CPU, build_untrained, make_config, make_data
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
    latents = model.encode(tokens, tokenizer.mask, tokenizer.positions)
    dirty = torch.where(tokenizer.mask, tokens, 1e3)
    assert torch.equal(model.encode(dirty, tokenizer.mask, tokenizer.positions), latents)


def test_not_a_number_in_padding_has_no_effect(model, tokenizer, tokens):
    latents = model.encode(tokens, tokenizer.mask, tokenizer.positions)
    dirty = torch.where(tokenizer.mask, tokens, torch.nan)
    assert torch.equal(model.encode(dirty, tokenizer.mask, tokenizer.positions), latents)


def test_absent_tokens_have_no_effect_on_the_others(model, tokenizer, tokens):
    mask, positions = tokenizer.mask, tokenizer.positions
    short = model.encode(tokens[:, :6], mask[:6], positions[:6])
    gone = mask.clone()
    gone[6:] = False
    torch.testing.assert_close(model.encode(tokens, gone, positions)[:, :6], short, atol=1e-5, rtol=1e-5)
    latents = torch.cat([short, torch.full_like(short[:, :1], 9.0).expand(-1, len(mask) - 6, -1)], dim=1)
    decoded = model.decode(latents, gone, positions)
    torch.testing.assert_close(decoded[:, :6], model.decode(short, mask[:6], positions[:6]), atol=1e-5, rtol=1e-5)
    assert (decoded[:, 6:] == 0).all()


def test_each_network_may_have_its_own_mask_and_positions(model, tokenizer, tokens):
    masks, positions = tokenizer.mask.repeat(2, 1, 1), tokenizer.positions.repeat(2, 1, 1)
    masks[1, -2:] = False
    both = model.encode(tokens[:2], masks, positions)
    for i in range(2):
        alone = model.encode(tokens[i : i + 1], masks[i], positions[i])
        present = masks[i].any(-1)
        torch.testing.assert_close(both[i, present], alone[0, present], atol=1e-5, rtol=1e-5)


def test_a_network_is_encoded_the_same_beside_others(model, tokenizer, tokens):
    mask, positions = tokenizer.mask, tokenizer.positions
    together = model.encode(tokens, mask, positions)
    others = torch.cat([tokens[:1], 50 * tokens[1:].flip(0)])
    torch.testing.assert_close(model.encode(others, mask, positions)[0], together[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.encode(tokens[:1], mask, positions)[0], together[0], atol=1e-5, rtol=1e-5)


def test_tokens_see_each_other(model, tokenizer, tokens):
    latents = model.encode(tokens, tokenizer.mask, tokenizer.positions)
    other = tokens.clone()
    other[:, -1] = other[:, -1].flip(-1) + 3
    changed = model.encode(other, tokenizer.mask, tokenizer.positions)
    assert (latents[:, 0] - changed[:, 0]).abs().max() > 1e-4


def test_place_of_a_token_matters(model, tokenizer):
    tokens = torch.ones(1, tokenizer.num_tokens, tokenizer.d_token)
    mask = torch.ones_like(tokenizer.mask)
    latents = model.encode(tokens, mask, tokenizer.positions)[0]
    assert (latents[1:] - latents[:-1]).abs().amax(1).min() > 1e-4


def test_decoded_padding_is_zero(model, tokenizer, tokens):
    latents = model.encode(tokens, tokenizer.mask, tokenizer.positions)
    decoded = model.decode(latents, tokenizer.mask, tokenizer.positions)
    assert (decoded[:, ~tokenizer.mask] == 0).all()
    assert (decoded[:, tokenizer.mask] != 0).all()


def test_all_zero_tokens_stay_finite(model, tokenizer, tokens):
    latents = model.encode(torch.zeros_like(tokens), tokenizer.mask, tokenizer.positions)
    assert latents.isfinite().all()
    assert model.decode(latents, tokenizer.mask, tokenizer.positions).isfinite().all()


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_positions_beyond_the_learned_ones_are_finite_and_distinct(positions):
    model = build_untrained(make_config(model={"positions": positions})).model
    index = torch.arange(40).unsqueeze(1).expand(-1, 3) + 1000
    vectors = model.encoder.positions(index)
    assert vectors.isfinite().all()
    assert len(vectors.unique(dim=0)) == 40


def test_principal_start_is_the_best_linear_code_of_a_token():
    config = make_config(model={"linear_path": "principal", "token_scale": False})
    run = prepare_run(make_data(), config, CPU)
    tokens = run.tokenizer.tokenize(run.pool.weights)
    # Without a mask: setting decoded padding to zero would do better than any linear code.
    mask, positions = torch.ones_like(run.tokenizer.mask), run.tokenizer.positions
    with torch.no_grad():
        decoded = run.model.decode(run.model.encode(tokens, mask, positions), mask, positions)
    for layer in range(run.tokenizer.layout.num_layers):
        place = run.tokenizer.layer_tokens(layer)
        rows, got = tokens[:, place].flatten(0, 1), decoded[:, place].flatten(0, 1)
        lost = torch.linalg.svdvals(rows.double())[config.model.d_latent :].square().sum()
        assert float((got - rows).square().sum()) == pytest.approx(float(lost), rel=1e-3, abs=1e-6)
