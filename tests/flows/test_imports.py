"""A foreign zoo as an entry of a study, through DVC."""

import pandas as pd
import pytest

from flows.params import read_study
from weightspace.config import BadInput

PARAMS = """
root: .
images: {}
zoo: {}
imports:
  foreign:
    format: folder
    path: foreign
    mixed: keep
    images: .
    proof_members: 0
    table: {path: foreign/table.csv, key: file}
    wiring: chain
weights:
  w:
    zoo: foreign
    epochs: {kind: range, first: 0, last: null, every: 1}
    filters: []
    max_abs_weight: null
    split: {kind: column, column: published_split}
    canonical: {scale: false, orient: false}
    alignment: {kind: weight_matching, reference: {kind: first}, seed: 0, max_sweeps: 2}
    standardization: {kind: layer}
hyperrep: {}
embeddings: {}
probes: {}
samples: {}
transfer: {}
report:
  r:
    title: What came from elsewhere
"""


@pytest.fixture
def study(checkout, write_foreign):
    checkout.write("params.yaml", PARAMS)
    write_foreign(checkout.root / "foreign")
    for stage in ("images", "hyperrep", "embeddings", "probes", "samples", "transfer"):
        (checkout.root / "data" / stage).mkdir(parents=True)
    return checkout


def test_foreign_zoo_becomes_a_data_set_and_again_nothing_is_done(study):
    result = study.dvc("repro")
    assert result.returncode == 0, result.stderr
    table = pd.read_parquet(study.root / "data/weights/w")
    assert table.groupby("split")["member"].nunique().to_dict() == {"test": 2, "train": 8, "val": 2}
    assert sorted(table["weights"].map(len).unique()) == [5 * 4 + 4 + 3 * 4 + 3, 5 * 6 + 6 + 3 * 6 + 3]
    assert "up to date" in study.dvc("repro").stdout
    assert "What came from elsewhere" in (study.root / "data/report/r/report.html").read_text()


def complaint(study, old, new):
    study.change(old, new)
    with pytest.raises(BadInput) as caught:
        read_study(study.root)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (
            "proof_members",
            "prof_members",
            "imports.foreign.prof_members: unknown key, wanted 'proof_members'? (known: ",
        ),
        ("format: folder", "format: foldr", "imports.foreign.format: got 'foldr', wanted one of 'modelzoo', "),
        ("    format: folder\n", "", "imports.foreign.format: missing, wanted one of modelzoo, phase_transition, "),
        ("key: file", "kye: file", "imports.foreign.table.kye: unknown key, wanted 'key'? (known: key, path)"),
        ("images: .", "images: a", "imports.foreign.images: got 'a', wanted an entry of images, "),
        ("zoo: foreign", "zoo: foregin", "weights.w.zoo: got 'foregin', wanted an entry of zoo, 'foreign'?"),
        (
            "foreign/table.csv",
            "table.csv",
            "imports.foreign.table.path: got 'table.csv', wanted a file inside 'foreign'",
        ),
        ("foreign/table.csv", "foreign/../t.csv", "imports.foreign.table.path: got 'foreign/../t.csv', wanted a file"),
    ],
)
def test_mistake_names_the_entry_of_imports(study, old, new, wanted):
    assert wanted in complaint(study, old, new)


def test_all_zoos_of_a_study_may_be_asked_for(study):
    study.change("zoo: foreign", "zoo: .")
    assert read_study(study.root).weights["w"].zoo == "."


def test_name_in_both_sections_is_refused(toy):
    lines = "imports:\n  z: {format: prepared_pt, path: d.pt, mixed: refuse, images: ., proof_members: 0}"
    assert "imports.z: got a name that is in zoo too" in complaint(toy, "imports: {}", lines)


def test_wrong_name_lists_both_kinds_of_zoos(study):
    result = study.run("-m", "flows.zoo", "nothing")
    assert (result.returncode, result.stderr) == (2, "error: params.yaml: zoo: got 'nothing', wanted one of foreign\n")
