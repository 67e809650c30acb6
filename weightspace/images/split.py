"""Split images into training, validation and test, seeded and stratified by class."""

import numpy as np
from jaxtyping import Int64

from weightspace.config import BadInput
from weightspace.images.config import CountSplit, FractionSplit, OfficialSplit
from weightspace.images.image_set import SPLITS

Labels = Int64[np.ndarray, " images"]
Rows = Int64[np.ndarray, " part"]


def order_images(labels: Labels, seed: int) -> Rows:
    """Shuffle images so that any run of neighbours has the classes in the proportions of the whole.

    Each class is shuffled and spread evenly over 0 to 1, then all are read in order. Only the raw bits of Philox are
    used: NumPy keeps those, unlike its shuffles, the same in all its versions.
    """
    draws = np.random.Philox(seed).random_raw(len(labels))
    shuffled = np.argsort(draws, kind="stable")
    places = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        places[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((draws, places))


def split_images(
    labels: Labels, num_train: int | None, config: CountSplit | FractionSplit | OfficialSplit
) -> dict[str, Rows]:
    """Choose the images of `train`, `val` and `test`; the first of a part are a stratified sample of it too.

    Args:
        num_train: so many images, the first, are the source's own training part; None: it has no parts.

    Raises:
        BadInput: more images asked for than there are, or no official test part where it is asked for.
    """
    if isinstance(config, OfficialSplit):
        return split_officially(labels, num_train, config)
    order = order_images(labels, config.seed)
    if isinstance(config, CountSplit):
        ends = np.cumsum([config.train, config.val, config.test])
    else:
        ends = np.rint(np.cumsum([config.train, config.val, config.test]) * len(labels)).astype(int)
    check_count("train + val + test", int(ends[-1]), len(labels), "in the set")
    starts = (0, *ends[:2])
    return {name: order[start:end] for name, start, end in zip(SPLITS, starts, ends, strict=True)}


def split_officially(labels: Labels, num_train: int | None, config: OfficialSplit) -> dict[str, Rows]:
    """Split the official training part into `train` and `val`, and take `test` from the official test part.

    Raises:
        BadInput: there are no official parts, or too few images in one.
    """
    if num_train is None:
        raise BadInput(
            "split.kind: got official, but this source has no test part of its own; wanted counts, fractions"
        )
    check_count("train + val", config.train + config.val, num_train, "in the official training part")
    check_count("test", config.test, len(labels) - num_train, "in the official test part")
    order = order_images(labels[:num_train], config.seed)
    test = num_train + order_images(labels[num_train:], config.seed)
    return {
        "train": order[: config.train],
        "val": order[config.train : config.train + config.val],
        "test": test[: config.test],
    }


def check_count(key: str, wanted: int, there: int, where: str) -> None:
    """Compare the images asked for with those there are.

    Raises:
        BadInput: there are fewer.
    """
    if wanted > there:
        raise BadInput(f"split: {key} = {wanted:,}, but there are {there:,} images {where}")


def check_classes(labels: Labels, num_classes: int) -> None:
    """Compare the labels of a source with the number of classes the configuration states.

    Raises:
        BadInput: a label is outside, or a class has no image.
    """
    found = np.unique(labels)
    outside = found[(found < 0) | (found >= num_classes)]
    if len(outside):
        raise BadInput(
            f"classes: got {num_classes}, but the set has the label {outside[-1]}, wanted 0 to {num_classes - 1}"
        )
    if len(found) < num_classes:
        missing = np.setdiff1d(np.arange(num_classes), found)
        raise BadInput(f"classes: got {num_classes}, but the set has {len(found)}; no image of class {missing[0]}")


def check_parts(labels: Labels, split: dict[str, Rows], num_classes: int) -> None:
    """Look for every class in every part.

    Raises:
        BadInput: one is missing.
    """
    for name, rows in split.items():
        missing = np.setdiff1d(np.arange(num_classes), labels[rows])
        if len(missing):
            raise BadInput(
                f"split.{name}: no image of class {missing[0]} among {len(rows)}, wanted each of {num_classes} "
                "classes; ask for more images"
            )
