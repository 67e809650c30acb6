"""Write the kernels of a convolution for the fused CPU engine.

A tile of outputs stays in registers while the kernel walks over channels and rows; the columns of the convolution are
written out, so that LLVM keeps every sum in a register.
"""

from itertools import product

from weightspace.zoo.fused_source import NUM_REGISTERS, POOL, Convolution, Source, split_evenly

FEATURES_AT_ONCE, GRADIENTS_AT_ONCE, INPUTS_AT_ONCE = (5, 25, 20) if NUM_REGISTERS == 32 else (2, 6, 8)
"""Features have four sums each, gradients and inputs one; what is left of the registers holds what is multiplied."""


def write_convolution(source: Source, shape: Convolution) -> None:
    """Sum and, where the block pools, keep maxima."""
    for start, size, tiles in split_evenly(shape.features, FEATURES_AT_ONCE):
        for left, wide, steps in split_evenly(shape.columns * shape.edge, POOL if shape.pool else 4):
            with source.loop("tile", tiles), source.loop("row", shape.rows), source.loop("step", steps):
                source.add(f"feature = {start} + {size} * tile", f"column = {left} + {wide} * step")
                write_tile(source, shape, size, wide)
                write_outputs(source, shape, size, wide)


def write_tile(source: Source, shape: Convolution, size: int, wide: int) -> None:
    """Sum the convolution for some features at `edge` rows by `wide` columns, in `s{feature}_{row}_{column}`."""
    spots = list(product(range(shape.edge), range(wide)))
    kernel, stride = shape.kernel, shape.stride
    for f in range(size):
        bias = f"load_at(weights, feature, {shape.features * shape.weights_per_feature + f})"
        source.add(f"s{f}_0_0 = {bias if shape.bias else 'zeros()'}")
        source.add(*(f"s{f}_{r}_{c} = s{f}_0_0" for r, c in spots[1:]))
    with source.loop("channel", shape.channels), source.loop("y", kernel):
        source.add(
            f"x = (channel * {shape.height} + row * {shape.pitch} + y) * {shape.width} + column * {stride}",
            f"w = ((feature * {shape.channels}) + channel) * {kernel**2} + y * {kernel}",
        )
        loaded: set[int] = set()
        for k in range(kernel):
            new = [k + c * stride for c in range(wide) if k + c * stride not in loaded]
            loaded.update(new)
            for r, c in product(range(shape.edge), new):
                source.add(f"x{r}_{c} = load_at(entry, x, {r * stride * shape.width + c})")
            for f in range(size):
                source.add(f"v = load_at(weights, w, {f * shape.weights_per_feature + k})")
                source.add(*(f"s{f}_{r}_{c} = fma(v, x{r}_{k + c * stride}, s{f}_{r}_{c})" for r, c in spots))


def write_outputs(source: Source, shape: Convolution, size: int, wide: int) -> None:
    """Store the sums of a tile, or their maximum and which it was."""
    for f in range(size):
        place = f"((feature + {f}) * {shape.rows} + row) * {shape.columns}"
        if not shape.pool:
            source.add(*(f"store(out, {place} + column + {c}, s{f}_0_{c})" for c in range(wide)))
            continue
        source.add(
            f"i = {place} + step",
            f"right_up, right_down = s{f}_0_1 > s{f}_0_0, s{f}_1_1 > s{f}_1_0",
            f"up = select(right_up, s{f}_0_1, s{f}_0_0)",
            f"down = select(right_down, s{f}_1_1, s{f}_1_0)",
            "lower = down > up",
            "store(out, i, select(lower, down, up))",
            "store_mask(winners, 2 * i, lower)",
            "store_mask(winners, 2 * i + 1, select_mask(lower, right_down, right_up))",
        )


