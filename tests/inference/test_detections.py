"""A file of detections as proposals: which pictures and things its records are of, and every way to be malformed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import refseg
from refseg.cli.main import main
from refseg.data import rle
from refseg.errors import CheckpointError, DataError, ImageError, RefsegError
from refseg.inference.checkpoint import check_model
from refseg.inference.detections import DetectionTable, read_detections
from refseg.inference.locate import full_name, short_name, split_proposals
from refseg.inference.proposals import over_proposals
from refseg.models.instances.words import Lexicon

SIZE = (60, 200)
CRATES = [[10, 20, 30, 30], [60, 20, 30, 30], [110, 20, 30, 30], [160, 20, 30, 30]]


def record(box: list[float], **more: Any) -> dict[str, Any]:
    return {"bbox": box, "category": "crate", "score": 0.9, "file_name": "shop.png", **more}


def write(folder: Path, content: Any) -> Path:
    path = folder / "dets.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (SIZE[1], SIZE[0]), (80, 90, 100)).save(tmp_path / "shop.png")
    return tmp_path / "shop.png"


def table(folder: Path, content: Any) -> DetectionTable:
    return read_detections(write(folder, content), Lexicon())


@pytest.fixture(scope="module")
def base() -> refseg.Segmenter:
    return refseg.load("instances", device="cpu")


def over(base: Any, path: Path) -> refseg.Segmenter:
    return refseg.Segmenter(over_proposals(base.model, path), base.tokenizer, base.info, device="cpu")


def propose(detections: DetectionTable, photo: Path, name: str) -> list[list[float]]:
    from refseg.data.images import read_image

    found = detections.propose(detections.encode_picture(read_image(photo)), [name])[0]
    return found.boxes.tolist()


def corners(boxes: list[list[float]]) -> list[list[float]]:
    return [[x, y, x + width, y + height] for x, y, width, height in boxes]


def test_the_command_chooses_among_them(tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, [record(box) for box in CRATES])
    out = tmp_path / "out"
    arguments = ["segment", str(photo), "the second crate from the left", "--detections", str(path), "-o", str(out)]
    assert main([*arguments, "--format", "json", "--device", "cpu"]) == 0
    answer = json.loads(next(out.glob("*.json")).read_text())
    assert [instance["label"] for instance in answer["instances"]] == ["crate"]
    assert answer["instances"][0]["box"] == pytest.approx([60, 20, 90, 50], abs=0.1)
    assert answer["remarks"][0] == "asked for: crate (4 found)"
    assert "asked for: crate" in capsys.readouterr().err


def test_masks_are_taken_as_they_are(tmp_path: Path, photo: Path, base: refseg.Segmenter) -> None:
    masks = np.zeros((2, *SIZE), dtype=bool)
    masks[0, 20:50, 10:25], masks[1, 10:40, 120:150] = True, True
    outline = [[120, 10, 150, 10, 150, 40, 120, 40]]
    path = write(
        tmp_path,
        [
            {"file_name": "shop.png", "category": "crate", "segmentation": rle.encode(masks[0])},
            {"file_name": "shop.png", "category": "crate", "segmentation": outline, "score": 0.5},
        ],
    )
    segmenter = over(base, path)
    left, right = segmenter(photo, ["the left crate", "the right crate"])
    np.testing.assert_array_equal(left.mask, masks[0])
    assert (right.mask != masks[1]).sum() <= 2 * (30 + 30)  # an outline's edges


@pytest.mark.parametrize("name", ["shop.png", "photos/shop.png", "./shop.png"])
def test_pictures_are_found_by_name(tmp_path: Path, photo: Path, name: str) -> None:
    others = [record(CRATES[0], file_name="other.png")]
    found = table(tmp_path, [record(CRATES[1], file_name=name), *others])
    assert propose(found, photo, "crate") == corners(CRATES[1:2])


def test_pictures_are_found_by_number(tmp_path: Path, photo: Path) -> None:
    numbered = photo.with_name("COCO_val2014_000000000139.png")
    photo.rename(numbered)
    dogs = [
        {"image_id": 139, "category_id": 18, "bbox": CRATES[0]},
        {"image_id": 7, "category_id": 18, "bbox": CRATES[1]},
    ]
    assert propose(table(tmp_path, dogs), numbered, "dog") == corners(CRATES[:1])
    whole = {
        "images": [{"id": 5, "file_name": numbered.name}],
        "categories": [{"id": 3, "name": "shipping_crate", "supercategory": "container"}],
        "annotations": [{"image_id": 5, "category_id": 3, "bbox": CRATES[2]}],
    }
    for name in ("crate", "shipping crate", "container", "object"):
        assert propose(table(tmp_path, whole), numbered, name) == corners(CRATES[2:3])
    assert propose(table(tmp_path, whole), numbered, "dog") == []


def test_records_without_a_picture_are_of_any(tmp_path: Path, photo: Path) -> None:
    found = table(tmp_path, [{"category": "crate", "bbox": box} for box in CRATES])
    assert propose(found, photo, "crate") == corners(CRATES)


def test_a_picture_with_nothing_in_it_is_listed(tmp_path: Path, photo: Path) -> None:
    whole = {"images": [{"id": 1, "file_name": "shop.png"}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    assert propose(table(tmp_path, whole), photo, "crate") == []


def test_pictures_that_are_not_in_the_file(tmp_path: Path, photo: Path, base: refseg.Segmenter) -> None:
    path = write(tmp_path, [record(CRATES[0], file_name="other.png")])
    segmenter = over(base, path)
    with pytest.raises(ImageError, match=r"dets.json: holds nothing of .*shop.png, but of other.png; .*file_name"):
        segmenter(photo, "the crate")
    with pytest.raises(ImageError, match=r"by the picture's file name; give the picture as a path"):
        segmenter(np.zeros((9, 9, 3), np.uint8), "the crate")
    twice = table(tmp_path, [record(CRATES[0], file_name="a/shop.png"), record(CRATES[1], file_name="b/shop.png")])
    with pytest.raises(ImageError, match=r"a/shop\.png or b/shop\.png"):
        propose(twice, photo, "crate")


MALFORMED: list[tuple[Any, str]] = [
    ("text", "a list of detections is wanted, not str"),
    ({"images": []}, 'a list of detections is wanted, or a table with "annotations"'),
    ({"annotations": [], "images": [{"id": 1}]}, r"images\[0\]: id and file_name are wanted"),
    ({"annotations": [], "categories": [{}]}, '"categories" holds no record with id and name'),
    ([[1, 2]], "detection 0: a table of fields is wanted, not list"),
    ([record(CRATES[0]), record([1, 2, 3])], "detection 1: bbox is four finite numbers"),
    ([record([1, 2, float("nan"), 4])], "detection 0: bbox is four finite numbers"),
    ([record([50, 20, -30, 30])], "detection 0: bbox has a negative width"),
    ([record([50, 20, 0, 30])], "detection 0: bbox .*width and height are above 0"),
    ([{"category": "crate"}], "detection 0: has neither bbox nor segmentation"),
    ([{"bbox": CRATES[0]}], "detection 0: has no category_id and no category"),
    ([{"bbox": CRATES[0], "category_id": 91}], "category_id 91 is none of COCO's own; write its name as `category`"),
    ([{"bbox": CRATES[0], "category_id": "x"}], "category_id is an integer"),
    ([record(CRATES[0], category="!?")], "the category is a name of letters"),
    ([record(CRATES[0], category=None)], "has no category_id and no category"),
    ([record(CRATES[0], score=87)], "score is a number from 0 to 1, not 87"),
    ([record(CRATES[0], score="high")], "score is a number from 0 to 1, not 'high'"),
    ([record(CRATES[0], file_name=3)], "file_name is the name of a picture, not 3"),
    ([record(CRATES[0]), {"category": "crate", "bbox": CRATES[1]}], "detection 1: has no file_name and no image_id"),
    ([{"category": "crate", "bbox": CRATES[0], "image_id": [1]}], "image_id is a number or a name"),
    ([record(CRATES[0], segmentation=[[1, 2, 3]])], "segmentation: a polygon of 3 values"),
    ([record(CRATES[0], segmentation={"size": [60, 200], "counts": "11"})], "the runs add up to"),
    ([record(CRATES[0], segmentation={"counts": "11"})], "run-length encoded as"),
    (
        {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 2, "bbox": CRATES[0], "category": "c"}]},
        "image_id 2 is not among the file's `images`",
    ),
    (
        {"annotations": [{"bbox": CRATES[0], "category_id": 2}], "categories": [{"id": 1, "name": "a"}]},
        "category_id 2 is none of the file's `categories`",
    ),
]


@pytest.mark.parametrize(("content", "message"), MALFORMED)
def test_malformed_files_are_told(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        table(tmp_path, content)
    assert str(caught.value).startswith(str(tmp_path / "dets.json"))
    assert "\n" not in str(caught.value)


def test_a_mask_of_another_size_is_told_when_the_picture_is_known(tmp_path: Path, photo: Path) -> None:
    mask = rle.encode(np.ones((3, 4), dtype=bool))
    found = table(tmp_path, [record(CRATES[0], segmentation=mask)])
    with pytest.raises(DataError, match=r"detection 0: segmentation: the mask is 3 x 4, but the picture is 60 x 200"):
        propose(found, photo, "crate")


@pytest.mark.parametrize("content", ['[{"bbox": [0, 0, 1]}]', None])
def test_the_command_ends_with_2(
    tmp_path: Path, photo: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dets.json"
    if content is not None:
        path.write_text(content)
    arguments = ["segment", str(photo), "the crate", "--detections", str(path), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--device", "cpu"]) == 2
    said = capsys.readouterr().err.strip()
    assert "dets.json" in said
    assert len(said.splitlines()) == 1


def test_evaluate_scores_choosing_among_them(tmp_path: Path) -> None:
    """A data set's own file of objects is such a file, too."""
    from refseg.generation.scenes.write import SceneSettings, write_scenes

    write_scenes(tmp_path, SceneSettings(3, {"val": 1}, size=128, picture="png"))
    numbers = tmp_path / "numbers.json"
    arguments = ["evaluate", "--data", str(tmp_path), "--split", "val", "--device", "cpu", "--json", str(numbers)]
    assert main([*arguments, "--detections", str(tmp_path / "scenes" / "instances.json")]) == 0
    assert json.loads(numbers.read_text())["metrics"]["gIoU"] > 0.7


