"""Read the tensors of one checkpoint; no code in the file is executed."""

import io
import pickle
import re
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from weightspace.config import BadInput

WRAPPERS = ("model_state", "state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.")
DAMAGE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,  # a length that was altered
    OSError,
    struct.error,
)
"""What torch raises for files that are cut short, altered or no checkpoints."""
LOG_ALPHA_KEPT = 3.0


def read_state(name: str, content: bytes, notes: Counter[str]) -> dict[str, Tensor]:
    """Read the floating-point tensors of a `.safetensors` file or a state dict, in the order of the file.

    Raises:
        BadInput: it is damaged, holds no tensors, or wants to execute something.
    """
    return clean_state(name, load_state(name, content), notes)


def load_state(name: str, content: bytes) -> dict[str, Tensor]:
    """Load the tensors of a `.safetensors` file or a state dict as they are, under the names that they have there.

    Raises:
        BadInput: it is damaged, holds no tensors, or wants to execute something.
    """
    if not name.endswith(".safetensors"):
        return unwrap_state(name, load_plain(name, content))
    try:
        found = load_safetensors(content)
    except SafetensorError as error:
        raise BadInput(f"{name}: cannot be read as safetensors ({error}); it may be cut short") from error
    # The file does not keep the order of layers.
    return {key: found[key] for key in sorted(found, key=split_numbers)}


def load_plain(name: str, content: bytes) -> Any:
    """Load a torch file of tensors and plain values.

    Raises:
        BadInput: it is damaged, or names a class or function that is not allowed.
    """
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except DAMAGE as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise BadInput(f"{name}: wants {refused[1]}, refused; nothing in it was executed") from error
        reason = " ".join(str(error).split())[:120]
        raise BadInput(f"{name}: cannot be read as a state dict ({reason}); it may be cut short") from error


def unwrap_state(name: str, found: Any) -> dict[str, Tensor]:
    """Find the state dict in what a file holds.

    Raises:
        BadInput: there is none.
    """
    while isinstance(found, Mapping):
        inner = [found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)]
        if not inner:
            break
        found = inner[0]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()) or not found:
        what = (
            f"a mapping with keys {', '.join(map(str, found))}" if isinstance(found, Mapping) else type(found).__name__
        )
        raise BadInput(f"{name}: holds {what[:100]}, wanted a state dict of named tensors")
    return dict(found)


def clean_state(name: str, found: Mapping[str, Tensor], notes: Counter[str]) -> dict[str, Tensor]:
    """Keep the numbers of a network as float32, under names without the marks of wrappers."""
    kept: dict[str, Tensor] = {}
    for key, tensor in found.items():
        key = strip_prefixes(key)
        if key.endswith("num_batches_tracked"):
            continue
        if not tensor.is_floating_point():
            notes[f"{key}: {tensor.dtype}, not kept"] += 1
            continue
        if tensor.dtype != torch.float32:
            notes[f"{tensor.dtype} weights became float32"] += 1
        kept[key] = tensor.detach().float()
    if not kept:
        raise BadInput(f"{name}: holds no floating-point tensors, wanted the weights of a network")
    return kept


def strip_prefixes(name: str) -> str:
    """Take the marks of wrappers off a tensor's name."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def split_numbers(name: str) -> list[tuple[int, int | str]]:
    """Make a sorting key by which `conv2` comes before `conv10`."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def drop_variances(name: str, state: Mapping[str, Tensor], log_sigma2: str, notes: Counter[str]) -> dict[str, Tensor]:
    """Turn a sparse twin into the network that it stands for.

    Source: Molchanov et al., variational dropout (arXiv 1701.05369), eq. 11: log alpha = log sigma2 - log weight^2.

    Raises:
        BadInput: it is a sparse twin, and these are not asked for.
    """
    variances = {key: tensor for key, tensor in state.items() if "log_sigma2" in key}
    kept = {key: tensor for key, tensor in state.items() if key not in variances}
    if variances and log_sigma2 == "refuse":
        raise BadInput(
            f"{name}: holds {next(iter(variances))}, a sparse twin; wanted `log_sigma2: threshold` for those"
        )
    for key, variance in variances.items():
        target = key.replace("log_sigma2_bias", "bias").replace("log_sigma2", "weight")
        if target not in kept or kept[target].shape != variance.shape:
            raise BadInput(f"{name}: {key} has no {target} of its shape beside it")
        weight = kept[target]
        kept[target] = weight * (variance - 2 * (weight.abs() + 1e-15).log() < LOG_ALPHA_KEPT)
    if variances:
        notes["sparse twins: weights with a log alpha of 3 or more became 0"] += 1
    return kept
