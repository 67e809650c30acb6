"""Write every kernel that an architecture, an activation or an optimizer needs in the fused CPU engine.

A kernel works on one image of a group of members. Values are vectors, a lane a member; tables of values are addresses.
"""

from weightspace.networks import Activation
from weightspace.zoo.fused_convolution import (
    write_convolution,
    write_convolution_gradient,
    write_convolution_inputs,
)
from weightspace.zoo.fused_linear import write_linear, write_linear_gradient, write_linear_inputs
from weightspace.zoo.fused_source import Convolution, Linear, Source
from weightspace.zoo.training import Optimizer

ACTIVATIONS: dict[Activation | None, tuple[str, ...]] = {
    None: ("y = x", "slope = zeros() + 1.0"),
    "tanh": ("y = tanh(x)", "slope = 1.0 - y * y"),
    "relu": ("y = select(x < 0.0, 0.0, x)", "slope = select(x > 0.0, 1.0, zeros())"),
    "sigmoid": ("y = sigmoid(x)", "slope = y * (1.0 - y)"),
    "leaky_relu": ("slope = select(x > 0.0, 1.0, zeros() + 0.01)", "y = x * slope"),
    "silu": ("s = sigmoid(x)", "y = x * s", "slope = s * fma(x, 1.0 - s, 1.0)"),
    "gelu": (
        "size = absolute(x)",
        "density = exp_negative(-0.5 * size * size)",
        "tail = normal_tail(size, density)",
        "below = select(x < 0.0, tail, 1.0 - tail)",
        "y = x * below",
        "slope = fma(x * 0.398942280401432678, density, below)",
    ),
}
"""How to compute an activation and its slope, with `y` and `slope` from `x`."""
COUPLED = ("g = fma(decay, w, g)",)
MOMENTS = (
    "m = fma(g - m, share, m)",
    "v = fma(g * g, 0.001, 0.999 * v)",
    "w = w - rate * m / fma(sqrt(v), root, 1.0e-8)",
)
OPTIMIZERS: dict[Optimizer, tuple[str, ...]] = {
    "sgd": (*COUPLED, "m = fma(share, m, g)", "w = w - rate * m"),
    "rmsprop": (
        *COUPLED,
        "v = fma(g * g, 0.01, 0.99 * v)",
        "m = fma(share, m, g / (sqrt(v) + 1.0e-8))",
        "w = w - rate * m",
    ),
    "adam": (*COUPLED, *MOMENTS),
    "adamw": ("w = w * decay", *MOMENTS),
}
"""How to change weight `w` and moments `m`, `v` by gradient `g`. Source: torch.optim with its default settings.

`share` is of the first moment and stays; with Adam it is of the gradient and enters.
"""


def write_forward(shape: Convolution | Linear) -> str:
    """Write `kernel(weights, entry, out, winners)`: outputs before the activation, pooled.

    Of each pooled output the winner is kept as two masks: lower row, right column. The first of equals wins.
    """
    source = Source("weights, entry, out, winners")
    if isinstance(shape, Linear):
        write_linear(source, shape)
    else:
        write_convolution(source, shape)
    return source.text()


def write_weight_gradient(shape: Convolution | Linear) -> str:
    """Write `kernel(gradient, entry, delta, winners)`: add to the gradients of weights and bias."""
    source = Source("gradient, entry, delta, winners")
    if isinstance(shape, Linear):
        write_linear_gradient(source, shape)
    else:
        write_convolution_gradient(source, shape)
    if not shape.bias:
        return source.text()
    outputs = shape.num_units // shape.features
    with source.loop("feature", shape.features):
        source.add(f"i = {shape.features * shape.weights_per_feature} + feature", "s = load(gradient, i)")
        with source.loop("position", outputs):
            source.add(f"s = s + load(delta, feature * {outputs} + position)")
        source.add("store(gradient, i, s)")
    return source.text()


def write_input_gradient(shape: Convolution | Linear) -> str:
    """Write `kernel(weights, delta, previous, winners)`: the gradient of the inputs."""
    source = Source("weights, delta, previous, winners")
    if isinstance(shape, Linear):
        write_linear_inputs(source, shape)
    else:
        write_convolution_inputs(source, shape)
    return source.text()


def write_activate(activation: Activation | None) -> str:
    """Write the kernel that turns sums into outputs and, in their place, slopes; with dropout where `drops` is 1."""
    source = Source("sums, out, units, keys, dropout, base, drops")
    source.add("key, threshold, factor = load_words(keys, 0), load_words(dropout, 0), load(dropout, 1)")
    with source.loop("i", "units"):
        source.add("x = load(sums, i)", *ACTIVATIONS[activation])
        source.add("if drops:")
        source.add("    kept = select(mix_bits(key + repeat_word(base | i)) >= threshold, factor, zeros())")
        source.add("    y, slope = y * kept, slope * kept")
        source.add("store(out, i, y)", "store(sums, i, slope)")
    return source.text()


def write_update(optimizer: Optimizer) -> str:
    """Write the kernel that changes the weights of lanes that are active and clears their gradients."""
    lines = OPTIMIZERS[optimizer]
    tables = {"w": "weights", "m": "first", "v": "second"}
    changed = [name for name in tables if any(line.startswith(f"{name} =") for line in lines)]
    source = Source("weights, gradient, first, second, number, factors, active")
    source.add("rate, decay, root, share = load(factors, 0), load(factors, 1), load(factors, 2), load(factors, 3)")
    source.add("on = load(active, 0) > 0.0")
    with source.loop("i", "number"):
        source.add("g = load(gradient, i)", "store(gradient, i, select(on, zeros(), g))")
        source.add(*(f"{name} = load({tables[name]}, i)" for name in changed))
        source.add(*(f"{name}_before = {name}" for name in changed), *lines)
        source.add(*(f"store({tables[name]}, i, select(on, {name}, {name}_before))" for name in changed))
    return source.text()
