"""The published sets' own file formats, written here in small."""

import bz2
import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from weightspace.config import BadInput
from weightspace.images.cifar import read_cifar10, read_cifar100
from weightspace.images.photos import read_eurosat, read_tiny_imagenet
from weightspace.images.stl10 import read_stl10
from weightspace.images.svhn import read_svhn
from weightspace.images.usps import read_usps

RNG = np.random.default_rng(0)


def draw_pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def pack_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def unpack(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def encode_jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100, subsampling=0)
    return buffer.getvalue()


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_usps(path, values, labels):
    """Write LIBSVM's text by hand: scikit-learn's writer refuses values that a reader has to."""
    rows = [
        " ".join([str(label), *(f"{place}:{value}" for place, value in enumerate(row, 1))])
        for label, row in zip(labels, values.tolist(), strict=True)
    ]
    path.write_bytes(bz2.compress("\n".join(rows).encode()))


@pytest.fixture
def usps(tmp_path):
    """Write 20 training and 10 test images; return the values and labels of the latter."""
    for name, count in (("usps.bz2", 20), ("usps.t.bz2", 10)):
        values = RNG.integers(-1000, 1001, (count, 256)) / 1000
        values[0, :2] = -1, 1
        labels = np.arange(count) % 10 + 1
        write_usps(tmp_path / name, values, labels)
    return values, labels


def test_usps_scales_values_to_bytes(tmp_path, usps):
    values, labels = usps
    raw = read_usps(tmp_path)
    assert raw.num_train == 20
    assert raw.all.pixels[20, 0, 0, :2].tolist() == [0, 255]
    assert np.abs(raw.all.pixels[20:].reshape(10, 256) - (values + 1) / 2 * 255).max() < 1
    assert np.array_equal(raw.all.labels[20:], labels - 1)


def test_usps_decompressed_is_the_same(tmp_path, usps):
    packed = read_usps(tmp_path)
    for name in ("usps.bz2", "usps.t.bz2"):
        path = tmp_path / name
        path.with_suffix("").write_bytes(bz2.decompress(path.read_bytes()))
        path.unlink()
    assert read_usps(tmp_path).digests == packed.digests


def test_usps_cut_short_is_named(tmp_path, usps):
    cut_short(tmp_path / "usps.t.bz2")
    with pytest.raises(BadInput, match=r"usps.t.bz2: damaged bz2"):
        read_usps(tmp_path)


def test_usps_of_other_text_is_named(tmp_path, usps):
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(b"no numbers here\n"))
    with pytest.raises(BadInput, match=r"usps.bz2: cannot be read as LIBSVM text"):
        read_usps(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.5, 200.0])
def test_usps_of_an_impossible_value_is_named(tmp_path, usps, value):
    values, labels = usps
    values[3, 7] = value
    write_usps(tmp_path / "usps.t.bz2", values, labels)
    with pytest.raises(BadInput, match=rf"usps.t.bz2: has the value {value}, wanted -1 to 1"):
        read_usps(tmp_path)


@pytest.mark.parametrize("label", [2.5, np.nan, 0, 11, -6])
def test_usps_of_an_impossible_label_is_named(tmp_path, usps, label):
    values, labels = usps
    labels = labels.astype(float)
    labels[3] = label
    write_usps(tmp_path / "usps.t.bz2", values, labels)
    with pytest.raises(BadInput, match=rf"usps.t.bz2: image 3 has the label {float(label)}, wanted .* 1 to 10"):
        read_usps(tmp_path)


@pytest.fixture
def svhn(tmp_path):
    """Write 20 training and 10 test images; return the latter."""
    for name, count in (("train_32x32.mat", 20), ("test_32x32.mat", 10)):
        images, labels = draw_pixels(32, 32, 3, count), (np.arange(count) % 10 + 1).astype(np.uint8)
        savemat(tmp_path / name, {"X": images, "y": labels[:, None]}, do_compression=True)
    return images


def test_svhn_turns_its_axes_and_calls_ten_zero(tmp_path, svhn):
    raw = read_svhn(tmp_path)
    assert raw.num_train == 20
    assert np.array_equal(raw.all.pixels[23, 2], svhn[:, :, 2, 3])
    assert raw.all.labels[20:].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize("kept", [0, 100, 1000, 0.5, 0.99])
def test_svhn_cut_short_is_named(tmp_path, svhn, kept):
    path = tmp_path / "train_32x32.mat"
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(BadInput, match=r"train_32x32.mat: cannot be read"):
        read_svhn(tmp_path)


