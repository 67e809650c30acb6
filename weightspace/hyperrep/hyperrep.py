"""A trained hyper-representation with its preprocessing: networks in, latents out, and back."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, Float32
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from weightspace.config import BadInput, Config
from weightspace.hyperrep.config import HyperrepConfig, Sizes
from weightspace.hyperrep.kinds import tell_kinds
from weightspace.hyperrep.model import Autoencoder
from weightspace.layout import Layout
from weightspace.tokens.tokenizer import Tokenizer
from weightspace.tokens.windows import run_with_halo
from weightspace.weights.config import WeightsConfig
from weightspace.weights.statistics import Statistics
from weightspace.weights.weight_data import place_file

MODEL_NAME, CONFIG_NAME, PREPROCESSING_NAME = "model.safetensors", "config.json", "preprocessing.safetensors"
UNTRAINED_NAME = "untrained.safetensors"
"""The same model before its first step: what of an embedding needs no training."""
LAST_NAME = "last.safetensors"
"""The same model after its last step, where `MODEL_NAME` is as it served the validation members best."""
NETWORKS_AT_ONCE = 256
ONLY = "only"
"""Name of a layout that none need be told from."""


def read_tensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Read one file of a hyper-representation.

    Raises:
        BadInput: it is missing or cut short.
    """
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted part of a hyper-representation; run the hyperrep stage that makes it")
    try:
        return load_file(path, device=str(device))
    except SafetensorError as error:
        raise BadInput(f"{path}: cannot be read ({error}); it may be cut short") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one file of a hyper-representation."""
    save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path)


def tell_origin(about: Mapping[str, Any]) -> WeightsConfig | None:
    """Read how a weight data set was made from what all its checkpoints share; None if that does not say."""
    return WeightsConfig.model_validate(about["weights"]) if "weights" in about else None


class Inputs(Config):
    """What `config.json` says of the networks of one layout."""

    layout: Layout
    architecture: dict[str, Any] | None
    activations: tuple[str, ...]
    preprocessing: str
    """Digest of their preprocessing."""


class Description(Config):
    """What `config.json` says."""

    config: HyperrepConfig
    sizes: Sizes
    layouts: dict[str, Inputs] = Field(min_length=1)
    origin: WeightsConfig | None


def digest_tensors(*tensors: Tensor) -> str:
    """Digest the numbers of some tensors; 64 hexadecimal digits of SHA-256."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def fill_model(model: Autoencoder, parameters: Mapping[str, Tensor], path: Path) -> None:
    """Give a model the parameters that were read from a file.

    Raises:
        BadInput: they are those of another model.
    """
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    if {name: value.shape for name, value in parameters.items()} != wanted:
        raise BadInput(f"{path}: its parameters are not those of the model that {CONFIG_NAME} beside it describes")
    model.load_state_dict(parameters)


def check_preprocessing(kept: Mapping[str, Tensor], said: Inputs, path: Path) -> None:
    """Refuse the preprocessing of other networks than the model learned from.

    Raises:
        BadInput: naming the file.
    """
    places = len(said.layout.places)
    wanted = {"mean": places, "std": places, "reference": said.layout.num_weights}
    if {name: value.numel() for name, value in kept.items()} != wanted:
        raise BadInput(f"{path}: is not of the {places} tensors that {CONFIG_NAME} beside it describes")
    if digest_tensors(kept["mean"], kept["std"], kept["reference"]) != said.preprocessing:
        raise BadInput(f"{path}: is not the preprocessing that the model beside it learned with; wanted that file back")


