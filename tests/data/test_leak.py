"""Shared pictures: by COCO number, through Visual Genome's map, by Flickr number, and by looks."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refseg.cli.main import main
from refseg.data import ReferringDataset, Sample, open_dataset
from refseg.data.leak import DHASH_BITS, PHASH_BITS, dhash, leak, near_pairs, phash, without
from tests.support.format_files import table, write_flickr30k, write_mdetr, write_referit, write_visual_genome
from tests.support.published_files import annotation, referent, sentence, write_dataset


def scene(seed: int, size: tuple[int, int] = (120, 160)) -> Image.Image:
    """A picture with structure at every scale, as photographs have: smoothed noise, added up."""
    random = np.random.default_rng(seed)
    total = np.zeros((*size, 3))
    for cells in (3, 6, 12, 24):
        coarse = random.normal(0, 1 / cells**0.5, (cells, cells, 3))
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel].astype(np.float32), mode=None)
            total[..., channel] += np.asarray(layer.resize(size[::-1], Image.Resampling.BICUBIC))
    low, high = total.min(), total.max()
    return Image.fromarray(((total - low) / (high - low) * 255).astype(np.uint8))


def saved(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def pictures(folder: Path, images: dict[int, Image.Image], name: str = "mine") -> ReferringDataset:
    folder.mkdir()
    samples = []
    for number, image in images.items():
        image.save(folder / f"{number}.png")
        samples.append(
            Sample(f"{number}_0", "x", number, (image.height, image.width), image_path=folder / f"{number}.png")
        )
    return ReferringDataset(samples, name=name)


def test_by_coco_number(refcoco: Path, grefcoco: Path) -> None:
    train, val = open_dataset(grefcoco, "grefcoco", "train"), open_dataset(refcoco, "refcoco", "val")
    report = leak(open_dataset(refcoco, "refcoco", "train"), val)
    assert report.shared == []
    assert report.ways == ["by COCO number"]
    report = leak(open_dataset(grefcoco, "grefcoco"), val)
    assert [(item.how, item.number, item.train_id) for item in report.shared] == [("COCO number", "2", 2)]
    left = without(open_dataset(grefcoco, "grefcoco"), report.train_ids())
    assert {sample.image_id for sample in left} == {1}
    assert len(left) == len(train)


def test_through_visual_genome(tmp_path: Path, refcoco: Path) -> None:
    genome = open_dataset(write_visual_genome(tmp_path / "vg"))
    report = leak(genome, open_dataset(refcoco))
    assert [(item.train_id, item.evaluation_id, item.number) for item in report.shared] == [(5, 1, "1")]
    assert len(without(genome, report.train_ids())) == 0
    flickr = open_dataset(write_flickr30k(tmp_path / "f30k"), "flickr30k")
    report = leak(genome, flickr)
    assert [(item.how, item.evaluation_id) for item in report.shared] == [("Flickr number", 36979)]


def test_without_the_map_looks_decide(tmp_path: Path, refcoco: Path) -> None:
    home = write_visual_genome(tmp_path / "vg")
    genome = open_dataset(home)
    (home / "image_data.json").rename(tmp_path / "map.json")
    report = leak(genome, open_dataset(refcoco))
    assert report.ways == ["by looks"]
    assert "image_data.json is not there" in report.skipped[0]
    # picture 5 of the one and picture 1 of the other are drawn from the same seed
    assert [(item.how, item.train_id, item.evaluation_id, item.bits) for item in report.shared] == [("looks", 5, 1, 0)]
    assert leak(genome, open_dataset(refcoco), genome=tmp_path / "map.json").ways == ["by COCO number"]


def test_by_looks(tmp_path: Path) -> None:
    originals = {number: scene(number) for number in range(8)}
    copies = {
        100: originals[3].resize((80, 60), Image.Resampling.BICUBIC),
        101: saved(originals[5], 40),
        102: scene(99),
    }
    report = leak(pictures(tmp_path / "a", originals), pictures(tmp_path / "b", copies))
    assert {(item.train_id, item.evaluation_id) for item in report.shared} == {(3, 100), (5, 101)}
    assert leak(pictures(tmp_path / "c", originals), pictures(tmp_path / "d", copies), looks=False).shared == []
    (tmp_path / "b" / "101.png").write_bytes(b"junk")
    again = ReferringDataset([Sample("1_0", "x", 101, (120, 160), image_path=tmp_path / "b" / "101.png")])
    assert [problem.where for problem in leak(again, again).problems] == ["picture 101", "picture 101"]


def test_hashes_keep_pictures_apart() -> None:
    originals = [scene(seed) for seed in range(20)]
    hashes = [(dhash(image), phash(image)) for image in originals]
    for image, (first, second) in zip(originals, hashes, strict=True):
        for copy in (image.resize((80, 60)), saved(image, 40), image.convert("L")):
            assert (dhash(copy) ^ first).bit_count() <= DHASH_BITS
            assert (phash(copy) ^ second).bit_count() <= PHASH_BITS
    apart = [(a[0] ^ b[0]).bit_count() for row, a in enumerate(hashes) for b in hashes[:row]]
    assert np.mean(apart) > 24
    assert dhash(Image.new("L", (9, 9))) == 0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=5), st.lists(st.integers(0, 2**64 - 1), max_size=5), st.integers(0, 64)
)
def test_near_pairs_by_hand(first: list[int], second: list[int], bits: int) -> None:
    rows, columns = (np.array(values, dtype=np.uint64).reshape(-1, 1) for values in (first, second))
    wanted = [
        (a, b) for a, one in enumerate(first) for b, other in enumerate(second) if (one ^ other).bit_count() <= bits
    ]
    assert near_pairs(rows, columns, np.array([bits])) == wanted


def test_the_command(tmp_path: Path, refcoco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = write_mdetr(tmp_path / "m")
    arguments = [
        "data",
        "leak",
        str(home),
        str(refcoco),
        "--train-dataset",
        "refcoco",
        "--evaluation-dataset",
        "refcoco",
    ]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "compared by COCO number" in text
    assert "1 pictures of the training source are in the evaluation split" in text
    assert main([*arguments, "--strict"]) == 1
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shared"][0]["evaluation_id"] == 1
    write_dataset(
        tmp_path / "n", "refcoco+", "refs(unc).p", [referent(1, 9, 5, "val", [sentence(0, "x")])], [annotation(5, 9)]
    )
    assert (
        main(
            [
                "data",
                "leak",
                str(tmp_path / "n"),
                str(refcoco),
                "--json",
                str(tmp_path / "o.json"),
                "--evaluation-dataset",
                "refcoco",
            ]
        )
        == 0
    )
    assert "no picture is shared" in capsys.readouterr().out
    table(tmp_path / "bad" / "x.json", [])
    assert main(["data", "leak", str(tmp_path / "bad"), str(refcoco)]) == 2


def test_referit_shares_by_its_own_numbers(tmp_path: Path) -> None:
    write_referit(tmp_path)
    whole, test = open_dataset(tmp_path), open_dataset(tmp_path, split="test")
    report = leak(whole, test)
    assert report.ways == ["by IAPR TC-12 number"]
    assert report.train_ids() == {26}


def test_converted_files_keep_their_numbers(tmp_path: Path, refcoco: Path) -> None:
    target = tmp_path / "own" / "data.jsonl"
    assert main(["data", "convert", str(refcoco), str(target), "--to", "jsonl", "--split", "val"]) == 0
    report = leak(open_dataset(refcoco), open_dataset(target))
    assert report.ways == ["by COCO number"]
    assert report.train_ids() == {2}
