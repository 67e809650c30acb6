"""Signals that ask a process to end."""

import pytest

LOST = """
import os, signal
from flows.orchestration.processes import check_signals, exit_on_terminate, note_interrupt

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})

exit_on_terminate()
note_interrupt()
check_signals()
Finalised()
print("still here")
check_signals()
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", -2), ("SIGTERM", 143)])
def test_signal_that_a_finaliser_swallowed_is_noticed_later(toy, name, status):
    result = toy.run("-c", LOST.format(name=name))
    assert result.stdout == "still here\n"
    assert "Exception ignored in" in result.stderr
    assert result.returncode == status
