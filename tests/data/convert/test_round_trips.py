"""Every format gives back what was written: sentences, targets to the pixel, boxes, categories, splits, kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.cli.main import main
from refseg.data import Instance, Sample, open_dataset, rle
from refseg.data.check import check
from refseg.data.convert import READERS, WRITERS, detect, read_any
from refseg.data.convert.cvat import decode_mask, encode_mask
from refseg.data.convert.labelstudio import decode_brush, encode_brush
from refseg.errors import DataError

SIZE = (24, 40)


def blob(seed: int) -> np.ndarray:
    """A ragged mask of several parts with holes."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(SIZE, dtype=bool)
    top, left = rng.integers(0, 10, 2)
    mask[top : top + 12, left : left + 14] = rng.random((12, 14)) < 0.8
    mask[22:24, 30:35] = True
    return mask


def objects() -> dict[int, Instance]:
    found = {}
    for key, (category, seed) in {3: ("dog", 1), 5: ("dog", 2), 9: ("traffic light", 3)}.items():
        mask = blob(seed)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (columns[0] + 0.25, float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 0.5))
        found[key] = Instance(key, category, tuple(float(value) for value in box), rle.encode(mask))
    return found


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    (tmp_path / "pictures").mkdir()
    paths = {}
    for number in (11, 12):
        pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        paths[number] = tmp_path / "pictures" / f"view {number}.png"
        Image.fromarray(pixels).save(paths[number])
    known = objects()

    def sample(key: str, text: str, picture: int, targets: list[int], split: str, kind: str | None = None) -> Sample:
        ref_id, sent_id = map(int, key.split("_"))
        chosen = tuple(known[target] for target in targets)
        return Sample(
            key, text, picture, SIZE, chosen, not targets, paths[picture], None, kind, split, "mine", ref_id, sent_id
        )

    return [
        sample("0_0", "the left dog", 11, [3], "train", "location"),
        sample("0_1", 'der "linke" Hund, größer', 11, [3], "train"),
        sample("1_2", "both dogs", 11, [5, 3], "train", "group"),
        sample("2_3", "the blue cat", 11, [], "train", "no_target"),
        sample("3_4", "traffic light", 12, [9], "val", "attribute"),
    ]


def facts(sample: Sample, name: str) -> tuple:
    targets = {
        item.ann_id: (item.category, tuple(round(value, 6) for value in item.bbox), item.mask(SIZE).tobytes())
        for item in sample.objects
    }
    dataset = "mine" if name != "grefcoco" else ""
    own = () if name == "grefcoco" else (sample.dataset,)
    assert own in ((), (dataset,))
    return (sample.id, sample.text, sample.image_id, sample.size, targets, sample.no_target, sample.split, sample.kind)


