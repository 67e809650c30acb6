"""Say how weight vectors become tokens."""

from typing import Annotated, Literal

from pydantic import Field

from weightspace.config import Config


class Sparse(Config):
    """No token spans two output channels."""

    kind: Literal["sparse"]
    d_token: Annotated[int, Field(ge=1)] | Literal["auto"]
    """Numbers a token; `auto` is the widest channel of any layer with its bias, so that none is cut."""


class Dense(Config):
    """Tokens are cut without regard to channels; only the last of a layer is padded."""

    kind: Literal["dense"]
    d_token: int = Field(ge=1)
    """Numbers a token."""


TokensConfig = Annotated[Sparse | Dense, Field(discriminator="kind")]
