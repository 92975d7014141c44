"""Collages: masks lie on their objects, one split alone is used, and sentences can be made of the result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.cli.main import main
from refseg.data import open_dataset, rle
from refseg.errors import DataError
from refseg.generation.photos.collage import Collages, CollageSettings, write_collages
from tests.support.painted import PAINTS, layout, write_coco


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve painted pictures, of which the even ones are for training."""
    folder = tmp_path_factory.mktemp("source")
    path = write_coco(folder, {number: layout(number)[:3] for number in range(1, 13)}, exhaustive=True)
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["split"] = "train" if image["id"] % 2 == 0 else "val"
    path.write_text(json.dumps(content))
    return folder


def collages(source: Path, **changes: int | str) -> Collages:
    settings = CollageSettings(**{"seed": 3, "count": 6, "size": 160, **changes})  # type: ignore[arg-type]
    return Collages([(source / "instances.json", source / "images")], settings)


def test_masks_lie_on_their_objects_and_never_overlap(source: Path) -> None:
    made = collages(source)
    for index in range(6):
        picture, objects, made_of = made.make(index)
        assert picture.shape == (160, 160, 3)
        assert objects
        together = np.sum([item.mask for item in objects], axis=0)
        assert together.max() == 1
        assert all(int(name.split(".")[0]) % 2 == 0 for name in made_of)
        for item in objects:
            colour = np.median(picture[item.mask], axis=0)
            nearest = min(np.abs(colour - np.asarray(paint)).max() for paint in PAINTS.values())
            assert nearest < 40, (item.name, colour)


def test_a_picture_is_a_function_of_seed_and_number(source: Path) -> None:
    one, other = collages(source), collages(source)
    np.testing.assert_array_equal(one.make(4)[0], other.make(4)[0])
    assert not np.array_equal(one.make(4)[0], one.make(5)[0])
    assert not np.array_equal(one.make(4)[0], collages(source, seed=4).make(4)[0])


def test_what_is_written_is_a_coco_file_that_sentences_can_be_made_of(source: Path, tmp_path: Path) -> None:
    assert list(write_collages(tmp_path / "made", collages(source))) == [1, 2, 3, 4, 5, 6]
    content = json.loads((tmp_path / "made" / "instances.json").read_text())
    assert len(content["images"]) == 6
    for annotation in content["annotations"]:
        left, top, width, height = annotation["bbox"]
        mask = rle.decode(annotation["segmentation"], (160, 160))
        assert mask.sum() == annotation["area"]
        assert mask[int(top) : int(top + height), int(left) : int(left + width)].sum() == mask.sum()
    words = ["data", "templates", "--coco", str(tmp_path / "made" / "instances.json"), "--workers", "1"]
    words += ["--images", str(tmp_path / "made" / "images"), "-o", str(tmp_path / "said"), "--per-image", "6"]
    assert main(words) == 0
    said = open_dataset(tmp_path / "said", "templates", "train")
    assert len(said) > 6


def test_the_command_makes_the_same(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "collage", "--coco", str(source / "instances.json"), "--images", str(source / "images")]
    words += ["-o", str(tmp_path / "made"), "--count", "2", "--size", "160", "--seed", "3"]
    assert main(words) == 0
    assert "2 pictures of" in capsys.readouterr().out
    made = np.asarray(Image.open(tmp_path / "made" / "images" / "collage_000001.jpg")).astype(int)
    assert np.abs(made - collages(source).make(1)[0]).mean() < 4  # JPEG


def test_what_cannot_be_done_is_said(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="no whole object"):
        collages(source, split="testA")
    with pytest.raises(DataError, match="--count is 1 or more"):
        collages(source, count=0)
    words = ["data", "collage", "--coco", str(source / "instances.json"), "--coco", "x.json"]
    assert main([*words, "--images", str(source / "images"), "-o", str(tmp_path)]) == 2
    assert "one folder a --coco file" in capsys.readouterr().err


def test_pictures_that_another_file_holds_are_left_out(tmp_path: Path) -> None:
    one = write_coco(tmp_path / "one", {number: layout(number) for number in (1, 2, 3)})
    other = write_coco(tmp_path / "other", {2: layout(2)})
    words = ["data", "templates", "--coco", str(one), "--images", str(tmp_path / "one" / "images"), "--workers", "1"]
    assert main([*words, "-o", str(tmp_path / "said"), "--without", str(other)]) == 0
    content = json.loads((tmp_path / "said" / "templates" / "instances.json").read_text())
    assert {image["id"] for image in content["images"]} <= {1, 3}
    assert all(image["split"] in ("train", "val") for image in content["images"])
