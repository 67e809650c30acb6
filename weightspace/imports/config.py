"""Say which foreign zoo is read, and what is not told by its files."""

from typing import Annotated, Literal

from pydantic import Field

from weightspace.config import Config

NO_IMAGES = "."
Mixed = Literal["refuse", "split", "keep"]


class ForeignZoo(Config):
    """What all formats share."""

    path: str
    """Folder, zip or tar archive, or file; relative to the study's folder. Archives are read in place."""
    mixed: Mixed
    """What members of several architectures lead to: an error, one zoo each in folders of their own, or one ragged zoo,
    in which a column `layout` names each row's architecture."""
    images: str
    """Name of an image set of this study on which stored accuracies are measured again; `.`: none is at hand."""
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
    """The published split, a JSON file relative to the study's folder, kept as a column; None: no such column. In a
    study it lies inside `path`, since only what lies there is seen to change."""


class HuggingFace(ForeignZoo):
    """A folder for each member with safetensors or state dicts, as on Hugging Face; WeightCLIP's zoos among them."""

    format: Literal["huggingface", "weightclip"]
    epoch_offset: Literal[0, 1] | None
    """As for the model zoos."""
    columns: tuple[str, ...]
    """As for the model zoos."""
    wiring: Literal["chain", "by_name", "unknown"]
    """Which layer feeds which; where that is not known, units are never permuted and networks never run. `chain`: each
    feeds the next and nothing else. `by_name`: so they do if all stand in one `module_list`; and modules named as in
    torchvision's residual networks (`conv1`, `bn1`, `layer1.0.conv1`, ..., `fc`) feed one another as there. A chain
    with just the tensors of a network of ours is taken for it, strides and pooling included."""


class PreparedPt(ForeignZoo):
    """Prepared data sets of the model zoos: one `.pt` with pickled objects, of which nothing is executed."""

    format: Literal["prepared_pt"]


class SmallCnnZoo(ForeignZoo):
    """The Small CNN Zoo: `weights.npy`, `metrics.csv.gz` and `layout.csv`, in a folder or a tar archive."""

    format: Literal["small_cnn_zoo"]
    split_file: str | None
    """The order of rows that the field's split goes by, as the NFN authors publish it: a CSV without a header, each row
    of the matrix once by its number. Kept as a column like that of the Wild Park, with a gap for runs without step 86;
    None: no such column."""


class Table(Config):
    """A table of properties and factors, one row a file."""

    path: str
    """CSV or Parquet; relative to the study's folder, and in a study inside the `path` of the zoo."""
    key: str
    """Column with the name of the file, without its ending. Columns `member` and `epoch` place it; without them each
    file is a member at epoch 0."""


class Folder(ForeignZoo):
    """Any folder of `.safetensors` files or state dicts (`.pt`, `.pth`), one checkpoint each."""

    format: Literal["folder"]
    table: Table | None
    """None: nothing is known but the weights."""
    wiring: Literal["chain", "by_name", "unknown"]
    """As for Hugging Face."""


ImportConfig = Annotated[
    ModelZoo | WildPark | HuggingFace | PreparedPt | SmallCnnZoo | Folder, Field(discriminator="format")
]
