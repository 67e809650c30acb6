"""What `dvc.yaml` says of the code that a stage depends on, against what the stage imports."""

from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

from flows.params import FOLDERS, STAGES

CHECKOUT = Path(__file__).parents[2]
PREFIX = "${root}/"


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("tasks", "weightspace", cache_dir=None)


@pytest.fixture(scope="module")
def stages() -> dict:
    return YAML(typ="safe", pure=True).load((CHECKOUT / "dvc.yaml").read_text())["stages"]


def find_files(imports: grimp.ImportGraph, stage: str) -> set[Path]:
    """Find the files with code that a stage imports, directly or through others."""
    modules = {f"tasks.{stage}"} | imports.find_upstream_modules(f"tasks.{stage}")
    paths = {CHECKOUT.joinpath(*module.split(".")) for module in modules}
    files = {path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in paths}
    return {file for file in files if file.stat().st_size}


def list_code(stages: dict, stage: str) -> set[Path]:
    deps = stages[stage]["do"]["deps"]
    return {CHECKOUT / dep.removeprefix(PREFIX) for dep in deps if dep.startswith(PREFIX)}


def covers(dep: Path, file: Path) -> bool:
    return dep == file or dep in file.parents


def test_stages_are_the_sections(stages):
    assert tuple(stages) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_cover_what_a_stage_imports(stages, imports, stage):
    code = list_code(stages, stage)
    missing = [file for file in find_files(imports, stage) if not any(covers(dep, file) for dep in code)]
    assert missing == [], f"add to the deps of {stage} in dvc.yaml"


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_no_code_that_it_does_not_import(stages, imports, stage):
    files = find_files(imports, stage)
    needless = [dep for dep in list_code(stages, stage) if not any(covers(dep, file) for file in files)]
    assert needless == [], f"take out of the deps of {stage} in dvc.yaml"


@pytest.mark.parametrize("stage", STAGES)
def test_entry_is_read_from_its_own_section_and_written_to_its_own_folder(stages, stage):
    entry, folder = stages[stage]["do"], FOLDERS.get(stage, stage)
    assert stages[stage]["foreach"] == f"${{{stage}}}"
    assert entry["cmd"] == f"exec python -m flows.{folder} ${{key}}"
    assert entry["params"] == [f"{stage}.${{key}}"]
    assert all(out.startswith(f"data/{folder}/${{key}}") for out in entry["outs"])
