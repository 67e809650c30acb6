"""Tell the kinds of networks of a zoo apart: chains of blocks, residual networks, and modules that a user named."""

import torch
from torch import nn

from weightspace.layout import Layout
from weightspace.networks import Activation, Architecture, build_layout
from weightspace.zoo.member_dropout import replace_dropout
from weightspace.zoo.modules import lay_out_module
from weightspace.zoo.named_module import NamedModule, make_named
from weightspace.zoo.residual import ResidualModule, ResidualNetwork, list_wires

ModuleNetwork = ResidualNetwork | NamedModule
Network = Architecture | ModuleNetwork


def lay_out_network(network: Network) -> Layout:
    """Lay out a network's weight vector, buffers included."""
    if isinstance(network, Architecture):
        return build_layout(network)
    if isinstance(network, NamedModule):
        with torch.random.fork_rng(devices=[]):
            return lay_out_module(make_named(network), {})
    with torch.device("meta"):
        return lay_out_module(ResidualModule(network, "relu"), dict(list_wires(network)))


def build_module(network: ModuleNetwork, activation: Activation | None) -> nn.Module:
    """Make the module of a network, with weights that torch's generator decides.

    Args:
        activation: of a residual network; a module of the user's has its own.
    """
    with torch.random.fork_rng(devices=[]):
        if isinstance(network, NamedModule):
            return replace_dropout(make_named(network))
        assert activation is not None
        return ResidualModule(network, activation)
