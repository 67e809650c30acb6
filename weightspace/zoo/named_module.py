"""Bring in the torch module that a zoo's configuration names, and refuse one that no zoo can be made of.

Only a configuration leads here. What a data set on disk says of its networks never imports anything.
"""

import hashlib
import importlib
import inspect
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from weightspace.config import BadInput, Config
from weightspace.zoo.member_dropout import replace_dropout

WANTED = "wanted package.module:Name of a torch.nn.Module"
PROBES = 2
"""Images that a module is tried on."""


class NamedModule(Config):
    """A network that a user wrote as a torch module."""

    kind: Literal["module"] = "module"
    name: str
    channels: int
    height: int
    width: int
    num_classes: int
    path: str
    """`package.module:Name` of a class or function that makes the module."""
    arguments: dict[str, JsonValue]
    """What it is called with."""
    source: str
    """SHA-256 of the file that it stands in, so that a changed one makes another zoo; empty if there is none."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width


def describe_named(
    path: str, arguments: dict[str, JsonValue], shape: tuple[int, int, int], num_classes: int
) -> NamedModule:
    """Describe the module that a path names, for images of a shape and some classes.

    Raises:
        BadInput: it cannot be made, cannot take the images, or is not a function of weights and images alone.
    """
    channels, height, width = shape
    network = NamedModule(
        name=path.rpartition(":")[2].replace(".", "_"),
        channels=channels,
        height=height,
        width=width,
        num_classes=num_classes,
        path=path,
        arguments=arguments,
        source=digest_source(find_maker(path)),
    )
    check_module(network)
    return network


def find_maker(path: str) -> Any:
    """Import what a path names.

    Raises:
        BadInput: there is nothing of that name to call.
    """
    where, found, name = path.partition(":")
    if not (found and name and where):
        raise BadInput(f"architecture.path: got {path!r}, {WANTED}")
    try:
        maker: Any = importlib.import_module(where)
        for part in name.split("."):
            maker = getattr(maker, part)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"architecture.path: got {path!r} ({error}), {WANTED}") from error
    if not callable(maker):
        raise BadInput(f"architecture.path: got {path!r}, which is {type(maker).__name__}, {WANTED}")
    return maker


def digest_source(maker: Any) -> str:
    """Digest the file that a class or function stands in."""
    try:
        file = inspect.getsourcefile(maker)
    except TypeError:  # of something built in
        file = None
    return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()


def make_named(network: NamedModule) -> nn.Module:
    """Make a module with weights as it draws them itself.

    Raises:
        BadInput: what is named does not take the arguments, or makes no module.
    """
    maker = find_maker(network.path)
    try:
        module = maker(**network.arguments)
    except (TypeError, ValueError) as error:
        said = ", ".join(f"{name}={value!r}" for name, value in network.arguments.items())
        raise BadInput(f"architecture.arguments: {network.path}({said}) fails ({error})") from error
    if not isinstance(module, nn.Module):
        raise BadInput(f"architecture.path: {network.path} makes {type(module).__name__}, {WANTED}")
    return module


def check_module(network: NamedModule) -> None:
    """Try a module on images of zeros: what comes out, what it draws, which parameters take part.

    Raises:
        BadInput: a zoo cannot be made of it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = replace_dropout(make_named(network)).train()
        watch_draws(network.path, module)
        images = torch.zeros(PROBES, *network.image_shape)
        logits = try_module(network, module, images)
    check_logits(network, logits)
    trained = {name: one for name, one in module.named_parameters() if one.requires_grad}
    if not trained or not logits.requires_grad:
        raise BadInput(f"architecture.path: {network.path} has nothing to train, wanted parameters with a gradient")
    found = torch.autograd.grad(logits.sum(), list(trained.values()), allow_unused=True)
    unused = [name for name, gradient in zip(trained, found, strict=True) if gradient is None]
    if unused:
        raise BadInput(f"architecture.path: {unused[0]} of {network.path} does not change its output, wanted none such")


def try_module(network: NamedModule, module: nn.Module, images: Tensor) -> Tensor:
    """Run a module on images.

    Raises:
        BadInput: it fails.
    """
    try:
        return module(images)
    except BadInput:  # of `watch_draws`
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        why, shape = str(error).splitlines()[0], tuple(images.shape)
        raise BadInput(f"architecture.path: {network.path} fails on images of shape {shape} ({why})") from error


def check_logits(network: NamedModule, logits: object) -> None:
    """Refuse outputs that are no logits.

    Raises:
        BadInput: they are of another type or shape.
    """
    wanted = (PROBES, network.num_classes)
    if not isinstance(logits, Tensor):
        raise BadInput(f"architecture.path: {network.path} gives {type(logits).__name__}, wanted a tensor of logits")
    if tuple(logits.shape) != wanted:
        raise BadInput(
            f"architecture.path: {network.path} gives outputs of shape {tuple(logits.shape)} for {PROBES} images, "
            f"wanted {wanted}: a logit for each class"
        )


def watch_draws(path: str, module: nn.Module) -> None:
    """Make a module fail where a part of it draws random numbers of its own."""
    before: dict[str, Tensor] = {}

    def remember(name: str) -> None:
        before[name] = torch.get_rng_state()

    def compare(name: str, part: nn.Module) -> None:
        if not torch.equal(before[name], torch.get_rng_state()):
            what = f"{name} ({type(part).__name__})" if name else "its forward"
            raise BadInput(
                f"architecture.path: {what} of {path} draws random numbers that no member's seed decides, wanted "
                "nn.Dropout, or nothing random"
            )

    for name, part in module.named_modules():
        part.register_forward_pre_hook(lambda _part, _given, name=name: remember(name))
        part.register_forward_hook(lambda part, _given, _made, name=name: compare(name, part))
