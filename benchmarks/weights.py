"""Weight data sets: how fast they are read, how small they are, how fast views and alignment are made.

The weights are real: CNN-s members of several inits, activations, optimizers and learning rates, trained on the bundled
digits; and copies of each with its units in another order, which no file format can tell from members of their own.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from jaxtyping import Float32
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from weightspace.images.build import build_image_set
from weightspace.images.config import CountSplit, Digits, ImagesConfig, TrainStatistics
from weightspace.images.image_set import prepare_images
from weightspace.layout import Layout
from weightspace.networks import build_cnn_s, build_layout
from weightspace.store import Checkpoints, find_weights, list_parts, write_part, write_parts
from weightspace.tokens.views import make_view
from weightspace.weights.align import match_weights
from weightspace.weights.permute import draw_permutations, index_permutations, permute_weights
from weightspace.zoo.config import Choice, Draw, Factors, Fixed, LogUniform
from weightspace.zoo.members import draw_members, initialize_members
from weightspace.zoo.train import train_table

TRAINED, COPIES, EPOCHS = 40, 25, 25
REPEATS = 9
"""The best of so many counts: other work on the machine only ever makes one slower."""
FILES = 1000
"""Checkpoints that are also written one file each; the time for all is theirs in proportion."""
VIEWS = 256
ENCODINGS = [(level, split) for level in (None, 1, 3, 9) for split in (False, True)]
"""Ways to store weights: level of zstd, None for no compression, and whether bytes of one place lie together."""
ENCODED = 250
"""Members that are stored in each of these ways."""
TURNS = 9
"""Of two ways that are compared; a ratio is that of neighbouring turns, and the median over turns counts."""
ALONE = 64
"""Members that are aligned one at a time, and all at once, to compare the two."""
LEAST_GAIN = 1e-9
"""What is gained by less is rounding."""
SEED = 0
CPU = torch.device("cpu")


def measure(encoded: int = ENCODED) -> dict[str, float]:
    """Measure every figure, and print a table of them.

    Args:
        encoded: members that are stored in other ways for a table beside the figures; 0 leaves it out.
    """
    layout = build_layout(build_cnn_s())
    trained = train_weights()
    weights = copy_members(layout, trained)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        figures |= measure_store(layout, weights, Path(folder))
    figures["views_per_s"] = measure_views(layout, weights[:, -1])
    figures["views_over_loop"] = compare_views(layout, weights[:, -1])
    figures["align_1000_s"] = time_best(lambda: match_weights(layout, weights[:, -1], trained[0, -1], SEED), 3)
    figures["align_speedup"] = compare_alignment(layout, weights[:, -1], trained[0, -1])
    figures["align_recovered"] = measure_recovery(layout, trained[:, -1])
    print(f"{len(weights)} members x {weights.shape[1]} epochs of CNN-s, {torch.get_num_threads()} threads")
    for name, value in figures.items():
        print(f"{name:18} {value:12,.4g}")
    if encoded:
        with tempfile.TemporaryDirectory() as folder:
            encodings = measure_encodings(layout, weights[:encoded], Path(folder))
        print(encodings.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    return figures


def train_weights() -> Float32[Tensor, "members checkpoints weights"]:
    """Train members of all kinds on the bundled digits; only those that stay finite count."""
    split = CountSplit(kind="counts", train=1000, val=300, test=300, seed=SEED)
    images = ImagesConfig(
        source=Digits(kind="digits"),
        classes=10,
        side=28,
        fit="resize",
        channels=1,
        split=split,
        normalize=TrainStatistics(kind="train"),
    )
    factors: Factors = {
        "activation": Choice(kind="choice", values=("tanh", "relu")),
        "init": Choice(kind="choice", values=("uniform", "normal", "kaiming_uniform", "kaiming_normal")),
        "optimizer": Choice(kind="choice", values=("adam", "sgd")),
        "lr": LogUniform(kind="log_uniform", low=1e-4, high=1e-2),
        "weight_decay": LogUniform(kind="log_uniform", low=1e-5, high=1e-3),
        "dropout": Fixed(kind="fixed", value=0.0),
        "batch_size": Fixed(kind="fixed", value=32),
        "train_fraction": Fixed(kind="fixed", value=1.0),
    }
    table = draw_members(Draw(kind="draw", count=TRAINED, seed=SEED, factors=factors))
    prepared = prepare_images(build_image_set(images, Path.cwd()), CPU)
    architecture = build_cnn_s()
    initial = initialize_members(architecture, table)
    trajectory = train_table(architecture, table, initial, prepared, EPOCHS, "auto", CPU)
    weights = torch.from_numpy(trajectory.weights)
    return weights[weights.isfinite().all(2).all(1)]


def copy_members(
    layout: Layout, trained: Float32[Tensor, "members checkpoints weights"]
) -> Float32[Tensor, "copies checkpoints weights"]:
    """Make 1,000 members of the trained ones, each copy with an order of its own for all its epochs."""
    generator = torch.Generator().manual_seed(SEED)
    members, checkpoints, num_weights = trained.shape
    chosen = trained[torch.arange(TRAINED * COPIES) % members]
    orders = draw_permutations(layout, len(chosen), generator)
    orders = {name: order.repeat_interleave(checkpoints, 0) for name, order in orders.items()}
    return permute_weights(layout, chosen.flatten(0, 1), orders).reshape(-1, checkpoints, num_weights)


def time_best(run: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several times in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
        del result
    return min(seconds)


def measure_store(
    layout: Layout, weights: Float32[Tensor, "members checkpoints weights"], folder: Path
) -> dict[str, float]:
    """Write the members as Parquet, and read the weights into one tensor in three ways, in turn."""
    checkpoints = lay_out(layout, weights)
    write_parts(folder, checkpoints)
    write_files(layout, weights, folder)
    parts, floor = list_parts(folder), checkpoints.weights.nbytes
    bare, ours = time_reads(parts, layout.num_weights, REPEATS)
    files = time_best(lambda: read_files(layout, folder), 3) * len(checkpoints.table) / FILES
    return {
        "read_over_pyarrow": bare / ours,
        "read_gb_per_s": floor / 1e9 / ours,
        "bytes_over_floor": sum(part.stat().st_size for part in parts) / floor,
        "load_over_files": files / ours,
    }


def lay_out(layout: Layout, weights: Float32[Tensor, "members checkpoints weights"]) -> Checkpoints:
    """Lay members out as the rows of a table."""
    members, checkpoints, num_weights = weights.shape
    table = pd.DataFrame(
        {
            "member": [f"m{i:06d}" for i in range(members) for _ in range(checkpoints)],
            "epoch": np.tile(np.arange(checkpoints), members),
        }
    )
    return Checkpoints(layout, table, weights.reshape(-1, num_weights).numpy())


def time_reads(parts: list[Path], num_weights: int, repeats: int) -> tuple[float, float]:
    """Return the shortest time in seconds of pyarrow's reader, and of ours, which ends with one tensor; in turn."""
    bare: list[float] = []
    ours: list[float] = []
    for _ in range(repeats):
        bare.append(time_best(lambda: pq.read_table(parts, columns=["weights"]), 1))
        ours.append(time_best(lambda: read_tensor(parts, num_weights), 1))
    return min(bare), min(ours)


