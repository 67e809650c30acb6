"""Choose the device that computes."""

import torch

from weightspace.config import BadInput


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:n` into a device that is there.

    Raises:
        BadInput: the name is none of these, or the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise BadInput(f"device: got {name!r}, wanted auto, cpu, cuda or cuda:n")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise BadInput(f"device: got {name!r}, but this machine has {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)
