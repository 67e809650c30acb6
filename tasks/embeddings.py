"""Make embeddings: read a weight data set and a hyper-representation, embed, write."""

from pathlib import Path

from weightspace.device import resolve_device
from weightspace.embeddings.config import EmbeddingsConfig
from weightspace.embeddings.embed import embed_layouts
from weightspace.embeddings.embeddings import write_embeddings, write_kept, write_reconstruction
from weightspace.embeddings.health import measure_all_health, write_health
from weightspace.hyperrep.hyperrep import UNTRAINED_NAME, load_hyperreps
from weightspace.images.image_set import read_image_set
from weightspace.record import read_record, replace_folder, write_record
from weightspace.store import list_layouts
from weightspace.weights.weight_data import read_weight_data


def make_embeddings(name: str, config: EmbeddingsConfig, root: Path) -> None:
    """Embed every checkpoint of a weight data set that has not diverged.

    Raises:
        BadInput: an input is missing or damaged, or they do not fit each other.
    """
    stages = ("weights", "hyperrep", "images") if config.kept_networks else ("weights", "hyperrep")
    sources = {stage: root / "data" / stage / getattr(config, stage) for stage in stages}
    records = {stage: read_record(source) for stage, source in sources.items()}
    device = resolve_device(config.device)
    hyperreps = load_hyperreps(sources["hyperrep"], device)
    untrained = load_hyperreps(sources["hyperrep"], device, UNTRAINED_NAME) if config.untrained_baseline else None
    images = read_image_set(sources["images"]) if "images" in sources else None
    weights = sources["weights"]
    data = {layout: read_weight_data(weights, layout) for layout in list_layouts(weights)}
    embedded = embed_layouts(data, hyperreps, untrained, config, images)
    with replace_folder(root / "data" / "embeddings" / name) as folder:
        embeddings = {layout: part.embeddings for layout, part in embedded.items()}
        write_embeddings(folder, embeddings)
        write_reconstruction(folder, [part.errors for part in embedded.values()])
        write_health(folder, measure_all_health(embeddings))
        if kept := [part.kept for part in embedded.values() if part.kept is not None]:
            write_kept(folder, kept)
        write_record(folder, "embeddings", name, config, records, device.type)
