"""Which GPUs a stage takes. That it waits for them is tested with the pipeline."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from weightspace.device import resolve_device

CHECKOUT = Path(__file__).parents[2]
# In a process of its own: importing Prefect here would change what other tests see.
CODE = """
import json, os
from pathlib import Path
from flows.orchestration.gpus import list_gpus, resolve_auto
from flows.params import read_study

study, found = read_study(Path()), {"auto": resolve_auto()}
for name, device, processes, visible in CASES:
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
    config = getattr(study, name)["digits"].model_copy(update={"device": device})
    if processes:
        config = config.model_copy(update={"training": config.training.model_copy(update={"processes": processes})})
    found[f"{name} {device} {processes} {visible}"] = list_gpus(config)
found["none"] = list_gpus(study.weights["digits"])
print(json.dumps(found))
"""
CASES = {
    ("zoo", "cpu", 0, ""): [],
    ("zoo", "cuda", 0, ""): ["0"],
    ("zoo", "cuda:2", 0, ""): ["2"],
    ("zoo", "cuda:1", 0, "3,5"): ["5"],
    ("zoo", "cuda", 0, "GPU-1a/2"): ["GPU-1a-2"],
    ("zoo", "cuda:x", 0, ""): [],
    ("hyperrep", "cuda", 3, ""): ["0", "1", "2"],
    ("hyperrep", "cpu", 3, ""): [],
    ("embeddings", "cuda", 0, ""): ["0"],
}


@pytest.fixture(scope="module")
def found():
    result = subprocess.run(
        [sys.executable, "-c", f"CASES = {list(CASES)!r}\n{CODE}"], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
def test_gpu_is_named_after_the_machine_and_its_number_there(found, case):
    name, device, processes, visible = case
    wanted = [f"gpu-{platform.node()}-{gpu}" for gpu in CASES[case]]
    assert found[f"{name} {device} {processes} {visible}"] == wanted


def test_stage_without_a_device_takes_none(found):
    assert found["none"] == []


def test_auto_is_what_the_stage_will_make_of_it(found):
    assert found["auto"] == resolve_device("auto").type
