"""Settings for all tests."""

import os
from collections.abc import Callable
from typing import Any, get_args

from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import AbstractArray, install_import_hook

# Before torch is loaded: tests run side by side on few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Triton looks when it is imported, by whatever comes first: its kernels run on the CPU, interpreted.
os.environ.setdefault("TRITON_INTERPRET", "1")


def has_shape(hint: Any) -> bool:
    """Say whether an annotation gives the shape of an array, itself or inside."""
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(has_shape(arg) for arg in get_args(hint))


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have the shapes that a function's annotations give checked whenever it is called; other types are for pyright."""
    annotations = dict(function.__annotations__)
    function.__annotations__ = {name: hint for name, hint in annotations.items() if has_shape(hint)}
    checked = beartype(function, conf=BeartypeConf(is_pep484_tower=True))
    function.__annotations__ = annotations
    return checked


# The same examples each time; `pytest --hypothesis-profile=search` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("same")
install_import_hook("weightspace", f"{__name__}.check_shapes")
