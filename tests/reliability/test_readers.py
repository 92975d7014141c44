"""Every reader with what hypothesis finds against it: what is read, or the package's own error; nothing else.

A few examples each; REFSEG_RELIABILITY_MINUTES=15 goes on, with other seeds each time, until these minutes are over,
shared out evenly over the readers.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from refseg.config import to_toml
from refseg.data import rle
from refseg.data.convert import read_any
from refseg.data.json_files import read_json
from refseg.data.table import load_table
from refseg.errors import RefsegError
from refseg.inference.checkpoint import load_model
from refseg.inference.detections import read_detections
from refseg.models.instances.words import Lexicon
from refseg.state_dicts import read_tensors
from refseg.training.recipe import parse_recipe, read_recipe
from refseg.unpickle import loads_pickle
from tests.reliability.world import RECIPE
from tests.support.damage import ODD, is_own, swapped

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(3600)]
MINUTES = float(os.environ.get("REFSEG_RELIABILITY_MINUTES", "0"))
EXAMPLES = 30
READERS = 11
"""Tests of this file that search."""

JSON = st.recursive(
    st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
SEEDS = st.integers(0, 2**32 - 1)
DAMAGE = st.tuples(st.sampled_from(["cut", "flip", "put", "drop"]), st.lists(st.tuples(
    st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))  # fmt: skip


def search(strategy: st.SearchStrategy[Any], read: Callable[[Any], object]) -> None:
    """Call `read` with what the strategy makes; it may raise the package's own errors."""
    end = time.monotonic() + 60 * MINUTES / READERS
    round_ = 0
    while round_ == 0 or time.monotonic() < end:

        @seed(round_)
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )  # fmt: skip
        @given(strategy)
        def one(value: Any) -> None:
            try:
                read(value)
            except Exception as error:
                if not is_own(error):
                    raise

        one()
        round_ += 1


def damage(whole: bytes, how: tuple[str, list[tuple[float, int]]]) -> bytes:
    """A file cut short, with other bytes, with more bytes or with fewer."""
    way, places = how
    changed = bytearray(whole)
    for place, value in places:
        at = int(place * len(changed)) if changed else 0
        if way == "cut":
            return bytes(changed[:at])
        if way == "put":
            changed[at:at] = bytes([value])
        elif way == "drop":
            del changed[at : at + 1 + value % 8]
        elif changed:
            changed[at] = value
    return bytes(changed)


def of_json(content: Any) -> st.SearchStrategy[Any]:
    """The content with a value, at any depth, replaced by an odd one; or any JSON at all."""
    return SEEDS.map(lambda number: swapped(content, np.random.default_rng(number))) | JSON


def files_of(whole: bytes) -> st.SearchStrategy[bytes]:
    """Damaged versions of a file; with odd values too where it holds JSON."""
    damaged = DAMAGE.map(lambda how: damage(whole, how))
    try:
        content = json.loads(whole)
    except ValueError:
        return damaged | st.binary(max_size=60)
    return damaged | of_json(content).map(lambda value: json.dumps(value).encode())


