"""Take networks in whatever form they are, as weight vectors of one layout, and give them back in that form."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from weightspace.config import BadInput
from weightspace.hyperrep.bring import find_leaders
from weightspace.imports.folder import ENDINGS
from weightspace.imports.layers import Shape, group_layers
from weightspace.imports.state import clean_state, load_state, strip_prefixes
from weightspace.imports.structure import find_structure
from weightspace.layout import Layout
from weightspace.store import Checkpoints, list_layouts, read_checkpoints, read_part
from weightspace.weights.weight_data import REFERENCE_NAME, place_file, read_tensors

Network = Mapping[str, Tensor] | nn.Module | str | Path
Networks = Network | Sequence[Network]
"""State dicts, modules and files of state dicts, alone or many; a folder of such files; or a Parquet data set alone."""
TENSORS_SHOWN = 12


@dataclass(frozen=True)
class Form:
    """One network as its owner has it."""

    state: Mapping[str, Tensor]
    """Everything in its state dict, under the owner's names."""
    names: tuple[str, ...]
    """The owner's names of the tensors of the layout, in its order."""

    def fill(self, layout: Layout, weights: Float[Tensor, " weights"]) -> dict[str, Tensor]:
        """Make a state dict with other weights, which the owner's network loads; types and the rest stay."""
        parts = zip(self.names, layout.split(weights).values(), strict=True)
        new = {name: part.to(self.state[name]).reshape(self.state[name].shape).clone() for name, part in parts}
        return {name: new.get(name, value) for name, value in self.state.items()}


@dataclass(frozen=True)
class TakenNetworks:
    """Networks as weight vectors of one layout."""

    name: str
    """Of the layout."""
    layout: Layout
    weights: Float32[Tensor, "networks weights"]
    places: Int64[np.ndarray, " networks"]
    """Of each among all networks that came, of any layout."""
    table: pd.DataFrame
    """One row a network: `member`, and of a data set all its columns."""
    leaders: Int64[np.ndarray, " networks"]
    """For each the network whose units decide its alignment: in a data set its member's last checkpoint."""
    forms: tuple[Form, ...] | None
    """None: they come from a data set."""
    about: Mapping[str, Any]
    """What all checkpoints of a data set share."""
    reference: Float32[Tensor, " weights"] | None = None
    """What those of a weight data set were aligned to; None: not known."""

    def give_back(
        self, weights: Float[Tensor, "some weights"], rows: Int64[np.ndarray, " some"], **columns: np.ndarray
    ) -> "list[dict[str, Tensor]] | Checkpoints":
        """Put weights into the form in which the networks of some rows came.

        Args:
            columns: what to say of each beside that, in the table of a data set.
        """
        if self.forms is not None:
            return [self.forms[row].fill(self.layout, one) for row, one in zip(rows, weights.cpu(), strict=True)]
        table = self.table.iloc[rows].reset_index(drop=True).assign(**columns)
        return Checkpoints(self.layout, table, weights.float().cpu().numpy(), dict(self.about))


def take_networks(networks: Networks, layouts: Mapping[str, Layout]) -> list[TakenNetworks]:
    """Lay networks end to end, tensors found by their names or by their shapes in the order of the network.

    Checkpoints of a data set that are marked as diverged are left out.

    Returns:
        Those of each layout, of the layouts that there are any of.

    Raises:
        BadInput: one cannot be read, fits no layout, or has weights that are not finite.
    """
    if isinstance(networks, str | Path) and is_data_set(Path(networks)):
        return take_data_set(Path(networks), layouts)
    found: dict[str, list[tuple[int, str, Form, Float32[Tensor, " weights"]]]] = {}
    for number, (member, state) in enumerate(list_states(networks)):
        name, form, vector = take_state(member, state, layouts)
        found.setdefault(name, []).append((number, member, form, vector))
    if not found:
        raise BadInput("networks: got none, wanted at least one")
    taken: list[TakenNetworks] = []
    for name, some in found.items():
        numbers, members, forms, vectors = zip(*some, strict=True)
        table, places = pd.DataFrame({"member": members}), np.array(numbers)
        leaders = np.arange(len(some))
        taken.append(TakenNetworks(name, layouts[name], torch.stack(vectors), places, table, leaders, forms, {}))
    return taken


def is_data_set(path: Path) -> bool:
    """Tell Parquet from files of state dicts."""
    return path.suffix == ".parquet" or (path.is_dir() and any(path.glob("part-*.parquet")))


def take_data_set(path: Path, layouts: Mapping[str, Layout]) -> list[TakenNetworks]:
    """Take the checkpoints of a zoo, a weight data set or one Parquet file of them."""
    if not path.is_dir():
        return [take_checkpoints(path, read_part(path), layouts, 0, None)]
    taken: list[TakenNetworks] = []
    first = 0
    found = list_layouts(path)
    for name in found:
        part = read_checkpoints(path, layout=name)
        reference = read_reference(path, name if len(found) > 1 else None)
        taken.append(take_checkpoints(path, part, layouts, first, reference))
        first += len(taken[-1].table)
    return taken


def read_reference(folder: Path, layout: str | None) -> Float32[Tensor, " weights"] | None:
    """Read what the networks of a weight data set were aligned to; a zoo has no such file.

    Args:
        layout: name of their layout; None where the folder has but one.
    """
    path = place_file(folder, REFERENCE_NAME, layout)
    return read_tensors(path)["reference"] if path.is_file() else None