def test_svhn_of_a_later_matlab_is_named(tmp_path, svhn):
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"  # what follows is HDF5
    (tmp_path / "train_32x32.mat").write_bytes(header + bytes(400))
    with pytest.raises(BadInput, match=r"train_32x32.mat: cannot be read as SVHN's MATLAB file"):
        read_svhn(tmp_path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((32, 32, 3, 10)), r"images of float64 and shape \(32, 32, 3, 10\) for 10 labels"),
        (np.zeros((28, 28, 3, 10), np.uint8), r"images of uint8 and shape \(28, 28, 3, 10\) for 10 labels"),
        (np.zeros((32, 32, 3, 9), np.uint8), r"images of uint8 and shape \(32, 32, 3, 9\) for 10 labels"),
        (np.zeros((32, 32), np.uint8), r"images of uint8 and shape \(32, 32\) for 10 labels"),
    ],
)
def test_svhn_of_other_images_is_named(tmp_path, svhn, images, message):
    savemat(tmp_path / "test_32x32.mat", {"X": images, "y": np.ones((10, 1), np.uint8)})
    with pytest.raises(BadInput, match=rf"test_32x32.mat: {message}, wanted uint8 and \(32, 32, 3, labels\)"):
        read_svhn(tmp_path)


@pytest.mark.parametrize("label", [77, 0, 11, 2.5, np.nan])
def test_svhn_of_an_impossible_label_is_named(tmp_path, svhn, label):
    labels = np.ones((10, 1), np.array(label).dtype)
    labels[4] = label
    savemat(tmp_path / "test_32x32.mat", {"X": svhn, "y": labels})
    with pytest.raises(BadInput, match=rf"test_32x32.mat: image 4 has the label {label}, wanted .* 1 to 10"):
        read_svhn(tmp_path)


def test_svhn_with_words_for_labels_is_named(tmp_path, svhn):
    savemat(tmp_path / "test_32x32.mat", {"X": svhn, "y": np.array(["one"] * 10, object)})
    with pytest.raises(BadInput, match=r"test_32x32.mat: labels of object, wanted whole numbers from 1 to 10"):
        read_svhn(tmp_path)


@pytest.fixture
def cifar10():
    """Give the six files with 4 images each, and the images and labels of the last."""
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    files = {}
    for name in names:
        images, labels = draw_pixels(4, 3, 32, 32), draw_pixels(4, 1) % 10
        files[f"cifar-10-batches-bin/{name}.bin"] = np.hstack([labels, images.reshape(4, -1)]).tobytes()
    return files, images, labels[:, 0]


def test_cifar10_reads_planes_of_colour(tmp_path, cifar10):
    files, images, labels = cifar10
    pack_tar(tmp_path / "cifar-10-binary.tar.gz", files)
    raw = read_cifar10(tmp_path)
    assert raw.num_train == 20
    assert np.array_equal(raw.all.pixels[20:], images)
    assert np.array_equal(raw.all.labels[20:], labels)


def test_cifar10_unpacked_is_the_same(tmp_path, cifar10):
    pack_tar(tmp_path / "cifar-10-binary.tar.gz", cifar10[0])
    unpack(tmp_path / "elsewhere", cifar10[0])
    assert read_cifar10(tmp_path).digests == read_cifar10(tmp_path / "elsewhere").digests


def test_cifar10_cut_short_is_named(tmp_path, cifar10):
    path = tmp_path / "cifar-10-binary.tar.gz"
    pack_tar(path, cifar10[0])
    cut_short(path)
    with pytest.raises(BadInput, match=r"cifar-10-binary.tar.gz: damaged archive"):
        read_cifar10(tmp_path)


def test_cifar10_without_a_batch_is_told(tmp_path, cifar10):
    files = cifar10[0]
    del files["cifar-10-batches-bin/data_batch_3.bin"]
    pack_tar(tmp_path / "cifar-10-binary.tar.gz", files)
    with pytest.raises(BadInput, match=r"has no cifar-10-batches-bin/data_batch_3.bin"):
        read_cifar10(tmp_path)


def test_cifar10_with_part_of_a_record_is_told(tmp_path, cifar10):
    files = cifar10[0]
    files["cifar-10-batches-bin/test_batch.bin"] += b"\0"
    unpack(tmp_path, files)
    with pytest.raises(BadInput, match=r"test_batch.bin: 12,293 bytes, wanted a multiple of 3,073"):
        read_cifar10(tmp_path)


