from pathlib import Path

import pytest

from flows.params import read_study
from weightspace.config import BadInput
from weightspace.zoo.members import draw_members
from weightspace.zoo.presets import build_images, build_preset

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path.parent for path in ROOT.glob("studies/*/params.yaml"))


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_study_is_valid_and_runs_the_stages_of_this_checkout(folder):
    assert (folder / read_study(folder).root).resolve() == ROOT
    assert (folder / "dvc.yaml").resolve() == ROOT / "dvc.yaml"


def change_study(name: str, folder: Path, old: str, new: str) -> Path:
    """Copy the parameters of a study into a folder, changed in one place."""
    text = (ROOT / "studies" / name / "params.yaml").read_text()
    assert text.count(old) == 1
    (folder / "params.yaml").write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (
            "base: [base_s0,",
            "base: [bse_s0,",
            "report.ablation.sweeps.factors: got 'bse_s0', wanted an entry of embeddings, 'base_s0'?",
        ),
        (
            "kept_networks: 16",
            "kept_networks: 0",
            "embeddings.base_s0.kept_networks: got 0, wanted more, as report.ablation.sweeps.factors asks",
        ),
        (
            "window_16_s0, window_16_s1,",
            "window_16_s1,",
            "one a seed, everywhere in a sweep, got 3, but 2 where the first is 'window_16_s1'",
        ),
        (
            "kind: changes",
            "kind: curv",
            "report.ablation.sweeps.factors.kind: got 'curv', wanted one of 'curve', 'changes'",
        ),
    ],
)
def test_a_sweep_that_cannot_be_shown_is_refused_before_anything_runs(tmp_path, old, new, wanted):
    with pytest.raises(BadInput) as caught:
        read_study(change_study("ablation", tmp_path, old, new))
    assert wanted in str(caught.value)


def test_data_sets_of_one_seed_in_scaling_share_their_held_out_members():
    study = read_study(ROOT / "studies/scaling")
    splits = {name: config.split.model_copy(update={"train": 1}) for name, config in study.weights.items()}
    assert len({split.model_dump_json() for split in splits.values()}) == 3
    counts = [split.train + split.val + split.test for split in (config.split for config in study.weights.values())]
    assert max(counts) == len(draw_members(study.zoo["kaiming"].members))


def test_a_cell_of_the_ablation_differs_from_the_base_in_one_part():
    study = read_study(ROOT / "studies/ablation")
    cells = {name.removesuffix("_s1"): config for name, config in study.hyperrep.items() if name.endswith("_s1")}
    base = cells.pop("base")
    changed = {
        name: [field for field in type(base).model_fields if getattr(cell, field) != getattr(base, field)]
        for name, cell in cells.items()
    }
    assert all(len(fields) == 1 for fields in changed.values()), changed


def test_mnist_seed_is_the_published_zoo_but_for_its_seeds():
    study, preset = read_study(ROOT / "studies/mnist-seed"), build_preset("mnist_seed")
    zoo, images = study.zoo["mnist_seed"], study.images["mnist"]
    own, published = draw_members(zoo.members), draw_members(preset.members)
    assert len(own) == 256
    factors = [name for name in published if name not in ("member", "seed")]
    assert own[factors].equals(published[factors].iloc[:256])
    assert (zoo.architecture, zoo.epochs) == (preset.architecture, preset.epochs)
    assert images.model_copy(update={"source": None}) == build_images("mnist").model_copy(update={"source": None})


def test_mnist_hyp_has_a_member_of_each_published_combination():
    zoo, preset = read_study(ROOT / "studies/mnist-hyp").zoo["mnist_hyp"], build_preset("mnist_hyp_rand")
    own, published = (draw_members(config.members).drop(columns=["member", "seed"]) for config in (zoo, preset))
    names = list(own)
    assert len(own) == 256
    assert (
        own.sort_values(names)
        .reset_index(drop=True)
        .equals(published.drop_duplicates().sort_values(names).reset_index(drop=True))
    )
