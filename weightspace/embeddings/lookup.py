"""Find checkpoints in a table of embeddings."""

import numpy as np
import pandas as pd
from jaxtyping import Int64

from weightspace.config import BadInput


def find_checkpoints(wanted: pd.DataFrame, table: pd.DataFrame, name: str) -> Int64[np.ndarray, " checkpoints"]:
    """Return the row of each wanted member and epoch in the table of the embeddings `name`.

    Raises:
        BadInput: one is not there.
    """
    places = index_checkpoints(table).get_indexer(index_checkpoints(wanted))
    if (places < 0).any():
        member, epoch = index_checkpoints(wanted)[int(np.flatnonzero(places < 0)[0])]
        raise BadInput(
            f"embeddings {name}: member {member} at epoch {epoch} is not there; "
            "wanted embeddings of the same weight data set"
        )
    return places.astype(np.int64)


def index_checkpoints(table: pd.DataFrame) -> pd.MultiIndex:
    """Name each checkpoint by member and epoch."""
    return pd.MultiIndex.from_arrays([table["member"].to_numpy(str), table["epoch"].to_numpy()])
