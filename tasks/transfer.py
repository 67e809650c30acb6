"""Make transfer curves: read samples, members and images, train on, write."""

from pathlib import Path

from weightspace.device import resolve_device
from weightspace.images.image_set import read_image_set
from weightspace.record import read_record, replace_folder, write_record
from weightspace.samples.sample_store import read_samples
from weightspace.transfer.config import TransferConfig
from weightspace.transfer.curves import transfer_samples, write_transfer
from weightspace.weights.weight_data import read_weight_data

INPUTS = ("samples", "weights", "images")


def make_transfer(name: str, config: TransferConfig, root: Path) -> None:
    """Train samples and everything they must be seen beside on an image set.

    Raises:
        BadInput: an input is missing or damaged, or some do not fit each other.
    """
    sources = {stage: root / "data" / stage / getattr(config, stage) for stage in INPUTS}
    records = {stage: read_record(source) for stage, source in sources.items()}
    device = resolve_device(config.device)
    samples, data = read_samples(sources["samples"]), read_weight_data(sources["weights"])
    tables = transfer_samples(config, data, samples, read_image_set(sources["images"]), device)
    with replace_folder(root / "data" / "transfer" / name) as folder:
        write_transfer(folder, tables)
        write_record(folder, "transfer", name, config, records, device.type)
