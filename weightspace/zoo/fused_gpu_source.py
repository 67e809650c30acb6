"""Write the Python source of the two kernels that train and evaluate an architecture in the fused GPU engine."""

import inspect

from weightspace.networks import Activation, Architecture
from weightspace.zoo import fused_gpu_kernels
from weightspace.zoo.config import TrainMetrics
from weightspace.zoo.fused_source import Convolution, Linear, list_shapes
from weightspace.zoo.training import Optimizer

HEADER = inspect.getsource(fused_gpu_kernels) + "\n\n"
"""A generated module holds all it calls: Triton wants plain functions, which an import hook may have wrapped."""
# Sizes that depend on the other members of a launch must not change the code: Triton would compile 1 and multiples of
# 16 apart, and might round otherwise.
TRAIN = """\
@triton.jit(do_not_specialize=["rows", "most", "room"])
def train(pixels, order, labels, counts, schedule, words, state, scratch, result, rows, most, room):
    member = tl.program_id(0).to(tl.int64)
    weights = state + member * {state}
    order += member * rows
    labels += member * rows
    count = tl.load(counts + member * 3)
    batch = tl.load(counts + member * 3 + 1)
    done = tl.load(counts + member * 3 + 2)
    base = tl.load(words + member * 3).to(tl.uint32, bitcast=True)
    threshold = tl.load(words + member * 3 + 1).to(tl.uint32, bitcast=True)
    factor = tl.load(words + member * 3 + 2).to(tl.float32, bitcast=True)
    work = scratch + member * room * {units}
    loss = tl.zeros([{tile}], tl.float64)
    right = tl.zeros([{tile}], tl.float64)
    for step in range(0, (count + batch - 1) // batch):
        images = order + step * batch
        size = tl.minimum(batch, count - step * batch)
        key = mix_bits(tl.full([1], 0, tl.uint32) + base + (step + done).to(tl.uint32))
        numbers = schedule + (member * most + step) * 4
"""
EVALUATE = """\
@triton.jit(do_not_specialize=["rows", "room"])
def evaluate(pixels, order, labels, counts, state, scratch, result, rows, room):
    member = tl.program_id(0).to(tl.int64)
    weights = state + member * {state}
    order += member * rows
    labels += member * rows
    count = tl.load(counts + member * 3)
    work = scratch + member * room * {units}
    key, threshold, factor = 0, 0, 0.0
    loss = tl.zeros([{tile}], tl.float64)
    right = tl.zeros([{tile}], tl.float64)
    for begin in range(0, count, {tile}):
        images = order + begin
        size = tl.minimum({tile}, count - begin)
"""
STORE = """\
    tl.store(result + member * 2, tl.sum(loss, 0))
    tl.store(result + member * 2 + 1, tl.sum(right, 0))
"""
TILE, BLOCK, TALL, WIDE = 16, 256, 16, 32
"""Images evaluated at once; lanes of a phase; weights by positions of a gradient's tile."""


class Plan:
    """Where a member's numbers lie: offsets of weights, and of each block's tables within the scratch of one image."""

    def __init__(self, architecture: Architecture) -> None:
        self.shapes = list_shapes(architecture)
        self.offsets, self.places, self.means = [], [], []
        self.num_weights = self.units = 0
        for shape in self.shapes:
            self.offsets.append(self.num_weights)
            self.num_weights += shape.features * (shape.weights_per_feature + shape.bias)
            self.places.append(self.units)
            self.units += 3 * shape.num_units
            self.means.append(self.units)
            if isinstance(shape, Linear) and averages(shape):
                self.units += 2 * shape.inputs

    def table(self, block: int, number: int) -> str:
        """Say where outputs (0), slopes or gradients (1) or winners (2) of a block lie."""
        return f"work + room * {self.places[block] + number * self.shapes[block].num_units}"

    def mean(self, block: int, number: int) -> str:
        """Say where averaged inputs of a block (0) or their gradients (1) lie."""
        shape = self.shapes[block]
        assert isinstance(shape, Linear)
        return f"work + room * {self.means[block] + number * shape.inputs}"

    def entry(self, block: int) -> str:
        """Say where a block's inputs lie."""
        if averages(self.shapes[block]):
            return self.mean(block, 0)
        return self.table(block - 1, 0) if block else "pixels"

    def is_first(self, block: int) -> bool:
        """Say whether a block's inputs are images of the whole set."""
        return block == 0 and not averages(self.shapes[block])


def averages(shape: Convolution | Linear) -> bool:
    """Say whether a block averages over the image first."""
    return isinstance(shape, Linear) and shape.positions > 1


