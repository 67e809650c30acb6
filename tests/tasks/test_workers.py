import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.workers import VISIBLE_GPUS, Terms, call, deal_gpus, list_visible_gpus, share_cores
from weightspace.config import BadInput
from weightspace.record import digest_code


@given(st.integers(1, 20), st.integers(1, 3), st.integers(0, 5))
def test_no_gpu_is_dealt_twice_and_each_worker_gets_as_many(num_workers, num_each, spare):
    gpus = [str(index) for index in range(num_workers * num_each + spare)]
    hands = [hand.split(",") for hand in deal_gpus(gpus, num_workers, num_each)]
    assert [len(hand) for hand in hands] == [num_each] * num_workers
    dealt = [gpu for hand in hands for gpu in hand]
    assert len(set(dealt)) == len(dealt)
    assert set(dealt) <= set(gpus)


@given(st.integers(1, 20), st.integers(1, 3))
def test_too_few_gpus_are_refused(num_workers, num_each):
    with pytest.raises(BadInput, match=f"got {num_each} for each of {num_workers} workers, but this machine has"):
        deal_gpus(["0"] * (num_workers * num_each - 1), num_workers, num_each)


def test_gpus_are_dealt_from_those_that_we_see(monkeypatch):
    monkeypatch.setenv(VISIBLE_GPUS, "5,GPU-8a,2")
    assert deal_gpus(list_visible_gpus(), 2, 1) == ["5", "GPU-8a"]
    monkeypatch.setenv(VISIBLE_GPUS, "")
    assert list_visible_gpus() == []


@given(st.integers(1, 128), st.integers(1, 200))
def test_threads_do_not_outnumber_the_cores_unless_workers_do(num_cores, num_workers):
    threads = share_cores(num_cores, num_workers)
    assert threads >= 1
    assert threads == 1 or threads * num_workers <= num_cores
    assert (threads + 1) * num_workers > num_cores


def test_call_returns_the_value_and_where_it_came_from():
    done = call(divmod, (7, 2), Terms(digest_code(), 1, 0))
    assert done.value == (3, 1)
    assert done.where.endswith(f"process {os.getpid()}")


def test_worker_with_other_code_refuses():
    with pytest.raises(BadInput, match="its code or libraries are not those of this checkout"):
        call(divmod, (7, 2), Terms("0" * 64, 1, 0))


@pytest.mark.parametrize("seen", ["", "0,1"])
def test_worker_that_does_not_see_exactly_its_gpus_refuses(monkeypatch, seen):
    monkeypatch.setenv(VISIBLE_GPUS, seen)
    with pytest.raises(BadInput, match=rf"sees {len(seen) // 2 + bool(seen)} GPUs, wanted 1"):
        call(divmod, (7, 2), Terms(digest_code(), 1, 1))
