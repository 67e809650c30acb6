"""Compile the kernels of the fused CPU engine, once on a machine: compiled code is kept in a cache folder."""

import ctypes
import hashlib
import importlib.util
import inspect
import os
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import platformdirs
from numba.core import config, types
from numba.core.registry import cpu_target

from weightspace.zoo import fused_driver, fused_maths, fused_vectors

LOCK = threading.Lock()


@cache
def find_cache_folder() -> Path:
    """Return the folder for kernels of this processor, these libraries and this code; make it.

    It lies where NUMBA_CACHE_DIR says, else in the user's cache, else (where that cannot be written) in a new folder
    that only this process uses: compiled code is never read from a place where others can write.
    """
    sources = [inspect.getsource(module) for module in (fused_vectors, fused_maths)]
    target: Any = cpu_target.target_context
    facts = (numba.__version__, llvmlite.__version__, sys.version, target.codegen().magic_tuple())
    name = hashlib.sha256(repr((facts, sources)).encode()).hexdigest()[:16]
    root = getattr(config, "CACHE_DIR", "") or platformdirs.user_cache_path()
    folder = Path(root) / "weightspace" / "kernels" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    return folder if writable else Path(tempfile.mkdtemp(prefix="weightspace-kernels-"))


def write_module(source: str) -> Path:
    """Put a source into the cache folder, under a name that its content decides.

    Of two processes that write the same file at once, the first wins: Numba compares the file's time with what it
    noted beside the compiled code.
    """
    path = find_cache_folder() / f"kernel_{hashlib.sha256(source.encode()).hexdigest()[:24]}.py"
    if not path.exists():
        handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        with os.fdopen(handle, "w") as file:
            file.write(source)
        try:
            os.link(partial, path)
        except OSError:  # another process was first, or the file system knows no links
            if not path.exists():
                Path(partial).replace(path)
        Path(partial).unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class Compiled:
    """A compiled function of integers that returns nothing."""

    code: Any
    """Numba's object, which keeps the machine code alive."""
    address: int
    call: Any
    """For Python; it lets go of Python's lock."""


def load_function(source: str, name: str) -> Any:
    """Load a function of a generated module."""
    path = write_module(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # Numba looks it up when it loads compiled code
    spec.loader.exec_module(module)
    return getattr(module, name)


@cache
def compile_function(source: str, name: str) -> Compiled:
    """Compile a function of a module, or load it from the cache."""
    function = load_function(source, name)
    num_arguments = len(inspect.signature(function).parameters)
    code: Any = numba.cfunc(types.void(*[types.intp] * num_arguments), cache=True)(function)
    return Compiled(code, code.address, ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * num_arguments)(code.address))


def compile_kernel(source: str) -> int:
    """Compile a generated kernel and return its address."""
    with LOCK:
        return compile_function(source, "kernel").address


def compile_driver(name: str) -> Any:
    """Compile a loop of `fused_driver` and return it, to be called with the address of a job."""
    with LOCK:
        return compile_function(inspect.getsource(fused_driver), name).call
