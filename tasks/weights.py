"""Make weight data sets: read a zoo, prepare it, write."""

from pathlib import Path

from weightspace.record import read_record, replace_folder, write_record
from weightspace.weights.config import WeightsConfig
from weightspace.weights.prepare import prepare_weight_data


def make_weights(name: str, config: WeightsConfig, root: Path) -> None:
    """Turn a finished zoo into a weight data set.

    Raises:
        BadInput: the zoo is missing or damaged, or does not have what the configuration asks for.
    """
    zoo = root / "data" / "zoo" / config.zoo
    record = read_record(zoo)
    with replace_folder(root / "data" / "weights" / name) as folder:
        prepare_weight_data(zoo, folder, config)
        write_record(folder, "weights", name, config, {"zoo": record})
