"""Use a trained hyper-representation on networks of any form: `Hyperrep.load(path).embed(networks)`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from weightspace.config import BadInput
from weightspace.device import resolve_device
from weightspace.embeddings.embeddings import Embeddings
from weightspace.embeddings.summary import summarize_tokens
from weightspace.hyperrep import hyperrep as trained
from weightspace.layout import Layout
from weightspace.networks_in import Networks, TakenNetworks, take_networks
from weightspace.record import RECORD_NAME, read_record
from weightspace.samples.anchors import Anchors
from weightspace.samples.config import KdeIndependent, KdeJoint, RelativeBandwidth
from weightspace.samples.samplers import sample_latents
from weightspace.store import Checkpoints
from weightspace.weights.align import match_weights
from weightspace.weights.canonical import sort_units
from weightspace.weights.canonical_config import Sort
from weightspace.weights.config import NoAlignment, WeightMatching
from weightspace.weights.permute import Permutations, invert_permutations, keep_places, permute_weights

SAMPLERS = {"kde_joint": KdeJoint, "kde_independent": KdeIndependent}


@dataclass(frozen=True)
class Hyperrep:
    """A trained hyper-representation that takes networks as they come.

    Networks are state dicts, modules or paths of `.safetensors` or `.pt` files (nothing in them is executed), alone or
    in a list; or the folder of a Parquet data set. Each is laid out, aligned to the saved reference and standardised
    as the networks were that the model learned from. Of a data set, all checkpoints of a member are aligned as its last
    one is, and those that are marked as diverged are left out.
    """

    trained: trained.Hyperrep

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """Read what the hyperrep stage made.

        Args:
            device: `auto`, `cpu`, `cuda` or `cuda:n`.

        Raises:
            BadInput: a file is missing, cut short or altered, or the machine has no such device.
        """
        folder = Path(path)
        if (folder / RECORD_NAME).is_file():
            read_record(folder)
        return cls(trained.Hyperrep.load(folder, resolve_device(device)))

    @property
    def layout(self) -> Layout:
        """Names and shapes of the tensors that it takes."""
        return self.trained.layout

    def embed(
        self, networks: Networks, *, summary: Literal["features", "latents", "pooled"] = "features", halo: int = 0
    ) -> Embeddings:
        """Give each network its latent tokens and one vector that sums them up.

        Args:
            summary: as in `EmbeddingsConfig`.
            halo: tokens of context on each side of a window; of no account where one window holds a network.

        Returns:
            `summary` and `tokens` as arrays, and a `table` with `member` (the path of a file), the columns of a data
            set, and `lost`: the part of a network that its reconstruction misses, as squared error over squares of the
            standardised weights; large for a network that is unlike those the model learned from.

        Raises:
            BadInput: a network cannot be read, does not fit the layout, or has weights that are not finite.
        """
        taken = take_networks(networks, self.layout)
        aligned = permute_weights(self.layout, taken.weights, self.align(taken))
        latents, features = self.trained.embed(aligned, halo)
        lost = self.measure_lost(aligned, self.trained.decode(latents, halo))
        summed = summarize_tokens(latents, features, self.trained.tokenizer, summary)
        table = taken.table.assign(lost=lost)
        return Embeddings(table, summed.cpu().numpy(), latents.cpu().numpy(), None)

    def reconstruct(self, networks: Networks, *, halo: int = 0) -> list[dict[str, Tensor]] | Checkpoints:
        """Encode networks and decode them again.

        Returns:
            One state dict a network, with the names, the other entries and the order of units that it came with, so
            that its module loads it and its tensors can be compared one by one; of a data set, its checkpoints.

        Raises:
            BadInput: as `embed`.
        """
        taken = take_networks(networks, self.layout)
        orders = self.align(taken)
        decoded = self.trained.reconstruct(permute_weights(self.layout, taken.weights, orders), halo).cpu()
        back = permute_weights(self.layout, decoded, invert_permutations(orders))
        return taken.give_back(back, np.arange(len(back)))

    def sample(
        self,
        anchors: Networks,
        num: int,
        *,
        bandwidth: float,
        kind: Literal["kde_joint", "kde_independent"] = "kde_joint",
        seed: int = 0,
        halo: int = 0,
    ) -> list[dict[str, Tensor]] | Checkpoints:
        """Draw new networks around the latents of some, each around anchors of one activation if a data set tells it.

        Args:
            bandwidth: standard deviation of the noise, as part of that of the anchors' latents, number by number.
            kind: `kde_joint` adds it to one anchor's latents; `kde_independent` takes each number from an anchor of
                its own.

        Returns:
            State dicts in the form of an anchor each; of a data set, checkpoints with a column `sample`, `member` and
            the rest being those of the anchor. Units stand in the order of the reference.

        Raises:
            BadInput: as `embed`.
        """
        taken = take_networks(anchors, self.layout)
        aligned = permute_weights(self.layout, taken.weights, self.align(taken))
        latents = self.trained.encode(aligned, halo).cpu().numpy()
        table = taken.table if "activation" in taken.table else taken.table.assign(activation="")
        sampler = SAMPLERS[kind](kind=kind, bandwidth=RelativeBandwidth(kind="relative", value=bandwidth))
        found = Anchors(table, aligned.numpy(), latents)
        drawn, picks = sample_latents(sampler, found, num, np.random.default_rng(seed))
        return taken.give_back(self.trained.decode(torch.from_numpy(drawn), halo), picks, sample=np.arange(num))

    def align(self, taken: TakenNetworks) -> Permutations:
        """Find the order of each network's hidden units in which the model knows networks.

        Those of the data set that it learned from have it already.

        Raises:
            BadInput: the model knows networks of one scale or sign only, which cannot be found without activations.
        """
        origin = self.trained.origin
        known = origin is not None and taken.about.get("weights") == origin.model_dump(mode="json")
        if known or origin is None:
            return keep_places(self.layout, len(taken.weights), torch.device("cpu"))
        if origin.canonical.scale or origin.canonical.orient:
            raise BadInput(
                "networks: the model learned from networks of canonical scale or sign, to which others are brought by "
                f"the weights stage; wanted a data set prepared as weights/{self.trained.config.weights}"
            )
        leaders, place = np.unique(taken.leaders, return_inverse=True)
        leading, reference = taken.weights[torch.from_numpy(leaders)], self.trained.reference.cpu()
        found = order_units(self.layout, leading, reference, origin.alignment)
        return {name: order[torch.from_numpy(place)] for name, order in found.items()}

    def measure_lost(
        self, weights: Float[Tensor, "networks weights"], decoded: Float[Tensor, "networks weights"]
    ) -> Float32[np.ndarray, " networks"]:
        """Measure squared error over squares, both of standardised weights."""
        standard, back = (
            self.trained.statistics.standardize(self.layout, one.to(self.trained.device)) for one in (weights, decoded)
        )
        return ((back - standard).square().sum(1) / standard.square().sum(1)).cpu().numpy()


def order_units(
    layout: Layout,
    weights: Float[Tensor, "networks weights"],
    reference: Float[Tensor, " weights"],
    alignment: NoAlignment | WeightMatching | Sort,
) -> Permutations:
    """Find the order of units that a configuration means."""
    match alignment:
        case WeightMatching():
            return match_weights(layout, weights, reference, alignment.seed, alignment.max_sweeps)
        case Sort():
            return sort_units(layout, weights, alignment.key)
        case NoAlignment():
            return keep_places(layout, len(weights), weights.device)
