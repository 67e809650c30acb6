import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weightspace.residual_networks import WIRING, ResNet, make_network, read_shapes
from weightspace.config import BadInput
from weightspace.imports.structure import find_structure
from weightspace.layout import Layout, Place
from weightspace.networks import build_cnn_l, build_cnn_s, build_layout
from weightspace.tokens.config import Dense, Sparse
from weightspace.tokens.tokenizer import Tokenizer, build_tokenizer, widest_row

KINDS = ["sparse", "dense"]


def draw_bits(layout, num, generator):
    """Weights of every bit pattern, not-a-number and infinities among them."""
    bits = torch.randint(-(2**31), 2**31, (num, layout.num_weights), generator=generator, dtype=torch.int64)
    return bits.int().view(torch.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d_token", [1, 7, 32, 201, 300])
def test_round_trip_is_exact_to_the_bit(architecture, kind, d_token, generator):
    layout = build_layout(architecture)
    tokenizer = Tokenizer(layout, d_token, kind)
    weights = draw_bits(layout, 3, generator)
    back = tokenizer.detokenize(tokenizer.tokenize(weights))
    assert torch.equal(back.view(torch.int32), weights.view(torch.int32))


NORM = (("weight", "norm"), ("bias", "bias"), ("running_mean", "buffer"), ("running_var", "buffer"))


def list_places(layers):
    """Layers of (channels, numbers each); with numbers a weight and a bias, without them a batch norm."""
    places, offset = [], 0
    for layer, (channels, width) in enumerate(layers):
        tensors = (("weight", "linear"), ("bias", "bias")) if width else NORM
        for name, kind in tensors:
            shape = (channels, width) if kind == "linear" else (channels,)
            axes, trained = tuple(None for _ in shape), kind != "buffer"
            place = Place(
                name=f"{layer}.{name}", kind=kind, layer=layer, shape=shape, offset=offset, axes=axes, trained=trained
            )
            places.append(place)
            offset = place.stop
    return Layout(places=tuple(places))


@settings(max_examples=60, deadline=None)
@given(
    layers=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), min_size=1, max_size=5),
    d_token=st.integers(1, 12),
    kind=st.sampled_from(KINDS),
)
def test_any_layers_and_any_length_of_token_round_trip(layers, d_token, kind):
    layout = list_places(layers)
    tokenizer = Tokenizer(layout, d_token, kind)
    weights = torch.arange(2 * layout.num_weights).reshape(2, -1).float()
    tokens = tokenizer.tokenize(weights)
    assert tokens.shape == (2, tokenizer.num_tokens, d_token)
    assert torch.equal(tokenizer.detokenize(tokens), weights)
    assert torch.equal(tokens[:, tokenizer.mask].sort(1).values, weights)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d_token", [1, 37, 288])
@pytest.mark.parametrize("network", list(WIRING))
def test_norms_and_shortcuts_round_trip_to_the_bit(network, kind, d_token, generator):
    layout = find_structure("x", read_shapes(make_network(network)), WIRING[network]).layout
    tokenizer = Tokenizer(layout, d_token, kind)
    weights = draw_bits(layout, 2, generator)
    back = tokenizer.detokenize(tokenizer.tokenize(weights))
    assert torch.equal(back.view(torch.int32), weights.view(torch.int32))
    assert tokenizer.mask.sum() == layout.num_weights


def test_residual_network_of_published_size_has_a_token_a_channel_of_each_norm():
    # By SANE's rule 39,104 tokens of 288 numbers hold the convolutions of a ResNet-18 for small images. It has 4,800
    # channels of norms, of which SANE makes three tokens each, and we one; 513 numbers of a class take two tokens.
    with torch.device("meta"):
        network = ResNet(width=64)
    layout = find_structure("x", read_shapes(network), "by_name").layout
    assert Tokenizer(layout, 288).num_tokens == 39_104 + 4_800 + 2 * 3


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_zero_and_says_nothing(kind, generator):
    layout = build_layout(build_cnn_s())
    tokenizer = Tokenizer(layout, 32, kind)
    weights = torch.randn(2, layout.num_weights, generator=generator)
    tokens = tokenizer.tokenize(weights)
    assert (tokens[:, ~tokenizer.mask] == 0).all()
    assert tokenizer.mask.sum() == layout.num_weights
    assert torch.equal(tokenizer.detokenize(tokens.masked_fill(~tokenizer.mask, torch.nan)), weights)


