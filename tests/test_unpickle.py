from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.errors import DataError
from refseg.opcodes import check_opcodes
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


def peak_of(content: bytes, arrays: bool, megabytes: int) -> None:
    """Reads a pickle in a process that may take so much memory; it must end in a `DataError`."""
    code = (
        "import resource, sys\n"
        "from refseg.errors import DataError\n"
        "from refseg.unpickle import loads_pickle\n"
        "loads_pickle(b'\\x80\\x04K\\x01.')\n"  # what is made once
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {megabytes} * 1024 * 1024,) * 2)\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "try:\n"
        f"    loads_pickle(sys.stdin.buffer.read(), arrays={arrays})\n"
        "except DataError as error:\n"
        "    assert 'MemoryError' not in str(error), error\n"
        "    print(str(error)[:300])\n"
        "else:\n"
        "    raise SystemExit('it was read')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, timeout=200)
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    assert b"pickle" in result.stdout or b"refused" in result.stdout


def nested(levels: int, width: int) -> bytes:
    """A list of `width` times the same list of `width` times the same ...: few bytes, `width` ** `levels` parts."""
    content = b"\x80\x02]q\x00K\x01a"
    for level in range(1, levels + 1):
        content += b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * width + b"e"
    return content + b"."


def array_of(shape: bytes, kind: bytes, content: bytes) -> bytes:
    """A pickle of an array by hand: _reconstruct(ndarray, (0,), b"b"), then its state."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + shape + b"cnumpy\ndtype\nU" + bytes([len(kind)]) + kind + b"K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + content + b"tb."
    )


BILLION = b"J\x00\xca\x9a\x3b\x85"  # (1000000000,)


@pytest.mark.parametrize(
    ("content", "arrays"),
    [
        (b"]r\xff\xff\xff\x0f.", False),
        (b"]p268435455\n.", False),
        (b"(lp0000000000000000000000268435455\n.", False),
        (nested(9, 12), False),
        (b"\x80\x02cnumpy\ndtype\n" + nested(9, 12)[2:-1] + b"K\x00K\x01\x87R.", False),
        (b"\x80\x02cnumpy\nndarray\n" + BILLION + b"U\x01O\x86R.", True),
        (array_of(BILLION, b"O8", b"]"), True),
        (array_of(BILLION, b"f8", b"U\x00"), True),
        (array_of(b"K\x01\x85", b"V999999999", b"U\x00"), True),
        (b"\x80\x02c_codecs\nencode\nq\x00X\x00\x00\x10\x00" + b"x" * 0x100000 + b"q\x01"
         + b"h\x00h\x01\x85R" * 2000 + b".", False),
        (b"\x80\x02ccollections\nOrderedDict\nq\x00]q\x01(" + b"K\x01K\x02\x86" * 50000 + b"e0"
         + b"h\x00h\x01\x85R" * 5000 + b".", True),
    ],
    ids=["memo", "memo-text", "memo-zeros", "nested", "nested-dtype", "ndarray-called", "objects", "numbers", "void",
         "encode", "dict"],
)  # fmt: skip
def test_a_few_bytes_cannot_ask_for_much_memory(content: bytes, arrays: bool) -> None:
    peak_of(content, arrays, 200)


def doubled(levels: int) -> bytes:
    """A tuple of twice the same tuple of twice the same ...: 2 ** `levels` parts, each of which hashing reads."""
    content = b"K\x01\x85q\x00"
    for level in range(1, levels + 1):
        content += b"0h" + bytes([level - 1]) + b"h" + bytes([level - 1]) + b"\x86q" + bytes([level])
    return content


def set_doubled(levels: int) -> bytes:
    """The same of frozensets {A, (A,)}: their hash is kept, but two of them are compared part by part."""
    content = b"(K\x01\x91\x94"
    for level in range(1, levels + 1):
        content += b"0(h" + bytes([level - 1]) + b"h" + bytes([level - 1]) + b"\x85\x91\x94"
    return content


LONG = (1 << 61) - 1
"""What integers are taken modulo of as hashes."""
ALIKE = range(150_000)


@pytest.mark.parametrize(
    ("content", "arrays"),
    [
        (b"\x80\x02}" + doubled(60) + b"Ns.", False),
        (b"\x80\x02}(" + doubled(60) + b"Nu.", False),
        (b"\x80\x02(" + doubled(60) + b"Nd.", False),
        (b"\x80\x04\x8f(" + doubled(60) + b"\x90.", False),
        (b"\x80\x04(" + doubled(60) + b"\x91.", False),
        (b"\x80\x04" + set_doubled(60) + b".", False),
        (b"\x80\x02ccollections\nOrderedDict\n](" + doubled(60) + b"N\x86e\x85R.", True),
        (b"(ccollections\nOrderedDict\n](" + doubled(60) + b"N\x86eo.", True),
        (b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.", False),
        (b"\x80\x02](K\x01" + b"K\x01" * 100_000 + b"tq\x00}(" + b"h\x00N" * 100_000 + b"u.", False),
        (b"(" + b"".join(b"\x8a\x0b" + (n * LONG).to_bytes(11, "little") + b"N" for n in ALIKE) + b"d.", False),
        (b"(" + b"".join(b"L%dL\nN" % (number * LONG) for number in ALIKE) + b"d.", False),
        (b"\x80\x02\x8b\x00\x00\x10\x00" + b"\x01" * 0x100000 + b"q\x00}(" + b"h\x00N" * 300_000 + b"u.", False),
    ],
    ids=["item", "items", "dict", "set", "frozenset", "frozensets", "ordered", "ordered-object", "deep", "wide",
         "neighbours", "neighbours-text", "long"],
)  # fmt: skip
def test_a_few_bytes_cannot_ask_for_much_time(content: bytes, arrays: bool) -> None:
    """The process is ended after some seconds of computing; nested a million deep, the tuples overflowed its stack."""
    peak_of(content, arrays, 400)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_tuples_and_sets_are_keys_as_they_were(protocol: int) -> None:
    shared = (1, ("a", 2.5))
    value: dict[object, object] = {shared: [shared, shared], (): 1, (shared, shared): {(6,): True}}
    if protocol >= 4:  # before, sets are made by calling what they are named
        value |= {frozenset([3, (4, 5)]): {shared, "b"}, "set": {frozenset([(shared, shared)])}}
    value |= {(number, 7): [{(number,): {"x": shared}}] for number in range(3000)}
    assert loads_pickle(pickle.dumps(value, protocol=protocol)) == value
    ordered = OrderedDict(value)
    assert loads_pickle(pickle.dumps(ordered, protocol=protocol), arrays=True) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [VALUE, [2**63 - 1, -(2**63), 2**64], [(1, 2)], [{"a": [1, "b"], "c": 2.5}]])
def test_plain_is_what_is_hashed_at_once(value: list[object], protocol: int) -> None:
    """Independently of the reader: what the library's own disassembler finds."""
    content = pickle.dumps(value, protocol=protocol)
    costly = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET", "LONG4"}
    found = {opcode.name for opcode, _, _ in pickletools.genops(content)}
    numbers = [argument for _, argument, _ in pickletools.genops(content) if type(argument) is int]
    if found & costly or max(map(abs, numbers), default=0) > 2**64:
        assert not check_opcodes(content)
    elif max(map(abs, numbers), default=0) < 10**15:
        assert check_opcodes(content)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_kind_come_back(protocol: int) -> None:
    values = {
        "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(4, dtype=">i4"),
        "flags": np.array([True, False]),
        "text": np.array(["a", "bcd"]),
        "objects": np.array([{"a": 1}, [2], None], dtype=object),
        "number": np.array(2.5),
        "empty": np.zeros((0, 4), dtype=np.int64),
        "ordered": OrderedDict(a=1, b=[2]),
        "scalar": np.float64(0.25),
    }
    found = loads_pickle(pickle.dumps(values, protocol=protocol), arrays=True)
    assert found.keys() == values.keys()
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            assert isinstance(found[name], np.ndarray)
            assert found[name].shape == value.shape
            assert found[name].dtype == value.dtype.newbyteorder("=")
            assert found[name].tolist() == value.tolist()
        else:
            assert found[name] == value


def test_real_pickles_share_as_much_as_they_like() -> None:
    """Strings, and a list that stands in every record."""
    shared = ["the", "red", "dog"]
    value = [{"tokens": shared, "raw": "the red dog", "id": number} for number in range(3000)]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert loads_pickle(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize("length", [0, 1, 200, 255, 256, 300, 70_000])
def test_texts_and_bytes_of_any_length(length: int) -> None:
    value = ["é" * length, b"\x80.\n" * length, "x\n" * length, 2 ** (8 * length + 1) if length < 1000 else 0]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert loads_pickle(pickle.dumps(value, protocol=protocol)) == value
