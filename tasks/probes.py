"""Make probes: read a weight data set and its embeddings, predict and score, write."""

from pathlib import Path

from weightspace.embeddings.embeddings import read_embeddings
from weightspace.probes.config import ProbesConfig
from weightspace.probes.predict import run_probes, write_probes
from weightspace.record import read_record, replace_folder, write_record
from weightspace.store import list_layouts
from weightspace.weights.weight_data import read_weight_data


def make_probes(name: str, config: ProbesConfig, root: Path) -> None:
    """Predict every target from every set of features.

    Raises:
        BadInput: an input is missing or damaged, or the two do not fit each other or the configuration.
    """
    sources = {stage: root / "data" / stage / getattr(config, stage) for stage in ("weights", "embeddings")}
    records = {stage: read_record(source) for stage, source in sources.items()}
    weights = sources["weights"]
    data = {layout: read_weight_data(weights, layout) for layout in list_layouts(weights)}
    tables = run_probes(config, data, read_embeddings(sources["embeddings"]))
    with replace_folder(root / "data" / "probes" / name) as folder:
        write_probes(folder, tables)
        write_record(folder, "probes", name, config, records)
