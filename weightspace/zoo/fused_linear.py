"""Write the kernels of a linear layer for the fused CPU engine: several features or inputs are summed at once."""

from weightspace.zoo.fused_source import Linear, Source, split_evenly


def write_linear(source: Source, shape: Linear) -> None:
    """Sum over inputs."""
    for start, size, tiles in split_evenly(shape.features, 8):
        with source.loop("tile", tiles):
            source.add(f"feature = {start} + {size} * tile")
            for f in range(size):
                bias = f"load_at(weights, feature, {shape.features * shape.inputs + f})"
                source.add(f"s{f} = {bias if shape.bias else 'zeros()'}")
            with source.loop("i", shape.inputs):
                write_input(source, shape)
                source.add(f"w = feature * {shape.inputs} + i")
                for f in range(size):
                    source.add(f"s{f} = fma(load_at(weights, w, {f * shape.inputs}), x, s{f})")
            source.add(*(f"store(out, feature + {f}, s{f})" for f in range(size)))


def write_input(source: Source, shape: Linear) -> None:
    """Load input `i` as `x`, the mean over its positions."""
    if shape.positions == 1:
        source.add("x = load(entry, i)")
        return
    source.add("x = zeros()")
    with source.loop("position", shape.positions):
        source.add(f"x = x + load(entry, i * {shape.positions} + position)")
    source.add(f"x = x * {1 / shape.positions!r}")


def write_linear_gradient(source: Source, shape: Linear) -> None:
    """Add the products of inputs and output gradients to the gradients of the weights."""
    for start, size, tiles in split_evenly(shape.features, 4):
        with source.loop("tile", tiles):
            source.add(f"feature = {start} + {size} * tile")
            source.add(*(f"d{f} = load_at(delta, feature, {f})" for f in range(size)))
            with source.loop("i", shape.inputs):
                write_input(source, shape)
                source.add(f"w = feature * {shape.inputs} + i")
                for f in range(size):
                    i = f * shape.inputs
                    source.add(f"store(gradient, w + {i}, fma(d{f}, x, load_at(gradient, w, {i})))")


def write_linear_inputs(source: Source, shape: Linear) -> None:
    """Compute the gradient of the inputs."""
    for start, size, tiles in split_evenly(shape.inputs, 8):
        with source.loop("tile", tiles):
            source.add(f"left = {start} + {size} * tile")
            source.add(*(f"s{i} = zeros()" for i in range(size)))
            with source.loop("feature", shape.features):
                source.add("d = load(delta, feature)", f"w = feature * {shape.inputs} + left")
                source.add(*(f"s{i} = fma(d, load_at(weights, w, {i}), s{i})" for i in range(size)))
            if shape.positions == 1:
                source.add(*(f"store(previous, left + {i}, s{i})" for i in range(size)))
                continue
            source.add(*(f"s{i} = s{i} * {1 / shape.positions!r}" for i in range(size)))
            with source.loop("position", shape.positions):
                source.add(
                    *(f"store(previous, (left + {i}) * {shape.positions} + position, s{i})" for i in range(size))
                )
