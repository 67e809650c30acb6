from pathlib import Path

import pytest

from flows.params import read_study
from weightspace.zoo.members import draw_members
from weightspace.zoo.presets import build_images, build_preset

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path.parent for path in ROOT.glob("studies/*/params.yaml"))


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_study_is_valid_and_runs_the_stages_of_this_checkout(folder):
    assert (folder / read_study(folder).root).resolve() == ROOT
    assert (folder / "dvc.yaml").resolve() == ROOT / "dvc.yaml"


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
