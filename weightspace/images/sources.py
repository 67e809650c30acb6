"""Read any source of images that a configuration can name."""

from pathlib import Path

from weightspace.config import BadInput
from weightspace.images.bundled import read_digits, read_mnist5k
from weightspace.images.cifar import read_cifar10, read_cifar100
from weightspace.images.config import Debian, Digits, Folder, Idx, IdxDownload, Mnist5k, Published
from weightspace.images.download import describe_difference, download_set
from weightspace.images.idx import IDX_NAMES, find_idx, read_idx
from weightspace.images.photos import read_eurosat, read_tiny_imagenet
from weightspace.images.published import PUBLISHED
from weightspace.images.raw import RawImages
from weightspace.images.stl10 import read_stl10
from weightspace.images.svhn import read_svhn
from weightspace.images.usps import read_usps

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def read_source(source: Digits | Mnist5k | Idx | Published, root: Path) -> RawImages:
    """Read all images of a source.

    Args:
        root: what relative paths start from.

    Raises:
        BadInput: files are missing, damaged or not of the kind.
    """
    match source:
        case Digits():
            return read_digits()
        case Mnist5k():
            return read_mnist5k()
        case Idx():
            return read_idx(locate_idx(source.origin, root))
        case Published():
            return read_published(source, root)


def locate_idx(origin: Folder | Debian | IdxDownload, root: Path) -> list[Path]:
    """Say where the four IDX files are, downloading them first if that is asked for.

    Raises:
        BadInput: one is missing, or a download failed.
    """
    match origin:
        case Folder():
            folder = locate_folder(origin, root)
            return [find_idx(folder, name) for name in IDX_NAMES]
        case Debian():
            return locate_debian(DEBIAN_FASHION_MNIST)
        case IdxDownload():
            return list(download_set(PUBLISHED[origin.set], root / origin.cache / origin.set, origin.mirrors).values())


def locate_folder(origin: Folder, root: Path) -> Path:
    """Say which folder is meant.

    Raises:
        BadInput: there is none.
    """
    folder = root / Path(origin.path).expanduser()
    if not folder.is_dir():
        raise BadInput(f"source.origin.path: {folder} is no folder, wanted one with the published files")
    return folder


def locate_debian(folder: Path) -> list[Path]:
    """Find and check Debian's copy of Fashion-MNIST.

    Raises:
        BadInput: it is not installed, or its content is not what is published.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: missing, wanted what `apt-get install dataset-fashion-mnist` puts there")
    paths = [find_idx(folder, name) for name in IDX_NAMES]
    for path, known in zip(paths, PUBLISHED["fashion_mnist"].files, strict=True):
        difference = describe_difference(path, known)
        if difference:
            raise BadInput(f"{path}: {difference}; install dataset-fashion-mnist again")
    return paths


def read_published(source: Published, root: Path) -> RawImages:
    """Read a published set from a folder, or after downloading it.

    Raises:
        BadInput: files are missing, damaged or not of the kind, or a download failed.
    """
    origin = source.origin
    if isinstance(origin, Folder):
        folder = locate_folder(origin, root)
    else:
        folder = root / origin.cache / source.kind
        download_set(PUBLISHED[source.kind], folder, origin.mirrors)
    match source.kind:
        case "usps":
            return read_usps(folder)
        case "svhn":
            return read_svhn(folder)
        case "cifar10":
            return read_cifar10(folder)
        case "cifar100":
            return read_cifar100(folder)
        case "stl10":
            return read_stl10(folder)
        case "tiny_imagenet":
            return read_tiny_imagenet(folder)
        case "eurosat":
            return read_eurosat(folder)
