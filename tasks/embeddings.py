"""Make embeddings: read a weight data set and a hyper-representation, embed, write."""

from pathlib import Path

from weightspace.device import resolve_device
from weightspace.embeddings.config import EmbeddingsConfig
from weightspace.embeddings.embed import embed_checkpoints
from weightspace.embeddings.embeddings import write_embeddings, write_reconstruction
from weightspace.hyperrep.hyperrep import UNTRAINED_NAME, Hyperrep
from weightspace.record import read_record, replace_folder, write_record
from weightspace.weights.weight_data import read_weight_data


def make_embeddings(name: str, config: EmbeddingsConfig, root: Path) -> None:
    """Embed every checkpoint of a weight data set that has not diverged.

    Raises:
        BadInput: an input is missing or damaged, or the two do not fit each other.
    """
    sources = {stage: root / "data" / stage / getattr(config, stage) for stage in ("weights", "hyperrep")}
    records = {stage: read_record(source) for stage, source in sources.items()}
    device = resolve_device(config.device)
    hyperrep = Hyperrep.load(sources["hyperrep"], device)
    untrained = Hyperrep.load(sources["hyperrep"], device, UNTRAINED_NAME) if config.untrained_baseline else None
    embeddings, errors = embed_checkpoints(read_weight_data(sources["weights"]), hyperrep, untrained, config)
    with replace_folder(root / "data" / "embeddings" / name) as folder:
        write_embeddings(folder, embeddings)
        write_reconstruction(folder, errors)
        write_record(folder, "embeddings", name, config, records, device.type)
