"""Take windows of a token sequence: at random to train on, side by side with context to cover it all."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from weightspace.config import BadInput


def check_window(num_tokens: int, window: int) -> None:
    """Refuse a window that the sequence cannot fill.

    Raises:
        BadInput: it is longer than the model, or empty.
    """
    if not 1 <= window <= num_tokens:
        raise BadInput(f"window: got {window} tokens, but the model has {num_tokens}; wanted 1 to {num_tokens}")


def draw_starts(
    num_tokens: int, window: int, num: int, generator: torch.Generator, shared: bool
) -> Int64[Tensor, " num"]:
    """Draw where `num` windows start, all places as likely.

    Args:
        shared: one start for all, as SANE's training batches have.
    """
    check_window(num_tokens, window)
    draws = 1 if shared else num
    device = generator.device
    starts = torch.randint(num_tokens - window + 1, (draws,), generator=generator, device=device)
    return starts.expand(num).clone()


def index_windows(starts: Int64[Tensor, " num"], window: int) -> Int64[Tensor, "num window"]:
    """Number the tokens of each window; `positions[index]` and `mask[index]` are its positions and mask."""
    return starts.unsqueeze(1) + torch.arange(window, device=starts.device)


def take_windows(
    tokens: Float[Tensor, "num tokens d_token"], starts: Int64[Tensor, " num"], window: int
) -> Float[Tensor, "num window d_token"]:
    """Cut one window out of each sequence."""
    rows = torch.arange(len(tokens), device=tokens.device).unsqueeze(1)
    return tokens[rows, index_windows(starts, window)]


@dataclass(frozen=True)
class HaloWindow:
    """A window of which only the middle is kept; the rest is context."""

    tokens: slice
    """The tokens it sees."""
    content: slice
    """The tokens whose outputs are kept, counted from the start of the sequence."""

    @property
    def kept(self) -> slice:
        """The content, counted from the start of the window."""
        return slice(self.content.start - self.tokens.start, self.content.stop - self.tokens.start)


def cover_with_halo(num_tokens: int, window: int, halo: int) -> list[HaloWindow]:
    """Cover a sequence with windows whose contents hold every token exactly once, in order.

    Args:
        window: tokens a window sees, its context included; all windows have this length.
        halo: context on each side of the content, more at the ends of the sequence.

    Raises:
        BadInput: the window is longer than the sequence, or no longer than its own halo.
    Differs: SANE's halo fails for most lengths; here a window's start is held within [0, num_tokens - window].
    """
    check_window(num_tokens, window)
    if not 0 <= 2 * halo < window:
        raise BadInput(f"halo: got {halo}, wanted 0 to {(window - 1) // 2}, less than half of the window ({window})")
    windows: list[HaloWindow] = []
    done = 0
    while done < num_tokens:
        start = min(max(done - halo, 0), num_tokens - window)
        stop = start + window
        end = num_tokens if stop == num_tokens else stop - halo
        windows.append(HaloWindow(slice(start, stop), slice(done, end)))
        done = end
    return windows


def run_with_halo(
    run: Callable[[Float[Tensor, "num window d_in"], slice], Float[Tensor, "num window d_out"]],
    sequences: Float[Tensor, "num tokens d_in"],
    window: int,
    halo: int,
) -> Float[Tensor, "num tokens d_out"]:
    """Run a function of one window over whole sequences, each token with its context.

    Sequences may have any length from that of the window on; for a shorter network choose a window that fits it.

    Args:
        run: takes the windows and which tokens they are.

    Raises:
        BadInput: the window is longer than the sequence, or no longer than its own halo.
    """
    places = cover_with_halo(sequences.shape[1], window, halo)
    return torch.cat([run(sequences[:, p.tokens], p.tokens)[:, p.kept] for p in places], dim=1)