def test_cifar10_of_an_impossible_label_is_named(tmp_path, cifar10):
    files = cifar10[0]
    name = "cifar-10-batches-bin/data_batch_3.bin"
    files[name] = bytes([10]) + files[name][1:]
    unpack(tmp_path, files)
    with pytest.raises(BadInput, match=r"data_batch_3.bin: image 0 has the label 10, wanted .* 0 to 9"):
        read_cifar10(tmp_path)


def test_cifar100_takes_the_fine_labels(tmp_path):
    files = {}
    for name in ("train", "test"):
        images, labels = draw_pixels(3, 3, 32, 32), np.array([[1, 50], [2, 60], [3, 99]], np.uint8)
        files[f"cifar-100-binary/{name}.bin"] = np.hstack([labels, images.reshape(3, -1)]).tobytes()
    pack_tar(tmp_path / "cifar-100-binary.tar.gz", files)
    raw = read_cifar100(tmp_path)
    assert raw.all.labels.tolist() == [50, 60, 99] * 2
    assert np.array_equal(raw.all.pixels[3:], images)


def test_stl10_reads_columns_and_leaves_unlabelled_images_out(tmp_path):
    images = {name: draw_pixels(count, 3, 96, 96) for name, count in (("unlabeled", 2), ("train", 4), ("test", 3))}
    files = {f"stl10_binary/{name}_X.bin": pixels.transpose(0, 1, 3, 2).tobytes() for name, pixels in images.items()}
    files["stl10_binary/train_y.bin"] = bytes([1, 2, 3, 10])
    files["stl10_binary/test_y.bin"] = bytes([4, 5, 6])
    pack_tar(tmp_path / "stl10_binary.tar.gz", files)
    raw = read_stl10(tmp_path)
    assert np.array_equal(raw.all.pixels, np.concatenate([images["train"], images["test"]]))
    assert raw.all.labels.tolist() == [0, 1, 2, 9, 3, 4, 5]
    assert raw.num_train == 4


@pytest.mark.parametrize("label", [0, 11, 255])
def test_stl10_of_an_impossible_label_is_named(tmp_path, label):
    files = {"train_X": bytes(2 * 27_648), "train_y": bytes([1, 10]), "test_X": bytes(2 * 27_648)}
    files["test_y"] = bytes([1, label])
    unpack(tmp_path, {f"{name}.bin": content for name, content in files.items()})
    with pytest.raises(BadInput, match=rf"test_y.bin: image 1 has the label {label}, wanted .* 1 to 10"):
        read_stl10(tmp_path)


def test_a_set_without_test_images_is_told(tmp_path):
    files = {"train_X": bytes(27_648), "train_y": bytes([1]), "test_X": b"", "test_y": b""}
    unpack(tmp_path, {f"{name}.bin": content for name, content in files.items()})
    with pytest.raises(BadInput, match=r"test_X.bin.*: 1 training and 0 test images, wanted some of both"):
        read_stl10(tmp_path)


def test_stl10_with_too_few_images_is_told(tmp_path):
    files = {"train_X": b"\0" * 100, "train_y": b"\1", "test_X": b"", "test_y": b""}
    unpack(tmp_path, {f"{name}.bin": content for name, content in files.items()})
    with pytest.raises(BadInput, match=r"train_X.bin: 100 bytes, wanted 27,648 for 1 labels"):
        read_stl10(tmp_path)


def pack_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.fixture
def tiny_imagenet():
    """Give 2 training and 1 validation image of two classes, one of them grey."""
    images = {
        "train/n02/images/n02_0.JPEG": np.full((64, 64, 3), (200, 20, 30), np.uint8),
        "train/n01/images/n01_0.JPEG": np.full((64, 64), 90, np.uint8),
        "val/images/val_0.JPEG": np.full((64, 64, 3), (10, 240, 30), np.uint8),
        "test/images/test_0.JPEG": np.zeros((64, 64, 3), np.uint8),
    }
    files = {f"tiny-imagenet-200/{name}": encode_jpeg(pixels) for name, pixels in images.items()}
    files["tiny-imagenet-200/val/val_annotations.txt"] = b"val_0.JPEG\tn02\t0\t0\t63\t63\n"
    files["tiny-imagenet-200/train/n01/n01_boxes.txt"] = b"n01_0.JPEG\t0\t0\t63\t63\n"
    return files


