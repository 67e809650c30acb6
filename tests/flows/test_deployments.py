"""The deployments of `prefect.yaml`: that they can be loaded, what they ask for, and what they refuse."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flows.orchestration.forms import KNOWN, list_studies, name_study
from flows.params import STAGES

CHECKOUT = Path(__file__).parents[2]
DESCRIBED = {
    each["name"]: each for each in YAML(typ="safe").load((CHECKOUT / "prefect.yaml").read_text())["deployments"]
}

# In a process of its own, as a worker does it: importing Prefect here would change what other tests see.
LOAD = """
import json, sys
from pathlib import Path
from flows.orchestration.settings import apply_settings
apply_settings(Path())
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate
heavy = sorted({"torch", "numpy", "pandas", "pyarrow"} & set(sys.modules))

def complain(schema, parameters):
    try:
        validate(parameters, schema, raise_on_error=True, ignore_required=True)
    except ValidationError as error:
        return str(error)

loaded = {}
for name, (entrypoint, cases) in json.load(sys.stdin).items():
    flow = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    schema = parameter_schema(flow).model_dump()
    loaded[name] = {"flow": flow.name, "schema": schema, "complaints": [complain(schema, case) for case in cases]}
print(json.dumps({"loaded": loaded, "heavy": sorted({"torch", "pandas", "pyarrow", "sklearn"} & set(sys.modules))}))
"""
WRONG = {
    "pipeline": [
        ({"targets": ["zooo"]}, "Validation failed for field 'targets[0]'. Failure reason: 'zooo' does not match"),
        ({"targets": ["zoo@"]}, "Validation failed for field 'targets[0]'."),
        ({"targets": "zoo"}, "Validation failed for field 'targets'. Failure reason: 'zoo' is not of type 'array'"),
        ({"force": ["--rm"]}, "Validation failed for field 'force[0]'."),
        ({"study": "/etc"}, "Validation failed for field 'study'. Failure reason: '/etc' is not one of ['.', "),
        ({"at_once": 0}, "Validation failed for field 'at_once'. Failure reason: 0 is less than the minimum of 1"),
        ({"timeout_h": 0}, "Validation failed for field 'timeout_h'. Failure reason: 0 is less than or equal to"),
    ],
    "study": [
        (
            {"name": "mnist"},
            "Validation failed for field 'name'. Failure reason: 'mnist' is not one of ['quickstart', ",
        ),
        ({"at_once": 1.5}, "Validation failed for field 'at_once'. Failure reason: 1.5 is not of type 'integer'"),
    ],
    "benchmark": [
        (
            {"suite": "fast"},
            "Validation failed for field 'suite'. Failure reason: 'fast' is not one of ['quick', 'full']",
        ),
        ({"revision": "--upload-pack=x"}, "Validation failed for field 'revision'."),
    ],
}
RIGHT = {"pipeline": {"targets": ["zoo", "zoo@digits"], "study": "studies/mnist-seed"}, "study": {"name": "mnist-seed"}}


@pytest.fixture(scope="module")
def answer():
    asked = {
        name: (each["entrypoint"], [case for case, _ in WRONG[name]] + [each["parameters"], RIGHT.get(name, {})])
        for name, each in DESCRIBED.items()
    }
    result = subprocess.run(
        [sys.executable, "-c", LOAD], input=json.dumps(asked), capture_output=True, text=True, cwd=CHECKOUT, timeout=600
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def loaded(answer):
    return answer["loaded"]


def test_no_deployment_is_of_a_bare_stage(loaded):
    assert set(loaded) == {"pipeline", "study", "benchmark"}
    assert all(each["flow"] == name and name not in STAGES for name, each in loaded.items())


def test_flows_are_loaded_without_the_science(answer):
    assert answer["heavy"] == []


@pytest.mark.parametrize("name", DESCRIBED)
def test_form_asks_for_what_is_deployed_and_explains_each_field(loaded, name):
    fields = loaded[name]["schema"]["properties"]
    assert sorted(fields) == sorted(DESCRIBED[name]["parameters"])
    for field in fields.values():
        assert field["title"]
        assert field["description"]
        assert "type" in field, "a form cannot show it"


@pytest.mark.parametrize("name", DESCRIBED)
def test_wrong_parameters_are_refused_in_one_line_and_right_ones_are_not(loaded, name):
    *wrong, deployed, right = loaded[name]["complaints"]
    for complaint, (parameters, wanted) in zip(wrong, WRONG[name], strict=True):
        assert complaint is not None, parameters
        assert complaint.startswith(wanted)
        assert "\n" not in complaint
    assert (deployed, right) == (None, None)


def test_studies_are_known_by_name_and_folder():
    folders = {path.parent.name for path in CHECKOUT.glob("studies/*/params.yaml")}
    assert list_studies(CHECKOUT) == KNOWN
    assert set(KNOWN) == {"quickstart", *folders}
    assert {name_study(folder): folder for folder in KNOWN.values()} == KNOWN


def test_unknown_study_and_folder_outside_get_a_clear_line(toy):
    code = "from flows.study import study\nstudy.fn({!r})"
    result = toy.run("-c", code.format("nothing"))
    assert "BadInput: name: got 'nothing', wanted one of quickstart" in result.stderr


def test_nightly_benchmark_is_the_only_schedule_and_does_not_pile_up():
    scheduled = {name: each["schedules"] for name, each in DESCRIBED.items() if "schedules" in each}
    assert list(scheduled) == ["benchmark"]
    assert DESCRIBED["benchmark"]["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
