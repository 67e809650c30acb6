import numpy as np
import pytest

from weightspace.config import BadInput
from weightspace.images.idx import IDX_NAMES, find_idx, read_idx


def read_folder(folder):
    return read_idx([find_idx(folder, name) for name in IDX_NAMES])


@pytest.mark.parametrize("zipped", [False, True])
def test_files_are_read_gzipped_or_not(tmp_path, arrays, write_idx, zipped):
    raw = read_folder(write_idx(tmp_path, arrays, zipped))
    images, labels = (np.concatenate([arrays[IDX_NAMES[i]], arrays[IDX_NAMES[i + 2]]]) for i in (0, 1))
    assert np.array_equal(raw.all.pixels[:, 0], images)
    assert np.array_equal(raw.all.labels, labels)
    assert raw.num_train == 40


def test_digests_do_not_depend_on_compression(tmp_path, arrays, write_idx):
    plain = read_folder(write_idx(tmp_path / "plain", arrays))
    packed = read_folder(write_idx(tmp_path / "packed", arrays, zipped=True))
    assert plain.digests == packed.digests


def test_gzip_is_known_by_content_and_not_by_name(tmp_path, arrays, write_idx):
    write_idx(tmp_path, arrays, zipped=True)
    for name in IDX_NAMES:
        (tmp_path / f"{name}.gz").rename(tmp_path / name.replace("-idx", ".idx"))
    assert len(read_folder(tmp_path).all.labels) == 60


def test_a_missing_file_is_named(tmp_path, arrays, write_idx):
    write_idx(tmp_path, arrays)
    (tmp_path / IDX_NAMES[3]).unlink()
    with pytest.raises(BadInput, match=r"t10k-labels-idx1-ubyte: missing"):
        read_folder(tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kept", [0, 3, 10, 30, -1])
def test_a_file_cut_short_is_named(tmp_path, arrays, write_idx, zipped, kept):
    write_idx(tmp_path, arrays, zipped)
    path = find_idx(tmp_path, IDX_NAMES[0])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadInput, match=r"train-images-idx3-ubyte"):
        read_folder(tmp_path)


def test_gzip_with_an_altered_byte_is_named(tmp_path, arrays, write_idx):
    write_idx(tmp_path, arrays, zipped=True)
    path = tmp_path / f"{IDX_NAMES[2]}.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"t10k-images-idx3-ubyte.gz: damaged gzip"):
        read_folder(tmp_path)


def test_bytes_after_the_values_are_refused(tmp_path, arrays, write_idx):
    write_idx(tmp_path, arrays)
    path = tmp_path / IDX_NAMES[1]
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BadInput, match=r"49 bytes .*, wanted 48"):
        read_folder(tmp_path)


def test_labels_in_the_place_of_images_are_refused(tmp_path, arrays, write_idx):
    write_idx(tmp_path, arrays)
    (tmp_path / IDX_NAMES[0]).write_bytes((tmp_path / IDX_NAMES[1]).read_bytes())
    with pytest.raises(BadInput, match=r"train-images.*starts with bytes 00 00 08 01, wanted 00 00 08 03"):
        read_folder(tmp_path)


def test_values_wider_than_a_byte_are_refused(tmp_path, arrays, write_idx):
    write_idx(tmp_path, arrays)
    path = tmp_path / IDX_NAMES[0]
    path.write_bytes(b"\0\0\x0d\x03" + path.read_bytes()[4:])
    with pytest.raises(BadInput, match=r"starts with bytes 00 00 0d 03"):
        read_folder(tmp_path)


def test_counts_that_differ_are_told(tmp_path, arrays, write_idx):
    arrays[IDX_NAMES[1]] = arrays[IDX_NAMES[1]][:-1]
    with pytest.raises(BadInput, match=r"train-labels.*39 labels for the 40 images"):
        read_folder(write_idx(tmp_path, arrays))


def test_parts_of_other_sizes_are_refused(tmp_path, arrays, write_idx):
    arrays[IDX_NAMES[2]] = arrays[IDX_NAMES[2]][:, 1:]
    with pytest.raises(BadInput, match=r"training images of \(1, 6, 6\), test images of \(1, 5, 6\)"):
        read_folder(write_idx(tmp_path, arrays))
