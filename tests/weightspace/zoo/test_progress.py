import logging

import pytest

from weightspace.zoo import progress
from weightspace.zoo.progress import log_progress


class Clock:
    """Time that goes on as it is told."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def say(caplog, clock, count, steps):
    with caplog.at_level(logging.INFO):
        for seconds, more in steps:
            clock.now += seconds
            count(more)
    return [record.message for record in caplog.records]


def test_progress_counts_from_the_first_epoch_and_says_what_is_left(clock, caplog):
    count = log_progress("shard 3", 40_000, "images x members", after=100_000)
    assert say(caplog, clock, count, [(60, 0), (2, 10_000), (4, 10_000), (4, 20_000)]) == [
        "shard 3: 20,000 of 40,000 images x members, 3,330 a second, 6 s left, "
        "30 s for the shards after it, one by one",
        "shard 3: 40,000 of 40,000 images x members, 4,000 a second, 0 s left, "
        "25 s for the shards after it, one by one",
    ]


def test_progress_of_what_is_slow_is_not_nothing(clock, caplog):
    count = log_progress("shard 0", 8)
    assert say(caplog, clock, count, [(9, 2), (100, 2)]) == ["shard 0: 4 of 8 member epochs, 0.02 a second, 200 s left"]