def describe(shape: Convolution | Linear) -> str:
    """Write channels, height, width, features, kernel, stride, edge, rows, columns; a linear block is 1x1."""
    if isinstance(shape, Linear):
        return f"{shape.inputs}, 1, 1, {shape.features}, 1, 1, 1, 1, 1"
    window = shape.features, shape.kernel, shape.stride, shape.edge, shape.rows, shape.columns
    return ", ".join(map(str, (shape.channels, shape.height, shape.width, *window)))


def write_forward(plan: Plan, architecture: Architecture, activation: Activation | None, drops: bool) -> list[str]:
    """Write the calls that compute the logits."""
    lines = []
    for number, (block, shape) in enumerate(zip(architecture.blocks, plan.shapes, strict=True)):
        if isinstance(shape, Linear) and averages(shape):
            source = plan.table(number - 1, 0) if number else "pixels"
            sizes = f"{shape.inputs}, {shape.positions}, {number == 0}, {BLOCK}"
            lines.append(f"average({source}, images, {plan.mean(number, 0)}, size, {sizes})")
        tables = ", ".join(plan.table(number, table) for table in range(3))
        lines.append(
            f"run_block({plan.entry(number)}, images, weights + {plan.offsets[number]}, {tables}, size, key, "
            f"threshold, factor, {describe(shape)}, {shape.bias}, {plan.is_first(number)}, "
            f"{(activation if block.activate else None)!r}, {drops and block.dropout}, {number << 16}, {BLOCK})"
        )
    return lines


def write_backward(plan: Plan) -> list[str]:
    """Write the calls that compute the gradients, last block first."""
    lines = []
    for number in range(len(plan.shapes) - 1, -1, -1):
        shape = plan.shapes[number]
        delta, winners = plan.table(number, 1), plan.table(number, 2)
        gradient = f"weights + {plan.num_weights + plan.offsets[number]}"
        lines.append(
            f"sum_gradient({plan.entry(number)}, images, {gradient}, {delta}, {winners}, size, {describe(shape)}, "
            f"{shape.bias}, {plan.is_first(number)}, {TALL}, {WIDE})"
        )
        if number == 0:
            continue
        before = plan.table(number - 1, 1)
        target = plan.mean(number, 1) if averages(shape) else before
        inputs = f"weights + {plan.offsets[number]}, {delta}, {winners}, {target}, size, {describe(shape)}"
        lines.append(f"differentiate_inputs({inputs}, {not averages(shape)}, {BLOCK})")
        if isinstance(shape, Linear) and averages(shape):
            lines.append(f"spread({target}, {before}, size, {shape.inputs}, {shape.positions}, {BLOCK})")
    return lines


def write_train(
    architecture: Architecture,
    activation: Activation | None,
    optimizer: Optimizer,
    drops: bool,
    metrics: TrainMetrics = "after",
) -> str:
    """Write `train`: a program takes one member through its images once, and measures it `during` that."""
    plan = Plan(architecture)
    last, number = len(plan.shapes) - 1, plan.num_weights
    loss = f"{plan.table(last, 0)}, {plan.table(last, 1)}, labels + step * batch, size, {architecture.num_classes}"
    tables = ", ".join(f"weights + {i * number}" for i in range(4))
    numbers = ", ".join(f"tl.load(numbers + {i})" for i in range(4))
    lines = [
        *write_forward(plan, architecture, activation, drops),
        *([write_measure(plan, architecture, "labels + step * batch")] if metrics == "during" else []),
        f"differentiate_loss({loss}, {TILE})",
        *write_backward(plan),
        f"update({tables}, {numbers}, {number}, {optimizer!r}, {BLOCK})",
    ]
    return HEADER + TRAIN.format(state=4 * number, units=plan.units, tile=TILE) + indent(lines) + STORE


def write_evaluate(architecture: Architecture, activation: Activation | None) -> str:
    """Write `evaluate`: a program sums one member's losses and counts its right answers."""
    plan = Plan(architecture)
    lines = [
        *write_forward(plan, architecture, activation, False),
        write_measure(plan, architecture, "labels + begin"),
    ]
    return HEADER + EVALUATE.format(state=4 * plan.num_weights, units=plan.units, tile=TILE) + indent(lines) + STORE


def write_measure(plan: Plan, architecture: Architecture, labels: str) -> str:
    """Write the call that adds losses and right answers of the images at hand."""
    logits = plan.table(len(plan.shapes) - 1, 0)
    return f"loss, right = measure_loss({logits}, {labels}, size, loss, right, {architecture.num_classes}, {TILE})"


def indent(lines: list[str]) -> str:
    """Put calls into the loop of a kernel."""
    return "".join(f"        {line}\n" for line in lines)
