"""`refseg data templates` and `refseg data convert` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.cli.main import main
from refseg.data import open_dataset, rle


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two pictures, each with a red and a blue box called boat."""
    images, annotations = [], []
    (tmp_path / "images").mkdir()
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(80, 170, (120, 200, 3), dtype=np.uint8)
        for left, colour in ((20 * number, (200, 28, 36)), (140, (32, 82, 196))):
            mask = np.zeros((120, 200), dtype=bool)
            mask[40:80, left : left + 40] = True
            pixels[mask] = colour
            key = len(annotations) + 1
            record = {"id": key, "image_id": number, "category_id": 1, "bbox": [left, 40, 40, 40], "iscrowd": 0}
            annotations.append({**record, "segmentation": rle.encode(mask)})
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 120, "width": 200})
    path = tmp_path / "instances.json"
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "boat"}]}
    path.write_text(json.dumps(content))
    return path


def test_templates_then_convert(coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = [
        "data",
        "templates",
        "--coco",
        str(coco),
        "--images",
        str(tmp_path / "images"),
        "-o",
        str(out),
        "--preview",
    ]
    assert main([*words, "--split-fractions", "train=1", "--workers", "1"]) == 0
    assert "2 pictures" in capsys.readouterr().out
    with Image.open(out / "preview.png") as sheet:
        assert sheet.width == 2400
    data = open_dataset(out)
    assert {"attribute", "group", "no_target"} <= {sample.kind for sample in data}
    assert main(["data", "convert", str(out), str(tmp_path / "x.jsonl"), "--to", "jsonl"]) == 0
    assert f"{len(data)} expressions on 2 pictures" in capsys.readouterr().out
    again = open_dataset(tmp_path / "x.jsonl")
    assert [(sample.id, sample.text, sample.kind) for sample in again] == [
        (sample.id, sample.text, sample.kind) for sample in data
    ]
    assert all(np.array_equal(one.mask(), other.mask()) for one, other in zip(again, data, strict=True))


@pytest.mark.parametrize(
    "words",
    [
        ["--split-fractions", "train"],
        ["--split-fractions", "train=0.5"],
        ["--per-image", "0"],
    ],
)
def test_bad_settings_exit_2(coco: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(coco.parent / "images")
    assert (
        main(["data", "templates", "--coco", str(coco), "--images", folder, "-o", str(coco.parent / "o"), *words]) == 2
    )
    assert capsys.readouterr().err.count("\n") == 1


def test_faulty_records_stop_a_conversion_and_are_all_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    mask = rle.encode(np.ones((6, 8), dtype=bool))
    records = [{"id": key, "image": "a.png", "text": "dog", "masks": [mask]} for key in ("one", "two", "three")]
    records[0]["text"] = ""
    records[2]["masks"] = []
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    words = ["data", "convert", str(source), str(tmp_path / "out"), "--to", "coco"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "line 1 (id one): text is empty" in error
    assert "line 3 (id three): no masks" in error
    assert not (tmp_path / "out").exists()
    assert main([*words, "--keep-going"]) == 0
    assert "1 expressions on 1 pictures" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert [record["id"] for record in content["expressions"]] == ["two"]
