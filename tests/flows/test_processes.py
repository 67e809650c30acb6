"""Signals that ask a process to end."""

import psutil
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


ORPHAN = """
import os, time
from flows import PARENT
from flows.orchestration.processes import die_with_parent

open("started", "w").write(str(os.getpid()))
while not os.path.exists("parent is gone"):
    time.sleep(0.01)
die_with_parent(PARENT)
open("lives", "w").close()
"""


LAUNCHER = f"""
import os, subprocess, sys, time

subprocess.Popen([sys.executable, "-c", {ORPHAN!r}], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while not os.path.exists("started"):
    time.sleep(0.01)
"""


def test_process_whose_parent_ended_while_it_started_ends_too(toy):
    result = toy.run("-c", LAUNCHER)
    assert result.returncode == 0, result.stderr
    orphan = int(toy.wait_for("started"))
    toy.write("parent is gone")
    psutil.wait_procs([process for process in psutil.process_iter() if process.pid == orphan], timeout=30)
    assert not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == psutil.STATUS_ZOMBIE
    assert not (toy.root / "lives").exists()