@dataclass(frozen=True)
class Hyperrep:
    """A trained autoencoder and what its inputs went through: networks of one layout.

    One that learned from several layouts is one of these for each, all with the same model; see `load_hyperreps`.
    """

    config: HyperrepConfig
    model: Autoencoder
    tokenizer: Tokenizer
    statistics: Statistics
    reference: Float32[Tensor, " weights"]
    """The network that its inputs are aligned to."""
    origin: WeightsConfig | None
    """How its inputs were made from the networks of a zoo; None: not known, so that they count as canonical."""
    architecture: Mapping[str, Any] | None = None
    """Of its inputs, as their zoo tells it; None if it does not."""
    activations: tuple[str, ...] = ()
    """Those of its inputs, as far as their zoos tell."""

    @property
    def layout(self) -> Layout:
        """Where each tensor lies in the weight vectors it takes."""
        return self.tokenizer.layout

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.reference.device

    @property
    def d_latent(self) -> int:
        """Numbers of a latent."""
        return self.config.model.d_latent

    @classmethod
    def load(cls, folder: Path, device: torch.device, model_name: str = MODEL_NAME) -> Self:
        """Read a hyper-representation of one layout.

        Args:
            model_name: `UNTRAINED_NAME` for the model as it was before its first step, `LAST_NAME` for that after its
                last one.

        Raises:
            BadInput: a file is missing, cut short, or of another hyper-representation; or it is of several layouts.
        """
        said = read_description(folder)
        if len(said.layouts) > 1:
            raise BadInput(
                f"{folder}: learned from networks of several layouts, {', '.join(said.layouts)}; wanted one of a "
                "single layout here"
            )
        model = read_model(folder, said, device, model_name)
        return cls.read(folder, said, model, None, device)

    @classmethod
    def read(cls, folder: Path, said: Description, model: Autoencoder, name: str | None, device: torch.device) -> Self:
        """Read what goes with the networks of one layout.

        Args:
            name: of the layout; None where there is but one.
        """
        inputs = next(iter(said.layouts.values())) if name is None else said.layouts[name]
        path = place_file(folder, PREPROCESSING_NAME, name)
        kept = read_tensors(path, device)
        check_preprocessing(kept, inputs, path)
        tokenizer = Tokenizer(inputs.layout, said.sizes.d_token, said.config.tokens.kind)
        statistics = Statistics(kept["mean"], kept["std"])
        known = inputs.architecture, inputs.activations
        return cls(said.config, model, tokenizer, statistics, kept["reference"], said.origin, *known)

    def describe(self) -> Inputs:
        """Say what its inputs are."""
        digest = digest_tensors(self.statistics.mean, self.statistics.std, self.reference)
        architecture = None if self.architecture is None else dict(self.architecture)
        return Inputs(layout=self.layout, architecture=architecture, activations=self.activations, preprocessing=digest)

    def save(self, folder: Path) -> None:
        """Write into a folder that exists."""
        save_hyperreps(folder, {ONLY: self})

    def save_model(self, path: Path) -> None:
        """Write the model's parameters alone."""
        write_tensors(path, self.model.state_dict())

    def check_layout(self, layout: Layout, where: str) -> None:
        """Refuse networks of another layout than the model learned from.

        Raises:
            BadInput: naming `where` they come from.
        """
        if layout != self.layout:
            raise BadInput(
                f"{where}: got networks with {layout.num_weights} weights in {layout.num_layers} layers, wanted the "
                f"layout of weights/{self.config.weights}: {self.layout.num_weights} in {self.layout.num_layers}, "
                "with the same names and shapes"
            )

    def check_origin(self, about: Mapping[str, Any], where: str) -> None:
        """Refuse networks of another canonical form than the model learned from; one that is not known passes.

        Raises:
            BadInput: naming `where` they come from.
        """
        found = tell_origin(about)
        if self.origin is None or found is None:
            return
        for key in ("canonical", "alignment"):
            got, wanted = (getattr(one, key).model_dump_json() for one in (found, self.origin))
            kinds = tuple(getattr(getattr(one, key), "kind", None) for one in (found, self.origin))
            if got != wanted and (key == "canonical" or kinds[0] != kinds[1]):
                raise BadInput(
                    f"{where}: made with {key} {got}, wanted {wanted}, as in weights/{self.config.weights}, which the "
                    "model learned from"
                )

    def check_weights(self, weights: Float[Tensor, "networks numbers"]) -> None:
        """Refuse weights of another length, and weights that are not finite."""
        if weights.shape[1] != self.layout.num_weights:
            raise BadInput(f"weights: got {weights.shape[1]} numbers a network, wanted {self.layout.num_weights}")
        bad = (~weights.isfinite().all(1)).nonzero().flatten()
        if len(bad):
            raise BadInput(f"weights: network {int(bad[0])} (counted from 0) has weights that are not finite")

    def run_windows(
        self, run: Callable[..., Tensor], sequences: Float[Tensor, "networks tokens d_in"], halo: int
    ) -> Float[Tensor, "networks tokens d_out"]:
        """Run a function of a window's numbers, their kinds and positions over whole sequences, window by window."""
        kinds, positions = tell_kinds(self.tokenizer).to(self.device), self.tokenizer.positions.to(self.device)
        window, num_tokens = self.model.sizes.window, self.tokenizer.num_tokens
        if num_tokens < window:  # as one of several layouts it was seen whole in training, too
            window, halo = num_tokens, 0

        def run_one(part: Tensor, place: slice) -> Tensor:
            return run(part, kinds[place], positions[place])

        return run_with_halo(run_one, sequences, window, halo)

    @torch.no_grad()
    def embed(
        self, weights: Float[Tensor, "networks numbers"], halo: int = 0, networks_at_once: int = NETWORKS_AT_ONCE
    ) -> tuple[Float[Tensor, "networks latents d_latent"], Float[Tensor, "networks tokens d_model"]]:
        """Give the latents of each network, one for each token or one in all, and what the encoder knows of its tokens.

        Args:
            weights: aligned, in their own scale.
            halo: tokens of context on each side of a window; of no account where one window holds the network.

        Raises:
            BadInput: the networks do not fit the model, or the halo does not fit the window.
        """
        self.check_weights(weights)

        parts: list[tuple[Tensor, Tensor]] = []
        for part in weights.split(networks_at_once):
            standard = self.statistics.standardize(self.layout, part.to(self.device))
            parts.append(self.embed_tokens(self.tokenizer.tokenize(standard), halo))
        latents, features = zip(*parts, strict=True)
        return torch.cat(latents), torch.cat(features)

    def embed_tokens(
        self, tokens: Float[Tensor, "networks tokens d_token"], halo: int
    ) -> tuple[Float[Tensor, "networks latents d_latent"], Float[Tensor, "networks tokens d_model"]]:
        """Give latents and features of whole networks, window by window where tokens have latents of their own."""
        if self.config.model.latent.kind == "network":
            kinds, positions = tell_kinds(self.tokenizer).to(self.device), self.tokenizer.positions.to(self.device)
            return self.model.embed(tokens, kinds, positions)

        def run(*window: Tensor) -> Tensor:
            return torch.cat(self.model.embed(*window), dim=-1)

        both = self.run_windows(run, tokens, halo)
        return both[..., : self.d_latent], both[..., self.d_latent :]

    def encode(
        self, weights: Float[Tensor, "networks numbers"], halo: int = 0, networks_at_once: int = NETWORKS_AT_ONCE
    ) -> Float[Tensor, "networks latents d_latent"]:
        """Give the latents of each network; as `embed`."""
        return self.embed(weights, halo, networks_at_once)[0]

    @torch.no_grad()
    def decode(
        self,
        latents: Float[Tensor, "networks latents d_latent"],
        halo: int = 0,
        networks_at_once: int = NETWORKS_AT_ONCE,
    ) -> Float[Tensor, "networks weights"]:
        """Give each network its weights back: aligned, in their own scale."""
        parts: list[Tensor] = []
        for part in latents.split(networks_at_once):
            tokens = self.decode_latents(part.to(self.device), halo)
            parts.append(self.statistics.restore(self.layout, self.tokenizer.detokenize(tokens)))
        return torch.cat(parts)

    def decode_latents(
        self, latents: Float[Tensor, "networks latents d_latent"], halo: int
    ) -> Float[Tensor, "networks tokens d_token"]:
        """Give the tokens of whole networks back, window by window where tokens have latents of their own."""
        if self.config.model.latent.kind == "network":
            kinds, positions = tell_kinds(self.tokenizer).to(self.device), self.tokenizer.positions.to(self.device)
            return self.model.decode(latents, kinds, positions)
        return self.run_windows(self.model.decode, latents, halo)

    def reconstruct(
        self, weights: Float[Tensor, "networks weights"], halo: int = 0
    ) -> Float[Tensor, "networks weights"]:
        """Encode and decode."""
        return self.decode(self.encode(weights, halo), halo)


