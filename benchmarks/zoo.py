"""Training zoos: each engine against one process per core and against the style of published generators.

Rates are images x members per second of processor time on all cores, so that other work on the machine takes little
away from them: work done, over the processor seconds it took, times the number of cores.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from functools import partial
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.dated import REPORTS, write_report
from benchmarks.pipeline import CHECKOUT
from benchmarks.zoo_gpu import measure_seed_zoo
from weightspace.config import BadInput
from weightspace.images.image_set import PreparedImages
from weightspace.networks import (
    Architecture,
    build_cnn_l,
    build_cnn_s,
    build_layout,
    build_small_cnn,
    trace_shapes,
)
from weightspace.zoo import torch_engine
from weightspace.zoo.evaluate import iterate_logits
from weightspace.zoo.fused_build import compile_function
from weightspace.zoo.fused_cpu import Group, Run, train_members_fused
from weightspace.zoo.fused_predict import predict_logits_fused
from weightspace.zoo.fused_source import HEADER, list_shapes
from weightspace.zoo.fused_tables import make_vectors
from weightspace.zoo.fused_vectors import LANES
from weightspace.zoo.fused_work import Work
from weightspace.zoo.training import Recipe, make_trajectory

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ROUNDS, COST_ROUNDS = 5, 3
WARM_UP_STEPS, STEPS = 5, 60
NUM_IMAGES = 1437
"""As many as digits has to train on: with fewer, what an epoch costs whatever its length would count too much."""
PEAK_SUMS, PEAK_VECTORS = 12, 200_000
CASES = {
    "cnn_s_b10": (build_cnn_s(), 10),
    "cnn_s_b32": (build_cnn_s(), 32),
    "cnn_l": (build_cnn_l(), 10),
    "small_cnn": (build_small_cnn(), 10),
}
"""Networks and batch sizes, with tanh and Adam as in the published seed zoos."""
GPU_CASE = "mnist_seed"
"""The whole published zoo, on a GPU."""


@dataclass(frozen=True)
class Rate:
    """Images x members per second of processor time on all cores, over rounds."""

    median: float
    low: float
    high: float


def measure(cases: str = "", rounds: int = ROUNDS, reports: str = REPORTS) -> dict[str, float]:
    """Measure every figure, print a table of them, and add them to the report of this day.

    Args:
        cases: which of `CASES`, with commas between; without it all, and `GPU_CASE` where there is a GPU.
        rounds: turns that each way to train gets.
        reports: folder of the report, from the top of the checkout; empty for none.

    Raises:
        BadInput: no such case, no round, or no such folder.
    """
    names = choose_cases(cases, torch.cuda.is_available())
    chosen = {name: case for name, case in CASES.items() if name in names}
    if rounds < 1:
        raise BadInput(f"--rounds: got {rounds}, wanted 1 or more")
    folder = CHECKOUT / reports
    if not folder.is_dir():
        raise BadInput(f"--reports: got {reports!r}, but there is no folder {folder}")
    figures: dict[str, float] = {}
    kept: dict[str, Any] = {"rounds": rounds, "columns": ["median", "lowest", "highest"], "images_x_members_per_s": {}}
    print(f"{CORES} cores\n")
    print(f"{'network':<10} {'how':<24} {'images x members / s':>20} {'spread':>19} {'over baseline':>14}")
    with multiprocessing.get_context("spawn").Pool(CORES, torch.set_num_threads, (1,)) as pool:
        for case, (architecture, batch_size) in chosen.items():
            rates, peak = measure_case(pool, architecture, batch_size, rounds)
            baseline = rates["one process per core"].median
            for how, rate in rates.items():
                spread = f"{rate.low:,.0f}-{rate.high:,.0f}"
                print(f"{case:<10} {how:<24} {rate.median:>20,.0f} {spread:>19} {rate.median / baseline:>13.1f}x")
            figures[f"{case}_over_baseline"] = rates["fused_cpu"].median / baseline
            figures[f"{case}_over_reference"] = rates["fused_cpu"].median / rates["data loader"].median
            figures[f"{case}_per_s"] = rates["fused_cpu"].median
            fraction = rates["fused_cpu"].median / CORES * count_flops(architecture) / peak
            figures[f"{case.removesuffix('_b10')}_peak_fraction"] = fraction
            kept["images_x_members_per_s"][case] = {how: [*map(round, astuple(rate))] for how, rate in rates.items()}
            kept[f"{case}_peak_gflops"] = round(peak / 1e9, 1)
            print(f"{case:<10} one core's peak in multiply-adds: {peak / 1e9:.0f} GFLOP/s, of which {fraction:.0%}")
    turns = range(min(rounds, COST_ROUNDS))
    figures["cost_4096_over_16"] = statistics.median(measure_cost(4096) / measure_cost(16) for _ in turns)
    figures["logits_over_torch"] = measure_logits(rounds)
    if GPU_CASE in names:
        figures |= measure_seed_zoo(count_flops(build_cnn_s()))
    print()
    for name, value in figures.items():
        print(f"{name:<28} {value:>12,.2f}")
    if reports:
        print(f"\nreport: {write_report('zoo', folder, {**kept, 'figures': figures})}")
    return figures


def choose_cases(names: str, gpu: bool) -> list[str]:
    """Find the names of some of the cases, or all that the machine can do.

    Raises:
        BadInput: there is no such case, or it wants a GPU and there is none.
    """
    if not names:
        return [*CASES, *([GPU_CASE] if gpu else [])]
    chosen = names.split(",")
    unknown = set(chosen) - {*CASES, GPU_CASE}
    if unknown:
        raise BadInput(f"--cases: got {', '.join(sorted(unknown))!r}, wanted some of {','.join([*CASES, GPU_CASE])}")
    if GPU_CASE in chosen and not gpu:
        raise BadInput(f"--cases: got {GPU_CASE!r}, which wants a CUDA device, and torch finds none")
    return chosen


def measure_case(pool: Pool, architecture: Architecture, batch_size: int, rounds: int) -> tuple[dict[str, Rate], float]:
    """Measure every way to train, and a core's peak, taking turns so that all meet the same weather."""
    fused = prepare_fused(architecture, batch_size)
    ways: dict[str, Callable[[], float]] = {
        "data loader": partial(measure_processes, pool, train_from_loader, architecture, batch_size),
        "one process per core": partial(measure_processes, pool, train_preloaded, architecture, batch_size),
        "torch": partial(measure_torch, architecture, batch_size),
        "fused_cpu": partial(measure_fused, fused),
    }
    samples: dict[str, list[float]] = {how: [] for how in ways}
    peaks = []
    for _ in range(rounds):
        for how, run in ways.items():
            samples[how].append(run())
        peaks.append(measure_peak())
    rates = {how: Rate(float(np.median(values)), min(values), max(values)) for how, values in samples.items()}
    return rates, float(np.median(peaks))