@pytest.mark.parametrize(("architecture", "width", "num_tokens"), [(build_cnn_s(), 201, 48), (build_cnn_l(), 289, 93)])
def test_sizes_are_those_of_the_paper(architecture, width, num_tokens):
    # SANE (arXiv 2406.09997), table 8, and arithmetic from its tokenisation rule.
    layout = build_layout(architecture)
    assert widest_row(layout) == width
    assert Tokenizer(layout, width).num_tokens == num_tokens


def test_token_holds_one_channel_with_its_bias_last():
    layout = build_layout(build_cnn_s())
    tokenizer = Tokenizer(layout, 201)
    weights = torch.arange(layout.num_weights).float()
    tensors, tokens = layout.split(weights), tokenizer.tokenize(weights)
    channel = tokens[tokenizer.layer_tokens(1)][4]
    assert torch.equal(channel[:200], tensors["conv2.weight"][4].flatten())
    assert channel[200] == tensors["conv2.bias"][4]


def test_sparse_token_never_spans_two_channels():
    layout = build_layout(build_cnn_s())
    tokenizer = Tokenizer(layout, 10)
    parts = [torch.arange(p.shape[0]).repeat_interleave(p.size // p.shape[0]) + 100 * p.layer for p in layout.places]
    owner = tokenizer.tokenize(torch.cat(parts).float())
    for numbers, real in zip(owner, tokenizer.mask, strict=True):
        assert len(numbers[real].unique()) == 1


def test_dense_pads_no_more_than_one_token_a_layer():
    layout = build_layout(build_cnn_s())
    tokenizer = Tokenizer(layout, 32, "dense")
    for layer in range(layout.num_layers):
        mask = tokenizer.mask[tokenizer.layer_tokens(layer)]
        assert mask[:-1].all()


@pytest.mark.parametrize("kind", KINDS)
def test_positions_count_tokens_layers_and_tokens_in_the_layer(kind):
    layout = build_layout(build_cnn_s())
    tokenizer = Tokenizer(layout, 32, kind)
    whole, layers, within = tokenizer.positions.T
    assert whole.tolist() == list(range(tokenizer.num_tokens))
    for layer in range(layout.num_layers):
        span = tokenizer.layer_tokens(layer)
        assert (layers[span] == layer).all()
        assert within[span].tolist() == list(range(span.stop - span.start))


def test_buffers_of_a_layer_share_its_channels_tokens():
    names = ("weight", "bias", "running_mean", "running_var")
    places = tuple(
        Place(
            name=f"bn.{name}",
            kind="norm" if i < 2 else "buffer",
            layer=0,
            shape=(3,),
            offset=3 * i,
            axes=(None,),
            trained=i < 2,
        )
        for i, name in enumerate(names)
    )
    tokens = Tokenizer(Layout(places=places), 4).tokenize(torch.arange(12.0))
    assert tokens.tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_gradients_pass_both_ways(generator):
    layout = build_layout(build_cnn_s())
    tokenizer = Tokenizer(layout, 32)
    weights = torch.randn(2, layout.num_weights, generator=generator, requires_grad=True)
    tokenizer.detokenize(tokenizer.tokenize(weights) * 3).sum().backward()
    assert weights.grad is not None
    assert (weights.grad == 3).all()


def test_any_leading_axes_are_kept(generator):
    layout = build_layout(build_cnn_s())
    tokenizer = Tokenizer(layout, 32)
    weights = torch.randn(2, 3, layout.num_weights, generator=generator)
    tokens = tokenizer.tokenize(weights)
    assert tokens.shape == (2, 3, tokenizer.num_tokens, 32)
    assert torch.equal(tokens[1, 2], tokenizer.tokenize(weights[1, 2]))
    assert torch.equal(tokenizer.detokenize(tokens), weights)


def test_auto_is_the_widest_row():
    layout = build_layout(build_cnn_s())
    assert build_tokenizer(layout, Sparse(kind="sparse", d_token="auto")).d_token == 201


def test_configuration_says_kind_and_length():
    layout = build_layout(build_cnn_s())
    assert build_tokenizer(layout, Dense(kind="dense", d_token=50)) == Tokenizer(layout, 50, "dense")


def test_token_of_no_length_is_refused():
    with pytest.raises(BadInput, match="d_token: got 0, wanted at least 1"):
        Tokenizer(build_layout(build_cnn_s()), 0)
