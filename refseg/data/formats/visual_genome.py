"""Visual Genome's region descriptions: a phrase and a box for each of 5.4 million regions; RefTR pre-trains on them.

Krishna et al., "Visual Genome: Connecting Language and Vision Using Crowdsourced Dense Image Annotations", IJCV 2017:

    ROOT/region_descriptions.json
        [{"id": 1, "regions": [{"region_id", "image_id", "phrase", "x", "y", "width", "height"}]}]
    ROOT/image_data.json
        [{"image_id", "width", "height", "url", "coco_id", "flickr_id"}]
    ROOT/VG_100K/1.jpg  ROOT/VG_100K_2/2.jpg

About half of the pictures are COCO's: before pre-training, leave out those of the evaluation splits
(`refseg.data.leak.without`). Boxes only. The regions are read record by record, the file is larger than most memories
as Python objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refseg.data.fields import Missing, attempt, integer, items, numbers, sentence, size, table
from refseg.data.json_files import stream_list
from refseg.data.published import Published, Release, RemoteFile, SplitCounts
from refseg.data.sample import Instance, Problem, Sample
from refseg.data.source import DatasetFiles, Format, PictureFinder, ReadOptions, picture_folders

_PICTURES = (
    "VG_100K", "VG_100K_2", "images/VG_100K", "images/VG_100K_2", "images/VG", "images/visual-genome", "images", "",
)  # fmt: skip


@dataclass(frozen=True)
class GenomePicture:
    """A picture of Visual Genome, and which picture of COCO and of Flickr it is where that is known."""

    size: tuple[int, int]
    coco_id: int | None = None
    flickr_id: int | None = None
    split: str = ""


def find(folder: Path) -> list[DatasetFiles]:
    """The data set where `folder` holds region_descriptions.json and image_data.json."""
    main, about = folder / "region_descriptions.json", folder / "image_data.json"
    if not main.is_file() or not about.is_file():
        return []
    pictures = picture_folders(folder, _PICTURES)
    return [DatasetFiles(FORMAT, "visual-genome", "regions", main, pictures, about)]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Iterator[Sample]:
    """One sample a region, split "all". Boxes are cut at the picture's border; one without area is left out."""
    about = read_pictures(files.companion, problems)
    finder = PictureFinder(files.picture_folders, coco=False)
    missing = Missing(options.need_pictures)
    for index, record in enumerate(stream_list(files.main)):
        where = f"{files.main.name}[{index}]"
        entry = attempt(where, problems, _picture, record)
        if entry is None:
            continue
        number, regions = entry
        if number not in about:
            message = f"picture {number} is not in image_data.json"
            problems.append(Problem("unknown_picture", where, message, len(regions)))
            continue
        path = finder.find(number)
        if regions and missing.skips(path, number, len(regions)):
            continue
        for place, region in enumerate(regions):
            spot = f"{where} regions[{place}]"
            sample = attempt(spot, problems, _sample, region, number, about[number].size, path, files.name)
            if sample is not None:
                yield sample
    missing.report(problems)


def read_pictures(path: Path, problems: list[Problem]) -> dict[int, GenomePicture]:
    """image_data.json, also in PhraseCut's version, which adds a split to each picture; by picture number."""
    pictures: dict[int, GenomePicture] = {}
    for index, record in enumerate(stream_list(path)):
        entry = attempt(f"{path.name}[{index}]", problems, _genome_picture, record, lost=0)
        if entry is not None:
            pictures[entry[0]] = entry[1]
    return pictures


def _genome_picture(record: Any) -> tuple[int, GenomePicture]:
    fields = table(record, "a picture")
    coco, flickr = (
        None if fields.get(name) is None else integer(fields[name], name) for name in ("coco_id", "flickr_id")
    )
    sides, split = size(fields["height"], fields["width"]), str(fields.get("split", ""))
    return integer(fields["image_id"], "image_id"), GenomePicture(sides, coco, flickr, split)


def _picture(record: Any) -> tuple[int, list[Any]]:
    fields = table(record, "a picture")
    # the published file calls it "id", its description "image_id"
    return integer(fields["id"] if "id" in fields else fields["image_id"], "id"), items(fields["regions"], "regions")


def _sample(region: Any, number: int, sides: tuple[int, int], path: Path | None, dataset: str) -> Sample:
    fields = table(region, "a region")
    key = integer(fields["region_id"], "region_id")
    left, top, width, height = numbers([fields[name] for name in ("x", "y", "width", "height")], "x, y, width, height")
    right, bottom = min(left + width, float(sides[1])), min(top + height, float(sides[0]))
    left, top = max(left, 0.0), max(top, 0.0)
    if right <= left or bottom <= top:
        raise ValueError(f"region {key}: its box has no area inside the picture")
    item = Instance(key, "", (left, top, right, bottom))
    text = sentence(fields["phrase"], "phrase")
    return Sample(
        f"{key}_0", text, number, sides, (item,), image_path=path, split="all", dataset=dataset, ref_id=key, sent_id=0
    )


PICTURE_TABLES = ("image_data.json", "image_data_split3000.json", "image_data_split.json")
PICTURE_FILES = tuple(
    RemoteFile(
        (f"https://cs.stanford.edu/people/rak248/VG_100K_2/{name}.zip",), f"archives/{name}.zip", "", pictures=True
    )
    for name in ("images", "images2")
)

_ANNOTATIONS = tuple(
    RemoteFile(
        (f"https://homes.cs.washington.edu/~ranjay/visualgenome/data/dataset/{name}.json.zip",),
        f"archives/{name}.json.zip",
        "visual-genome",
    )
    for name in ("region_descriptions", "image_data")
)

FORMAT = Format(
    "visual-genome", find, read,
    (
        Published(
            "visual-genome", "regions", {"all": SplitCounts(None, pictures=108_077)}, "Krishna et al., IJCV 2017",
            pictures=108_077,
            note="5.4 million regions; about half of the pictures are COCO's: leave out those of the evaluation splits",
        ),
    ),
    (
        Release(
            "visual-genome", "Visual Genome regions", "Krishna et al., Visual Genome, IJCV 2017",
            "https://homes.cs.washington.edu/~ranjay/visualgenome/api.html", "CC BY 4.0",
            (
                *_ANNOTATIONS,
                *PICTURE_FILES,
            ),
            (
                "visual-genome/region_descriptions.json", "visual-genome/image_data.json", "VG_100K/*.jpg",
                "VG_100K_2/*.jpg",
            ),
        ),
    ),
    picture_table=PICTURE_TABLES,
)  # fmt: skip
