"""Say which foreign zoo is read, and what is not told by its files."""

from typing import Annotated, Literal

from pydantic import Field

from weightspace.config import Config


class ForeignZoo(Config):
    """What all formats share."""

    path: str
    """Folder, zip or tar archive, or file; relative to the study's folder. Archives are read in place."""
    mixed: Literal["refuse", "split"]
    """What members of several architectures lead to: an error, or one zoo each, in folders of their own."""
    images: str | None
    """Name of an image set of this study on which stored accuracies are measured again; None: nothing is proved."""
    proof_members: int = Field(ge=0)
    """Members that are rebuilt for that."""


class ModelZoo(ForeignZoo):
    """Ray folders of the published model zoos: `<run>/params.json`, `result.json`, `checkpoint_<n>/checkpoints`."""

    format: Literal["modelzoo", "phase_transition"]
    epoch_offset: Literal[0, 1] | None
    """Iteration of the metrics less number of the checkpoint; None: what the smallest of both say."""
    columns: tuple[str, ...]
    """Other numbers of `result.json` or `params.json` to keep, under their own names; empty for none."""
    log_sigma2: Literal["refuse", "threshold"]
    """Sparse twins hold a variance beside each weight: an error, or weights with a log alpha above 3 become 0."""


class WildPark(ForeignZoo):
    """The CNN Wild Park: `<run>/checkpoint_<n>/checkpoint.pt` with weights, configuration and metrics in each."""

    format: Literal["wild_park"]
    epoch_offset: Literal[0, 1] | None
    """As for the model zoos."""
    split_file: str | None
    """The published split, a JSON file relative to the study's folder, kept as a column; None: no such column."""


class HuggingFace(ForeignZoo):
    """A folder for each member with safetensors or state dicts, as on Hugging Face; WeightCLIP's zoos among them."""

    format: Literal["huggingface", "weightclip"]
    epoch_offset: Literal[0, 1] | None
    """As for the model zoos."""
    columns: tuple[str, ...]
    """As for the model zoos."""
    wiring: Literal["chain", "unknown"]
    """`chain`: each layer feeds the next and nothing else, so that its units may be permuted."""


class PreparedPt(ForeignZoo):
    """Prepared data sets of the model zoos: one `.pt` with pickled objects, of which nothing is executed."""

    format: Literal["prepared_pt"]


class SmallCnnZoo(ForeignZoo):
    """The Small CNN Zoo: `weights.npy`, `metrics.csv.gz` and `layout.csv`, in a folder or a tar archive."""

    format: Literal["small_cnn_zoo"]


class Table(Config):
    """A table of properties and factors, one row a file."""

    path: str
    """CSV or Parquet; relative to the study's folder."""
    key: str
    """Column with the name of the file, without its ending. Columns `member` and `epoch` place it; without them each
    file is a member at epoch 0."""


class Folder(ForeignZoo):
    """Any folder of `.safetensors` files or state dicts (`.pt`, `.pth`), one checkpoint each."""

    format: Literal["folder"]
    table: Table | None
    """None: nothing is known but the weights."""
    wiring: Literal["chain", "unknown"]
    """As for Hugging Face."""


ImportConfig = Annotated[
    ModelZoo | WildPark | HuggingFace | PreparedPt | SmallCnnZoo | Folder, Field(discriminator="format")
]
