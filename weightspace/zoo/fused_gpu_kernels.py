"""Kernels of the fused GPU engine, one per phase of a step, for one member; shapes are compile-time constants.

Triton has no word for shared memory: what phases hand on to each other lies in tables of the member in global memory.
A store by one thread is read by others in the next phase only, and every phase ends with a barrier of its program, which
makes it visible to them; no other program reads or writes a member's tables. Nothing is added atomically and every sum
has a fixed order, so that a member's bits do not depend on its neighbours.
"""
# ruff: noqa: ANN001, ANN201, E501
# pyright: reportIndexIssue=false, reportOperatorIssue=false

import triton
import triton.language as tl


@triton.jit
def mix_bits(x):
    """Scramble words as `training.mix_bits` does."""
    x = (x ^ (x >> 16)) * tl.full(x.shape, 0x7FEB352D, tl.uint32)
    x = (x ^ (x >> 15)) * tl.full(x.shape, 0x846CA68B, tl.uint32)
    return x ^ (x >> 16)


@triton.jit
def sigmoid(x):
    """Compute 1 / (1 + exp(-x)) without overflow."""
    t = tl.exp(-tl.abs(x))
    return tl.where(x < 0, t, 1.0) / (1.0 + t)


@triton.jit
def tanh(x):
    """Compute tanh; it is exactly 1 where the nearest float is. Source: Cephes, `tanhf`."""
    z = x * x
    p = (-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2
    near = x + x * z * ((p * z + 1.33314422036e-1) * z - 3.33332819422e-1)
    t = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - t) / (1.0 + t)
    return tl.where(tl.abs(x) < 0.625, near, tl.where(x < 0, -far, far))


@triton.jit
def activate(x, KIND: tl.constexpr):
    """Return an activation and its slope."""
    y = x
    slope = tl.full(x.shape, 1.0, tl.float32)
    if KIND == "tanh":
        y = tanh(x)
        slope = 1.0 - y * y
    elif KIND == "relu":
        y = tl.where(x < 0, 0.0, x)
        slope = tl.where(x > 0, 1.0, 0.0)
    elif KIND == "leaky_relu":
        slope = tl.where(x > 0, 1.0, 0.01)
        y = x * slope
    elif KIND == "sigmoid":
        y = sigmoid(x)
        slope = y * (1.0 - y)
    elif KIND == "silu":
        s = sigmoid(x)
        y = x * s
        slope = s * (x * (1.0 - s) + 1.0)
    elif KIND == "gelu":
        below = 0.5 * (1.0 + tl.math.erf(x * 0.7071067811865476))
        y = x * below
        slope = below + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
    return y, slope


