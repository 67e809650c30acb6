import hashlib
from pathlib import Path

import pytest

from weightspace.config import BadInput
from weightspace.images import sources
from weightspace.images.config import Idx, Published
from weightspace.images.idx import IDX_NAMES
from weightspace.images.published import PUBLISHED, KnownFile, KnownSet


@pytest.fixture
def know_folder(monkeypatch):
    """Give a function that makes the files of a folder the published ones of a set, served from there."""

    def know(name, folder):
        files = tuple(
            KnownFile(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted(folder.iterdir(), key=lambda path: IDX_NAMES.index(path.name))
        )
        monkeypatch.setitem(PUBLISHED, name, KnownSet((folder.as_uri(),), files))

    return know


def test_a_published_set_is_downloaded_to_the_cache(tmp_path, arrays, write_idx, know_folder):
    know_folder("kmnist", write_idx(tmp_path / "mirror", arrays))
    source = Idx.model_validate({"kind": "idx", "origin": {"kind": "download", "set": "kmnist", "cache": "kept"}})
    raw = sources.read_source(source, tmp_path)
    assert raw.num_train == 40
    assert sorted(path.name for path in (tmp_path / "kept/kmnist").iterdir()) == sorted(IDX_NAMES)


def test_debians_copy_is_read(tmp_path, arrays, write_idx, know_folder, monkeypatch):
    know_folder("fashion_mnist", write_idx(tmp_path / "debian", arrays))
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    source = Idx.model_validate({"kind": "idx", "origin": {"kind": "debian"}})
    assert sources.read_source(source, tmp_path).num_train == 40


def test_debians_copy_is_checked(tmp_path, arrays, write_idx, monkeypatch):
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", write_idx(tmp_path / "debian", arrays, zipped=True))
    source = Idx.model_validate({"kind": "idx", "origin": {"kind": "debian"}})
    with pytest.raises(BadInput, match=r"train-images-idx3-ubyte.gz: its sha256 is"):
        sources.read_source(source, tmp_path)


def test_debians_package_is_named_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", Path(tmp_path / "nowhere"))
    source = Idx.model_validate({"kind": "idx", "origin": {"kind": "debian"}})
    with pytest.raises(BadInput, match=r"nowhere: missing, wanted what `apt-get install dataset-fashion-mnist`"):
        sources.read_source(source, tmp_path)


@pytest.mark.parametrize("kind", ["usps", "svhn", "cifar10", "cifar100", "stl10", "tiny_imagenet", "eurosat"])
def test_an_empty_folder_is_named(tmp_path, kind):
    source = Published.model_validate({"kind": kind, "origin": {"kind": "folder", "path": str(tmp_path)}})
    with pytest.raises(BadInput, match=rf"{tmp_path}.*: missing"):
        sources.read_source(source, Path("/"))
