"""Keep the alignment of finished parts, so that a run that was killed goes on where it stopped."""

import hashlib
import logging
from pathlib import Path

import torch
from jaxtyping import Float32
from safetensors.torch import save_file
from torch import Tensor

from weightspace.config import BadInput
from weightspace.layout import Layout
from weightspace.record import digest_with_code
from weightspace.weights.align import match_weights
from weightspace.weights.config import WeightMatching
from weightspace.weights.permute import Permutations
from weightspace.weights.weight_data import read_tensors

log = logging.getLogger(__name__)


def match_part(
    layout: Layout,
    weights: Float32[Tensor, "members weights"],
    reference: Float32[Tensor, " weights"],
    config: WeightMatching,
    work: Path,
) -> Permutations:
    """Find how to reorder some members, unless an earlier run found it already."""
    path = work / f"{digest_matching(layout, weights, reference, config)}.safetensors"
    if path.exists():
        try:
            return {name: order.to(torch.int64) for name, order in read_tensors(path).items()}
        except BadInput as error:
            log.warning("aligned again: %s", error)
    found = match_weights(layout, weights, reference, config.seed, config.max_sweeps)
    save_file({name: order.int() for name, order in found.items()}, partial := path.with_suffix(".partial"))
    partial.replace(path)
    return found


def digest_matching(
    layout: Layout,
    weights: Float32[Tensor, "members weights"],
    reference: Float32[Tensor, " weights"],
    config: WeightMatching,
) -> str:
    """Digest everything that decides how members are reordered, the code among it."""
    decides = {"layout": layout.model_dump(mode="json"), "seed": config.seed, "max_sweeps": config.max_sweeps}
    digest = hashlib.sha256(digest_with_code(decides).encode())
    for tensor in (reference, weights):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