@triton.jit
def run_block(
    entry, rows, weights, out, slopes, winners, size, key, threshold, factor,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, F: tl.constexpr, K: tl.constexpr,
    STRIDE: tl.constexpr, EDGE: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, BIAS: tl.constexpr,
    FIRST: tl.constexpr, KIND: tl.constexpr, DROPS: tl.constexpr, BASE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Convolve, keep maxima (the first of equals wins), activate and drop. A linear block is a 1x1 convolution."""
    units: tl.constexpr = F * OH * OW
    taps: tl.constexpr = C * K * K
    for begin in range(0, size * units, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        on = i < size * units
        image = i // units
        unit = i % units
        f = unit // (OH * OW)
        row = unit // OW % OH
        column = unit % OW
        source = image.to(tl.int64)
        if FIRST:
            source = tl.load(rows + image, on, 0).to(tl.int64)
        x = entry + source * (C * H * W) + row * (EDGE * STRIDE * W) + column * (EDGE * STRIDE)
        a = tl.zeros([BLOCK], tl.float32)
        if BIAS:
            a = tl.load(weights + F * taps + f, on, 0.0)
        b = a
        c = a
        d = a
        for tap in range(taps):
            w = tl.load(weights + f * taps + tap, on, 0.0)
            p = x + (tap // (K * K)) * (H * W) + (tap // K % K) * W + tap % K
            a += w * tl.load(p, on, 0.0)
            if EDGE == 2:
                b += w * tl.load(p + STRIDE, on, 0.0)
                c += w * tl.load(p + STRIDE * W, on, 0.0)
                d += w * tl.load(p + STRIDE * W + STRIDE, on, 0.0)
        if EDGE == 2:
            best = tl.zeros([BLOCK], tl.float32)
            best = tl.where(b > a, 1.0, best)
            a = tl.where(b > a, b, a)
            best = tl.where(c > a, 2.0, best)
            a = tl.where(c > a, c, a)
            best = tl.where(d > a, 3.0, best)
            a = tl.where(d > a, d, a)
            # A not-a-number among the four must stay visible.
            a = a + 0.0 * (b + c + d)
            tl.store(winners + i, best, on)
        y, slope = activate(a, KIND)
        if DROPS:
            hashed = mix_bits(mix_bits(key + image.to(tl.uint32)) + (unit + BASE).to(tl.uint32))
            kept = tl.where(hashed >= threshold, factor, 0.0)
            y = y * kept
            slope = slope * kept
        tl.store(out + i, y, on)
        tl.store(slopes + i, slope, on)
    tl.debug_barrier()


@triton.jit
def average(entry, rows, out, size, INPUTS: tl.constexpr, P: tl.constexpr, FIRST: tl.constexpr, BLOCK: tl.constexpr):
    """Average each channel over its positions."""
    for begin in range(0, size * INPUTS, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        on = i < size * INPUTS
        source = (i // INPUTS).to(tl.int64)
        if FIRST:
            source = tl.load(rows + i // INPUTS, on, 0).to(tl.int64)
        s = tl.zeros([BLOCK], tl.float32)
        for p in range(P):
            s += tl.load(entry + source * (INPUTS * P) + (i % INPUTS) * P + p, on, 0.0)
        tl.store(out + i, s / P, on)
    tl.debug_barrier()


@triton.jit
def spread(delta, previous, size, INPUTS: tl.constexpr, P: tl.constexpr, BLOCK: tl.constexpr):
    """Turn slopes of averaged numbers into gradients, in their place."""
    for begin in range(0, size * INPUTS * P, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        on = i < size * INPUTS * P
        d = tl.load(delta + i // P, on, 0.0) / P
        tl.store(previous + i, d * tl.load(previous + i, on, 0.0), on)
    tl.debug_barrier()


@triton.jit
def differentiate_loss(logits, delta, labels, size, CLASSES: tl.constexpr, BLOCK: tl.constexpr):
    """Turn slopes of the logits into gradients of the batch's mean cross-entropy, in their place."""
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        on = i < size
        label = tl.load(labels + i, on, 0)
        top = tl.load(logits + i * CLASSES, on, 0.0)
        for c in range(1, CLASSES):
            value = tl.load(logits + i * CLASSES + c, on, 0.0)
            top = tl.where(value > top, value, top)
        total = tl.zeros([BLOCK], tl.float32)
        for c in range(CLASSES):
            total += tl.exp(tl.load(logits + i * CLASSES + c, on, 0.0) - top)
        for c in range(CLASSES):
            share = tl.exp(tl.load(logits + i * CLASSES + c, on, 0.0) - top) / total
            place = delta + i * CLASSES + c
            tl.store(place, (share - tl.where(label == c, 1.0, 0.0)) / size * tl.load(place, on, 0.0), on)
    tl.debug_barrier()


@triton.jit
def sum_gradient(
    entry, rows, gradient, delta, winners, size,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, F: tl.constexpr, K: tl.constexpr,
    STRIDE: tl.constexpr, EDGE: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, BIAS: tl.constexpr,
    FIRST: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Sum the gradients of weights and biases over images and positions; a bias looks at an input of 1."""
    taps: tl.constexpr = C * K * K
    number = F * taps
    if BIAS:
        number += F
    for begin in range(0, number, TALL):
        w = (begin + tl.arange(0, TALL))[:, None]
        is_weight = w < F * taps
        f = tl.where(is_weight, w // taps, w - F * taps)
        tap = tl.where(is_weight, w % taps, 0)
        sums = tl.zeros([TALL, WIDE], tl.float32)
        for start in range(0, size * OH * OW, WIDE):
            n = (start + tl.arange(0, WIDE))[None, :]
            on = (w < number) & (n < size * OH * OW)
            image = n // (OH * OW)
            at = image * (F * OH * OW) + f * (OH * OW) + n % (OH * OW)
            row = n // OW % OH * EDGE
            column = n % OW * EDGE
            if EDGE == 2:
                won = tl.load(winners + at, on, 0.0).to(tl.int32)
                row = row + won // 2
                column = column + won % 2
            source = image.to(tl.int64)
            if FIRST:
                source = tl.load(rows + image, n < size * OH * OW, 0).to(tl.int64)
            place = source * (C * H * W) + tap // (K * K) * (H * W)
            place += (row * STRIDE + tap // K % K) * W + column * STRIDE + tap % K
            x = tl.load(entry + place, on & is_weight, 1.0)
            sums += x * tl.load(delta + at, on, 0.0)
        total = tl.sum(sums, 1)
        i = begin + tl.arange(0, TALL)
        tl.store(gradient + i, total, i < number)
    tl.debug_barrier()


@triton.jit
def differentiate_inputs(
    weights, delta, winners, previous, size,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, F: tl.constexpr, K: tl.constexpr,
    STRIDE: tl.constexpr, EDGE: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr,
    SLOPES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient of a block's inputs; where these have slopes (`SLOPES`), times them and in their place."""
    for begin in range(0, size * C * H * W, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        on = i < size * C * H * W
        image = i // (C * H * W)
        channel = i // (H * W) % C
        y = i // W % H
        x = i % W
        s = tl.zeros([BLOCK], tl.float32)
        for tap in range(F * K * K):
            f = tap // (K * K)
            down = y - tap // K % K
            right = x - tap % K
            fits = on & (down >= 0) & (right >= 0)
            down = tl.maximum(down, 0)
            right = tl.maximum(right, 0)
            fits = fits & (down % STRIDE == 0) & (right % STRIDE == 0)
            row = down // STRIDE
            column = right // STRIDE
            fits = fits & (row < OH * EDGE) & (column < OW * EDGE)
            at = image * (F * OH * OW) + (f * OH + row // EDGE) * OW + column // EDGE
            if EDGE == 2:
                won = tl.load(winners + at, fits, 0.0).to(tl.int32)
                fits = fits & (won == row % 2 * 2 + column % 2)
            w = tl.load(weights + (f * C + channel) * (K * K) + tap % (K * K), on, 0.0)
            s += w * tl.load(delta + at, fits, 0.0)
        if SLOPES:
            s = s * tl.load(previous + i, on, 0.0)
        tl.store(previous + i, s, on)
    tl.debug_barrier()


@triton.jit
def update(
    weights, gradient, first, second, rate, decay, root, share,
    NUM: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take a step. Source: torch.optim with its default settings."""
    for begin in range(0, NUM, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        on = i < NUM
        w = tl.load(weights + i, on, 0.0)
        g = tl.load(gradient + i, on, 0.0)
        m = tl.load(first + i, on, 0.0)
        v = tl.load(second + i, on, 0.0)
        if KIND == "adamw":
            w = w * decay
        else:
            g = decay * w + g
        if KIND == "sgd":
            m = share * m + g
            w = w - rate * m
        elif KIND == "rmsprop":
            v = g * g * 0.01 + 0.99 * v
            m = share * m + g / (tl.sqrt_rn(v) + 1e-8)
            w = w - rate * m
        else:
            m = (g - m) * share + m
            v = g * g * 0.001 + 0.999 * v
            w = w - rate * m / (tl.sqrt_rn(v) * root + 1e-8)
        tl.store(weights + i, w, on)
        tl.store(first + i, m, on)
        tl.store(second + i, v, on)
    tl.debug_barrier()


@triton.jit
def measure_loss(logits, labels, size, loss, right, CLASSES: tl.constexpr, BLOCK: tl.constexpr):
    """Add the losses of images, and their right answers, to what there is; a lane an image in turn."""
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        on = i < size
        label = tl.load(labels + i, on, 0)
        top = tl.load(logits + i * CLASSES, on, 0.0)
        best = tl.zeros([BLOCK], tl.int32)
        for c in range(1, CLASSES):
            value = tl.load(logits + i * CLASSES + c, on, 0.0)
            best = tl.where(value > top, c, best)
            top = tl.where(value > top, value, top)
        total = tl.zeros([BLOCK], tl.float32)
        for c in range(CLASSES):
            total += tl.exp(tl.load(logits + i * CLASSES + c, on, 0.0) - top)
        target = tl.load(logits + i * CLASSES + label, on, 0.0)
        loss += tl.where(on, tl.log(total) - (target - top), 0.0).to(tl.float64)
        right += tl.where(on & (best == label), 1.0, 0.0).to(tl.float64)
    tl.debug_barrier()
    return loss, right
