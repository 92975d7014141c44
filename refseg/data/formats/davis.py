"""Ref-DAVIS17 as published: DAVIS 2017 with four expressions an object, in four text files.

Khoreva, Rohrbach, Schiele, "Video Object Segmentation with Language Referring Expressions", ACCV 2018:

    ROOT/DAVIS/JPEGImages/480p/<video>/00000.jpg
    ROOT/DAVIS/Annotations_unsupervised/480p/<video>/00000.png  (or Annotations/480p): palette, one number an object
    ROOT/DAVIS/ImageSets/2017/train.txt  val.txt
    ROOT/DAVIS/davis_semantics.json      {"<video>": {"1": "person"}} (optional)
    ROOT/davis_text_annotations/Davis17_annot1.txt  _annot1_full_video  _annot2  _annot2_full_video
        bear 1 "a brown bear walking on rocks"

Each object of a video thus has four clips, whose `kind` says which annotator wrote it and whether from the first frame
or the whole video; the usual score is the mean over the four. The second annotator's files are Latin-1. Three videos
are misspelt in the text files; they are mended as ReferFormer does.
"""

from __future__ import annotations

import re
from pathlib import Path

from refseg.data.fields import attempt, file_part
from refseg.data.formats.clips import ANNOTATORS, Clip, FrameSamples, PaletteMasks, clip_frames
from refseg.data.json_files import read_table
from refseg.data.published import Published, Release, RemoteFile, SplitCounts
from refseg.data.sample import Problem
from refseg.data.source import DatasetFiles, Format, ReadOptions, check_split, parts_of
from refseg.errors import DataError

_FILES = ("annot1", "annot1_full_video", "annot2", "annot2_full_video")
_TEXTS = {kind: f"Davis17_{name}.txt" for kind, name in zip(ANNOTATORS, _FILES, strict=True)}
_MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
_LINE = re.compile(r'^(\S+)\s+(\d{1,9})\s+"?(.*?)"?\s*$')


def find(folder: Path) -> list[DatasetFiles]:
    """The data set where `folder` holds DAVIS/ and davis_text_annotations/."""
    texts = folder / "davis_text_annotations"
    parts = parts_of(folder / "DAVIS" / "ImageSets" / "2017", "{}.txt", ("train", "val"))
    main = next((texts / name for name in _TEXTS.values() if (texts / name).is_file()), None)
    if main is None or not parts:
        return []
    return [DatasetFiles(FORMAT, "ref-davis17", "khoreva", main, (folder / "DAVIS",), parts=parts)]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> FrameSamples:
    """Every frame of every clip as a sample, the clips by video, object and annotator."""
    home = files.picture_folders[0]
    check_split(options.split, (name for name, _ in files.parts), files.main)
    expressions: dict[str, list[tuple[int, int, str, str]]] = {}
    for order, (kind, name) in enumerate(_TEXTS.items()):
        path = files.main.parent / name
        if not path.is_file():
            problems.append(Problem("missing_file", name, "one of the four annotators' files is not there"))
            continue
        for video, number, text in _expressions(path, problems):
            expressions.setdefault(video, []).append((number, order, kind, text))
    masks = next(
        (home / name for name in ("Annotations_unsupervised/480p", "Annotations/480p") if (home / name).is_dir()), None
    )
    if masks is None:
        raise DataError(f"{home}: there is neither Annotations_unsupervised/480p nor Annotations/480p")
    categories = _categories(home / "davis_semantics.json")
    clips: list[Clip] = []
    for split, path in files.wanted_parts(options.split):
        for video in _lines(path):
            if attempt(f"{path.name} {video}", problems, file_part, video, "the video's name") is None:
                continue
            folder = home / "JPEGImages" / "480p" / video
            # Nothing lists the frames: those that have masks are wanted, too.
            names = sorted({entry.stem for entry in (*folder.glob("*.jpg"), *(masks / video).glob("*.png"))})
            frames, missing = clip_frames(folder, names)
            if frames and missing:
                words = f"{len(missing)} of {len(names)} frames are not there, the first is {missing[0]}"
                problems.append(Problem("missing_picture", f"video {video}", words))
            entries = sorted(expressions.get(video, []))
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
    return FrameSamples(clips)


def _expressions(path: Path, problems: list[Problem]) -> list[tuple[str, int, str]]:
    found = []
    for number, line in enumerate(_lines(path), start=1):
        match = _LINE.match(line)
        if match is None or not match.group(3).strip():
            problems.append(Problem("bad_record", f"{path.name}:{number}", 'a line is: video object "expression"', 1))
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
    content = read_table(path) if path.is_file() else {}
    return {
        (video, int(key)): str(name)
        for video, objects in content.items()
        if isinstance(objects, dict)
        for key, name in objects.items()
        if str(key).isdecimal()
    }


_VIDEOS = tuple(
    RemoteFile(
        (f"https://data.vision.ee.ethz.ch/csergi/share/davis/{name}.zip",), f"archives/{name}.zip", "ref-davis17",
        pictures=True,
    )
    for name in ("DAVIS-2017-Unsupervised-trainval-480p", "DAVIS-2017_semantics-480p")
)  # fmt: skip

FORMAT = Format(
    "davis", find, read,
    (
        Published(
            "ref-davis17", "khoreva",
            {"train": SplitCounts(None, pictures=60), "val": SplitCounts(None, pictures=30)},
            "Khoreva et al., ACCV 2018", pictures=90, objects=205, expressions=1_544,
            note="pictures are videos; two annotators, each from the first frame and from the whole video",
        ),
    ),
    (
        Release(
            "ref-davis17", "Ref-DAVIS17",
            "Khoreva, Rohrbach, Schiele, Video Object Segmentation with Language Referring Expressions, ACCV 2018",
            "https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning/research/video-segmentation/"
            "video-object-segmentation-with-language-referring-expressions",
            "see the two projects' pages (davischallenge.org); both are for research",
            (
                RemoteFile(
                    (), "ref-davis17/davis_text_annotations",
                    manual="download the text annotations from the project's page and unpack them into ref-davis17/",
                ),
                *_VIDEOS,
            ),
            (
                "ref-davis17/davis_text_annotations/Davis17_annot1.txt, ...",
                "ref-davis17/DAVIS/JPEGImages/480p/<video>/*.jpg",
                "ref-davis17/DAVIS/Annotations_unsupervised/480p/<video>/*.png",
                "ref-davis17/DAVIS/ImageSets/2017/train.txt, val.txt",
            ),
        ),
    ),
    on_demand=True,
)  # fmt: skip
