"""Archives that are cut short, or want to be more than a row of files."""

import io
import tarfile
import zipfile

import pytest
from safetensors.torch import save_file

from weightspace.config import BadInput


@pytest.mark.parametrize("name", ["../a/params.json", "/a/params.json", "a/../../b", "C:\\a", "a\\..\\..\\b"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_name_that_leaves_the_archive_is_refused(tmp_path, read, kind, name):

    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "src.zip", "w") as archive:
            archive.writestr(name, b"{}")
    else:
        with tarfile.open(tmp_path / "src.tar", "w") as archive:
            info = tarfile.TarInfo(name)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(BadInput, match="leads outside"):
        read(tmp_path, "modelzoo", f"src.{kind}")


def test_link_in_an_archive_is_refused(tmp_path, read):
    with tarfile.open(tmp_path / "src.tar", "w") as archive:
        info = tarfile.TarInfo("a/params.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(BadInput, match="is a link"):
        read(tmp_path, "modelzoo", "src.tar")


@pytest.mark.parametrize("archive", ["src.zip", "src.tar", "src.tar.gz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.75])
def test_truncated_archive_is_refused(tmp_path, read, write_run, pack, archive, share):
    write_run(tmp_path / "raw/a")
    path = tmp_path / pack(tmp_path / "raw", archive)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadInput, match=rf"{archive}: .*cut short"):
        read(tmp_path, "modelzoo", archive)
    assert not (tmp_path / "zoo").exists()


def test_tar_cut_between_two_files_is_refused(tmp_path, read, write_run, pack):
    write_run(tmp_path / "raw/a")
    path = tmp_path / pack(tmp_path / "raw", "src.tar")
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-3]
    path.write_bytes(path.read_bytes()[: last.offset])
    with pytest.raises(BadInput, match="cut short"):
        read(tmp_path, "modelzoo", "src.tar")


def test_link_in_a_zip_is_read_as_the_bytes_it_is(tmp_path, read):
    (tmp_path / "secret").write_text('{"seed": 3}')
    with zipfile.ZipFile(tmp_path / "src.zip", "w") as archive:
        info = zipfile.ZipInfo("a/params.json")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, str(tmp_path / "secret"))
        archive.writestr("a/checkpoint_0/checkpoints", b"x")
        archive.writestr("a/result.json", b'{"training_iteration": 0}')
    with pytest.raises(BadInput, match=r"a/params\.json: is not JSON"):
        read(tmp_path, "modelzoo", "src.zip")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_file_that_unpacks_to_much_is_never_put_on_disk_when_it_is_not_wanted(tmp_path, read, write_run, pack, kind):
    write_run(tmp_path / "raw/a")
    (tmp_path / "raw/a/bomb").write_bytes(bytes(2**25))
    archive = tmp_path / pack(tmp_path / "raw", f"src.{kind}")
    assert archive.stat().st_size < 2**20
    read(tmp_path, "modelzoo", archive.name)
    assert sum(path.stat().st_size for path in (tmp_path / "zoo").iterdir()) < 2**20


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("file", ["checkpoints", "model.safetensors"])
def test_truncated_checkpoint_is_refused(tmp_path, read, write_run, make_state, file, share):
    write_run(tmp_path / "src/a")
    place = tmp_path / "src/a/checkpoint_000001"
    if file == "checkpoints":
        kind, path = "modelzoo", place / file
    else:
        (place / "checkpoints").unlink()
        kind, path = "huggingface", place / file
        save_file(make_state()[0], path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadInput, match=rf"a/checkpoint_000001/{file}: "):
        read(tmp_path, kind)
    assert not (tmp_path / "zoo").exists()
