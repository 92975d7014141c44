"""Word vectors from the files of the field: GloVe's text and word2vec's text and binary form, plain or gzipped.

    the 0.04656 0.21318 -0.0074364 ...      GloVe: a word and its numbers a line
    400000 300                              word2vec: a first line with the number of words and of channels, then
    the 0.04656 ...                         the same lines, or in binary the word, a space and 32-bit floats

Pennington, Socher, Manning: GloVe, EMNLP 2014; Mikolov et al., 2013. A file holds millions of words and a vocabulary a
few thousand, so the table is kept in the user's cache (see `refseg.files.cache_folder`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refseg.encoders.text.tokenizer import split_words
from refseg.errors import CheckpointError, RefsegError
from refseg.files import cache_folder, write_bytes

__all__ = ["WordVectors", "first_words", "read_vectors"]

_LOG = logging.getLogger(__name__)
_LONGEST = 1 << 20
"""Bytes of a line or a word beyond which a file is something else."""


@dataclass(frozen=True)
class WordVectors:
    """A table for a vocabulary; the row of a word that the file does not have is zeros, `known` is False there."""

    table: Float[Tensor, "V E"]
    known: Bool[Tensor, " V"]


def read_vectors(path: str | Path, words: Sequence[str]) -> WordVectors:
    """The vectors of `words`, in their order; of a word that the file lists twice, the first.

    Raises `CheckpointError` with the file and the line (binary: the word's number) where it is cut short, a line has
    another number of numbers than the first, or something is no number.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of word vectors")
    kept = _kept_at(path, words)
    if kept is not None and kept.is_file():
        try:
            return _read_kept(kept, len(words))
        except CheckpointError as error:
            _LOG.warning("the cached word vectors are read anew: %s", error)
    vectors = _read(path, words)
    if kept is not None:
        _keep(kept, vectors)
    return vectors


def first_words(path: str | Path, most: int) -> list[str]:
    """Up to `most` words of a file, in its order (files list frequent words first), that a sentence can hold: those
    that splitting into lower-case words (`split_words`) leaves as they are.

    Raises `CheckpointError` as `read_vectors` does, for what is read of the file.
    """
    path = Path(path)
    words: dict[str, None] = {}
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of word vectors")
    with _opened(path) as handle:
        for entry, _ in _entries(path, handle, {}):
            if len(words) >= most:
                break
            word = entry.decode("utf-8", "ignore")
            if split_words(word) == [word]:
                words[word] = None
    return list(words)


def _read(path: Path, words: Sequence[str]) -> WordVectors:
    rows = {word.encode("utf-8"): row for row, word in reversed(list(enumerate(words)))}
    table: np.ndarray | None = None
    known = np.zeros(len(words), dtype=bool)
    with _opened(path) as handle:
        for word, vector in _entries(path, handle, rows):
            if table is None:
                table = np.zeros((len(words), len(vector)), dtype=np.float32)
            row = rows.get(word)
            if row is not None and not known[row]:
                table[row], known[row] = vector, True
    if table is None:
        raise CheckpointError(f"{path}: no word vectors in it; it is empty")
    return WordVectors(torch.from_numpy(table), torch.from_numpy(known))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with path.open("rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as handle:
        yield handle


def _entries(path: Path, handle: Any, wanted: dict[bytes, int]) -> Iterator[tuple[bytes, np.ndarray]]:
    """Every word with its vector; vectors of words that are not wanted may be zeros."""
    first = _line(path, handle, 1)
    sizes = first.split()
    if len(sizes) != 2 or not all(size.isdigit() for size in sizes):
        yield from _text(path, handle, first, wanted, None)
        return
    count, width = int(sizes[0]), int(sizes[1])
    if not 1 <= width <= 100_000:
        raise CheckpointError(f"{path}, line 1: {width} numbers a word cannot be")
    beginning = _text_or_binary(path, handle, width)
    if isinstance(beginning, _Head):
        yield from _binary(path, handle, beginning, count, width)
    else:
        yield from _text(path, handle, beginning, wanted, (count, width))


class _Head(bytes):
    """What was read of a binary file to see that it is one."""


def _text_or_binary(path: Path, handle: Any, width: int) -> bytes:
    """The second line of a text file; or the head of a binary one, whose bytes are no numbers."""
    start = handle.read(min(_LONGEST, 64 + 32 * width))
    line, end, rest = start.partition(b"\n")
    try:
        [float(number) for number in line.split(b" ")[-2:]]
    except ValueError:
        return _Head(start)
    handle.seek(-len(rest), os.SEEK_CUR)
    return line + end if end else line + handle.readline(_LONGEST)


def _line(path: Path, handle: Any, number: int) -> bytes:
    try:
        line = handle.readline(_LONGEST)
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
        raise CheckpointError(f"{path}, line {number}: the file ends or is damaged here ({error})") from error
    if len(line) == _LONGEST:
        raise CheckpointError(f"{path}, line {number}: no file of word vectors; the line is over {_LONGEST} bytes long")
    return line


def _text(
    path: Path, handle: Any, line: bytes, wanted: dict[bytes, int], sizes: tuple[int, int] | None
) -> Iterator[tuple[bytes, np.ndarray]]:
    number = 1 if sizes is None else 2
    width = len(line.split()) - 1 if sizes is None else sizes[1]
    zeros = np.zeros(max(width, 0), dtype=np.float32)
    entries = 0
    while line:
        fields = line.rstrip().split(b" ")
        if len(fields) > 1 or fields[0]:
            # GloVe's largest file has a few words with spaces in them: the numbers are the last fields.
            count = len(fields) - 1
            if width < 1 or count < width or (count > width and _is_number(fields[count - width])):
                raise CheckpointError(f"{path}, line {number}: {count} numbers after the word, {max(width, 1)} wanted")
            word = b" ".join(fields[:-width])
            vector = zeros
            try:
                if word in wanted:
                    vector = np.array(fields[-width:], dtype=np.float32)
                else:
                    float(fields[-1])
            except ValueError as error:
                raise CheckpointError(
                    f"{path}, line {number}: of {_shown(word)} not all that follows is a number ({error})"
                ) from error
            if not np.isfinite(vector).all():
                raise CheckpointError(f"{path}, line {number}: a number of {_shown(word)} is not finite")
            entries += 1
            yield word, vector
        number += 1
        line = _line(path, handle, number)
    if sizes is not None and entries < sizes[0]:
        raise CheckpointError(f"{path}, line {number}: cut short after {entries} of the {sizes[0]} words of line 1")


def _binary(path: Path, handle: Any, head: bytes, count: int, width: int) -> Iterator[tuple[bytes, np.ndarray]]:
    buffer, at = head, 0
    for number in range(1, count + 1):
        while True:
            space = buffer.find(b" ", at)
            if space >= 0 and len(buffer) >= space + 1 + 4 * width:
                break
            if space < 0 and len(buffer) - at > _LONGEST:
                raise CheckpointError(f"{path}: word {number} has no end; not word2vec's binary form")
            try:
                more = handle.read(1 << 20)
            except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
                raise CheckpointError(f"{path}: damaged at word {number} of {count} ({error})") from error
            if not more:
                raise CheckpointError(f"{path}: cut short at word {number} of {count}")
            buffer, at = buffer[at:] + more, 0
        word, start = buffer[at:space].lstrip(b"\n"), space + 1
        at = start + 4 * width
        vector = np.frombuffer(buffer, dtype="<f4", count=width, offset=start)
        if not np.isfinite(vector).all():
            raise CheckpointError(f"{path}: a number of word {number}, {_shown(word)}, is not finite")
        yield word, vector


def _is_number(field: bytes) -> bool:
    """Whether this is one of a vector's numbers, and not a part of a word such as "1 2"."""
    try:
        float(field)
    except ValueError:
        return False
    return b"." in field and field.strip(b".") != b""


def _shown(word: bytes) -> str:
    return repr(word[:40].decode("utf-8", "replace"))


def _kept_at(path: Path, words: Sequence[str]) -> Path | None:
    home = cache_folder()
    if home is None:
        return None
    state = path.stat()
    key = json.dumps([str(path.resolve()), state.st_size, state.st_mtime_ns, list(words)])
    return home / f"vectors-{hashlib.sha256(key.encode()).hexdigest()[:32]}.crc"


def _read_kept(path: Path, count: int) -> WordVectors:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
        if len(content) < 4 or zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
            raise CheckpointError(f"{path}: its checksum is another one")
        tensors = load(content[:-4])
        table, known = tensors["table"], tensors["known"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if table.ndim != 2 or len(table) != count or known.shape != (count,):
        raise CheckpointError(f"{path}: {tuple(table.shape)} for {count} words")
    return WordVectors(table.float(), known.bool())


def _keep(path: Path, vectors: WordVectors) -> None:
    """A file of safetensors, followed by its CRC-32 in four bytes."""
    from safetensors.torch import save

    content = save({"table": vectors.table, "known": vectors.known})
    try:
        write_bytes(path, content + zlib.crc32(content).to_bytes(4, "little"))
    except (RefsegError, OSError) as error:
        _LOG.info("the word vectors are not cached: %s", error)
