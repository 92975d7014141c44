"""Ref-YouTube-VOS, MeViS, and Ref-DAVIS17 in their form: `meta_expressions.json` with frames and masks.

Seo et al., "URVOS", ECCV 2020; Ding et al., "MeViS", ICCV 2023 and TPAMI 2025; Khoreva et al., ACCV 2018 as converted
by ReferFormer. Two layouts:

    ROOT/meta_expressions/train/meta_expressions.json      Ref-YouTube-VOS, Ref-DAVIS17 converted
    ROOT/train/JPEGImages/<video>/<frame>.jpg   Annotations/<video>/<frame>.png (palette)   meta.json (categories)

    ROOT/train/meta_expressions.json                       MeViS
    ROOT/train/JPEGImages/<video>/<frame>.jpg   mask_dict.json {"<anno_id>": [RLE or null, one a frame]}

    {"videos": {"<video>": {"frames": [...], "expressions": {"0": {"exp", "obj_id", "anno_id"}}}}}

A video's masks are read from mask_dict.json once, record by record, and kept as bytes. No torch in this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refseg.data import rle
from refseg.data.fields import attempt, file_part, integer, items, read_table, sentence, table
from refseg.data.formats.clips import Clip, FrameSamples, PaletteMasks, clip_frames
from refseg.data.json_stream import stream_table
from refseg.data.layout import DatasetFiles
from refseg.data.masks import SegmentationSource
from refseg.data.readers import ReadOptions, check_split, split_matches
from refseg.data.sample import Problem
from refseg.errors import DataError

_NAME = "meta_expressions.json"


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
class _Chosen:
    """Some frames of a video's masks: those whose pictures are there."""

    masks: MaskDict
    frames: tuple[int, ...]

    def outline(self, number: int, frame: int) -> SegmentationSource:
        return self.masks.outline(number, self.frames[frame])


def find(folder: Path) -> list[DatasetFiles]:
    """The data set where `folder` has either layout; the folder's name tells DAVIS and MeViS from YouTube-VOS."""
    apart = {path.parent.name: path for path in sorted(folder.glob(f"meta_expressions/*/{_NAME}"))}
    beside = {
        path.parent.name: path
        for path in sorted(folder.glob(f"*/{_NAME}"))
        if (path.parent / "JPEGImages").is_dir() or (path.parent / "mask_dict.json").is_file()
    }
    parts = tuple((apart or beside).items())
    if not parts:
        return []
    home = folder.resolve().name.lower()
    name = "ref-davis17" if "davis" in home else "ref-youtube-vos" if apart else "mevis"
    main = parts[0][1]
    return [DatasetFiles(name, "meta", main, main, False, (folder,), "meta-expressions", parts)]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> FrameSamples:
    """Every frame of every clip as a sample."""
    return FrameSamples(read_clips(files, options, problems))


def read_clips(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> list[Clip]:
    """The clips of the splits asked for. Raises `DataError` when a file is unreadable or there is no such split."""
    check_split(options.split, (name for name, _ in files.parts), files.refs)
    clips: list[Clip] = []
    for split, path in files.parts:
        if split_matches(split, options.split):
            home = _home_of(files.picture_folders[0], split)
            clips += _read_split(files, split, path, home, problems, len(clips))
    return clips


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
    """The split's folder; validation sets are called val or valid by different parts of the same release."""
    for name in (split, {"val": "valid", "valid": "val"}.get(split, split)):
        if (root / name).is_dir():
            return root / name
    return root / split


def _read_split(
    files: DatasetFiles, split: str, path: Path, home: Path, problems: list[Problem], first: int
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
        problems.append(
            Problem("no_masks", f"{files.name} {split}", f"the masks of {count:,} sentences are not published")
        )
    place = first
    for video, record in videos.items():
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
            made = attempt(spot, problems, _meant, entry)
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
            source: Any = _Chosen(encoded, kept) if encoded is not None else by_palette if palette else None
            known = [categories.get((video, number), "") for number in objects]
            yield Clip(
                video, str(key), text, frames, objects,
                annotations if encoded is not None else objects, known[0] if known else "", None, split, files.name,
                place, source if objects or source is None else _nothing,
            )  # fmt: skip
            place += 1


class _Nothing:
    """The masks of a sentence that means nothing."""

    def outline(self, number: int, frame: int) -> SegmentationSource:
        return None


_nothing = _Nothing()


def _unknown(annotations: tuple[int, ...], masks: MaskDict) -> str:
    absent = [number for number in annotations if number not in masks.frames]
    return f"annotation {absent[0]} is not in mask_dict.json" if absent else ""


def _about(video: str, record: Any) -> tuple[list[str], dict[str, Any]]:
    fields = table(record, "a video")
    file_part(video, "the video's name")
    names = [file_part(name, "a frame") for name in items(fields["frames"], "frames")]
    return names, table(fields["expressions"], "expressions")


def _meant(entry: Any) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """(sentence, objects, annotations); a number, a text or a list of either stands for the objects."""
    fields = table(entry, "an expression")

    def many(name: str) -> tuple[int, ...]:
        value = fields.get(name, [])
        return tuple(integer(item, name) for item in (value if isinstance(value, list) else [value]))

    return sentence(fields["exp"], "exp"), many("obj_id"), many("anno_id")


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


def open_clips(
    root: str | Path, dataset: str | None = None, split: str | None = None
) -> tuple[list[Clip], list[Problem]]:
    """The clips of a video data set under `root`, and what could not be used; arguments as `refseg.data.open_dataset`.

    Raises `DataError` when there is no such data set or split, or it is not one of video.
    """
    from refseg.data.layout import choose

    files = choose(root, dataset, None)
    problems: list[Problem] = []
    if files.form == "davis":
        from refseg.data.formats import davis

        return davis.read_clips(files, ReadOptions(split), problems), problems
    if files.form != "meta-expressions":
        raise DataError(f"{files.refs}: {files.name} is not a video data set")
    return read_clips(files, ReadOptions(split), problems), problems
