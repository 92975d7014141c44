"""Flickr30k Entities as published: captions with bracketed phrases, boxes as XML, one file a picture.

Plummer et al., "Flickr30k Entities: Collecting Region-to-Phrase Correspondences for Richer Image-to-Sentence Models",
IJCV 2017, and the repository's README:

    ROOT/Sentences/36979.txt      [/EN#137644/people A group of friends] playing [/EN#137645/other cards] and ...
    ROOT/Annotations/36979.xml    <object><name>137644</name><bndbox><xmin>...</bndbox></object>
    ROOT/train.txt  val.txt  test.txt      picture numbers
    ROOT/flickr30k-images/36979.jpg

Two data sets of it: "flickr30k" has one sample a caption with its phrases in `Sample.phrases` (RefTR's multi-phrase
input), "flickr30k-phrases" one sample a phrase (recall of phrases). A chain of coreference with several boxes refers to
all of them; RefTR and others train and score on the box around them. Boxes are 1-based in the files and are moved to 0,
as the published reader does. An object with several names belongs to each, as the README says (the published Python
reader takes the first name only). XML is parsed by defusedxml (extra `data`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refseg.data.fields import Missing, box_xyxy, integer, size
from refseg.data.published import Published, Release, RemoteFile, SplitCounts
from refseg.data.sample import Instance, Phrase, Problem, Sample
from refseg.data.source import DatasetFiles, Format, PictureFinder, ReadOptions, parts_of, picture_folders
from refseg.errors import DataError

_SPLITS = ("train", "val", "test")
_PICTURES = ("flickr30k-images", "flickr30k_images", "f30k_images", "images", "images/flickr30k", "")
_PHRASE = re.compile(r"\[/EN#(\d{1,12})((?:/[^\s\]/]+)*)\s+([^\]]*)\]")
_MAX_BYTES = 5_000_000  # of one picture's text or XML; the published ones have a few thousand


@dataclass
class Boxes:
    """One picture's XML: its (height, width), and per chain its boxes; `scene` and `hidden` chains have none."""

    size: tuple[int, int]
    chains: dict[int, list[tuple[float, float, float, float]]] = field(default_factory=dict)
    scene: set[int] = field(default_factory=set)
    hidden: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Caption:
    """A caption without its brackets, and its phrases: (text, start, stop, chain, kinds), characters of `text`."""

    text: str
    phrases: tuple[tuple[str, int, int, int, tuple[str, ...]], ...]


def find(folder: Path) -> list[DatasetFiles]:
    """The two data sets where `folder` holds Sentences/ and Annotations/."""
    if not (folder / "Sentences").is_dir() or not (folder / "Annotations").is_dir():
        return []
    parts = parts_of(folder, "{}.txt", _SPLITS)
    main = parts[0][1] if parts else folder / "Sentences"
    pictures = picture_folders(folder, _PICTURES)
    names = ("flickr30k", "flickr30k-phrases")
    return [DatasetFiles(FORMAT, name, "plummer", main, pictures, parts=parts) for name in names]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Iterator[Sample]:
    """The samples, captions or phrases by the data set's name.

    Without the split files every picture has the split "all". Phrases that mean nothing that can be boxed (a scene,
    something not visible, a chain without boxes) stay in their caption without objects; as samples of their own they
    are left out, and counted in one problem.
    """
    home = files.main if files.main.is_dir() else files.main.parent
    home = home.parent if home.name == "Sentences" else home
    finder = PictureFinder(files.picture_folders, coco=False)
    single = files.name == "flickr30k-phrases"
    unrelated = _unrelated(home / "UNRELATED_CAPTIONS")
    missing, boxless = Missing(options.need_pictures), 0
    for split, number in _pictures(home, files, options, problems):
        where = f"picture {number}"
        try:
            captions = read_captions(home / "Sentences" / f"{number}.txt", problems)
            boxes = read_boxes(home / "Annotations" / f"{number}.xml", problems)
        except DataError as error:
            problems.append(Problem("bad_record", where, str(error), 5))
            continue
        path = finder.find(number)
        if missing.skips(path, number, len(captions)):
            continue
        for index, caption in enumerate(captions):
            kind = "unrelated" if (number, index + 1) in unrelated else None
            phrases = tuple(_phrase(entry, boxes) for entry in caption.phrases)
            common: dict[str, Any] = {"image_id": number, "size": boxes.size, "image_path": path, "split": split}
            common |= {"dataset": files.name, "ref_id": number, "kind": kind}
            if not single:
                objects = tuple(dict.fromkeys(item for phrase in phrases for item in phrase.objects))
                yield Sample(
                    f"{number}_{index}", caption.text, objects=objects, sent_id=index, phrases=phrases, **common
                )
                continue
            for place, phrase in enumerate(phrases):
                if not phrase.objects:
                    boxless += 1
                    continue
                key = 100 * index + place
                yield Sample(f"{number}_{key}", phrase.text, objects=phrase.objects, sent_id=key, **common)
    missing.report(problems)
    if boxless:
        words = f"{boxless:,} phrases mean a scene or something without a box; they are in no sample"
        problems.append(Problem("no_box", files.name, words))