def test_lines_of_json(world: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (world / "jsonl" / "data.jsonl").read_text().splitlines()]
    root = Path(shutil.copytree(world / "jsonl", tmp_path / "data"))

    def read(values: list[Any]) -> None:
        (root / "data.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
        for sample in read_any(root):
            sample.boxes()

    search(st.lists(st.sampled_from(records).flatmap(of_json), min_size=1, max_size=3), read)


@pytest.mark.parametrize("name", ["instances.json", "grefs(unc).json"])
def test_tables_of_grefcoco(name: str, world: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(world / "data", tmp_path / "data"))
    path = root / "grefcoco" / name

    def read(content: bytes) -> None:
        path.write_bytes(content)
        for sample in read_any(root):
            sample.boxes()
            sample.mask()

    search(files_of((world / "data" / "grefcoco" / name).read_bytes()), read)


def test_encoded_masks() -> None:
    whole = rle.encode(np.random.default_rng(0).random((20, 30)) < 0.5)
    counts = st.text(max_size=20) | st.binary(max_size=20) | st.lists(st.integers(-5, 700), max_size=8) | JSON
    size = st.lists(st.integers(-2, 40), min_size=2, max_size=2) | JSON
    odd = st.fixed_dictionaries({"size": size, "counts": counts})

    def read(value: Any) -> None:
        mask = rle.decode(value)
        assert mask.dtype == bool
        assert list(mask.shape) == list(value["size"])
        assert np.array_equal(rle.decode(rle.encode(mask)), mask)

    search((of_json(whole) | odd).filter(lambda value: isinstance(value, dict)), read)


def test_pickles() -> None:
    kinds = [{"refs": [{"a": 1, "b": ["x", None, 2.5]}] * 3}, [np.int64(5), np.float32(1)], [np.arange(4)], "text"]
    wholes = [pickle.dumps(value, protocol=number) for value in kinds for number in (0, 2, 4)]
    opcodes = bytes(range(32, 127)) + bytes(range(0x80, 0x99))

    def read(content: bytes) -> None:
        loads_pickle(content)
        loads_pickle(content, arrays=True)

    damaged = st.sampled_from(wholes).flatmap(lambda whole: DAMAGE.map(lambda how: damage(whole, how)))
    made = st.lists(st.sampled_from(list(opcodes)), max_size=30).map(lambda codes: bytes(codes) + b".")
    search(damaged | made | st.binary(max_size=40), read)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.txt"])
def test_model_folders(name: str, world: Path, tmp_path: Path) -> None:
    """Without the checksums, which would find all of it at once."""
    folder = Path(shutil.copytree(world / "model", tmp_path / "model"))
    document = json.loads((folder / "config.json").read_text())
    del document["sha256"]
    (folder / "config.json").write_text(json.dumps(document))
    whole = (folder / name).read_bytes()
    weights = files_of(whole)
    if name == "model.safetensors":  # whose head is where there is something to find
        length = 8 + int.from_bytes(whole[:8], "little")
        weights = DAMAGE.map(lambda how: damage(whole[:length], how) + whole[length:]) | weights

    def read(content: bytes) -> None:
        (folder / name).write_bytes(content)
        load_model(folder)

    search(weights, read)


def test_recipes(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"

    def read_file(content: bytes) -> None:
        path.write_bytes(content)
        read_recipe(path)

    def read(value: Any) -> None:
        if isinstance(value, bytes):
            read_file(value)
        elif isinstance(value, dict):
            parse_recipe(value)

    search(files_of(to_toml(RECIPE).encode()) | of_json(RECIPE), read)


def test_rows_of_an_index() -> None:
    import torch

    from refseg.apps.search.proposals import pack_masks, pack_proposals, unpack_proposals
    from refseg.models.instances.classes import CLASSES
    from refseg.models.instances.types import COLOURS, MASK_SIZE, Proposals

    made = torch.Generator().manual_seed(0)
    count = 3
    proposals = Proposals(
        boxes=torch.rand(count, 4, generator=made),
        scores=torch.rand(count, generator=made),
        class_probs=torch.rand(count, len(CLASSES), generator=made),
        features=torch.zeros(count, 0),
        colours=torch.rand(count, len(COLOURS), generator=made),
        mask_logits=torch.rand(count, MASK_SIZE, MASK_SIZE, generator=made) - 0.5,
        size=(40, 60),
        drawn=0.0,
    )
    row, masks = pack_proposals(proposals), pack_masks(proposals)

    def read(how: tuple[Any, Any]) -> None:
        first, second = how
        unpack_proposals(damage(row, first) if first else row, damage(masks, second) if second else masks)

    search(st.tuples(st.none() | DAMAGE, st.none() | DAMAGE), read)


def test_caches_tensors_detections_and_tables(world: Path, tmp_path: Path) -> None:
    """Readers of single files: an index of a data set, tensors, detections, JSON."""
    path = tmp_path / "file.json"
    weights = (world / "model" / "model.safetensors").read_bytes()
    found = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]
    kinds: list[tuple[bytes, Callable[[Path], object]]] = [
        (weights[:3000], load_table),
        (weights[:3000], read_tensors),
        (json.dumps(found).encode(), lambda file: read_detections(file, Lexicon())),
        (json.dumps({"a": [1, {"b": 2}]}).encode(), read_json),
    ]

    def read(chosen: tuple[int, Any]) -> None:
        number, content = chosen
        path.write_bytes(content)
        kinds[number][1](path)

    every = st.integers(0, len(kinds) - 1).flatmap(lambda n: files_of(kinds[n][0]).map(lambda content: (n, content)))
    search(every, read)


def test_an_error_of_another_kind_would_be_found() -> None:
    def read(value: int) -> None:
        if value > 3:
            raise KeyError(value)
        raise RefsegError("fine")

    with pytest.raises(KeyError):
        search(st.integers(0, 10), read)
