"""Say now and then how far a training is."""

import logging
import time
from collections.abc import Callable

REPORT_EVERY_S = 5.0
logger = logging.getLogger(__name__)


def log_progress(what: str, total: int, unit: str = "member epochs", after: float = 0) -> Callable[[int], None]:
    """Make a counter that logs now and then how much is done, how fast, and how long it takes yet.

    The clock starts with the first call, which comes before any training: what it counts is no part of the rate.

    Args:
        what: a shard, or whatever else is trained together.
        after: how much the shards that follow have.
    """
    started = shown = None
    done = before = 0

    def count(more: int) -> None:
        nonlocal started, shown, done, before
        done += more
        now = time.monotonic()
        if started is None or shown is None:
            started, shown, before = now, now, more
        elif done > before and (now - shown >= REPORT_EVERY_S or done >= total):
            shown, rate = now, (done - before) / max(now - started, 1e-9)
            left = f"{round_shown((total - done) / rate)} s left"
            if after:
                left += f", {round_shown(after / rate)} s for the shards after it, one by one"
            logger.info(
                "%s: %s of %s %s, %s a second, %s", what, f"{done:,}", f"{total:,}", unit, round_shown(rate), left
            )

    return count


def round_shown(value: float) -> str:
    """Write a number with three digits that mean something."""
    return f"{float(f'{value:.3g}'):,.10g}"
