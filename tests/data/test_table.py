"""Samples as columns: every format comes back equal, from memory and from the cache; the cache notices changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.data import Instance, Phrase, Problem, ReferringDataset, Sample, cache, open_dataset
from refseg.data.masks import MaskFile
from refseg.data.table import SampleTable, TableBuilder, load_table, save_table
from refseg.errors import DataError
from tests.support.format_files import FORMATS, block, picture
from tests.support.published_files import SIZE, annotation, referent, sentence, write_dataset


def packed(samples: list[Sample], name: str = "x") -> SampleTable:
    builder = TableBuilder(name)
    for sample in samples:
        builder.add(sample)
    return builder.finish()


def assert_equal(first: Sample, second: Sample) -> None:
    assert first == second
    assert [type(item.segmentation) for item in first.objects] == [type(item.segmentation) for item in second.objects]
    for one, other in zip(first.objects, second.objects, strict=True):
        if one.segmentation is not None:
            assert (one.mask(first.size) == other.mask(second.size)).all()


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("youtube", "mevis", "davis")])
def test_every_format_survives_the_cache(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, names, _ = FORMATS[name]
    root = write(tmp_path / "data")
    monkeypatch.setenv("REFSEG_CACHE", "off")
    plain = open_dataset(root, **names)
    monkeypatch.setenv("REFSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "MIN_BYTES", 0)
    for _ in range(2):  # the first run writes it, the second reads it
        again = open_dataset(root, **names)
        assert again.problems == plain.problems
        assert len(again) == len(plain)
        for first, second in zip(plain, again, strict=True):
            assert_equal(first, second)
        assert again.texts() == plain.texts()
        assert again.by_picture() == plain.by_picture()
    assert len(list((tmp_path / "cache" / "data").iterdir())) == 1


def test_refcoco_survives_the_cache(refcoco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = open_dataset(refcoco)
    monkeypatch.setenv("REFSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "MIN_BYTES", 0)
    built = open_dataset(refcoco)
    assert isinstance(built.samples, SampleTable)
    (stored,) = (tmp_path / "cache" / "data").iterdir()
    read = open_dataset(refcoco)
    for first, second, third in zip(plain, built, read, strict=True):
        assert_equal(first, second)
        assert_equal(first, third)
    assert read.problem_counts() == plain.problem_counts()
    assert [sample.id for sample in open_dataset(refcoco, split="val")] == ["8_2", "8_3"]
    # damaged: built anew; changed data: not used
    stored.write_bytes(stored.read_bytes()[:100])
    assert [sample.id for sample in open_dataset(refcoco)] == [sample.id for sample in plain]
    (refcoco / "images" / "train2014" / "COCO_train2014_000000000002.jpg").unlink()
    assert len(open_dataset(refcoco)) == 2
    home = write_dataset(
        refcoco, "refcoco", "refs(unc).p", [referent(1, 1, 5, "val", [sentence(0, "x")])], [annotation(5, 1)]
    )
    os.utime(home / "refs(unc).p", ns=(1, 1))
    assert [sample.text for sample in open_dataset(refcoco)] == ["x"]


def test_the_cache_can_be_off_or_unwritable(refcoco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MIN_BYTES", 0)
    monkeypatch.setenv("REFSEG_CACHE", "off")
    assert cache.cache_folder() is None
    assert len(open_dataset(refcoco)) == 4
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REFSEG_CACHE", str(tmp_path / "file"))
    assert len(open_dataset(refcoco)) == 4
    monkeypatch.delenv("REFSEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "refseg"


names = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.integers(-(2**40), 2**40)
boxes = st.tuples(*[st.floats(-1e6, 1e6)] * 4)
outlines = st.one_of(
    st.none(),
    st.lists(st.lists(st.floats(-99, 99), min_size=6, max_size=6).map(np.array), min_size=1, max_size=3),
    st.sampled_from([MaskFile(Path("a/b.png"), 3), MaskFile(Path("c.npy"), None)]),
    st.builds(lambda counts: {"size": [4, 5], "counts": counts}, st.sampled_from([[20], [0, 20], [3, 4, 13]])),
)


drawn_samples = st.fixed_dictionaries(
    {
        "id": names,
        "text": names,
        "objects": st.lists(st.tuples(names, boxes, outlines, st.booleans()), max_size=3),
        "phrases": st.lists(st.tuples(names, st.lists(st.sampled_from(["a", "b"]), max_size=2)), max_size=2),
        "empty": st.booleans(),
        "image_path": st.sampled_from([None, Path("x/y.jpg")]),
        "kind": st.none() | names,
        "split": names,
        "ref_id": numbers,
        "sent_id": numbers,
    }
)


def made(place: int, drawn: dict[str, Any]) -> Sample:
    """A sample about a picture of its own: objects of one picture with the same number and box are one object."""
    fields = dict(drawn)
    objects = tuple(Instance(number, *entry) for number, entry in enumerate(fields.pop("objects")))
    phrases = tuple(Phrase(text, 0, len(text), objects[:1], tuple(kinds), 5) for text, kinds in fields.pop("phrases"))
    none = fields.pop("empty") and not objects
    return Sample(**fields, image_id=place, size=(4, 5), objects=objects, phrases=phrases, no_target=none, dataset="x")


@settings(max_examples=40, deadline=None)
@given(st.lists(drawn_samples, max_size=4))
def test_any_sample_comes_back_equal(fields: list[dict[str, Any]]) -> None:
    drawn = [made(place, entry) for place, entry in enumerate(fields)]
    table = packed(drawn)
    assert len(table) == len(drawn)
    for first, second in zip(drawn, table, strict=True):
        assert first == second
        for one, other in zip(first.objects, second.objects, strict=True):
            if isinstance(one.segmentation, list):
                assert all((a == b).all() for a, b in zip(one.segmentation, other.segmentation, strict=True))
            elif isinstance(one.segmentation, dict):
                assert (one.mask((4, 5)) == other.mask((4, 5))).all()
            else:
                assert one.segmentation == other.segmentation
    assert table.texts() == [sample.text for sample in drawn]
    assert table.image_ids() == [sample.image_id for sample in drawn]


def test_saved_with_problems(tmp_path: Path) -> None:
    sample = Sample("a", "b", 1, SIZE, (Instance(1, "c", (0.0, 0.0, 1.0, 1.0), block(4, 4)),))
    save_table(packed([sample]), [Problem("k", "w", "m", 3)], tmp_path / "t")
    table, problems = load_table(tmp_path / "t")
    assert problems == [Problem("k", "w", "m", 3)]
    assert (table[0].mask() == block(4, 4)).all()  # a mask in memory is encoded
    with pytest.raises(IndexError):
        table[1]
    (tmp_path / "t").write_bytes(b"junk")
    with pytest.raises(DataError, match="not a readable table"):
        load_table(tmp_path / "t")


def test_changed_bytes_of_a_saved_table_are_noticed(tmp_path: Path) -> None:
    samples = [
        Sample(f"{n}_0", f"the {n} dogs", n, (8, 9), (Instance(n, "dog", (1.0, 2.0, 5.0, 6.0)),), ref_id=n, sent_id=0)
        for n in range(40)
    ]
    path = tmp_path / "table.safetensors"
    save_table(packed(samples, ""), [Problem("bad_record", "x[3]", "no words", 1)], path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    random = np.random.default_rng(0)
    places = [*random.integers(8, header, 40), *random.integers(header, len(whole), 160)]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << int(random.integers(8)))]) + whole[place + 1 :])
        try:
            table, problems = load_table(path)
        except DataError:
            continue
        # Bytes of the header that say nothing, such as the length of its padding.
        assert list(table) == samples
        assert [problem.message for problem in problems] == ["no words"]
    path.write_bytes(whole)
    assert list(load_table(path)[0]) == samples


def test_a_damaged_cache_is_built_anew(refcoco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "MIN_BYTES", 0)
    texts = open_dataset(refcoco).texts()
    (path,) = (tmp_path / "cache" / "data").iterdir()
    whole = path.read_bytes()
    place = whole.index(texts[0].encode())
    path.write_bytes(whole[:place] + b"X" + whole[place + 1 :])
    assert open_dataset(refcoco).texts() == texts
    assert load_table(path)[0].texts() == texts


def test_a_picture_in_memory_is_refused() -> None:
    with pytest.raises(DataError, match="picture in memory"):
        packed([Sample("a", "b", 1, (2, 2), image=np.zeros((2, 2, 3), dtype=np.uint8))])


def test_subsets_group_without_building_samples(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", 1)
    table = packed([Sample(f"s{k}", f"text {k}", k % 2, SIZE) for k in range(6)])
    dataset = ReferringDataset(table)[1:]
    assert dataset.by_picture() == {1: [0, 2, 4], 0: [1, 3]}
    assert dataset.texts() == [f"text {k}" for k in range(1, 6)]
    assert dataset.subset([4, 0]).texts() == ["text 5", "text 1"]


def test_nothing_of_this_needs_torch() -> None:
    modules = ("stats", "leak", "download", "catalog", "formats", "formats.jsonl", "cache", "check", "convert")
    imports = ", ".join(f"refseg.data.{name}" for name in modules)
    program = (
        f"import sys, {imports}; sys.exit('torch' in sys.modules or 'scipy' in sys.modules or 'pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
