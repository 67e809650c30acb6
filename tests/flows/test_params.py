from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from flows.params import STAGES, Study, list_variants, read_study
from weightspace.config import BadInput
from weightspace.zoo.config import Fixed


def complaint(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_study(folder)
    message = str(caught.value).removeprefix(f"{folder / 'params.yaml'}: ")
    assert "\n" not in message
    return message


def test_sections_are_the_stages(toy):
    study = read_study(toy.root)
    assert set(study.images) == {"a", "b"}
    assert {name for name in STAGES if getattr(study, name)} == {"images", "zoo"}


def test_quickstart_is_valid():
    study = read_study(Path(__file__).parents[2])
    assert all(getattr(study, stage) for stage in STAGES if stage not in ("imports", "twins"))


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("epochs: 1", "epoch: 1", "zoo.z.epoch: unknown key, wanted 'epochs'? (known: "),
        ("count: 2", "cont: 2", "zoo.z.members.cont: unknown key, wanted 'count'? (known: count, factors, kind, seed)"),
        ("zoo:", "zo:", "zo: unknown key, wanted 'zoo'? (known: "),
        ("    epochs: 1\n", "", "zoo.z.epochs: missing, wanted a value"),
        ("epochs: 1", "epochs: some", "zoo.z.epochs: got 'some', wanted: a valid integer"),
        ("epochs: 1", "epochs: 0", "zoo.z.epochs: got 0, wanted: greater than or equal to 1"),
        ("kind: draw", "kind: drw", "zoo.z.members.kind: got 'drw', wanted one of 'draw', 'grid'"),
        ("{kind: draw, ", "{", "zoo.z.members.kind: missing, wanted one of draw, grid"),
        (
            "engine: torch",
            "engine: trch",
            "zoo.z.engine: got 'trch', wanted 'auto', 'torch', 'fused_cpu' or 'fused_gpu'",
        ),
        ("    images: a", "    images: c", "zoo.z.images: got 'c', wanted an entry of images, one of a, b"),
        ("factors: {}", "factors: {lr: {kind: fixed}}", "zoo.z.members.factors.lr.value: missing, wanted a value"),
        (
            "factors: {}",
            "factors: {lrr: {kind: fixed, value: 1}}",
            "zoo.z.members.factors.lrr: got 'lrr', wanted 'seed', ",
        ),
        ("  z:", "  z.z:", "zoo.z.z: got the name 'z.z', wanted letters, digits, - and _ only"),
        ("weights: {}", "weights: 3", "weights: got 3, wanted: a valid dictionary"),
        ("weights: {}", "zoo: {}", "line 24: found duplicate key"),
        ("weights: {}", "weights: {", "line 2"),
        (
            "train: 100",
            "train: 0.1",
            "images.a.split.train: got 0.1, wanted: a valid integer, got a number with a frac",
        ),
    ],
)
def test_mistake_gets_one_line_with_key_and_wish(toy, old, new, wanted):
    toy.change(old, new)
    assert complaint(toy.root).startswith(wanted)


def test_samples_may_be_scored_on_other_images_than_reconstructions(tmp_path):
    text = (Path(__file__).parents[2] / "params.yaml").read_text()
    old, new = ("    embeddings: digits\n    images: digits", "    embeddings: digits\n    images: mnist5k")
    assert text.count(old) == 1
    (tmp_path / "params.yaml").write_text(text.replace(old, new))
    study = read_study(tmp_path)
    assert study.samples["digits"].images != study.embeddings["digits"].images


def test_missing_file_is_named(tmp_path):
    assert complaint(tmp_path) == "missing, wanted the parameters of a study"


def test_empty_file_is_refused(toy):
    toy.write("params.yaml", "")
    assert complaint(toy.root).startswith("got None, wanted the sections root, images, zoo")


def test_short_exponent_is_a_number_as_in_dvc(toy):
    toy.change("factors: {}", "factors: {lr: {kind: fixed, value: 1e-3}}")
    factor = read_study(toy.root).zoo["z"].members.factors["lr"]
    assert factor == Fixed(kind="fixed", value=0.001)


def list_keys(kind: Any, place: str = "") -> Iterator[str]:
    for variant in list_variants(kind):
        if isinstance(variant, type) and issubclass(variant, BaseModel):
            for key, field in variant.model_fields.items():
                yield f"{place}.{key}"
                yield from list_keys(field.annotation, f"{place}.{key}")
        else:
            for argument in get_args(variant):
                yield from list_keys(argument, place)


def test_no_key_has_a_name_that_dvc_leaves_out_when_it_looks_for_an_earlier_run():
    # DVC 3.67 looks up earlier runs by a digest without keys called so, at any depth: a changed value would be missed.
    ignored = [key for key in list_keys(Study) if key.rpartition(".")[2] in ("size", "nfiles")]
    assert ignored == []
