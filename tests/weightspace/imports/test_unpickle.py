"""Whatever a file holds, it is read or refused by name, and nothing in it is executed."""

import io
import pickle
import pickletools
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weightspace.config import BadInput
from weightspace.imports.state import read_state
from weightspace.imports.unpickle import ALLOWED, load_restricted

# What torch says of pickles that are no checkpoints, or name storages of old.
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:TypedStorage is deprecated")
STUBS = ("authors",)
NAMES = [*ALLOWED, ("os", "system"), ("builtins", "eval"), ("authors.a", "B"), ("torch", "load"), ("torch._utils", "x")]
OPCODES = st.sampled_from([op.code.encode("latin1") for op in pickletools.opcodes])
GLOBALS = st.sampled_from([f"c{module}\n{name}\n".encode() for module, name in NAMES])
VALUES = st.sampled_from(
    [b"(", b")", b"t", b"R", b"b", b"}", b"]", b"N", b"K\x01", b"X\x01\0\0\0a", b"\x85", b"\x86", b"0", b"2"]
)
PICKLES = st.lists(GLOBALS | VALUES | OPCODES | st.binary(max_size=3), max_size=12).map(lambda parts: b"".join(parts))
MANY = settings(max_examples=150, deadline=None)


def check(content):
    """Load bytes in both ways; whatever is wrong is said in one line."""
    said = []
    for load in (lambda: load_restricted("x", io.BytesIO(content), STUBS), lambda: read_state("x", content, Counter())):
        try:
            load()
        except BadInput as error:
            said.append(str(error))
    assert all(line.startswith("x: ") and "\n" not in line for line in said)


def save(value, zipped):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


SAVED = [save({"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}, zipped) for zipped in (True, False)]


@MANY
@given(st.binary(max_size=100))
def test_any_bytes(content):
    check(content)
    check(b"\x80\x02" + content)


@MANY
@given(PICKLES)
def test_any_opcodes(program):
    check(b"\x80\x02" + program + b".")
    # The header of torch's older format, so that the program is what comes after it.
    head = b"".join(pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    check(head + b"\x80\x02" + program + b".")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SAVED), st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.floats(0, 1))
def test_any_byte_changed_or_cut(saved, place, byte, share):
    content = bytearray(saved)
    content[int(place * len(content))] = byte
    check(bytes(content[: int(share * len(content))]))
    check(bytes(content))


@pytest.mark.parametrize("zipped", [True, False])
def test_what_nobody_changed_is_read(zipped):
    found = load_restricted("x", io.BytesIO(save({"a": torch.arange(3.0)}, zipped)), STUBS)
    assert found["a"].tolist() == [0, 1, 2]
