"""Ref-YouTube-VOS, MeViS, and Ref-DAVIS17 in their layout: `meta_expressions.json` with frames and masks.

Seo et al., "URVOS", ECCV 2020; Ding et al., "MeViS", ICCV 2023 and TPAMI 2025; Khoreva et al., ACCV 2018 as converted
by ReferFormer. Two layouts:

    ROOT/meta_expressions/train/meta_expressions.json      Ref-YouTube-VOS, Ref-DAVIS17 converted
    ROOT/train/JPEGImages/<video>/<frame>.jpg   Annotations/<video>/<frame>.png (palette)   meta.json (categories)

    ROOT/train/meta_expressions.json                       MeViS
    ROOT/train/JPEGImages/<video>/<frame>.jpg   mask_dict.json {"<anno_id>": [RLE or null, one a frame]}

    {"videos": {"<video>": {"frames": [...], "expressions": {"0": {"exp", "obj_id", "anno_id"}}}}}

A video's masks are read from mask_dict.json once, record by record, and kept as bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refseg.data import rle
from refseg.data.fields import attempt, file_part, integer, items, sentence, table
from refseg.data.formats.clips import ANNOTATORS, Clip, FrameSamples, MaskSource, PaletteMasks, clip_frames
from refseg.data.json_files import read_table, stream_table
from refseg.data.masks import SegmentationSource
from refseg.data.published import Published, Release, RemoteFile, SplitCounts
from refseg.data.sample import Problem
from refseg.data.source import DatasetFiles, Format, ReadOptions, check_split
from refseg.errors import DataError

_NAME = "meta_expressions.json"
_OTHER_NAMES = {"val": "valid", "valid": "val"}
"""Validation sets are called either by different parts of the same release, and by the papers."""


@dataclass
class MaskDict:
    """MeViS' masks: for each annotation its encodings by frame, as the file's bytes (a frame's is empty: not seen)."""

    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    frames: dict[int, list[bytes]] = field(default_factory=dict)

    def outline(self, number: int, frame: int) -> SegmentationSource:
        """See `refseg.data.formats.clips.MaskSource`."""
        encodings = self.frames[number]
        if frame >= len(encodings) or not encodings[frame]:
            return None
        return {"size": list(self.sizes[number]), "counts": encodings[frame].decode("ascii")}


@dataclass(frozen=True)
class _FrameMasks:
    """Some frames of a video's masks: those whose pictures are there."""

    masks: MaskDict
    frames: tuple[int, ...]

    def outline(self, number: int, frame: int) -> SegmentationSource:
        return self.masks.outline(number, self.frames[frame])


_NO_MASKS = MaskDict()  # of an expression without target: nothing is asked of it


def find(folder: Path) -> list[DatasetFiles]:
    """The data set where `folder` has either layout; the folder's name tells DAVIS and MeViS from YouTube-VOS."""
    separate = {path.parent.name: path for path in sorted(folder.glob(f"meta_expressions/*/{_NAME}"))}
    beside = {
        path.parent.name: path
        for path in sorted(folder.glob(f"*/{_NAME}"))
        if (path.parent / "JPEGImages").is_dir() or (path.parent / "mask_dict.json").is_file()
    }
    parts = tuple((separate or beside).items())
    if not parts:
        return []
    home = folder.resolve().name.lower()
    name = "ref-davis17" if "davis" in home else "ref-youtube-vos" if separate else "mevis"
    return [DatasetFiles(FORMAT, name, "meta", parts[0][1], (folder,), parts=parts)]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> FrameSamples:
    """Every frame of every clip as a sample. Raises `DataError` when a file is unreadable or there is no such split."""
    names, wanted = [name for name, _ in files.parts], options.split
    other = _OTHER_NAMES.get(wanted or "")
    wanted = other if wanted not in names and other in names else wanted
    check_split(wanted, names, files.main)
    clips: list[Clip] = []
    for split, path in files.wanted_parts(wanted):
        home = _home_of(files.picture_folders[0], split)
        # Ref-YouTube-VOS lists the test set's videos among those of its validation set.
        tested = dict(files.parts).get("test") if files.name == "ref-youtube-vos" and split != "test" else None
        others = read_table(tested).get("videos") if tested is not None else None
        left_out = frozenset(others) if isinstance(others, dict) else frozenset()
        clips += _read_split(files, split, path, home, problems, len(clips), left_out)
    return FrameSamples(clips)


def read_mask_dict(path: Path, problems: list[Problem]) -> MaskDict:
    """mask_dict.json, checked; an annotation with a damaged record is left out."""
    masks = MaskDict()
    for key, records in stream_table(path):
        entry = attempt(f"{path.name} {key}", problems, _encodings, key, records, lost=0)
        if entry is not None:
            masks.sizes[entry[0]], masks.frames[entry[0]] = entry[1:]
    return masks


def _encodings(key: str, records: Any) -> tuple[int, tuple[int, int], list[bytes]]:
    frames: list[bytes] = []
    found: tuple[int, int] | None = None
    for place, record in enumerate(items(records, "the masks")):
        if not record:
            frames.append(b"")
            continue
        try:
            encoding = rle.compressed(record, found)
        except DataError as error:
            raise ValueError(f"frame {place}: {error}") from error
        found = (encoding["size"][0], encoding["size"][1])
        frames.append(encoding["counts"])
    return integer(key, "anno_id"), found or (1, 1), frames


def _home_of(root: Path, split: str) -> Path:
    """The split's folder."""
    for name in (split, _OTHER_NAMES.get(split, split)):
        if (root / name).is_dir():
            return root / name
    return root / split


def _read_split(
    files: DatasetFiles,
    split: str,
    path: Path,
    home: Path,
    problems: list[Problem],
    first: int,
    left_out: frozenset[str],
) -> Iterator[Clip]:
    videos = read_table(path).get("videos")
    if not isinstance(videos, dict):
        raise DataError(f'{path}: "videos" is missing or not a table')
    categories = _categories(home / "meta.json")
    encoded = read_mask_dict(home / "mask_dict.json", problems) if (home / "mask_dict.json").is_file() else None
    palette = (home / "Annotations").is_dir()
    if encoded is None and not palette:
        listed = (video.get("expressions") for video in videos.values() if isinstance(video, dict))
        count = sum(len(entries) for entries in listed if isinstance(entries, dict))
        message = f"the masks of {count:,} expressions are not published"
        problems.append(Problem("no_masks", f"{files.name} {split}", message))
    place = first
    for video, record in videos.items():
        if video in left_out:
            continue
        where = f"{path.name} {split} {video}"
        about = attempt(where, problems, _about, video, record)
        if about is None:
            continue
        names = sorted(about[0])
        frames, missing = clip_frames(home / "JPEGImages" / video, names)
        if missing:
            lost = len(about[1]) if not frames else 0
            words = f"{len(missing)} of {len(names)} frames are not there, the first is {missing[0]}"
            problems.append(Problem("missing_picture", where, words, lost))
        if not frames:
            continue
        kept = tuple(names.index(frame.stem) for frame in frames)
        for key, entry in about[1].items():
            spot = f"{where} expression {key}"
            made = attempt(spot, problems, _expression, entry)
            if made is None:
                continue
            text, objects, annotations = made
            if encoded is not None:
                if len(objects) != len(annotations):
                    words = f"{len(objects)} objects in obj_id, but {len(annotations)} in anno_id"
                    problems.append(Problem("bad_record", spot, words, 1))
                    continue
                if fault := _unknown(annotations, encoded):
                    problems.append(Problem("unknown_object", spot, fault, 1))
                    continue
            by_palette = PaletteMasks(home / "Annotations" / video, tuple(frame.stem for frame in frames))
            source: MaskSource | None = (
                _FrameMasks(encoded, kept) if encoded is not None else by_palette if palette else None
            )
            known = [categories.get((video, number), "") for number in objects]
            # As converted by ReferFormer: for each object the annotators' expressions one after the other.
            numbered = files.name == "ref-davis17" and str(key).isdecimal()
            kind = ANNOTATORS[int(key) % len(ANNOTATORS)] if numbered else None
            yield Clip(
                video, str(key), text, frames, objects,
                annotations if encoded is not None else objects, known[0] if known else "", kind, split, files.name,
                place, source if objects or source is None else _NO_MASKS,
            )  # fmt: skip
            place += 1


def _unknown(annotations: tuple[int, ...], masks: MaskDict) -> str:
    absent = [number for number in annotations if number not in masks.frames]
    return f"annotation {absent[0]} is not in mask_dict.json" if absent else ""


def _about(video: str, record: Any) -> tuple[list[str], dict[str, Any]]:
    fields = table(record, "a video")
    file_part(video, "the video's name")
    names = [file_part(name, "a frame") for name in items(fields["frames"], "frames")]
    return names, table(fields["expressions"], "expressions")


def _expression(entry: Any) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """(expression, objects, annotations); a number, a text or a list of either stands for the objects."""
    fields = table(entry, "an expression")

    def integers(name: str) -> tuple[int, ...]:
        value = fields.get(name, [])
        return tuple(integer(item, name) for item in (value if isinstance(value, list) else [value]))

    return sentence(fields["exp"], "exp"), integers("obj_id"), integers("anno_id")


def _categories(path: Path) -> dict[tuple[str, int], str]:
    """(video, object) -> category, where meta.json says so."""
    if not path.is_file():
        return {}
    found: dict[tuple[str, int], str] = {}
    videos = read_table(path).get("videos")
    for video, record in videos.items() if isinstance(videos, dict) else ():
        objects = record.get("objects", {}) if isinstance(record, dict) else {}
        for key, entry in objects.items() if isinstance(objects, dict) else ():
            if str(key).isdecimal() and isinstance(entry, dict):
                found[video, int(key)] = str(entry.get("category", ""))
    return found


FORMAT = Format(
    "meta-expressions", find, read,
    (
        Published(
            "ref-youtube-vos", "meta",
            {
                "train": SplitCounts(12_913, pictures=3_471, objects=6_388), "valid": SplitCounts(None, pictures=202),
                "test": SplitCounts(None, pictures=305),
            },
            "Seo et al., URVOS, ECCV 2020; the challenge's split of the validation part", pictures=3_978,
            objects=7_451, expressions=15_009, note="pictures are videos; the masks of valid and test are not public",
        ),
        Published(
            "mevis", "meta",
            {
                "train": SplitCounts(27_502, pictures=1_662), "valid_u": SplitCounts(907, pictures=50),
                "valid": SplitCounts(2_523, pictures=140),
            },
            "Ding et al., MeViS, TPAMI 2025 (version 2), and its repository", pictures=2_006, objects=8_171,
            expressions=33_072,
            note="pictures are videos; version 1 (ICCV 2023) holds 28,570 expressions; valid's masks are not public",
        ),
    ),
    (
        Release(
            "ref-youtube-vos", "Ref-YouTube-VOS", "Seo, Lee, Han, URVOS, ECCV 2020",
            "https://youtube-vos.org/dataset/rvos/",
            "see the challenge's page; videos: YouTube's terms, for research",
            (
                RemoteFile(
                    (), "ref-youtube-vos",
                    manual="register for the challenge at https://codalab.lisn.upsaclay.fr (Referring Video Object "
                    "Segmentation), then unpack train.zip, valid.zip and meta_expressions.zip into ref-youtube-vos/",
                    pictures=True,
                ),
            ),
            (
                "ref-youtube-vos/meta_expressions/<split>/meta_expressions.json",
                "ref-youtube-vos/train/JPEGImages/<video>/*.jpg", "ref-youtube-vos/train/Annotations/<video>/*.png",
                "ref-youtube-vos/train/meta.json",
            ),
            "the masks of valid and test are not public: scores come from the challenge's server",
        ),
        Release(
            "mevis", "MeViS",
            "Ding et al., MeViS: A Large-scale Benchmark for Video Segmentation with Motion Expressions, ICCV 2023",
            "https://github.com/henghuiding/MeViS",
            "CC BY-NC-SA 4.0 as its authors state, for non-commercial research",
            (
                RemoteFile(
                    (), "mevis",
                    manual="the repository's README links to the challenge's page and to FudanCVL/MeViSv2 on Hugging "
                    "Face; unpack train, valid_u and valid into mevis/",
                    pictures=True,
                ),
            ),
            (
                "mevis/<split>/meta_expressions.json", "mevis/<split>/mask_dict.json (train, valid_u)",
                "mevis/<split>/JPEGImages/<video>/*.jpg",
            ),
        ),
    ),
    on_demand=True,
)  # fmt: skip