def read_tensor(parts: list[Path], num_weights: int) -> Float32[Tensor, "checkpoints weights"]:
    """Read all weights."""
    stored = find_weights(parts, num_weights)
    return torch.from_numpy(stored.read(np.arange(stored.num_rows)))


def measure_encodings(
    layout: Layout, weights: Float32[Tensor, "members checkpoints weights"], folder: Path
) -> pd.DataFrame:
    """Store some of the members in other ways, in row groups of one size, and read them."""
    ours, ragged = folder / "ours.parquet", folder / "ragged.parquet"
    checkpoints = lay_out(layout, weights)
    write_part(ours, checkpoints)
    write_part(ragged, checkpoints, ragged=True)
    paths = {"as we store it": ours, "as we store it beside other layouts": ragged}
    table, rows = pq.read_table(ours), pq.read_metadata(ours).row_group(0).num_rows
    for level, split in ENCODINGS:
        name = ("plain" if level is None else f"zstd {level}") + (", byte-stream-split" if split else "")
        pq.write_table(
            table,
            path := folder / f"{level}-{split}.parquet",
            row_group_size=rows,
            compression="none" if level is None else "zstd",
            compression_level=level,
            use_dictionary=False,
            use_byte_stream_split=["weights.list.element"] if split else False,  # pyright: ignore[reportArgumentType]
        )
        paths[name] = path
    found = []
    for name, path in paths.items():
        bare, ours_s = time_reads([path], layout.num_weights, REPEATS)
        floor = checkpoints.weights.nbytes
        found.append((name, path.stat().st_size / floor, floor / 1e9 / ours_s, bare / ours_s))
    return pd.DataFrame(found, columns=["storage", "bytes_over_floor", "read_gb_per_s", "read_over_pyarrow"])


