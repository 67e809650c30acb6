"""Read pickled objects of foreign classes without running any of their code.

A pickle may name any function and call it. Here it may name what rebuilds tensors and plain collections; classes of
the authors become empty stubs that only hold attributes, and every other name ends the reading.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._C import PyTorchFileReader
from torch._utils import _rebuild_tensor

from weightspace.config import BadInput
from weightspace.imports.state import DAMAGE

PLAIN_DTYPES = frozenset("?bhilqBHILQefdU") | {f"{kind}{size}" for kind in "biuf" for size in (1, 2, 4, 8)}


class Refused(Exception):
    """A pickle names what it may not."""


class Stub:
    """Stands for an object of a class that is not loaded; holds its attributes."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Stub":
        """Take any arguments; `args` is the attribute for those that come without a state."""
        stub = super().__new__(cls)
        stub.__dict__["args"] = args
        return stub

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def __setstate__(self, state: Any) -> None:
        """Take over attributes, and nothing else."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update(part)


def rebuild_tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any) -> Tensor:
    """Rebuild a tensor from its storage."""
    return _rebuild_tensor(storage, offset, size, stride)


def rebuild_parameter(data: Tensor, *rest: Any) -> Tensor:
    """Rebuild a parameter as the tensor it holds."""
    return data


def make_dtype(name: str, *rest: Any) -> "PlainDtype":
    """Remember a numpy type of plain numbers.

    Raises:
        Refused: it is another type, such as one of objects.
    """
    if name not in PLAIN_DTYPES:
        raise Refused(f"numpy.dtype({name!r})")
    return PlainDtype(name)


class PlainDtype:
    """A numpy type of plain numbers, little-endian."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Ignore alignment and byte order: both are as usual in what is read here."""


def make_scalar(dtype: PlainDtype, content: bytes) -> float:
    """Rebuild a numpy number."""
    return np.frombuffer(content, dtype=dtype.name)[0].item()


def encode_bytes(text: str, encoding: str) -> bytes:
    """Rebuild bytes, as pickles of an old protocol hold them."""
    return text.encode("latin1")


def rebuild_object(kind: type, base: type, state: Any) -> Any:
    """Make an object of a stub's class, as pickles of an old protocol ask for.

    Raises:
        Refused: it is another class.
    """
    if not issubclass(kind, Stub):
        raise Refused(f"copyreg._reconstructor({kind.__name__})")
    return kind()


def make_path(*parts: str) -> PurePosixPath:
    """Make a path that touches no file system."""
    return PurePosixPath(*parts)


class PlainDict(dict[Any, Any]):
    """A mapping that forgets the attributes it was pickled with, such as a state dict's `_metadata`."""

    def __setstate__(self, state: Any) -> None:
        """Ignore it."""


def rebuild_default(*args: Any) -> PlainDict:
    """Make a plain mapping for one with defaults."""
    return PlainDict()


ZIP_HEAD, PICKLE_HEAD = b"PK\x03\x04", b"\x80"
PATH_MODULES = ("pathlib", "pathlib._local")
PATH_NAMES = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
SCALARS = {("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")}
ALLOWED: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): PlainDict,
    ("collections", "defaultdict"): rebuild_default,
    ("_codecs", "encode"): encode_bytes,
    ("builtins", "set"): set,
    ("builtins", "dict"): PlainDict,
    ("builtins", "list"): list,
    ("builtins", "object"): Stub,
    ("__builtin__", "object"): Stub,
    ("copyreg", "_reconstructor"): rebuild_object,
    ("copy_reg", "_reconstructor"): rebuild_object,
    **{(module, name): make_path for module in PATH_MODULES for name in PATH_NAMES},
    ("numpy", "dtype"): make_dtype,
    **dict.fromkeys(SCALARS, make_scalar),
}


def make_pickle_module(stubs: Sequence[str]) -> Any:
    """Make what torch takes in place of the pickle module; classes of packages named by `stubs` become stubs."""

    class Unpickler(pickle.Unpickler):
        """Load what is allowed."""

        def find_class(self, module: str, name: str) -> Any:
            """Find what a pickle names.

            Raises:
                Refused: it may not be named.
            """
            if (module, name) in ALLOWED:
                return ALLOWED[module, name]
            if any(module == stub or module.startswith(f"{stub}.") for stub in stubs):
                return type(name.rpartition(".")[2], (Stub,), {})
            raise Refused(f"{module}.{name}")

    class Module:
        """Has what torch asks of a pickle module."""

        __name__ = "restricted"
        Unpickler: type[pickle.Unpickler]

        @staticmethod
        def load(file: Any, **kwargs: Any) -> Any:
            """Load one object."""
            return Unpickler(file, **kwargs).load()

    Module.Unpickler = Unpickler
    return Module


def check_container(file: Path | io.BytesIO) -> bool:
    """Tell whether torch would take a file for a zip archive, rather than a plain pickle.

    Raises:
        Refused: torch would run it as TorchScript, or unpack it as a tar archive.
    """
    with file.open("rb") if isinstance(file, Path) else io.BytesIO(file.getvalue()) as opened:
        head = opened.read(len(ZIP_HEAD))
    if head != ZIP_HEAD:
        if not head.startswith(PICKLE_HEAD):
            raise Refused("a container that is neither a zip archive nor a pickle")
        return False
    # Torch's own reader, so that no archive shows one face here and another there.
    reader = PyTorchFileReader(str(file) if isinstance(file, Path) else io.BytesIO(file.getvalue()))
    if "constants.pkl" in reader.get_all_records():
        raise Refused("TorchScript, which is code")
    return True


def load_restricted(name: str, file: Path | io.BytesIO, stubs: Sequence[str]) -> Any:
    """Load a torch file with pickled objects; its tensors stay on disk where it is a file of the current format.

    Raises:
        BadInput: it is damaged, or names what it may not.
    """
    try:
        packed = check_container(file)
        return torch.load(
            file,
            map_location="cpu",
            pickle_module=make_pickle_module(stubs),
            weights_only=False,
            mmap=packed and isinstance(file, Path),
        )
    except Refused as error:
        raise BadInput(f"{name}: wants {error}, refused; nothing in it was executed") from error
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:120]
        raise BadInput(f"{name}: cannot be read ({reason}); it may be cut short") from error
