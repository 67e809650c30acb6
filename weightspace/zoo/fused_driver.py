"""Loops of the fused CPU engine over images and blocks, for a group of members; the blocks' kernels are called.

Everything is an address or a count: this source is copied into the kernel cache and compiled there (see
`fused_build`). Tables hold a vector of lanes a row.
"""

from weightspace.zoo.fused_maths import exp_negative, inline, log
from weightspace.zoo.fused_vectors import (
    FLUSH_DENORMALS,
    LANES,
    VECTOR_BYTES,
    WORD_BYTES,
    Vector,
    call_kernel,
    fma,
    gather_square,
    load,
    load_integer,
    load_words,
    repeat_word,
    select,
    select_mask,
    set_float_mode,
    store,
    zeros,
)

# A job: what to do with which tables.
(
    PROGRAM,  # one row a block
    NUM_BLOCKS,
    IMAGES,  # float32 rows
    WIDTH,  # of a row, a multiple of the lanes
    ORDER,  # int32 row numbers of IMAGES, per row of the job
    LABELS,  # likewise
    COUNTS,  # how many rows each lane has
    LEAST,  # the smallest of them
    MOST,  # the largest
    STATE,  # weights, gradients, two moments and room, each NUM_WEIGHTS vectors
    NUM_WEIGHTS,
    SHARES,  # per row: 1 / images of the lane's batch
    EVENTS,  # per row: number of the row of SCHEDULE that applies after it, or -1
    SCHEDULE,
    UPDATES,  # a kernel an optimizer
    NUM_UPDATES,
    DROPS,  # 1 where a lane has dropout
    KEYS,  # per row: hash of seed, step and image
    DROPOUT,  # two rows: what a hash must reach to keep a unit, and what a kept unit is multiplied by
    RESULT,  # of `predict` each image's logits; else three rows to add to: loss, what it has lost, right answers
    NUM_FIELDS,
) = range(21)
# A row of a program.
(
    FORWARD,
    WEIGHT_GRADIENT,
    INPUT_GRADIENT,
    ACTIVATE,
    WEIGHTS,
    GRADIENT,
    ENTRY,
    SLOPE,
    OUT,
    WINNERS,
    DELTA,
    UNITS,
    HAS_DROPOUT,
    NUM_COLUMNS,
) = range(14)
PROGRAM_ROW_BYTES = NUM_COLUMNS * WORD_BYTES
# A row of a schedule: rate, decay, root, momentum, then for each optimizer which lanes take a step with it.
NUM_FACTORS = 4


@inline
def gather_images(job: int, row: int) -> None:
    """Copy the image of a row into each lane."""
    images, width = load_integer(job, IMAGES), load_integer(job, WIDTH)
    rows = load_integer(job, ORDER) + row * VECTOR_BYTES
    pixels = load_integer(load_integer(job, PROGRAM), ENTRY)
    for column in range(0, width, LANES):
        gather_square(images, width, rows, column, pixels + column * VECTOR_BYTES)


@inline
def run_forward(job: int, row: int, drops: int) -> None:
    """Compute outputs and slopes of all blocks; with dropout where `drops` is 1."""
    keys, dropout = load_integer(job, KEYS) + row * VECTOR_BYTES * drops, load_integer(job, DROPOUT)
    for number in range(load_integer(job, NUM_BLOCKS)):
        block = load_integer(job, PROGRAM) + number * PROGRAM_ROW_BYTES
        slope, entry, winners = load_integer(block, SLOPE), load_integer(block, ENTRY), load_integer(block, WINNERS)
        call_kernel(load_integer(block, FORWARD), (load_integer(block, WEIGHTS), entry, slope, winners))
        out, units, has_dropout = load_integer(block, OUT), load_integer(block, UNITS), load_integer(block, HAS_DROPOUT)
        call_kernel(
            load_integer(block, ACTIVATE), (slope, out, units, keys, dropout, number << 16, drops * has_dropout)
        )


@inline
def run_backward(job: int) -> None:
    """Add one image's gradients to what is there already, given the gradient of the last block's output."""
    for number in range(load_integer(job, NUM_BLOCKS) - 1, -1, -1):
        block = load_integer(job, PROGRAM) + number * PROGRAM_ROW_BYTES
        delta, slope, winners = load_integer(block, DELTA), load_integer(block, SLOPE), load_integer(block, WINNERS)
        for unit in range(load_integer(block, UNITS)):
            store(delta, unit, load(delta, unit) * load(slope, unit))
        entry = load_integer(block, ENTRY)
        call_kernel(load_integer(block, WEIGHT_GRADIENT), (load_integer(block, GRADIENT), entry, delta, winners))
        if number > 0:
            previous = load_integer(block - PROGRAM_ROW_BYTES, DELTA)
            call_kernel(load_integer(block, INPUT_GRADIENT), (load_integer(block, WEIGHTS), delta, previous, winners))


