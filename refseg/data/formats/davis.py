"""Ref-DAVIS17 as published: DAVIS 2017 with four sentences an object, in four text files.

Khoreva, Rohrbach, Schiele, "Video Object Segmentation with Language Referring Expressions", ACCV 2018:

    ROOT/DAVIS/JPEGImages/480p/<video>/00000.jpg
    ROOT/DAVIS/Annotations_unsupervised/480p/<video>/00000.png  (or Annotations/480p): palette, one number an object
    ROOT/DAVIS/ImageSets/2017/train.txt  val.txt
    ROOT/DAVIS/davis_semantics.json      {"<video>": {"1": "person"}} (optional)
    ROOT/davis_text_annotations/Davis17_annot1.txt  _annot1_full_video  _annot2  _annot2_full_video
        bear 1 "a brown bear walking on rocks"

Each object of a video thus has four clips, whose `kind` says which annotator wrote it and whether from the first frame
or the whole video; the usual score is the mean over the four. The second annotator's files are Latin-1. Three videos
are misspelt in the text files; they are mended as ReferFormer does. No torch in this file.
"""

from __future__ import annotations

import re
from pathlib import Path

from refseg.data.fields import attempt, file_part
from refseg.data.formats.clips import Clip, FrameSamples, PaletteMasks, clip_frames
from refseg.data.formats.coco import read_json
from refseg.data.layout import DatasetFiles
from refseg.data.readers import ReadOptions, check_split, split_matches
from refseg.data.sample import Problem
from refseg.errors import DataError

_TEXTS = {
    "annotator 1, first frame": "Davis17_annot1.txt",
    "annotator 1, full video": "Davis17_annot1_full_video.txt",
    "annotator 2, first frame": "Davis17_annot2.txt",
    "annotator 2, full video": "Davis17_annot2_full_video.txt",
}
_MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
_LINE = re.compile(r'^(\S+)\s+(\d{1,9})\s+"?(.*?)"?\s*$')


def find(folder: Path) -> list[DatasetFiles]:
    """The data set where `folder` holds DAVIS/ and davis_text_annotations/."""
    texts = folder / "davis_text_annotations"
    splits = folder / "DAVIS" / "ImageSets" / "2017"
    parts = tuple((path.stem, path) for path in sorted(splits.glob("*.txt")) if path.stem in ("train", "val"))
    main = next((texts / name for name in _TEXTS.values() if (texts / name).is_file()), None)
    if main is None or not parts:
        return []
    return [DatasetFiles("ref-davis17", "khoreva", main, main, False, (folder / "DAVIS",), "davis", parts)]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> FrameSamples:
    """Every frame of every clip as a sample."""
    return FrameSamples(read_clips(files, options, problems))


def read_clips(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> list[Clip]:
    """The clips of the splits asked for, by video, object and annotator. Raises `DataError` as `open_dataset` does."""
    home = files.picture_folders[0]
    check_split(options.split, (name for name, _ in files.parts), files.refs)
    said: dict[str, list[tuple[int, int, str, str]]] = {}
    for order, (kind, name) in enumerate(_TEXTS.items()):
        path = files.refs.parent / name
        if not path.is_file():
            problems.append(Problem("missing_file", name, "one of the four annotators' files is not there"))
            continue
        for video, number, text in _sentences(path, problems):
            said.setdefault(video, []).append((number, order, kind, text))
    masks = next(
        (home / name for name in ("Annotations_unsupervised/480p", "Annotations/480p") if (home / name).is_dir()), None
    )
    if masks is None:
        raise DataError(f"{home}: there is neither Annotations_unsupervised/480p nor Annotations/480p")
    categories = _categories(home / "davis_semantics.json")
    clips: list[Clip] = []
    for split, path in files.parts:
        if not split_matches(split, options.split):
            continue
        for video in _lines(path):
            if attempt(f"{path.name} {video}", problems, file_part, video, "the video's name") is None:
                continue
            folder = home / "JPEGImages" / "480p" / video
            names = sorted(entry.stem for entry in folder.glob("*.jpg")) if folder.is_dir() else []
            frames, _ = clip_frames(folder, names)
            entries = sorted(said.get(video, []))
            if not entries:
                problems.append(Problem("no_sentences", f"video {video}", "no annotator wrote about it"))
            if not frames:
                problems.append(Problem("missing_picture", f"video {video}", f"no frames in {folder}", len(entries)))
                continue
            source = PaletteMasks(masks / video, tuple(frame.stem for frame in frames))
            for place, (number, _, kind, text) in enumerate(entries):
                category = categories.get((video, number), "")
                clip = Clip(
                    video, str(place), text, frames, (number,), (number,), category, kind, split, files.name,
                    len(clips), source,
                )  # fmt: skip
                clips.append(clip)
    return clips


def _sentences(path: Path, problems: list[Problem]) -> list[tuple[str, int, str]]:
    found = []
    for number, line in enumerate(_lines(path), start=1):
        match = _LINE.match(line)
        if match is None or not match.group(3).strip():
            problems.append(Problem("bad_record", f"{path.name}:{number}", 'a line is: video object "sentence"', 1))
            continue
        video = _MISSPELT.get(match.group(1), match.group(1))
        found.append((video, int(match.group(2)), " ".join(match.group(3).split())))
    return found


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _categories(path: Path) -> dict[tuple[str, int], str]:
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise DataError(f"{path}: a table of videos is wanted, not {type(content).__name__}")
    return {
        (video, int(key)): str(name)
        for video, objects in content.items()
        if isinstance(objects, dict)
        for key, name in objects.items()
        if str(key).isdecimal()
    }