def make_images(architecture: Architecture) -> PreparedImages:
    """Draw random images; what they show changes no time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(NUM_IMAGES, *architecture.image_shape, generator=generator)
    labels = torch.randint(architecture.num_classes, (NUM_IMAGES,), generator=generator)
    return PreparedImages(images, labels, images[:16], labels[:16], images[:16], labels[:16])


def make_recipe(members: int, batch_size: int) -> Recipe:
    """Give every member tanh, Adam and a seed of its own."""
    same = np.ones(members)
    count = np.full(members, NUM_IMAGES)
    return Recipe("tanh", "adam", batch_size, np.arange(members), 1e-3 * same, 0 * same, 0 * same, count)


def draw_weights(architecture: Architecture, members: int) -> torch.Tensor:
    """Draw small random weights."""
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(members, build_layout(architecture).num_weights, generator=generator)


def build_module(architecture: Architecture) -> nn.Module:
    """Build one network as its author would."""
    layers: list[nn.Module] = []
    for block, (channels, height, width) in zip(architecture.blocks, trace_shapes(architecture), strict=False):
        if block.kind == "conv":
            layers.append(nn.Conv2d(channels, block.features, block.kernel, block.stride))
        elif block.average:
            layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, block.features)]
        else:
            layers += [nn.Flatten(), nn.Linear(channels * height * width, block.features)]
        layers += [nn.MaxPool2d(2)] if block.pool else []
        layers += [nn.Tanh()] if block.activate else []
    return nn.Sequential(*layers)


def train_preloaded(architecture: Architecture, batch_size: int) -> float:
    """Train one network from tensors in memory with the fused optimizer; return images per processor second."""
    data, module = make_images(architecture), build_module(architecture)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
    start = 0.0
    for step in range(WARM_UP_STEPS + STEPS):
        if step == WARM_UP_STEPS:
            start = time.process_time()
        chosen = torch.randint(NUM_IMAGES, (batch_size,))
        optimizer.zero_grad()
        F.cross_entropy(module(data.train[chosen]), data.train_labels[chosen]).backward()
        optimizer.step()
    return STEPS * batch_size / (time.process_time() - start)


def train_from_loader(architecture: Architecture, batch_size: int) -> float:
    """Train one network as the published generators do; return images per processor second."""
    data, module = make_images(architecture), build_module(architecture)
    loader = DataLoader(TensorDataset(data.train, data.train_labels), batch_size=batch_size, shuffle=True)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    seconds = 0.0
    for epoch in range(2):  # the first warms up
        start = time.process_time()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(module(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()
        seconds = time.process_time() - start if epoch else seconds
    return NUM_IMAGES / seconds


def measure_processes(
    pool: Pool, train: Callable[[Architecture, int], float], architecture: Architecture, batch_size: int
) -> float:
    """Run one process a core at the same time and add up their rates."""
    return sum(pool.starmap(train, [(architecture, batch_size)] * CORES, chunksize=1))


def measure_torch(architecture: Architecture, batch_size: int) -> float:
    """Train sixteen members for a few steps with the torch engine."""
    recipe = replace(make_recipe(LANES, batch_size), num_train=np.full(LANES, 4 * batch_size))
    group = torch_engine.Group(architecture, recipe, draw_weights(architecture, LANES), make_images(architecture), 2)
    group.train_epoch(1)
    start = time.process_time()
    group.train_epoch(2)
    return LANES * 4 * batch_size / (time.process_time() - start) * CORES


def prepare_fused(architecture: Architecture, batch_size: int) -> list[tuple[Group, Work]]:
    """Set up two groups a core for the fused engine."""
    members = 2 * CORES * LANES
    recipe, weights = make_recipe(members, batch_size), draw_weights(architecture, members)
    run = Run(architecture, recipe, weights, make_images(architecture), 1)
    groups = [Group(run, np.arange(i, i + LANES)) for i in range(0, members, LANES)]
    return [(group, Work(run.plan, group.state)) for group in groups]


def measure_fused(prepared: list[tuple[Group, Work]]) -> float:
    """Train all groups for an epoch, on all cores."""
    with ThreadPoolExecutor(CORES) as pool:
        start = time.process_time()
        list(pool.map(lambda pair: pair[0].train_epoch(1, pair[1]), prepared))
        seconds = time.process_time() - start
    return len(prepared) * LANES * NUM_IMAGES / seconds * CORES


def measure_cost(members: int) -> float:
    """Return processor seconds a member for a whole call of the engine: set-up, an epoch, evaluation, results.

    Few members are called for many times.
    """
    architecture = build_cnn_s()
    images, recipe, weights = make_images(architecture), make_recipe(members, 10), draw_weights(architecture, members)
    calls = max(1, 512 // members)
    start = time.process_time()
    for _ in range(calls):
        kept = make_trajectory(members, 2, weights.shape[1])
        train_members_fused(architecture, recipe, weights, images, 1, torch.device("cpu"), kept.keep)
    return (time.process_time() - start) / calls / members


def measure_logits(rounds: int) -> float:
    """Return how many times faster than torch's batched operations networks of CNN-s are run on the same images."""
    architecture = build_cnn_s()
    weights, images = draw_weights(architecture, 8 * LANES), make_images(architecture).train
    ways: dict[str, Callable[[], object]] = {
        "torch": lambda: list(iterate_logits(architecture, weights, "tanh", images)),
        "fused": lambda: predict_logits_fused(architecture, weights, "tanh", images),
    }
    seconds: dict[str, list[float]] = {how: [] for how in ways}
    for _ in range(rounds + 1):
        for how, run in ways.items():
            start = time.process_time()
            run()
            seconds[how].append(time.process_time() - start)
    torch_s, fused_s = (float(np.median(seconds[how][1:])) for how in ways)  # the first warms up
    return torch_s / fused_s


