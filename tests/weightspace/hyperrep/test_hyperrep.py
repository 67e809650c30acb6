import pytest
import torch

from tests.weightspace.hyperrep.small_model import CPU, build_untrained, make_config, make_data
from weightspace.config import BadInput
from weightspace.hyperrep.hyperrep import CONFIG_NAME, MODEL_NAME, PREPROCESSING_NAME, Hyperrep
from weightspace.hyperrep.kinds import tell_kinds
from weightspace.networks import build_cnn_s, build_layout


@pytest.fixture(scope="module")
def hyperrep():
    return build_untrained()


@pytest.fixture(scope="module")
def weights():
    return torch.from_numpy(make_data().checkpoints.weights[:6])


@pytest.fixture
def saved(hyperrep, tmp_path):
    hyperrep.save(tmp_path)
    return tmp_path


def test_round_trip_to_disk_is_exact(hyperrep, saved, weights):
    read = Hyperrep.load(saved, CPU)
    assert read.config == hyperrep.config
    assert read.tokenizer == hyperrep.tokenizer
    assert torch.equal(read.reference, hyperrep.reference)
    assert torch.equal(read.statistics.mean, hyperrep.statistics.mean)
    assert torch.equal(read.statistics.std, hyperrep.statistics.std)
    assert torch.equal(read.encode(weights, halo=2), hyperrep.encode(weights, halo=2))
    assert torch.equal(read.reconstruct(weights, halo=2), hyperrep.reconstruct(weights, halo=2))


def test_saving_again_gives_the_same_bytes(saved, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    Hyperrep.load(saved, CPU).save(again)
    for name in (MODEL_NAME, CONFIG_NAME, PREPROCESSING_NAME):
        assert (again / name).read_bytes() == (saved / name).read_bytes(), name


@pytest.mark.parametrize("halo", [0, 2, 4])
def test_a_networks_result_does_not_depend_on_the_others(hyperrep, weights, halo):
    together = hyperrep.encode(weights, halo)
    for at_once in (1, 4):
        apart = hyperrep.encode(weights, halo, networks_at_once=at_once)
        torch.testing.assert_close(apart, together, atol=1e-5, rtol=1e-5)
        decoded = hyperrep.decode(together, halo, networks_at_once=at_once)
        torch.testing.assert_close(decoded, hyperrep.decode(together, halo), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hyperrep.encode(weights.flip(0), halo).flip(0), together, atol=1e-5, rtol=1e-5)


def test_encoding_standardises_and_decoding_restores(hyperrep, weights):
    model, tokenizer = hyperrep.model, hyperrep.tokenizer
    tokens = tokenizer.tokenize(hyperrep.statistics.standardize(hyperrep.layout, weights))
    place = slice(0, model.sizes.window)
    kinds, positions = tell_kinds(tokenizer)[place], tokenizer.positions[place]
    latents = model.encode(tokens[:, place], kinds, positions)
    torch.testing.assert_close(hyperrep.encode(weights)[:, place], latents, atol=1e-5, rtol=1e-5)
    first = hyperrep.layout.places[0]
    decoded = tokenizer.detokenize(
        torch.nn.functional.pad(model.decode(latents, kinds, positions), (0, 0, 0, tokenizer.num_tokens - place.stop))
    )
    wanted = hyperrep.statistics.restore(hyperrep.layout, decoded)[:, : first.stop]
    got = hyperrep.decode(hyperrep.encode(weights))[:, : first.stop]
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_halo_gives_context_to_tokens_at_the_edge_of_a_window(hyperrep, weights):
    bare, wide = hyperrep.encode(weights, 0), hyperrep.encode(weights, 3)
    assert bare.shape == wide.shape == (6, hyperrep.tokenizer.num_tokens, hyperrep.d_latent)
    assert torch.equal(bare[:, :5], wide[:, :5])
    assert (bare - wide).abs().max() > 1e-4


def test_one_window_for_the_whole_network_needs_no_halo(weights):
    hyperrep = build_untrained(make_config(window="whole"))
    assert torch.equal(hyperrep.encode(weights, 0), hyperrep.encode(weights, 1))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(hyperrep, weights, value):
    bad = weights.clone()
    bad[2, 5] = value
    with pytest.raises(BadInput, match="network 2 \\(counted from 0\\) has weights that are not finite"):
        hyperrep.encode(bad)


def test_weights_of_another_length_are_refused(hyperrep, weights):
    with pytest.raises(BadInput, match=f"got 11 numbers a network, wanted {hyperrep.layout.num_weights}"):
        hyperrep.encode(weights[:, :11])


def test_another_layout_is_refused(hyperrep):
    with pytest.raises(BadInput, match=r"weights/other: got networks with 2464 weights"):
        hyperrep.check_layout(build_layout(build_cnn_s()), "weights/other")


def test_a_layout_of_the_same_length_with_other_names_is_refused(hyperrep):
    first, *others = hyperrep.layout.places
    renamed = hyperrep.layout.model_copy(update={"places": (first.model_copy(update={"name": "x.weight"}), *others)})
    with pytest.raises(BadInput, match="with the same names and shapes"):
        hyperrep.check_layout(renamed, "weights/other")
    hyperrep.check_layout(hyperrep.layout, "weights/w")


def test_a_halo_as_wide_as_the_window_is_refused(hyperrep, weights):
    with pytest.raises(BadInput, match="halo: got 5"):
        hyperrep.encode(weights, halo=5)


@pytest.mark.parametrize("name", [MODEL_NAME, PREPROCESSING_NAME])
def test_a_truncated_file_is_named(saved, name):
    path = saved / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=f"{name}: cannot be read"):
        Hyperrep.load(saved, CPU)


@pytest.mark.parametrize("name", [MODEL_NAME, CONFIG_NAME, PREPROCESSING_NAME])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(BadInput, match=f"{name}: missing"):
        Hyperrep.load(saved, CPU)
