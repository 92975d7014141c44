"""ReferIt in the format of Hu et al. (text_objseg), with a MATLAB mask for every region of the SAIAPR TC-12 pictures.

Kazemzadeh et al., "ReferItGame: Referring to Objects in Photographs of Natural Scenes", EMNLP 2014; split and files of
Hu, Rohrbach, Darrell, "Segmentation from Natural Language Expressions", ECCV 2016 (the "berkeley" split of later work):

    ROOT/referit_query_train.json  _val  _trainval  _test     {"38685_1": ["the tree", ...]}: picture 38685, region 1
    ROOT/referit_bbox.json         {"38685_1": [x1, y1, x2, y2]}, pixels from 0, x2 and y2 included
    ROOT/referit_imsize.json       {"38685.jpg": [width, height]}
    ROOT/images/38685.jpg          ROOT/mask/38685_1.mat

A box's last row and column belong to it (the reader of text_objseg counts so); here boxes end behind them. Its first
release names regions "38685_1.png".

Pictures and masks may also lie in ROOT/../referit-dataset/ or ROOT/referit-dataset/ (as text_objseg unpacks them),
masks in NN/segmentation_masks/ (as SAIAPR does). UNC's `refs(unc).p` and `refs(berkeley).p` with instances.json are in
RefCOCO's format and read as such: their outlines are run-length encodings. scipy is needed where a mask is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refseg.data.fields import Box, Missing, attempt, box_xyxy, integer, items, sentence, size
from refseg.data.images import image_size
from refseg.data.json_files import read_table
from refseg.data.masks import MaskFile
from refseg.data.published import Published, SplitCounts
from refseg.data.sample import Instance, Problem, Sample
from refseg.data.source import DatasetFiles, Format, PictureFinder, ReadOptions, parts_of, picture_folders

_SPLITS = ("train", "val", "trainval", "test")
_PICTURES = ("images", "referit-dataset/images", "images/saiapr_tc-12", "saiapr_tc-12", "")
_MASKS = ("mask", "referit-dataset/mask", "masks")


def find(folder: Path) -> list[DatasetFiles]:
    """The data set where `folder` holds referit_query_<split>.json and referit_bbox.json."""
    parts, boxes = parts_of(folder, "referit_query_{}.json", _SPLITS), folder / "referit_bbox.json"
    if not parts or not boxes.is_file():
        return []
    return [DatasetFiles(FORMAT, "refclef", "referit", parts[0][1], picture_folders(folder, _PICTURES), boxes, parts)]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Iterator[Sample]:
    """One sample per expression, `id` "<picture>_<region>_<place>"; "trainval" only when asked for or there alone."""
    home = files.main.parent
    boxes = {name.removesuffix(".png"): box for name, box in read_table(files.companion).items()}
    sizes_path = home / "referit_imsize.json"
    sizes = read_table(sizes_path) if sizes_path.is_file() else {}
    finder = PictureFinder(files.picture_folders, coco=False, nested=True)
    masks = _mask_files(home)
    missing = Missing(options.need_pictures)
    names = [name for name, _ in files.parts]
    for split, path in files.wanted_parts(options.split):
        if split == "trainval" and options.split != "trainval" and "train" in names:
            continue
        for index, (name, texts) in enumerate(read_table(path).items()):
            region = name.removesuffix(".png")
            where = f"{path.name} {region}"
            entry = attempt(where, problems, _region, region, texts, boxes)
            if entry is None:
                continue
            number, place_in_picture, box, lines = entry
            picture = finder.find(number)
            if missing.skips(picture, number, len(lines)):
                continue
            sides = attempt(where, problems, _sides, picture, sizes.get(f"{number}.jpg"), lost=len(lines))
            if sides is None:
                continue
            mask = masks.get(region)
            if mask is None:
                problems.append(Problem("no_outline", where, "its .mat mask is not there; only the box is known"))
            outline = None if mask is None else MaskFile(mask, 0)
            item = Instance(place_in_picture, "", box, outline)
            for place, line in enumerate(lines):
                text = attempt(f"{where}[{place}]", problems, sentence, line, "the expression")
                if text is not None:
                    yield Sample(
                        f"{region}_{place}", text, number, sides, (item,), image_path=picture, split=split,
                        dataset=files.name, ref_id=index, sent_id=place,
                    )  # fmt: skip
    missing.report(problems)


def _region(name: str, texts: Any, boxes: dict[str, Any]) -> tuple[int, int, Box, list[Any]]:
    picture, line, region = name.partition("_")
    if not line or not region.isdecimal():
        raise ValueError("a region is named <picture>_<region>")
    if name not in boxes:
        raise ValueError("it has no box in referit_bbox.json")
    number, place = integer(picture, "picture"), integer(region, "region")
    left, top, right, bottom = box_xyxy(boxes[name], "box")
    return number, place, (left, top, right + 1, bottom + 1), items(texts, "expressions")


def _sides(picture: Path | None, recorded: Any) -> tuple[int, int]:
    if picture is not None:
        return image_size(picture)
    width, height = items(recorded, "imsize")
    return size(height, width)


def _mask_files(home: Path) -> dict[str, Path]:
    """Region -> its mask; each folder is listed once."""
    folders = [base / name for base in (home, home.parent) for name in _MASKS]
    folders += [path for base in (home, home / "images" / "saiapr_tc-12", home / "saiapr_tc-12")
                for path in sorted(base.glob("*/segmentation_masks"))]  # fmt: skip
    found: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for path in sorted(folder.glob("*.mat")):
                found.setdefault(path.stem, path)
    return found


FORMAT = Format(
    "referit", find, read,
    counts=(
        Published(
            "refclef", "referit",
            {"train": SplitCounts(54_127), "val": SplitCounts(5_842), "test": SplitCounts(60_103)},
            "Kazemzadeh et al., EMNLP 2014; split by Hu et al., CVPR 2016", pictures=19_894, objects=96_654,
            expressions=130_525, note="the same split as berkeley, with one MATLAB mask a region",
        ),
    ),
)  # fmt: skip
