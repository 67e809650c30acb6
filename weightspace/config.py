"""What every configuration shares: frozen models that refuse unknown keys, and digests of what they say."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class BadInput(ValueError):
    """Something a user gave is wrong.

    The message is one line: the key or file, what came, what was wanted. Command lines print it and exit with 2.
    """


class Config(BaseModel):
    """A frozen configuration. An unknown key is an error; a default never changes a result."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def digest_value(value: Any) -> str:
    """Digest what JSON can say (configurations included), independent of key order.

    Returns:
        64 hexadecimal digits of SHA-256.
    """
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