def test_a_word_that_means_no_category_is_taken_for_one_like_it(
    tmp_path: Path, photo: Path, base: refseg.Segmenter
) -> None:
    path = write(
        tmp_path, [record(CRATES[0]), record(CRATES[1], category="forklift"), record(CRATES[2], category="van")]
    )
    known: Any = base.model
    found = read_detections(path, known.chooser.means)
    assert propose(found, photo, "lift truck") == corners(CRATES[1:2])
    assert propose(found, photo, "minivan") == corners(CRATES[2:3])
    assert propose(found, photo, "crate") == corners(CRATES[:1])
    for other in ("zebra", "banana", "tree"):
        assert propose(found, photo, other) == []
    assert propose(table(tmp_path, json.loads(path.read_text())), photo, "lift truck") == []  # without MiniLM
    answer = over(base, path)(photo, "the lift truck")
    assert [instance.label for instance in answer.instances] == ["forklift"]


def test_a_models_name_says_whose_instances(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert split_proposals("instances@facebook/sam3@main") == ("instances", "facebook/sam3@main")
    assert split_proposals(f"{tmp_path / 'mine'}@a/b+c/d") == (str(tmp_path / "mine"), "a/b+c/d")
    for other in ("owner/name@revision", "instances", "instances@", "facebook/sam3", tmp_path / "mine"):
        assert split_proposals(other) == (other, None)
    (tmp_path / "dets.json").touch()
    assert full_name(f"instances@{tmp_path / 'dets.json'}") == f"instances@{tmp_path / 'dets.json'}"
    assert short_name(f"{tmp_path / 'mine'}@facebook/sam3+b/sam2") == "mine@sam3+sam2"
    with pytest.raises(CheckpointError, match="no such model folder"):
        check_model("instances@nothing")


def test_explain_takes_it_and_shows_what_was_found(tmp_path: Path, photo: Path) -> None:
    path = write(tmp_path, [record(box) for box in CRATES])
    words = ["explain", str(photo), "the left crate", "--model", f"instances@{path}", "--device", "cpu"]
    assert main([*words, "-o", str(tmp_path / "shown")]) == 0
    (numbers,) = (tmp_path / "shown").glob("*.json")
    assert [each["name"] for each in json.loads(numbers.read_text())["maps"]] == ["proposals", "choice", "evidence"]
    shown = refseg.load(f"instances@{path}", device="cpu").explain(photo, "the left crate")
    np.testing.assert_allclose(shown["proposals"].values, [0.9] * 4, atol=1e-6)
    assert sorted(shown["choice"].values > 0.5) == [False, False, False, True]
    assert refseg.load(f"instances@{path}", device="cpu").explain(photo, "the zebra").sheet().width


def test_a_clip_is_asked_by_it(tmp_path: Path, photo: Path) -> None:
    path = write(tmp_path, [{"category": "crate", "bbox": box} for box in CRATES])
    (tmp_path / "clip").mkdir()
    for number in range(2):
        shutil.copy(photo, tmp_path / "clip" / f"{number}.png")
    words = ["video", str(tmp_path / "clip"), "the left crate", "--model", f"instances@{path}", "--device", "cpu"]
    assert main([*words, "--format", "json", "-o", str(tmp_path / "out")]) == 0
    assert list((tmp_path / "out").rglob("*.json"))


def test_no_index_is_made_of_it(tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lancedb", reason="the optional extra 'search' is not installed")
    path = write(tmp_path, [record(CRATES[0])])
    words = ["index", str(photo.parent), "-o", str(tmp_path / "made"), "--model", f"instances@{path}"]
    assert main([*words, "--device", "cpu"]) == 2
    said = capsys.readouterr().err.strip()
    assert "nothing of proposals from elsewhere" in said
    assert len(said.splitlines()) == 1
    with pytest.raises(RefsegError, match="names its own already"):
        refseg.load(f"instances@{path}", device="cpu", proposals=str(path))