@inline
def differentiate_loss(block: int, label: Vector, share: Vector) -> None:
    """Write the gradient of the last block's output: of the cross-entropy times each lane's share."""
    logits, delta, num_classes = load_integer(block, OUT), load_integer(block, DELTA), load_integer(block, UNITS)
    top = load(logits, 0)
    for c in range(1, num_classes):
        value = load(logits, c)
        top = select(value > top, value, top)
    total = zeros()
    for c in range(num_classes):
        value = exp_negative(load(logits, c) - top)
        store(delta, c, value)
        total = total + value
    scale = share / total
    for c in range(num_classes):
        target = select(label == repeat_word(c), share, zeros())
        store(delta, c, fma(load(delta, c), scale, zeros() - target))


@inline
def save_gradients(job: int) -> None:
    """Remember the gradients, for lanes that have no image in the row to come."""
    number, state = load_integer(job, NUM_WEIGHTS), load_integer(job, STATE)
    for i in range(number):
        store(state, 4 * number + i, load(state, number + i))


@inline
def restore_gradients(job: int, row: int) -> None:
    """Undo a row's gradients in lanes that have no image in it."""
    number, state = load_integer(job, NUM_WEIGHTS), load_integer(job, STATE)
    busy = load_words(load_integer(job, COUNTS), 0) >= repeat_word(row + 1)
    for i in range(number):
        store(state, number + i, select(busy, load(state, number + i), load(state, 4 * number + i)))


@inline
def take_steps(job: int, event: int) -> None:
    """Let each optimizer move the lanes whose batch is complete."""
    number, state, updates = load_integer(job, NUM_WEIGHTS), load_integer(job, STATE), load_integer(job, NUM_UPDATES)
    now = load_integer(job, SCHEDULE) + event * (NUM_FACTORS + updates) * VECTOR_BYTES
    table = number * VECTOR_BYTES
    for k in range(updates):
        active = now + (NUM_FACTORS + k) * VECTOR_BYTES
        update = load_integer(load_integer(job, UPDATES), k)
        call_kernel(update, (state, state + table, state + 2 * table, state + 3 * table, number, now, active))


@inline
def add_answer(job: int, last: int, row: int) -> None:
    """Add each lane's loss on the image of a row, and 1 where its answer is right, to the result."""
    logits, num_classes = load_integer(last, OUT), load_integer(last, UNITS)
    label, result = load_words(load_integer(job, LABELS), row), load_integer(job, RESULT)
    busy = load_words(load_integer(job, COUNTS), 0) >= repeat_word(row + 1)
    top = load(logits, 0)
    hit = label == repeat_word(0)
    target = top
    for c in range(1, num_classes):
        value = load(logits, c)
        here = label == repeat_word(c)
        target = select(here, value, target)
        hit = select_mask(value > top, here, hit)
        top = select(value > top, value, top)
    total = zeros()
    for c in range(num_classes):
        total = total + exp_negative(load(logits, c) - top)
    # Compensated summation: what the last addition lost is added to the next.
    loss = load(result, 0)
    addend = select(busy, log(total) - (target - top), zeros()) - load(result, 1)
    raised = loss + addend
    store(result, 0, raised)
    store(result, 1, (raised - loss) - addend)
    store(result, 2, load(result, 2) + select(busy, select(hit, 1.0, 0.0), 0.0))


def train_epoch(job: int) -> None:
    """Take a group through their images once; where there is room for a result, measure each before it is learned."""
    mode = set_float_mode(FLUSH_DENORMALS)
    last = load_integer(job, PROGRAM) + (load_integer(job, NUM_BLOCKS) - 1) * PROGRAM_ROW_BYTES
    least, drops = load_integer(job, LEAST), load_integer(job, DROPS)
    labels, shares, events = load_integer(job, LABELS), load_integer(job, SHARES), load_integer(job, EVENTS)
    measures = load_integer(job, RESULT)
    for row in range(load_integer(job, MOST)):
        if row >= least:
            save_gradients(job)
        gather_images(job, row)
        run_forward(job, row, drops)
        if measures:
            add_answer(job, last, row)
        differentiate_loss(last, load_words(labels, row), load(shares, row))
        run_backward(job)
        if row >= least:
            restore_gradients(job, row)
        event = load_integer(events, row)
        if event >= 0:
            take_steps(job, event)
    set_float_mode(mode)


def evaluate(job: int) -> None:
    """Sum each lane's loss over its rows, and count its right answers."""
    mode = set_float_mode(FLUSH_DENORMALS)
    last = load_integer(job, PROGRAM) + (load_integer(job, NUM_BLOCKS) - 1) * PROGRAM_ROW_BYTES
    for row in range(load_integer(job, MOST)):
        gather_images(job, row)
        run_forward(job, row, 0)
        add_answer(job, last, row)
    set_float_mode(mode)


def predict(job: int) -> None:
    """Write the logits of each lane for each of its rows."""
    mode = set_float_mode(FLUSH_DENORMALS)
    last = load_integer(job, PROGRAM) + (load_integer(job, NUM_BLOCKS) - 1) * PROGRAM_ROW_BYTES
    logits, num_classes, result = load_integer(last, OUT), load_integer(last, UNITS), load_integer(job, RESULT)
    for row in range(load_integer(job, MOST)):
        gather_images(job, row)
        run_forward(job, row, 0)
        for c in range(num_classes):
            store(result, row * num_classes + c, load(logits, c))
    set_float_mode(mode)