def count_flops(architecture: Architecture) -> float:
    """Count operations to train on one image, a multiply-add as two; backward through a maximum only the winner."""
    total = 0
    for number, shape in enumerate(list_shapes(architecture)):
        outputs, positions = shape.num_units, shape.edge**2
        total += shape.weights_per_feature * outputs * (positions + (2 if number else 1))
    return 2.0 * total


def measure_peak() -> float:
    """Measure float32 operations per second of one core that does nothing but fused multiply-adds."""
    sums = [f"s{i}" for i in range(PEAK_SUMS)]
    lines = [*(f"{s} = load(table, {i})" for i, s in enumerate(sums)), "for _ in range(number):"]
    lines += [
        *(f"    {s} = fma({s}, 0.999, 0.001)" for s in sums),
        *(f"store(table, {i}, {s})" for i, s in enumerate(sums)),
    ]
    text = HEADER + "def kernel(table, number):\n" + "".join(f"    {line}\n" for line in lines)
    kernel, table, best = compile_function(text, "kernel").call, make_vectors(PEAK_SUMS), 0.0
    for _ in range(20):
        start = time.thread_time()
        kernel(table.ctypes.data, PEAK_VECTORS)
        best = max(best, 2 * PEAK_SUMS * LANES * PEAK_VECTORS / (time.thread_time() - start))
    return best
