"""Make weight data sets: read zoos, prepare them, write."""

import shutil
from pathlib import Path

from weightspace.config import BadInput
from weightspace.record import RECORD_NAME, Record, read_record, replace_folder, write_record
from weightspace.weights.config import EVERY_ZOO, WeightsConfig
from weightspace.weights.prepare import prepare_weight_data


def make_weights(name: str, config: WeightsConfig, root: Path) -> None:
    """Turn finished zoos into a weight data set; parts that an earlier run aligned are kept.

    Raises:
        BadInput: a zoo is missing or damaged, or does not have what the configuration asks for; or the disk is full.
    """
    zoos = find_zoos(root / "data" / "zoo", config.zoo)
    records: dict[str, Record] = {zoo: read_record(folder) for zoo, folder in zoos.items()}
    work = root / "data" / ".work" / "weights" / name
    with replace_folder(root / "data" / "weights" / name) as folder:
        work.mkdir(parents=True, exist_ok=True)
        prepare_weight_data(zoos, folder, config, work)
        write_record(folder, "weights", name, config, records)
    shutil.rmtree(work)


def find_zoos(data: Path, zoo: str) -> dict[str, Path]:
    """Find the folder of a zoo, or of all of them; one that was imported by architecture holds a zoo for each.

    Raises:
        BadInput: all are asked for, and there is none.
    """
    if zoo != EVERY_ZOO:
        return {zoo: data / zoo}
    found: dict[str, Path] = {}
    for folder in sorted(path for path in data.glob("[!.]*") if path.is_dir()):
        inside = sorted(record.parent for record in folder.glob(f"*/{RECORD_NAME}"))
        found |= {str(one.relative_to(data)): one for one in inside or [folder]}
    if not found:
        raise BadInput(f"{data}: holds no zoos, wanted some to make a weight data set of; run the zoo stage")
    return found
