"""Drop numbers at random in training."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

STEPS = 2**16
"""On a CPU the share to drop is rounded to one of so many steps, so that 16 random bits decide about a number."""


def drop(x: Float[Tensor, "*shape"], share: float, training: bool) -> Float[Tensor, "*shape"]:
    """Set a share of the numbers to zero in training and scale the others up, so that the mean stays.

    Differs: torch's dropout draws a float for each number on a CPU, one after the other, which took 8 times as long for
    a batch of the published size and a tenth of a training step. On a GPU this is torch's.
    """
    if not training or share == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, share)
    dropped = round(share * STEPS)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = (bits[: x.numel()] >= dropped - STEPS // 2).view(x.shape)
    return x * kept.to(x.dtype).mul_(STEPS / (STEPS - dropped))
