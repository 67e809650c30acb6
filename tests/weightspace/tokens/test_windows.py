import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from weightspace.config import BadInput
from weightspace.tokens.windows import (
    cover_with_halo,
    draw_starts,
    index_windows,
    run_with_halo,
    take_windows,
)


@given(num_tokens=st.integers(1, 200), window=st.integers(1, 200), halo=st.integers(0, 99))
def test_contents_cover_every_token_exactly_once(num_tokens, window, halo):
    assume(2 * halo < window <= num_tokens)
    windows = cover_with_halo(num_tokens, window, halo)
    covered = [i for one in windows for i in range(one.content.start, one.content.stop)]
    assert covered == list(range(num_tokens))


@given(num_tokens=st.integers(1, 200), window=st.integers(1, 200), halo=st.integers(0, 99))
def test_every_token_has_its_halo_unless_the_sequence_ends(num_tokens, window, halo):
    assume(2 * halo < window <= num_tokens)
    for one in cover_with_halo(num_tokens, window, halo):
        assert one.tokens.stop - one.tokens.start == window
        assert one.tokens.start >= 0
        assert one.tokens.stop <= num_tokens
        assert one.tokens.start <= max(0, one.content.start - halo)
        assert one.tokens.stop >= min(num_tokens, one.content.stop + halo)


def test_window_as_long_as_the_model_is_used_once():
    (only,) = cover_with_halo(48, 48, 10)
    assert only.tokens == only.content == only.kept == slice(0, 48)


@pytest.mark.parametrize(
    "function",
    [lambda n, w: cover_with_halo(n, w, 0), lambda n, w: draw_starts(n, w, 1, torch.Generator(), shared=True)],
)
def test_window_longer_than_the_model_is_refused(function):
    with pytest.raises(BadInput, match="window: got 49 tokens, but the model has 48; wanted 1 to 48"):
        function(48, 49)


def test_halo_that_leaves_no_content_is_refused():
    with pytest.raises(BadInput, match=r"halo: got 4, wanted 0 to 3, less than half of the window \(8\)"):
        cover_with_halo(48, 8, 4)


def test_function_of_single_tokens_is_the_same_through_windows(generator):
    sequences = torch.randn(3, 37, 4, generator=generator)
    found = run_with_halo(lambda window, _: window * 2, sequences, 10, 3)
    assert torch.equal(found, sequences * 2)


def test_function_of_near_neighbours_is_the_same_through_windows(generator):
    sequences = torch.randn(2, 37, 1, generator=generator)
    kernel = torch.randn(1, 1, 5, generator=generator)

    def smooth(window, _=None):
        return torch.nn.functional.conv1d(window.transpose(1, 2), kernel, padding=2).transpose(1, 2)

    torch.testing.assert_close(run_with_halo(smooth, sequences, 9, 2), smooth(sequences))


def test_run_is_told_which_tokens_it_sees(generator):
    positions = torch.arange(37)
    sequences = torch.zeros(1, 37, 1)
    found = run_with_halo(lambda window, span: window + positions[span, None], sequences, 10, 3)
    assert found.flatten().tolist() == positions.tolist()


def test_window_is_cut_where_it_starts(generator):
    tokens = torch.randn(3, 20, 4, generator=generator)
    starts = torch.tensor([0, 16, 5])
    windows = take_windows(tokens, starts, 4)
    for row, start in enumerate(starts.tolist()):
        assert torch.equal(windows[row], tokens[row, start : start + 4])


def test_index_of_a_window_finds_its_positions(generator):
    positions = torch.randint(9, (20, 3), generator=generator)
    index = index_windows(torch.tensor([3, 0]), 4)
    assert torch.equal(positions[index], torch.stack([positions[3:7], positions[:4]]))


def test_every_start_is_drawn(generator):
    starts = draw_starts(10, 4, 2000, generator, shared=False)
    # 7 starts, 286 each; 100 is more than six standard deviations.
    assert starts.bincount().shape == (7,)
    assert (starts.bincount() - 2000 / 7).abs().max() < 100


def test_shared_start_is_one_for_all_and_changes(generator):
    batches = [draw_starts(100, 10, 5, generator, shared=True) for _ in range(5)]
    assert all(len(batch.unique()) == 1 and len(batch) == 5 for batch in batches)
    assert len({int(batch[0]) for batch in batches}) > 1


def test_same_seed_draws_the_same_starts():
    draws = [draw_starts(100, 10, 50, torch.Generator().manual_seed(4), shared=False) for _ in range(2)]
    assert torch.equal(*draws)
