"""Say how the learning rate goes over a training."""

import math

from weightspace.hyperrep.config import TrainingConfig

START_DIVISOR, END_DIVISOR = 25, 1e5
"""One cycle starts at its peak over the first, and ends at its start over the second. Source: torch's OneCycleLR, as
SANE's code uses it."""


def find_rate(step: int, rules: TrainingConfig) -> float:
    """Return the learning rate of a step."""
    turn = rules.warmup * rules.steps
    part = min(1.0, (step - turn) / max(rules.steps - turn, 1))
    rising = step < turn
    if rules.schedule == "cosine":
        return rules.lr * ((step + 1) / (turn + 1) if rising else follow_cosine(1 - part))
    start = rules.lr / START_DIVISOR
    low, part = (start, step / turn) if rising else (start / END_DIVISOR, 1 - part)
    return low + (rules.lr - low) * follow_cosine(part)


def follow_cosine(part: float) -> float:
    """Go from 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * part)) / 2
