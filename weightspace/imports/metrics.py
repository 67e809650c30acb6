"""Read what foreign zoos measured and how they trained, and join it to checkpoints."""

import csv
import io
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weightspace.config import BadInput
from weightspace.imports.member import Metrics

ITERATION = "training_iteration"
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
MEASURES = {"loss": "loss", "acc": "accuracy", "accuracy": "accuracy"}
PROPERTIES = tuple(f"{split}_{measure}" for split in ("train", "val", "test") for measure in ("loss", "accuracy"))
GAP = "generalization_gap"
NUMBERS = ("lr", "weight_decay", "dropout", "train_fraction")
INTEGERS = ("seed", "batch_size")
WORDS = ("activation", "init", "optimizer")
FACTOR_NAMES = {
    "model::nlin": "activation",
    "model::init_type": "init",
    "model::dropout": "dropout",
    "optim::optimizer": "optimizer",
    "optim::lr": "lr",
    "optim::wd": "weight_decay",
    "training::batchsize": "batch_size",
    "learning_rate": "lr",
    "l2reg": "weight_decay",
    "w_init": "init",
}
WORD_NAMES = {"leakyrelu": "leaky_relu", "rms_prop": "rmsprop"}
OFFSETS = (0, 1)


def name_property(key: str) -> str | None:
    """Return our name of a property: `test_acc`, `test/acc` and `test_accuracy` are one; None for other keys."""
    if key in (GAP, "ggap"):
        return GAP
    match = re.fullmatch(r"([a-z]+)[_/]([a-z]+)", key)
    if match is None or match[1] not in SPLIT_NAMES or match[2] not in MEASURES:
        return None
    return f"{SPLIT_NAMES[match[1]]}_{MEASURES[match[2]]}"


def name_properties(where: str, row: Mapping[str, Any], columns: Collection[str] = ()) -> dict[str, float]:
    """Keep the properties of a row under our names, and some other columns under their own.

    Raises:
        BadInput: one is not a number, or an accuracy is no share.
    """
    found: dict[str, float] = {}
    for key, value in row.items():
        name = key if key in columns else name_property(key)
        if name is None or value is None or value == "":
            continue
        found[name] = to_number(where, key, value)
        if name.endswith("accuracy") and found[name] > 1:
            raise BadInput(f"{where}: {key} is {value}, wanted a share from 0 to 1")
    return found


def to_number(where: str, key: str, value: Any) -> float:
    """Read a number.

    Raises:
        BadInput: it is none.
    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{where}: {key} is {value!r}, wanted a number") from error


def to_integer(where: str, key: str, value: Any) -> int:
    """Read a whole number of 64 bits.

    Raises:
        BadInput: it is none.
    """
    number = value if isinstance(value, int) else to_number(where, key, value)
    if not -(2**63) <= number < 2**63 or number != int(number):
        raise BadInput(f"{where}: {key} is {value!r}, wanted a whole number of 64 bits")
    return int(number)


def name_factors(where: str, row: Mapping[str, Any], columns: Collection[str] = ()) -> dict[str, Any]:
    """Keep the factors of a configuration under our names, and some other columns under their own.

    Raises:
        BadInput: one is not a number where a number is wanted.
    """
    found: dict[str, Any] = {}
    for key, value in row.items():
        name = FACTOR_NAMES.get(key, key)
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        if name in NUMBERS or key in columns:
            found[name] = to_number(where, key, value)
        elif name in INTEGERS:
            found[name] = to_integer(where, key, value)
        elif name in WORDS:
            found[name] = WORD_NAMES.get(str(value).lower(), str(value).lower())
    return found


def read_lines(name: str, content: bytes) -> dict[int, dict[str, Any]]:
    """Read `result.json`: one JSON object a line, by iteration; a broken last line is left out.

    Raises:
        BadInput: another line is broken, or one has no iteration.
    """
    lines = [line for line in content.split(b"\n") if line.strip()]
    rows: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:  # broken JSON or broken UTF-8
            if number == len(lines):
                break
            raise BadInput(f"{name}: line {number} is not JSON, wanted one object a line") from error
        if not isinstance(row, dict) or not isinstance(row.get(ITERATION), int):
            raise BadInput(f"{name}: line {number} has no integer {ITERATION}, wanted one in each line")
        rows[row[ITERATION]] = row
    return rows


def read_progress(name: str, content: bytes) -> dict[int, dict[str, Any]]:
    """Read `progress.csv`: the same flat, one row an epoch; a last row that is cut short is left out.

    Raises:
        BadInput: it has no column with iterations, or another row has none.
    """
    try:
        reader = csv.DictReader(io.StringIO(content.decode()))
        found = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{name}: cannot be read as CSV ({error})") from error
    if ITERATION not in (reader.fieldnames or ()):
        raise BadInput(f"{name}: has no column {ITERATION}, wanted one")
    rows: dict[int, dict[str, Any]] = {}
    for number, row in enumerate(found, start=2):
        whole = None not in row and None not in row.values()
        if not whole and number == len(found) + 1:
            break
        if not whole or not str(row[ITERATION]).isdigit():
            raise BadInput(f"{name}: line {number} has no integer {ITERATION}, or too few or too many columns")
        rows[int(row[ITERATION])] = row
    return rows


@dataclass
class Joiner:
    """Join metrics to checkpoints by the value of the iteration, with one offset for the whole zoo."""

    asked: int | None
    """Offset that the user says; None: what the numbers say."""
    found: int | None = None
    first: str = ""
    """The member that told the offset."""
    unmeasured: list[str] = field(default_factory=list)
    """Members whose last checkpoint has no metrics."""

    def join(self, member: str, numbers: Sequence[int], metrics: Metrics) -> dict[int, Mapping[str, float]]:
        """Return the metrics of each checkpoint that has some; at most the last has none.

        Raises:
            BadInput: they cannot be joined; the message says the offsets.
        """
        if not metrics:
            return {}
        offset = find_offset(member, numbers, metrics, self.asked)
        if self.found is None:
            self.found, self.first = offset, member
        elif self.found != offset:
            raise BadInput(
                f"{member}: its metrics join its checkpoints with offset {offset}, those of {self.first} with "
                f"{self.found}; wanted one offset, say it as epoch_offset"
            )
        joined = {number: metrics[number + offset] for number in numbers if number + offset in metrics}
        if len(joined) < len(numbers):
            self.unmeasured.append(member)
        return joined


def find_offset(member: str, numbers: Sequence[int], iterations: Collection[int], asked: int | None) -> int:
    """Find iteration less checkpoint number: what their smallest say, if at most the last checkpoint is without.

    Raises:
        BadInput: no offset joins them, or both do.
    """
    missing = {o: [number for number in numbers if number + o not in iterations] for o in OFFSETS}
    fits = [o for o in OFFSETS if missing[o] in ([], [max(numbers)])]
    if asked is not None:
        fits = [asked] if asked in fits else []
    smallest = min(iterations) - min(numbers)
    if smallest in fits:
        return smallest
    if len(fits) == 1:
        return fits[0]
    said = ", ".join(f"offset {o} leaves {len(missing[o])} without metrics" for o in OFFSETS)
    wanted = "wanted one offset; say it as epoch_offset" if fits else "wanted at most the last without"
    raise BadInput(
        f"{member}: {len(numbers)} checkpoints {min(numbers)} to {max(numbers)}, metrics of iterations "
        f"{min(iterations)} to {max(iterations)}: {said}; {wanted}"
    )
