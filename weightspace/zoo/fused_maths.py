"""Elementary functions over lanes, to about 1e-7 in float32, as the fused CPU engine needs them.

Each saturates exactly where the float32 function does: what a clamped approximation leaves of a gradient, Adam would
amplify to full steps. Not-a-number in gives not-a-number out.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numba

from weightspace.zoo.fused_vectors import (
    Vector,
    absolute,
    bits_of,
    floats_of,
    fma,
    repeat_word,
    select,
    to_floats,
)

jit: Any = numba.njit


def inline(function: Callable[..., Any]) -> Any:
    """Compile a function into whatever calls it. A type checker may have wrapped it, which Numba cannot read."""
    return jit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(inspect.unwrap(function))


@inline
def exp_negative(x: Vector) -> Vector:
    """Compute e to the power of x, for x from minus infinity to 0.

    Below -86.6 the result is 0. Source: coefficients of `expf` in S. Moshier's Cephes.
    """
    shifted = fma(x, 1.44269504088896341, 12582912.0)  # its low bits are the nearest whole number of halvings
    whole = shifted - 12582912.0
    rest = fma(whole, 2.12194440e-4, fma(whole, -0.693359375, x))
    series = fma(1.9875691500e-4, rest, 1.3981999507e-3)
    series = fma(series, rest, 8.3334519073e-3)
    series = fma(series, rest, 4.1665795894e-2)
    series = fma(series, rest, 1.6666665459e-1)
    series = fma(series, rest, 5.0000001201e-1)
    value = fma(series, rest * rest, rest) + 1.0
    scaled = floats_of(bits_of(value) + (bits_of(shifted) << 23))
    return select(x < -86.6, 0.0, scaled)


@inline
def tanh(x: Vector) -> Vector:
    """Compute the hyperbolic tangent; exactly 1 or -1 where float32 can say nothing closer."""
    size = absolute(x)
    decay = exp_negative(-2.0 * size)
    far = 1.0 - (decay + decay) / (1.0 + decay)
    square = x * x
    series = fma(-5.70498872745e-3, square, 2.06390887954e-2)
    series = fma(series, square, -5.37397155531e-2)
    series = fma(series, square, 1.33314422036e-1)
    series = fma(series, square, -3.33332819422e-1)
    near = fma(series * square, x, x)
    return select(size < 0.625, near, select(x < 0.0, 0.0 - far, far))


@inline
def sigmoid(x: Vector) -> Vector:
    """Compute the logistic function."""
    decay = exp_negative(0.0 - absolute(x))
    upper = 1.0 / (1.0 + decay)
    return select(x < 0.0, decay * upper, upper)


@inline
def normal_tail(x: Vector, density: Vector) -> Vector:
    """Compute the probability that a standard normal number exceeds x >= 0.

    Args:
        density: e to the power of -x*x/2.

    Source: polynomial in 1 / (1 + 0.21 x) fitted to the tail over the density up to x = 13.2, relative error 1.2e-8.
    """
    t = 1.0 / fma(0.21, x, 1.0)
    series = fma(-0.07226805415933624, t, 0.2866098916909111)
    series = fma(series, t, -0.33663402415941324)
    series = fma(series, t, 0.35691664325051287)
    series = fma(series, t, -0.09931846204652636)
    series = fma(series, t, 0.12728427903474074)
    series = fma(series, t, 0.06853669933226539)
    series = fma(series, t, 0.08516779539713604)
    series = fma(series, t, 0.08370522923059538)
    return series * t * density


@inline
def log(x: Vector) -> Vector:
    """Compute the natural logarithm of a normal number. Source: coefficients of `logf` in S. Moshier's Cephes."""
    bits = bits_of(x)
    mantissa = floats_of((bits & repeat_word(0x7FFFFF)) | repeat_word(0x3F000000))
    exponent = to_floats(bits >> 23) - 126.0
    small = mantissa < 0.707106781186547524
    exponent = select(small, exponent - 1.0, exponent)
    rest = select(small, mantissa + mantissa, mantissa) - 1.0
    series = fma(7.0376836292e-2, rest, -1.1514610310e-1)
    series = fma(series, rest, 1.1676998740e-1)
    series = fma(series, rest, -1.2420140846e-1)
    series = fma(series, rest, 1.4249322787e-1)
    series = fma(series, rest, -1.6668057665e-1)
    series = fma(series, rest, 2.0000714765e-1)
    series = fma(series, rest, -2.4999993993e-1)
    series = fma(series, rest, 3.3333331174e-1)
    square = rest * rest
    series = fma(exponent, -2.12194440e-4, series * square * rest)
    series = fma(-0.5, square, series)
    return fma(exponent, 0.693359375, rest + series) + (x - x)  # the last term keeps what is not finite visible


@inline
def mix_bits(x: Vector) -> Vector:
    """Scramble words as `training.mix_bits` does."""
    x = (x ^ (x >> 16)) * repeat_word(0x7FEB352D)
    x = (x ^ (x >> 15)) * repeat_word(0x846CA68B)
    return x ^ (x >> 16)