def read_captions(path: Path, problems: list[Problem]) -> list[Caption]:
    """The captions of one picture's text file. Raises `DataError` when it is unreadable."""
    captions = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        text, phrases, position = "", [], 0
        for match in _PHRASE.finditer(line):
            text = _join(text, line[position : match.start()])
            words = " ".join(match.group(3).split())
            position = match.end()
            if not words:
                continue
            text = _join(text, words)
            kinds = tuple(kind for kind in match.group(2).split("/") if kind)
            phrases.append((words, len(text) - len(words), len(text), int(match.group(1)), kinds))
        text = _join(text, line[position:])
        if "[" in text or "]" in text:
            problems.append(Problem("bad_record", f"{path.name}:{number}", "a bracket that is not /EN#number/kind", 1))
            continue
        captions.append(Caption(text, tuple(phrases)))
    return captions


def read_boxes(path: Path, problems: list[Problem]) -> Boxes:
    """The boxes of one picture's XML file, xyxy from 0. Raises `DataError` when it is unreadable or has no size."""
    root = _xml(path)
    area = root.find("size")
    try:
        boxes = Boxes(size(_whole(area, "height"), _whole(area, "width")))
    except ValueError as error:
        raise DataError(f"{path}: the picture's size is not usable ({error})") from error
    for index, entry in enumerate(root.iter("object")):
        where = f"{path.name} object[{index}]"
        try:
            chains = [integer(name.text or "", "name") for name in entry.findall("name")]
            corners = entry.findall("bndbox")
            places = [box_xyxy([_whole(c, side) - 1 for side in ("xmin", "ymin", "xmax", "ymax")]) for c in corners]
            scene, hidden = ((entry.findtext(flag) or "0").strip() == "1" for flag in ("scene", "nobndbox"))
        except ValueError as error:
            problems.append(Problem("bad_box", where, str(error)))
            continue
        for chain in chains:
            if places:
                boxes.chains.setdefault(chain, []).extend(places)
            if scene:
                boxes.scene.add(chain)
            if hidden:
                boxes.hidden.add(chain)
    return boxes


def _phrase(entry: tuple[str, int, int, int, tuple[str, ...]], boxes: Boxes) -> Phrase:
    text, start, stop, chain, kinds = entry
    # Chain 0 is shared by everything that is not visual.
    places = boxes.chains.get(chain, []) if chain else []
    objects = tuple(Instance(1000 * chain + index, kinds[0] if kinds else "", box) for index, box in enumerate(places))
    return Phrase(text, start, stop, objects, kinds, chain or -1)