@pytest.mark.parametrize("name", WRITERS)
def test_round_trip(name: str, samples: list[Sample], tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert WRITERS[name](samples, target) == len(samples)
    files = {"jsonl": "data.jsonl", "coco": "instances.json", "labelstudio": "tasks.json"}
    source = target / files[name] if name in files else target
    assert detect(source) == {"grefcoco": "published"}.get(name, name)
    again = read_any(source)
    assert not again.problems
    assert [facts(sample, name) for sample in again] == [facts(sample, name) for sample in samples]
    for before, after in zip(samples, again, strict=True):
        np.testing.assert_array_equal(np.asarray(before.read_image()), np.asarray(after.read_image()))
        assert [item.ann_id for item in after.objects] == [item.ann_id for item in before.objects]


@pytest.mark.parametrize("name", WRITERS)
def test_a_chain_through_the_generic_format(name: str, samples: list[Sample], tmp_path: Path) -> None:
    WRITERS[name](samples, tmp_path / "one")
    files = {"jsonl": "data.jsonl", "coco": "instances.json", "labelstudio": "tasks.json"}
    middle = read_any(tmp_path / "one" / files.get(name, ""))
    WRITERS["jsonl"](middle, tmp_path / "two" / "mine.jsonl")
    again = read_any(tmp_path / "two" / "mine.jsonl")
    assert [facts(sample, "grefcoco") for sample in again] == [facts(sample, "grefcoco") for sample in samples]


@pytest.mark.parametrize("name", WRITERS)
def test_the_folder_that_was_written_is_read_and_checked(
    name: str, samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WRITERS[name](samples, tmp_path / "one")
    again = read_any(tmp_path / "one")
    assert [facts(sample, name) for sample in again] == [facts(sample, name) for sample in samples]
    report = check(tmp_path / "one", deep=True)
    assert sum(dataset.usable for dataset in report.datasets) == len(samples)
    assert not any(dataset.problems or dataset.error for dataset in report.datasets)
    assert main(["data", "check", str(tmp_path / "one"), "--strict"]) == 0
    assert main(["data", "convert", str(tmp_path / "one"), str(tmp_path / "two"), "--to", "jsonl"]) == 0
    assert [sample.text for sample in open_dataset(tmp_path / "two")] == [sample.text for sample in samples]
    capsys.readouterr()


def test_copies_of_pictures_are_not_the_originals(samples: list[Sample], tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(samples, tmp_path / name)
    originals = {sample.image_path.stat().st_ino for sample in samples if sample.image_path is not None}
    for path in tmp_path.rglob("*.*"):
        if path.is_file() and any(name in path.parts for name in WRITERS):
            assert path.stat().st_ino not in originals
            assert path.stat().st_nlink == 1


def test_writing_twice_gives_the_same_bytes(samples: list[Sample], tmp_path: Path) -> None:
    for format_name, write in WRITERS.items():
        for name in ("a", "b"):
            write(samples, tmp_path / format_name / name)
        for path in sorted((tmp_path / format_name / "a").rglob("*")):
            if path.is_file():
                assert (
                    path.read_bytes()
                    == (tmp_path / format_name / "b" / path.relative_to(tmp_path / format_name / "a")).read_bytes()
                )


def test_one_split_only(samples: list[Sample], tmp_path: Path) -> None:
    WRITERS["coco"](samples, tmp_path / "out")
    chosen = read_any(tmp_path / "out" / "instances.json", split="val")
    assert [sample.id for sample in chosen] == ["3_4"]
    with pytest.raises(DataError, match="no split 'test'"):
        read_any(tmp_path / "out" / "instances.json", split="test")


def test_pictures_in_memory_are_written(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    drawn = Sample("0_0", "dog", 4, SIZE, (objects()[3],), image=pixels, split="train")
    WRITERS["jsonl"]([drawn], tmp_path)
    (again,) = read_any(tmp_path / "data.jsonl")
    np.testing.assert_array_equal(np.asarray(again.read_image()), pixels)


@pytest.mark.parametrize("seed", range(6))
def test_the_tools_own_mask_encodings(seed: int) -> None:
    mask = blob(seed)
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), SIZE), mask)
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), SIZE), mask)
    runs = encode_mask(mask)
    assert runs[-4:] == [
        np.flatnonzero(mask.any(0))[0],
        np.flatnonzero(mask.any(1))[0],
        np.flatnonzero(mask.any(0))[-1],
        np.flatnonzero(mask.any(1))[-1],
    ]


def test_long_runs_and_a_full_mask() -> None:
    full = np.ones((300, 400), dtype=bool)
    np.testing.assert_array_equal(decode_brush(encode_brush(full), full.shape), full)
    assert encode_mask(full) == [0, 120_000, 0, 0, 399, 299]


def test_every_writer_has_a_reader() -> None:
    assert {"jsonl", "coco", "yolo", "labelstudio", "cvat", "published"} == set(READERS)


@pytest.mark.parametrize("name", WRITERS)
def test_objects_that_are_numbered_anew_in_every_picture(name: str, samples: list[Sample], tmp_path: Path) -> None:
    """ReferIt counts regions by picture, video data sets count objects by clip: number 3 is in both pictures here."""
    other = Instance(3, "dog", (0.0, 0.0, 40.0, 24.0), rle.encode(blob(7)))
    last = samples[-1]
    mine = [samples[0], Sample(last.id, "the dog", 12, SIZE, (other,), False, last.image_path, split="train")]
    WRITERS[name](mine, tmp_path / "out")
    names = {"jsonl": "data.jsonl", "coco": "instances.json", "labelstudio": "tasks.json"}
    target = tmp_path / "out" / names.get(name, "")
    found = {sample.text: sample for sample in read_any(target)}
    for sample in mine:
        np.testing.assert_array_equal(found[sample.text].mask(), sample.mask())