def write_files(layout: Layout, weights: Float32[Tensor, "members checkpoints weights"], folder: Path) -> None:
    """Write checkpoints the usual way: a state dict a file."""
    for i in range(FILES):
        member, epoch = divmod(i, weights.shape[1])
        state = {name: tensor.clone() for name, tensor in layout.split(weights[member, epoch]).items()}
        torch.save(state, folder / f"{i:06d}.pt")


def read_files(layout: Layout, folder: Path) -> Float32[Tensor, "checkpoints weights"]:
    """Read back what `write_files` wrote."""
    return torch.stack([layout.join(torch.load(folder / f"{i:06d}.pt")) for i in range(FILES)])


def measure_views(layout: Layout, weights: Float32[Tensor, "members weights"]) -> float:
    """Count the permuted views that are made in a second."""
    generator = torch.Generator().manual_seed(SEED)
    batch = weights[:VIEWS]
    make_view(layout, batch, generator, permute=True, noise=0.0)
    return VIEWS / time_best(lambda: make_view(layout, batch, generator, permute=True, noise=0.0), 20 * REPEATS)


def compare_turns(theirs: Callable[[], object], ours: Callable[[], object], turns: int = TURNS) -> float:
    """Return how much longer theirs takes than ours, in turns, by processor time of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratios = [time_thread(theirs) / time_thread(ours) for _ in range(turns + 1)]
    finally:
        torch.set_num_threads(threads)
    return float(np.median(ratios[1:]))  # the first turn warms up


def time_thread(run: Callable[[], object]) -> float:
    """Return the processor seconds that this thread spends."""
    start = time.thread_time()
    run()
    return time.thread_time() - start


def compare_views(layout: Layout, weights: Float32[Tensor, "members weights"]) -> float:
    """Compare views made at once with views made one network at a time, each by a list of where its weights come from.

    The lists are drawn beforehand, as published code does.
    """
    generator = torch.Generator().manual_seed(SEED)
    batch = weights[:VIEWS]
    lists = list(index_permutations(layout, draw_permutations(layout, VIEWS, generator)))
    return compare_turns(
        lambda: torch.stack([one[order] for one, order in zip(batch, lists, strict=True)]),
        lambda: make_view(layout, batch, generator, permute=True, noise=0.0),
        10 * TURNS,
    )


def compare_alignment(
    layout: Layout, weights: Float32[Tensor, "members weights"], reference: Float32[Tensor, " weights"]
) -> float:
    """Compare alignment of some members at once, by two descents, with one member at a time and the first descent."""
    batch = weights[:ALONE]
    target = {name: tensor.numpy() for name, tensor in layout.split(reference.double()).items()}
    members = [{name: tensor.numpy() for name, tensor in layout.split(one).items()} for one in batch.double()]
    return compare_turns(
        lambda: [align_alone(layout, dict(member), target) for member in members],
        lambda: match_weights(layout, batch, reference, SEED),
    )


def align_alone(layout: Layout, member: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> None:
    """Align one network as Git Re-Basin is published: an assignment a permutation, until none brings anything.

    Source: Ainsworth et al., Git Re-Basin (arXiv 2209.04836), algorithm 1.
    """
    moved = True
    while moved:
        moved = False
        for name, size in layout.permutation_sizes.items():
            scores, carriers = np.zeros((size, size)), layout.carriers(name)
            for place in carriers:
                axis = place.axes.index(name)
                faces = [np.moveaxis(side[place.name], axis, 0).reshape(size, -1) for side in (reference, member)]
                scores += faces[0] @ faces[1].T
            order = linear_sum_assignment(scores, maximize=True)[1]
            if scores[np.arange(size), order].sum() > scores.trace() + LEAST_GAIN:
                moved = True
                for place in carriers:
                    axis = place.axes.index(name)
                    units = np.moveaxis(member[place.name], axis, 0)
                    blocks = units.reshape(size, -1, *units.shape[1:])[order].reshape(units.shape)
                    member[place.name] = np.moveaxis(blocks, 0, axis)


def measure_recovery(layout: Layout, weights: Float32[Tensor, "members weights"]) -> float:
    """Return the share of 1,000 reordered copies of trained networks that alignment restores to the bit."""
    generator = torch.Generator().manual_seed(SEED + 1)
    restored, trials = 0, 0
    for reference in weights:
        num = -(-TRAINED * COPIES // len(weights))
        planted = permute_weights(layout, reference.expand(num, -1), draw_permutations(layout, num, generator))
        found = permute_weights(layout, planted, match_weights(layout, planted, reference, SEED))
        restored += int((found == reference).all(1).sum())
        trials += num
    return restored / trials
