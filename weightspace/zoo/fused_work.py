"""What the fused CPU engine runs a group of networks with: compiled blocks, buffers, and a job that says on what."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from weightspace.networks import Activation, Architecture, build_layout
from weightspace.zoo import fused_driver as driver
from weightspace.zoo import fused_kernels as kernels
from weightspace.zoo.fused_build import compile_kernel
from weightspace.zoo.fused_source import Convolution, Linear, list_shapes
from weightspace.zoo.fused_tables import ImageTable, lay_rows, make_vectors, pad_width
from weightspace.zoo.fused_vectors import MASK_BYTES, VECTOR_BYTES

NUM_STATE_TABLES = 5
"""Of the state of a group that trains: weights, gradients, two moments, room for gradients."""


@dataclass(frozen=True)
class CompiledBlock:
    """A block of a network: its shape, where its weights begin, and the addresses of its kernels."""

    shape: Convolution | Linear
    dropout: bool
    offset: int
    forward: int
    activate: int
    weight_gradient: int = 0
    input_gradient: int = 0


@dataclass(frozen=True)
class Plan:
    """How networks of one architecture and activation are run."""

    blocks: tuple[CompiledBlock, ...]
    num_weights: int
    num_pixels: int


def build_plan(architecture: Architecture, activation: Activation | None, *, gradients: bool = True) -> Plan:
    """Compile what each block needs, or load it from the cache.

    Args:
        gradients: False leaves out what only training needs.
    """
    layout, blocks = build_layout(architecture), []
    for number, (block, shape) in enumerate(zip(architecture.blocks, list_shapes(architecture), strict=True)):
        backward = {}
        if gradients:
            backward["weight_gradient"] = compile_kernel(kernels.write_weight_gradient(shape))
            backward["input_gradient"] = compile_kernel(kernels.write_input_gradient(shape)) if number else 0
        blocks.append(
            CompiledBlock(
                shape,
                block.dropout,
                layout.layer_slice(number).start,
                compile_kernel(kernels.write_forward(shape)),
                compile_kernel(kernels.write_activate(activation if block.activate else None)),
                **backward,
            )
        )
    return Plan(tuple(blocks), layout.num_weights, int(np.prod(architecture.image_shape)))


class Work:
    """Buffers for one image of a group, the program that uses them, and the job that says on what.

    Args:
        state: the group's weights, and for training the `NUM_STATE_TABLES` tables that begin with them.
    """

    def __init__(self, plan: Plan, state: Float32[np.ndarray, "tables weights lanes"]) -> None:
        self.program = np.zeros((len(plan.blocks), driver.NUM_COLUMNS), np.int64)
        self.job = np.zeros(driver.NUM_FIELDS, np.int64)
        self.kept: dict[int, np.ndarray] = {}
        self.buffers = [make_vectors(pad_width(plan.num_pixels))]
        for block, row in zip(plan.blocks, self.program, strict=True):
            units = block.shape.num_units
            masks = -(-2 * units * MASK_BYTES // VECTOR_BYTES)
            slope, delta, winners, out = (make_vectors(n) for n in (units, units, masks, units))
            row[[driver.FORWARD, driver.WEIGHT_GRADIENT]] = block.forward, block.weight_gradient
            row[[driver.INPUT_GRADIENT, driver.ACTIVATE]] = block.input_gradient, block.activate
            row[[driver.ENTRY, driver.SLOPE, driver.DELTA, driver.WINNERS, driver.OUT]] = [
                array.ctypes.data for array in (self.buffers[-1], slope, delta, winners, out)
            ]
            row[driver.WEIGHTS] = state[0, block.offset :].ctypes.data
            row[driver.GRADIENT] = state[1, block.offset :].ctypes.data if len(state) > 1 else 0
            row[[driver.UNITS, driver.HAS_DROPOUT]] = units, block.dropout
            self.buffers += [slope, delta, winners, out]
        self.set_tables({driver.PROGRAM: self.program, driver.STATE: state})
        self.set_numbers({driver.NUM_BLOCKS: len(plan.blocks), driver.NUM_WEIGHTS: plan.num_weights})

    def set_tables(self, tables: dict[int, np.ndarray]) -> None:
        """Enter tables into the job and keep them alive."""
        for field, table in tables.items():
            assert table.flags.c_contiguous
            self.job[field] = table.ctypes.data
        self.kept |= tables

    def set_numbers(self, numbers: dict[int, int]) -> None:
        """Enter numbers into the job."""
        for field, number in numbers.items():
            self.job[field] = number

    def set_rows(
        self,
        table: ImageTable,
        parts: list[Int64[np.ndarray, " _"]],
        counts: Int32[np.ndarray, " lanes"],
        labels: Int32[np.ndarray, "images lanes"] | None = None,
    ) -> None:
        """Enter the images that lanes see, in this order, with labels of their own or the table's."""
        order = lay_rows(parts)
        self.set_tables(
            {
                driver.IMAGES: table.pixels,
                driver.ORDER: order,
                driver.LABELS: table.labels[order] if labels is None else np.take_along_axis(labels, order, 0),
                driver.COUNTS: counts,
            }
        )
        self.set_numbers(
            {driver.WIDTH: table.pixels.shape[1], driver.LEAST: int(counts.min()), driver.MOST: int(counts.max())}
        )