def read_description(folder: Path) -> Description:
    """Read what a hyper-representation says of itself.

    Raises:
        BadInput: it is missing or cut short.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted a hyper-representation; run the hyperrep stage that makes it")
    try:
        return Description.model_validate_json(path.read_text())
    except ValueError as error:
        raise BadInput(f"{path}: does not describe a hyper-representation; it may be cut short") from error


def read_model(folder: Path, said: Description, device: torch.device, model_name: str) -> Autoencoder:
    """Read one of the models of a hyper-representation."""
    model = Autoencoder(said.config.model, said.sizes)
    fill_model(model, read_tensors(folder / model_name, device), folder / model_name)
    return model.to(device).eval()


def load_hyperreps(folder: Path, device: torch.device, model_name: str = MODEL_NAME) -> dict[str, Hyperrep]:
    """Read a hyper-representation of any number of layouts: one for each by its name, all with the same model.

    Raises:
        BadInput: as `Hyperrep.load`.
    """
    said = read_description(folder)
    model, several = read_model(folder, said, device, model_name), len(said.layouts) > 1
    return {name: Hyperrep.read(folder, said, model, name if several else None, device) for name in said.layouts}


def save_hyperreps(folder: Path, hyperreps: Mapping[str, Hyperrep]) -> None:
    """Write a hyper-representation of some layouts into a folder that exists."""
    first, several = next(iter(hyperreps.values())), len(hyperreps) > 1
    inputs = {name: one.describe() for name, one in hyperreps.items()}
    said = Description(config=first.config, sizes=first.model.sizes, layouts=inputs, origin=first.origin)
    (folder / CONFIG_NAME).write_text(said.model_dump_json(indent=1) + "\n")
    first.save_model(folder / MODEL_NAME)
    for name, one in hyperreps.items():
        kept = {"mean": one.statistics.mean, "std": one.statistics.std, "reference": one.reference}
        write_tensors(place_file(folder, PREPROCESSING_NAME, name if several else None), kept)


def choose_hyperrep(hyperreps: Mapping[str, Hyperrep], layout: Layout, where: str) -> Hyperrep:
    """Choose the one that networks of a layout fit.

    Raises:
        BadInput: there is none; naming `where` the networks come from, and what would fit.
    """
    fitting = [one for one in hyperreps.values() if one.layout == layout]
    if fitting:
        return fitting[0]
    first = next(iter(hyperreps.values()))
    if len(hyperreps) == 1:
        first.check_layout(layout, where)
    known = ", ".join(
        f"{name} ({one.layout.num_weights} in {one.layout.num_layers})" for name, one in hyperreps.items()
    )
    raise BadInput(
        f"{where}: got networks with {layout.num_weights} weights in {layout.num_layers} layers, wanted one of the "
        f"layouts of weights/{first.config.weights}: {known}, with the same names and shapes"
    )
