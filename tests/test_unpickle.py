from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.errors import DataError
from refseg.unpickle import load_pickle, loads_pickle

VALUE = [
    {"ref_id": 1, "split": "val", "sentences": [{"raw": "Café ☂", "tokens": ["a", "b"]}], "box": (1.5, -2, None, True)}
]

# As Python 2 writes it: text opcodes, plain strings beside unicode ones.
PYTHON2 = b"(lp0\n(dp1\nS'split'\np2\nS'caf\\xe9'\np3\nsS'raw'\np4\nVcaf\\u00e9 \\u2602\np5\nsS'ref_id'\np6\nL12L\nsa."


class Evil:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_every_protocol(protocol: int) -> None:
    assert loads_pickle(pickle.dumps(VALUE, protocol=protocol)) == VALUE


def test_files_of_python_2() -> None:
    assert loads_pickle(PYTHON2) == [{"split": "café", "raw": "café ☂", "ref_id": 12}]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "number", [np.int64(-5), np.int32(7), np.float64(2.5), np.float32(0.5), np.uint8(255), np.bool_(True)]
)
def test_numpy_numbers_become_plain_ones(number: np.generic, protocol: int) -> None:
    value = loads_pickle(pickle.dumps([number], protocol=protocol))[0]
    assert value == number.item()
    assert type(value) is type(number.item())


def test_numpy_numbers_of_the_other_byte_order() -> None:
    big = np.array([258], dtype=">i4")[0]
    content = pickle.dumps(big.astype(">i4"), protocol=2)
    state = content.replace(b"<", b">")  # numpy scalars are native: write the foreign order by hand
    assert loads_pickle(content) == 258
    assert loads_pickle(state) == int.from_bytes((258).to_bytes(4, "little"), "big")


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "evil",
    [
        Evil(os.system, "echo hacked > {}"),
        Evil(eval, "open('{}', 'w')"),
        Evil(getattr, "x", "join"),
        Evil(OrderedDict),
        np.arange(3),
        np.array([{"a": 1}], dtype=object),
        np.datetime64("2020-01-01"),
        Path,
        len,
    ],
    ids=lambda value: str(getattr(value, "call", value))[:30],
)
def test_everything_else_is_refused_and_not_run(evil: object, protocol: int, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    if isinstance(evil, Evil) and evil.call[1] and isinstance(evil.call[1][0], str):
        evil = Evil(evil.call[0], evil.call[1][0].format(trap), *evil.call[1][1:])
    with pytest.raises(DataError, match=r"refused|not a readable pickle"):
        loads_pickle(pickle.dumps(["fine", evil], protocol=protocol), "a.p")
    assert not trap.exists()


def test_the_allowed_functions_cannot_be_changed() -> None:
    # GLOBAL _codecs encode, then BUILD with attributes to set
    content = b"c_codecs\nencode\n}(X\x08\x00\x00\x00__call__X\x01\x00\x00\x00xub."
    assert "BUILD" in [opcode.name for opcode, _, _ in pickletools.genops(content)]
    with pytest.raises(DataError, match="refused"):
        loads_pickle(content)
    assert loads_pickle(pickle.dumps([b"bytes \xff"], protocol=2)) == [b"bytes \xff"]


def test_persistent_ids_are_refused() -> None:
    with pytest.raises(DataError, match="outside the file"):
        loads_pickle(b"Pabc\n.")


def test_every_cut_is_named() -> None:
    content = pickle.dumps(VALUE, protocol=2)
    for length in range(len(content)):
        with pytest.raises(DataError, match="cut short or damaged"):
            loads_pickle(content[:length])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 127)), min_size=1, max_size=4), st.booleans())
def test_flipped_bytes_never_crash(changes: list[tuple[int, int]], old: bool) -> None:
    content = bytearray(PYTHON2 if old else pickle.dumps(VALUE, protocol=0))
    for position, value in changes:
        content[position % len(content)] = value
    with contextlib.suppress(DataError):
        loads_pickle(bytes(content))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps(VALUE))
    assert load_pickle(path) == VALUE
    with pytest.raises(DataError, match="limit of 10"):
        load_pickle(path, max_bytes=10)
    with pytest.raises(DataError, match=r"gone\.p: cannot be read"):
        load_pickle(tmp_path / "gone.p")
