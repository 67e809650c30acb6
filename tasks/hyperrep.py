"""Make hyper-representations: read a weight data set, train, write."""

from pathlib import Path

from weightspace.config import digest_value
from weightspace.device import resolve_device
from weightspace.hyperrep.config import HyperrepConfig
from weightspace.hyperrep.hyperrep import UNTRAINED_NAME
from weightspace.hyperrep.train import train_hyperrep
from weightspace.record import read_record, replace_folder, write_record
from weightspace.weights.weight_data import read_weight_data

HISTORY_NAME = "history.csv"


def make_hyperrep(name: str, config: HyperrepConfig, root: Path) -> None:
    """Train a hyper-representation; one that was killed goes on where it was, even at the very end.

    Raises:
        BadInput: the weight data set is missing or damaged, or the configuration does not fit it.
    """
    source = root / "data" / "weights" / config.weights
    record = read_record(source)
    device = resolve_device(config.device)
    work = digest_value({"config": config.model_dump(mode="json"), "weights": record.digest, "device": device.type})
    scratch = root / "data" / ".work" / "hyperrep" / name / work
    trained = train_hyperrep(read_weight_data(source), config, scratch, device)
    with replace_folder(root / "data" / "hyperrep" / name) as folder:
        trained.hyperrep.save(folder)
        trained.untrained.save_model(folder / UNTRAINED_NAME)
        trained.history.to_csv(folder / HISTORY_NAME, index=False)
        write_record(folder, "hyperrep", name, config, {"weights": record}, device.type)