def test_tiny_imagenet_numbers_its_classes_and_tests_on_its_validation_images(tmp_path, tiny_imagenet):
    pack_zip(tmp_path / "tiny-imagenet-200.zip", tiny_imagenet)
    raw = read_tiny_imagenet(tmp_path)
    assert raw.num_train == 2
    assert raw.all.labels.tolist() == [0, 1, 1]
    assert raw.all.pixels.shape == (3, 3, 64, 64)
    wanted = np.array([[90, 90, 90], [200, 20, 30], [10, 240, 30]])
    assert np.abs(raw.all.pixels.mean((2, 3)) - wanted).max() < 3


@pytest.mark.parametrize("inside", ["", "tiny-imagenet-200"])
def test_tiny_imagenet_unpacked_is_the_same(tmp_path, tiny_imagenet, inside):
    pack_zip(tmp_path / "tiny-imagenet-200.zip", tiny_imagenet)
    unpack(tmp_path / "unpacked", tiny_imagenet)
    raw = read_tiny_imagenet(tmp_path / "unpacked" / inside)
    assert raw.digests == read_tiny_imagenet(tmp_path).digests
    assert raw.all.labels.tolist() == [0, 1, 1]


def test_tiny_imagenet_without_an_annotation_is_told(tmp_path, tiny_imagenet):
    tiny_imagenet["tiny-imagenet-200/val/val_annotations.txt"] = b""
    pack_zip(tmp_path / "tiny-imagenet-200.zip", tiny_imagenet)
    with pytest.raises(BadInput, match=r"no line for val_0.JPEG"):
        read_tiny_imagenet(tmp_path)


@pytest.mark.parametrize(("part", "kind"), [("train", "training"), ("val", "validation")])
@pytest.mark.parametrize("packed", [False, True])
def test_tiny_imagenet_without_a_part_is_told(tmp_path, tiny_imagenet, part, kind, packed):
    files = {name: content for name, content in tiny_imagenet.items() if f"/{part}/" not in name}
    if packed:
        pack_zip(tmp_path / "tiny-imagenet-200.zip", files)
    else:
        unpack(tmp_path, files)
    with pytest.raises(BadInput, match=rf"tiny-imagenet-200.zip: missing, or without {kind} images"):
        read_tiny_imagenet(tmp_path)


def test_tiny_imagenet_of_another_size_is_named(tmp_path, tiny_imagenet):
    tiny_imagenet["tiny-imagenet-200/val/images/val_0.JPEG"] = encode_jpeg(draw_pixels(32, 32, 3))
    unpack(tmp_path, tiny_imagenet)
    with pytest.raises(BadInput, match=r"val_0.JPEG: shape \(3, 32, 32\), wanted \(3, 64, 64\)"):
        read_tiny_imagenet(tmp_path)


def test_a_zip_cut_short_is_named(tmp_path, tiny_imagenet):
    path = tmp_path / "tiny-imagenet-200.zip"
    pack_zip(path, tiny_imagenet)
    cut_short(path)
    with pytest.raises(BadInput, match=r"tiny-imagenet-200.zip: damaged archive"):
        read_tiny_imagenet(tmp_path)


@pytest.fixture
def eurosat():
    names = ("River/River_1.jpg", "Forest/Forest_1.jpg", "River/River_2.jpg")
    return {f"2750/{name}": encode_jpeg(draw_pixels(64, 64, 3)) for name in names}


def test_eurosat_takes_classes_from_folders(tmp_path, eurosat):
    pack_zip(tmp_path / "EuroSAT.zip", eurosat)
    raw = read_eurosat(tmp_path)
    assert raw.all.labels.tolist() == [0, 1, 1]
    assert raw.num_train is None


def test_an_image_cut_short_is_named(tmp_path, eurosat):
    eurosat["2750/River/River_2.jpg"] = eurosat["2750/River/River_2.jpg"][:300]
    unpack(tmp_path, eurosat)
    with pytest.raises(BadInput, match=r"River_2.jpg: cannot be decoded"):
        read_eurosat(tmp_path)


def test_an_image_of_another_size_is_named(tmp_path, eurosat):
    eurosat["2750/River/River_2.jpg"] = encode_jpeg(draw_pixels(32, 64, 3))
    unpack(tmp_path, eurosat)
    with pytest.raises(BadInput, match=r"River_2.jpg: shape \(3, 32, 64\), wanted \(3, 64, 64\)"):
        read_eurosat(tmp_path)
