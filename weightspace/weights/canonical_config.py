"""Say which canonical form networks are brought to, where that is not weight matching."""

from typing import Literal

from weightspace.config import Config

SortKey = Literal["incoming", "both"]


class Sort(Config):
    """Reorder each member's units by a norm of their weights, the largest first; needs no reference."""

    kind: Literal["sort"]
    key: SortKey
    """`incoming`: norm of the incoming weights with the bias. `both`: times the norm of the outgoing weights; for where
    `canonical.scale` makes the incoming norm 1 for all units."""


class Canonical(Config):
    """What else than the order of units is chosen so that networks with one function have one form.

    Both leave a network's function as it is, need to know its architecture, and leave members alone whose activation
    does not allow it.
    """

    scale: bool
    """relu and leaky_relu: the incoming weights and bias of each hidden unit get norm 1, and its outgoing weights the
    inverse factor; for each checkpoint by itself."""
    orient: bool
    """tanh: the incoming weights and bias of each hidden unit get a sum that is not negative, by turning the signs of
    all its weights; found at the member's last epoch. Units before a maximum pooling keep their signs, since the
    largest of turned numbers is not the largest turned."""