def _pictures(
    home: Path, files: DatasetFiles, options: ReadOptions, problems: list[Problem]
) -> Iterator[tuple[str, int]]:
    if not files.parts:
        paths = sorted((home / "Sentences").glob("*.txt"))
        yield from (("all", int(path.stem)) for path in paths if path.stem.isdecimal())
    for split, path in files.wanted_parts(options.split):
        for number, line in enumerate(_text(path).split("\n"), start=1):
            if line.strip().isdecimal() and len(line.strip()) < 16:
                yield split, int(line)
            elif line.strip():
                message = f"not a picture's number: {line[:40]!r}"
                problems.append(Problem("bad_record", f"{path.name}:{number}", message, 5))


def _unrelated(path: Path) -> set[tuple[int, int]]:
    """(picture, caption from 1) of captions that the authors list as not about their picture."""
    if not path.is_file():
        return set()
    pairs = (line.split() for line in _text(path).split("\n") if line.strip() and not line.startswith("#"))
    return {
        (int(pair[0]), int(pair[1]))
        for pair in pairs
        if len(pair) == 2 and all(part.isdecimal() and len(part) < 16 for part in pair)
    }


def _join(text: str, more: str) -> str:
    more = " ".join(more.split())
    return f"{text} {more}" if text and more else text or more


def _whole(element: Any, tag: str) -> int:
    found = None if element is None else element.findtext(tag)
    if found is None:
        raise ValueError(f"there is no {tag}")
    return integer(found, tag)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes are more than such a file holds")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _xml(path: Path) -> Any:
    try:
        from defusedxml import ElementTree
    except ImportError as error:
        raise DataError(f"{path}: reading XML needs defusedxml: pip install 'refseg[data]'") from error
    content = _text(path)
    try:
        return ElementTree.fromstring(content)
    except Exception as error:  # ParseError, and defusedxml's refusals of entities and DTDs
        raise DataError(f"{path}: not readable XML ({type(error).__name__}: {error})") from error


_LISTS = tuple(
    RemoteFile(
        (f"https://raw.githubusercontent.com/BryanPlummer/flickr30k_entities/master/{name}",), f"flickr30k/{name}"
    )
    for name in ("train.txt", "val.txt", "test.txt", "UNRELATED_CAPTIONS")
)

FORMAT = Format(
    "flickr30k", find, read,
    (
        Published(
            "flickr30k", "plummer",
            {
                "train": SplitCounts(148_915, pictures=29_783), "val": SplitCounts(5_000, pictures=1_000),
                "test": SplitCounts(5_000, pictures=1_000),
            },
            "Plummer et al., IJCV 2017, and its repository", pictures=31_783, expressions=158_915,
            note="five captions a picture; 276,000 boxes, 244,000 coreference chains, about 427,000 phrases",
        ),
    ),
    (
        Release(
            "flickr30k", "Flickr30k Entities", "Plummer et al., Flickr30k Entities, IJCV 2017",
            "https://github.com/BryanPlummer/flickr30k_entities",
            "research and education only; pictures: Flickr's terms of use",
            (
                RemoteFile(
                    ("https://github.com/BryanPlummer/flickr30k_entities/raw/master/annotations.zip",),
                    "archives/flickr30k-annotations.zip", "flickr30k",
                ),
                *_LISTS,
                RemoteFile(
                    (), "flickr30k/flickr30k-images",
                    manual="fill in the form at http://hockenmaier.cs.illinois.edu/DenotationGraph/ and unpack "
                    "flickr30k-images.tar.gz into flickr30k/",
                    pictures=True,
                ),
            ),
            (
                "flickr30k/Sentences/*.txt", "flickr30k/Annotations/*.xml", "flickr30k/train.txt, val.txt, test.txt",
                "flickr30k/flickr30k-images/*.jpg",
            ),
        ),
    ),
    pictures_of={"flickr30k": "Flickr", "flickr30k-phrases": "Flickr"},
)  # fmt: skip
