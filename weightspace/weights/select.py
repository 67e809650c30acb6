"""Choose the checkpoints of a weight data set by epoch, property, factor and size of their weights."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool
from pandas.api.types import is_numeric_dtype

from weightspace.config import BadInput
from weightspace.weights.config import EpochRange, RangeFilter, ValuesFilter, WeightsConfig
from weightspace.weights.zoos import Networks

LISTED = 8


def choose_rows(table: pd.DataFrame, config: WeightsConfig) -> Bool[np.ndarray, " rows"]:
    """Tell which rows pass the epochs and filters that a configuration asks for.

    Raises:
        BadInput: a filter names a column or a value that is not there.
    """
    keep = choose_epochs(pd.Series(table["epoch"]), config)
    for one in config.filters:
        if isinstance(one, RangeFilter):
            keep = keep & (filter_range(table, one) | table["diverged"].to_numpy())
        else:
            keep = keep & filter_values(table, one)
    return keep


def choose_epochs(epoch: pd.Series, config: WeightsConfig) -> Bool[np.ndarray, " rows"]:
    """Tell which rows have an epoch that is asked for."""
    if not isinstance(config.epochs, EpochRange):
        return epoch.isin(config.epochs.epochs).to_numpy()
    first, last, every = config.epochs.first, config.epochs.last, config.epochs.every
    keep = (epoch >= first) & ((epoch - first) % every == 0)
    return (keep & (epoch <= (epoch.max() if last is None else last))).to_numpy()


def filter_range(table: pd.DataFrame, one: RangeFilter) -> Bool[np.ndarray, " rows"]:
    """Tell which rows have a number between two bounds."""
    if one.column not in table or not is_numeric_dtype(table[one.column]):
        numbers = ", ".join(table.select_dtypes("number").columns)
        raise BadInput(f"filters: got column {one.column!r}, wanted a number of the zoo: {numbers}")
    low = -np.inf if one.low is None else one.low
    high = np.inf if one.high is None else one.high
    return table[one.column].between(low, high).fillna(False).to_numpy(bool)


def filter_values(table: pd.DataFrame, one: ValuesFilter) -> Bool[np.ndarray, " rows"]:
    """Tell which rows have one of some values."""
    if one.column not in table:
        raise BadInput(f"filters: got column {one.column!r}, wanted one of the zoo: {', '.join(table.columns)}")
    column = table[one.column]
    keep = np.zeros(len(table), bool)
    for value in one.values:
        found = (column == value).fillna(False).to_numpy(bool)
        if not found.any():
            known = column.dropna().unique()
            some = ", ".join(map(str, known[:LISTED])) + (", ..." if len(known) > LISTED else "")
            raise BadInput(f"filters: got {one.column} {value!r}, wanted values that are in the zoo: {some}")
        keep |= found
    return keep


def limit_weights(networks: Sequence[Networks], num_rows: int, limit: float | None) -> Bool[np.ndarray, " rows"]:
    """Tell which rows have no weight above the limit; not-a-number is not above it."""
    keep = np.ones(num_rows, bool)
    if limit is None:
        return keep
    for group in networks:
        rows = np.arange(group.rows.start, group.rows.stop)
        for here, weights in group.read_parts(rows):
            keep[rows[here]] = ~(np.abs(weights).max(1) > limit)
    return keep
