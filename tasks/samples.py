"""Make samples: read a hyper-representation and what it learnt from, generate and score, write."""

from functools import partial
from pathlib import Path

from weightspace.config import BadInput
from weightspace.device import resolve_device
from weightspace.embeddings.embeddings import read_embeddings
from weightspace.hyperrep.hyperrep import choose_hyperrep, load_hyperreps
from weightspace.images.image_set import read_image_set
from weightspace.record import read_record, replace_folder, write_record
from weightspace.samples.config import SamplesConfig
from weightspace.samples.generate import generate_samples
from weightspace.samples.sample_store import write_samples
from weightspace.store import list_layouts
from weightspace.weights.weight_data import read_weight_data

INPUTS = ("weights", "hyperrep", "embeddings", "images")


def make_samples(name: str, config: SamplesConfig, root: Path) -> None:
    """Generate every row of samples and score it without training.

    Raises:
        BadInput: an input is missing or damaged, or some do not fit each other.
    """
    sources = {stage: root / "data" / stage / getattr(config, stage) for stage in INPUTS}
    records = {stage: read_record(source) for stage, source in sources.items()}
    device = resolve_device(config.device)
    layouts = list_layouts(sources["weights"])
    if len(layouts) > 1:
        raise BadInput(
            f"weights {config.weights}: holds networks of several layouts, {', '.join(layouts)}; samples are made of "
            "one: wanted a weight data set of one zoo, with embeddings of it"
        )
    data = read_weight_data(sources["weights"])
    hyperrep = choose_hyperrep(load_hyperreps(sources["hyperrep"], device), data.layout, f"weights/{config.weights}")
    decode = partial(hyperrep.decode, halo=config.halo)
    image_set = read_image_set(sources["images"])
    tables = generate_samples(config, data, read_embeddings(sources["embeddings"]), decode, image_set, device)
    with replace_folder(root / "data" / "samples" / name) as folder:
        write_samples(folder, tables)
        write_record(folder, "samples", name, config, records, device.type)