def write_convolution_gradient(source: Source, shape: Convolution) -> None:
    """Add to the gradients of the weights, some rows of one kernel at a time."""
    with source.loop("feature", shape.features), source.loop("channel", shape.channels):
        source.add(f"w = (feature * {shape.channels} + channel) * {shape.kernel**2}")
        for top, tall, tiles in split_evenly(shape.kernel, max(1, GRADIENTS_AT_ONCE // shape.kernel)):
            with source.loop("tile", tiles):
                source.add(f"top = {top} + {tall} * tile")
                write_gradient_tile(source, shape, tall)


def write_gradient_tile(source: Source, shape: Convolution, tall: int) -> None:
    """Sum the gradients of `tall` rows of one kernel over all positions.

    Under pooling only the winner has a gradient. Its row is chosen by selecting between inputs, its column by splitting
    the gradient in two, of which one is zero: where multiplying is as cheap as selecting, that is the least work.
    """
    across, stride = range(shape.kernel), shape.stride
    cells = list(product(range(tall), across))
    source.add(*(f"s{r}_{c} = zeros()" for r, c in cells))
    with source.loop("row", shape.rows), source.loop("column", shape.columns):
        source.add(
            f"i = (feature * {shape.rows} + row) * {shape.columns} + column",
            "d = load(delta, i)",
            f"x = (channel * {shape.height} + row * {shape.pitch} + top) * {shape.width} + column * {shape.pitch}",
        )
        if not shape.pool:
            source.add(*(f"s{r}_{c} = fma(d, load_at(entry, x, {r * shape.width + c}), s{r}_{c})" for r, c in cells))
        else:
            source.add("lower, right = load_mask(winners, 2 * i), load_mask(winners, 2 * i + 1)")
            source.add("d0, d1 = select(right, zeros(), d), select(right, d, zeros())")
            for r in range(tall):
                # Inputs are selected just before they are used, so that few are held at once.
                selected: set[int] = set()
                for c in across:
                    for k in sorted({c, c + stride} - selected):
                        i = r * shape.width + k
                        upper, below = f"load_at(entry, x, {i})", f"load_at(entry, x, {i + stride * shape.width})"
                        source.add(f"x{k} = select(lower, {below}, {upper})")
                        selected.add(k)
                    source.add(f"s{r}_{c} = fma(d1, x{c + stride}, fma(d0, x{c}, s{r}_{c}))")
    source.add(f"at = w + top * {shape.kernel}")
    for r, c in cells:
        i = r * shape.kernel + c
        source.add(f"store(gradient, at + {i}, load_at(gradient, at, {i}) + s{r}_{c})")


def write_convolution_inputs(source: Source, shape: Convolution) -> None:
    """Compute the gradient of the inputs, some rows of the patch that one output saw at a time."""
    area, tall = shape.height * shape.width, max(1, INPUTS_AT_ONCE // shape.patch)
    with source.loop("channel", shape.channels):
        source.add(f"plane = channel * {area}")
        with source.loop("i", area):
            source.add("store(previous, plane + i, zeros())")
        with source.loop("row", shape.rows), source.loop("column", shape.columns):
            source.add(f"x = plane + row * {shape.pitch * shape.width} + column * {shape.pitch}")
            for top in range(0, shape.patch, tall):
                write_patch(source, shape, range(top, min(top + tall, shape.patch)))


def write_patch(source: Source, shape: Convolution, rows: range) -> None:
    """Add to some rows of the patch of inputs that one output saw, summed over features.

    Under pooling the output's gradient goes to the winner: its row is chosen by selecting between rows of the kernel,
    its column by splitting the gradient in two.
    """
    cells = list(product(rows, range(shape.patch)))
    source.add(*(f"s{r}_{c} = zeros()" for r, c in cells))
    with source.loop("feature", shape.features):
        source.add(
            f"i = (feature * {shape.rows} + row) * {shape.columns} + column",
            "d = load(delta, i)",
            f"w = (feature * {shape.channels} + channel) * {shape.kernel**2}",
        )
        if shape.pool:
            source.add("lower, right = load_mask(winners, 2 * i), load_mask(winners, 2 * i + 1)")
            source.add("d0, d1 = select(right, zeros(), d), select(right, d, zeros())")
        for r in rows:
            write_patch_row(source, shape, r)
    for r, c in cells:
        i = r * shape.width + c
        source.add(f"store(previous, x + {i}, load_at(previous, x, {i}) + s{r}_{c})")


def write_patch_row(source: Source, shape: Convolution, r: int) -> None:
    """Add one feature's share to one row of a patch."""
    kernel, stride = shape.kernel, shape.stride
    if not shape.pool:
        source.add(*(f"s{r}_{k} = fma(d, load_at(weights, w, {r * kernel + k}), s{r}_{k})" for k in range(kernel)))
        return
    for k in range(kernel):
        here = f"load_at(weights, w, {r * kernel + k})" if r < kernel else "zeros()"
        above = f"load_at(weights, w, {(r - stride) * kernel + k})" if r >= stride else "zeros()"
        source.add(
            f"v = select(lower, {above}, {here})",
            f"s{r}_{k} = fma(d0, v, s{r}_{k})",
            f"s{r}_{k + stride} = fma(d1, v, s{r}_{k + stride})",
        )
