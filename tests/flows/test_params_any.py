"""Whatever YAML holds, the reader of parameters takes it or says in one line what is wrong."""

import copy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from flows.params import STAGES, read_study
from weightspace.config import BadInput

CHECKOUT = Path(__file__).parents[2]
WORDS = st.sampled_from(
    ["kind", "format", "images", "zoo", ".", "folder", "path", "table", "draw", "digits", "size", ""]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), WORDS, st.text(st.characters(codec="utf-8"), max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers() | st.booleans(), inner, max_size=3)
    ),
    max_leaves=6,
)
ANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(folder, content):
    """Read parameters; what is refused is refused in one line that names the file."""
    path = folder / "params.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(content, file)
    said = f"{path}"
    try:
        read_study(folder)
    except BadInput as error:
        said = str(error)
    assert said.startswith(str(path))
    assert "\n" not in said


@pytest.fixture(scope="module")
def quickstart():
    return YAML(typ="safe", pure=True).load((CHECKOUT / "params.yaml").read_text())


@settings(ANY, max_examples=400)
@given(st.binary(max_size=60) | st.text("{}[]:,-#&*!|>%@`? \n\ta1.~<'\"", max_size=20).map(str.encode))
def test_any_bytes(tmp_path, content):
    check(tmp_path, content)


@ANY
@given(st.dictionaries(st.sampled_from(STAGES), st.dictionaries(st.just("x"), VALUES, max_size=1) | VALUES))
def test_any_sections(tmp_path, sections):
    check(tmp_path, {stage: {} for stage in STAGES} | {"root": "."} | sections)


@ANY
@given(st.data())
def test_any_value_anywhere_in_the_quickstart(tmp_path, quickstart, data):
    study = copy.deepcopy(quickstart)
    place, inner = study, study
    while isinstance(inner, dict) and inner and (inner is study or data.draw(st.booleans() | st.just(True))):
        place, key = inner, data.draw(st.sampled_from(sorted(inner)))
        inner = inner[key]
    place[key] = data.draw(VALUES)
    check(tmp_path, study)
