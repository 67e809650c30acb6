"""Drop units of a torch module as each member's own seed decides."""

import torch
from torch import Tensor, nn


class MemberDropout(nn.Module):
    """Dropout whose mask depends on a member's seed, the step, the layer and the image's place in its batch alone."""

    def __init__(self, rate: float, layer: int) -> None:
        super().__init__()
        self.rate, self.layer, self.calls = rate, layer, 0
        self.key: Tensor | None = None
        """Of the member and the step: a whole number. None: nothing is dropped."""

    def begin(self, key: Tensor) -> None:
        """Begin a step of a member; a layer that is called several times in it drops others each time."""
        self.key, self.calls = key, 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop some units and scale the others up."""
        if not self.training or self.key is None or self.rate == 0:
            return x
        if self.rate == 1:
            return torch.zeros_like(x)
        image = torch.arange(len(x), device=x.device)[:, None]
        unit = torch.arange(x[0].numel(), device=x.device)
        key = mix_tensor(mix_tensor(self.key + self.layer) + self.calls)
        self.calls += 1
        drawn = mix_tensor(mix_tensor(key + image) + unit)
        keep = (drawn >= round(self.rate * 2**32)).to(x.dtype)
        return x * (keep / (1 - self.rate)).reshape(x.shape)


def mix_tensor(x: Tensor) -> Tensor:
    """Scramble 32-bit numbers held in int64, as `training.mix_bits` does."""
    x = x & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def replace_dropout(module: nn.Module) -> nn.Module:
    """Put dropout that members decide in the place of torch's; other kinds of dropout stay."""
    if type(module) is nn.Dropout:
        return MemberDropout(module.p, 0)
    layer = 0
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, MemberDropout(child.p, layer))
                layer += 1
    return module


def begin_step(module: nn.Module, seed: Tensor, step: int) -> None:
    """Tell all dropout of a module which member it is and which step it takes."""
    key = mix_tensor(mix_tensor(seed) + step)
    for part in module.modules():
        if isinstance(part, MemberDropout):
            part.begin(key)