def take_checkpoints(
    path: Path,
    checkpoints: Checkpoints,
    layouts: Mapping[str, Layout],
    first: int,
    reference: Float32[Tensor, " weights"] | None,
) -> TakenNetworks:
    """Take the checkpoints of one layout of a data set.

    Args:
        first: networks that came before.
        reference: what they were aligned to; None: not known.
    """
    shapes = [place.shape for place in checkpoints.layout.places]
    fitting = [name for name, one in layouts.items() if [place.shape for place in one.places] == shapes]
    if not fitting:
        raise BadInput(describe_misfit(str(path), {p.name: p.shape for p in checkpoints.layout.places}, layouts))
    if "diverged" in checkpoints.table:
        checkpoints = checkpoints.select(~checkpoints.table["diverged"].to_numpy(bool))
    if not len(checkpoints.table):
        raise BadInput(f"{path}: has no checkpoint that has not diverged, wanted at least one")
    weights = torch.from_numpy(checkpoints.weights)
    bad = (~weights.isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        member = checkpoints.table["member"].iloc[bad[0]]
        raise BadInput(f"{path}: {len(bad)} checkpoints have weights that are not finite, {member} the first of them")
    table, about = checkpoints.table, checkpoints.about
    places, leaders = first + np.arange(len(table)), find_leaders(table)
    return TakenNetworks(fitting[0], checkpoints.layout, weights, places, table, leaders, None, about, reference)


def list_states(networks: Networks) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Name the networks and yield their state dicts; files are read one after the other."""
    alone = isinstance(networks, Mapping | nn.Module | str | Path)
    for number, network in enumerate([networks] if alone else networks):
        if isinstance(network, nn.Module):
            yield f"network {number}", network.state_dict()
        elif isinstance(network, Mapping):
            yield f"network {number}", network
        else:
            for path in list_files(Path(network)):
                yield str(path), load_state(str(path), read_bytes(path))


def list_files(path: Path) -> list[Path]:
    """List the files of state dicts that a path means: itself, or those in a folder.

    Raises:
        BadInput: a folder has none, or is a data set, which does not mix with other networks.
    """
    if is_data_set(path):
        raise BadInput(f"{path}: is a data set, wanted it alone, not among other networks")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.name.endswith(ENDINGS))
    if not files:
        raise BadInput(f"{path}: a folder without Parquet parts and without {', '.join(ENDINGS)} files")
    return files


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        BadInput: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}), wanted a network") from error


def take_state(
    where: str, state: Mapping[str, Tensor], layouts: Mapping[str, Layout]
) -> tuple[str, Form, Float32[Tensor, " weights"]]:
    """Find the tensors of a layout in a state dict, and lay them end to end; say which layout it is.

    Raises:
        BadInput: they fit none, or are not finite.
    """
    clean = clean_state(where, state, Counter())
    shapes = {name: tuple(tensor.shape) or (1,) for name, tensor in clean.items()}
    layout, names = choose_layout(where, shapes, layouts)
    for name in names:
        if not clean[name].isfinite().all():
            raise BadInput(f"{where}: {name} has numbers that are not finite, wanted a network that has not diverged")
    vector = torch.cat([clean[name].cpu().reshape(-1) for name in names])
    own = {strip_prefixes(name): name for name in state}
    return layout, Form(state, tuple(own[name] for name in names)), vector


def choose_layout(
    where: str, shapes: Mapping[str, Shape], layouts: Mapping[str, Layout]
) -> tuple[str, tuple[str, ...]]:
    """Find the layout that tensors fit, and which tensor is which.

    Raises:
        BadInput: they fit none.
    """
    if len(layouts) == 1:
        ((name, layout),) = layouts.items()
        return name, find_names(where, shapes, layout)
    for name, layout in layouts.items():
        try:
            return name, find_names(where, shapes, layout)
        except BadInput:
            continue
    raise BadInput(describe_misfit(where, shapes, layouts))


def find_names(where: str, shapes: Mapping[str, Shape], layout: Layout) -> tuple[str, ...]:
    """Find which tensor is which: by name; else by shape in the order in which an import would lay them out.

    Last, layers are told by their shapes alone, if no two of the layout have the same: a safetensors file does not say
    in which order they stood.

    Raises:
        BadInput: they do not fit.
    """
    by_name = {place.name: place.shape for place in layout.places}
    if shapes == by_name:
        return tuple(by_name)
    wanted = list(by_name.values())
    for wiring in ("unknown", "by_name"):
        names = find_structure(where, shapes, wiring).names
        if [shapes[name] for name in names] == wanted:
            return names
    places = [layout.layer_places(layer) for layer in range(layout.num_layers)]
    layers = [tuple(place.shape for place in some) for some in places]
    found = {layer.shapes: layer.names for layer in group_layers(shapes)}
    if set(found) == set(layers) and len(set(layers)) == len(layers) and len(shapes) == len(wanted):
        return tuple(name for layer in layers for name in found[layer])
    raise BadInput(describe_misfit(where, shapes, {"": layout}))


def describe_misfit(where: str, shapes: Mapping[str, Shape], layouts: Mapping[str, Layout]) -> str:
    """Say in one line which tensors came and which would fit."""
    wanted = {name: show_tensors({place.name: place.shape for place in one.places}) for name, one in layouts.items()}
    if len(wanted) == 1:
        (shown,) = wanted.values()
    else:
        shown = "one of " + "; ".join(f"{name}: {tensors}" for name, tensors in wanted.items())
    return f"{where}: does not fit; got {show_tensors(shapes)}; wanted {shown}"


def show_tensors(shapes: Mapping[str, Shape]) -> str:
    """List names and shapes on one line, not all of many."""
    shown = [f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items()]
    more = len(shown) - TENSORS_SHOWN
    return ", ".join(shown[:TENSORS_SHOWN]) + (f" and {more} more" if more > 0 else "")
