"""RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and UNC's RefCLEF: a list of referents beside COCO's instances.json.

Yu et al., "Modeling Context in Referring Expressions", ECCV 2016; Mao et al., "Generation and Comprehension of
Unambiguous Object Descriptions", CVPR 2016; Liu, Ding, Jiang, "GRES", CVPR 2023:

    ROOT/refcoco/    refs(unc).p   refs(google).p  instances.json       refcoco+/ refcocog/ refclef/ alike
    ROOT/grefcoco/   grefs(unc).json  instances.json
    ROOT/scenes/     grefs(scenes).json  instances.json                 templates/ converted/ alike
    ROOT/images/train2014/COCO_train2014_000000000009.jpg
    ROOT/images/saiapr_tc-12/00/images/25.jpg   (RefCLEF; also without the folders between)

    [{ref_id, image_id, ann_id, category_id, file_name, split, sent_ids, sentences: [{sent_id, raw, sent, tokens}]}]

In refs(...) `ann_id` is one number; in grefs(...) it lists all targets and is exactly [-1] where there is none, null or
left out where a benchmark hides it (the expression is then unannotated), and a sentence may have a `kind`. `file_name`
is never used: in gRefCOCO's public file it may belong to another picture (gRefCOCO issue 1). What cannot be used is
found when the data set is opened: it is left out and named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from refseg.data.fields import NOT_UNICODE, is_integer, is_unicode
from refseg.data.formats.coco import Instances, build_instance, read_instances
from refseg.data.json_files import read_json
from refseg.data.published import Published, Release, RemoteFile, SplitCounts
from refseg.data.sample import Instance, Problem, Sample
from refseg.data.source import (
    DatasetFiles,
    Format,
    PictureFinder,
    ReadOptions,
    Referent,
    Sentence,
    check_split,
    picture_folders,
    split_matches,
)
from refseg.errors import DataError
from refseg.unpickle import load_pickle

_REFS = re.compile(r"^(g?)refs\(([^()]+)\)\.(p|json)$")
_PICTURES = ("images/train2014", "images/mscoco/images/train2014", "images", "train2014", "")
_SAIAPR = (
    "images/saiapr_tc-12", "images/saiaprtc12", "images/refclef", "saiapr_tc-12", "referit/images", "images", "",
)  # fmt: skip

Targets = Callable[[dict[str, Any]], tuple[int, ...] | None]
"""The objects of a record; None where it hides them."""


def find(folder: Path) -> list[DatasetFiles]:
    """One data set for each (g)refs(<maker>) file beside an instances.json."""
    instances = folder / "instances.json"
    if not instances.is_file():
        return []
    by_maker: dict[tuple[str, str], DatasetFiles] = {}
    # "p" after "json": a pickle with the same content has priority where both are there, as in the published loader
    for path in sorted(folder.iterdir(), key=lambda entry: entry.suffix == ".p"):
        match = _REFS.match(path.name)
        if match is None or not path.is_file():
            continue
        maker = match.group(2)
        name = _name_of(folder.resolve().name, match.group(1) == "g", maker)
        pictures = picture_folders(folder, _SAIAPR if name == "refclef" else _PICTURES)
        by_maker[name, maker] = DatasetFiles(FORMAT, name, maker, path, pictures, instances)
    return list(by_maker.values())


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Iterator[Sample]:
    """One sample per expression.

    Objects marked as crowds are left out of gRefCOCO's targets, as its published loader does; a referent that has no
    other object is left out. RefCOCO's published loader keeps them.
    """
    referents, faults = read_referents(files.main, options.sentence)
    check_split(options.split, (referent.split for referent in referents), files.main)
    referents = [referent for referent in referents if split_matches(referent.split, options.split)]
    instances = read_instances(files.companion)
    problems += [*faults, *instances.problems]
    finder = picture_finder(files)
    objects = _Objects(instances, drop_crowd=_is_generalised(files.main))
    paths: dict[int, Path | None] = {}
    missing: Counter[int] = Counter()
    ids: Counter[tuple[int, int]] = Counter()
    for referent in referents:
        count = len(referent.sentences)
        where = f"referent {referent.ref_id}"
        record = instances.pictures.get(referent.image_id)
        if record is None:
            message = f"picture {referent.image_id} is not in {instances.path.name}"
            problems.append(Problem("unknown_picture", where, message, count))
            continue
        fault = objects.load(referent, problems)
        if fault is not None:
            problems.append(Problem(fault[0], where, fault[1], count))
            continue
        if referent.image_id not in paths:
            paths[referent.image_id] = finder.find(referent.image_id, record.file_name)
        if paths[referent.image_id] is None:
            missing[referent.image_id] += count
            if options.need_pictures:
                continue
        for sentence in referent.sentences:
            key = (referent.ref_id, sentence.sent_id)
            ids[key] += 1
            name = f"{key[0]}_{key[1]}"
            if ids[key] > 1:
                name = f"{name}_{ids[key]}"
                message = f"sent_id {sentence.sent_id} was used before; kept as {name}"
                problems.append(Problem("duplicate_sentence", where, message))
            yield Sample(
                name, sentence.text, referent.image_id, record.size,
                tuple(objects.known[key] for key in referent.ann_ids if key in objects.known),
                no_target=not (referent.ann_ids or referent.hidden), image_path=paths[referent.image_id],
                kind=sentence.kind, split=referent.split, dataset=files.name, ref_id=referent.ref_id,
                sent_id=sentence.sent_id,
            )  # fmt: skip
    for image_id, count in missing.items():
        name = instances.pictures[image_id].file_name or f"number {image_id}"
        problems.append(Problem("missing_picture", f"picture {image_id}", f"{name} was not found", count))


def picture_finder(files: DatasetFiles) -> PictureFinder:
    """Finds the pictures of a data set of this format."""
    clef = files.name == "refclef"
    return PictureFinder(files.picture_folders, coco=not clef, nested=clef)


def read_referents(path: Path, sentence: Literal["raw", "sent"] = "raw") -> tuple[list[Referent], list[Problem]]:
    """The referents of a refs(...) or grefs(...) file (.p or .json), and the records that could not be used.

    `sentence`: as people typed it ("raw"), or cleaned by the data set's makers ("sent"). Raises `DataError` when the
    file is unreadable, holds something else, or no record is usable.
    """
    targets = _all_objects if _is_generalised(path) else _one_object
    content = load_pickle(path) if path.suffix == ".p" else read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: a list of referents is wanted, not {type(content).__name__}")
    referents: list[Referent] = []
    problems: list[Problem] = []
    seen: set[int] = set()
    for index, record in enumerate(content):
        where = f"{path.name}[{index}]"
        try:
            referent, faults = _referent(record, targets, sentence, where)
        except (ValueError, KeyError, TypeError) as error:
            fault = f"no field {error}" if isinstance(error, KeyError) else str(error)
            lost = len(record["sentences"]) if isinstance(record, dict) and _is_list(record.get("sentences")) else 0
            problems.append(Problem("bad_record", where, fault, lost))
            continue
        problems += faults
        if referent.ref_id in seen:
            message = f"ref_id {referent.ref_id} was used before; both are kept"
            problems.append(Problem("duplicate_referent", where, message))
        seen.add(referent.ref_id)
        referents.append(referent)
    if content and not referents:
        raise DataError(f"{path}: none of the {len(content)} records is usable; the first: {problems[0].message}")
    return referents, problems


def _watched(files: DatasetFiles) -> tuple[Path, ...]:
    """RefCLEF's pictures may lie in folders of the folders; listing COCO's for this would cost more than the cache."""
    if files.name == "refclef":
        return picture_finder(files).folders
    return tuple(folder for folder in dict.fromkeys(files.picture_folders) if folder.is_dir())


class _Objects:
    """The objects that referents refer to, each built once."""

    def __init__(self, instances: Instances, drop_crowd: bool) -> None:
        self.instances, self.drop_crowd = instances, drop_crowd
        self.known: dict[int, Instance] = {}
        self.unusable: set[int] = set()

    def load(self, referent: Referent, problems: list[Problem]) -> tuple[str, str] | None:
        """Put a referent's objects into `known`; (kind, words) of the fault when its targets cannot be known."""
        kept, name = 0, self.instances.path.name
        for key in referent.ann_ids:
            record = self.instances.annotations.get(key)
            if record is None:
                return "unknown_object", f"object {key} is not in {name}"
            if record["image_id"] != referent.image_id:
                message = f"object {key} belongs to picture {record['image_id']}, not {referent.image_id}"
                return "foreign_object", message
            if key not in self.known and key not in self.unusable:
                item, faults = build_instance(self.instances, record)
                problems += faults
                if self.drop_crowd and item.crowd:
                    problems.append(Problem("crowd", f"{name} object {key}", "marked as a crowd; left out"))
                if item.segmentation is None or (self.drop_crowd and item.crowd):
                    self.unusable.add(key)
                else:
                    self.known[key] = item
            if key in self.known:
                kept += 1
            elif not (self.drop_crowd and bool(record.get("iscrowd"))):
                return "no_outline", f"object {key} has no usable outline, so the target is not known"
        if referent.ann_ids and not kept:
            return "crowd", "all its objects are crowds"
        return None


def _is_generalised(path: Path) -> bool:
    return path.name.startswith("g")


def _name_of(folder: str, general: bool, maker: str) -> str:
    if maker in ("scenes", "templates", "converted"):
        return maker
    if general:
        return folder if folder.startswith("gref") else "grefcoco"
    if folder.startswith("ref"):
        return folder
    if maker == "berkeley":
        return "refclef"
    return "refcocog" if maker in ("umd", "google") else folder


def _one_object(record: dict[str, Any]) -> tuple[int, ...]:
    value = record["ann_id"]
    if not is_integer(value) or value < 0:
        raise ValueError(f"ann_id is the number of one object, not {value!r}")
    return (value,)


def _all_objects(record: dict[str, Any]) -> tuple[int, ...] | None:
    value = record.get("ann_id")
    if value is None:
        return () if record.get("no_target") is True else None
    numbers = [value] if isinstance(value, int) else value  # a bare integer is tolerated
    if not isinstance(numbers, (list, tuple)) or not numbers:
        raise ValueError(f"ann_id lists the targets, [-1] for none, not {value!r}")
    if not all(is_integer(number) for number in numbers):
        raise ValueError(f"ann_id holds integers, not {value!r}")
    if list(numbers) == [-1]:
        targets: tuple[int, ...] = ()
    elif min(numbers) < 0:
        raise ValueError(f"ann_id mixes objects and none: {value!r}")
    else:
        targets = tuple(dict.fromkeys(numbers))
    flag = record.get("no_target")
    if isinstance(flag, bool) and flag != (not targets):
        raise ValueError(f"no_target is {flag}, but ann_id is {value!r}")
    return targets


def _referent(record: Any, targets: Targets, wanted: str, where: str) -> tuple[Referent, list[Problem]]:
    if not isinstance(record, dict):
        raise ValueError(f"a referent is a table of fields, not {type(record).__name__}")
    for field in ("ref_id", "image_id"):
        if not is_integer(record[field]):
            raise ValueError(f"{field} is an integer, not {record[field]!r}")
    split = record["split"]
    if not isinstance(split, str) or not split:
        raise ValueError(f"split is text, not {split!r}")
    if not _is_list(record["sentences"]):
        raise ValueError("sentences is a list")
    sentences: list[Sentence] = []
    problems: list[Problem] = []
    listed = record.get("sent_ids")
    known: list[Any] = list(listed) if isinstance(listed, (list, tuple)) else []
    for position, entry in enumerate(record["sentences"]):
        text = _text(entry, wanted)
        if text is None:
            problems.append(Problem("blank_sentence", f"{where} sentences[{position}]", "there are no words", 1))
            continue
        if not is_unicode(text):
            problems.append(Problem("bad_record", f"{where} sentences[{position}]", NOT_UNICODE, 1))
            continue
        number = entry.get("sent_id")
        if not is_integer(number):
            number = known[position] if position < len(known) and is_integer(known[position]) else position
        kind = entry.get("kind", record.get("kind"))
        sentences.append(Sentence(number, text, kind if isinstance(kind, str) else None))
    if not record["sentences"]:
        problems.append(Problem("no_sentences", where, f"referent {record['ref_id']} has no sentences"))
    found = targets(record)
    hidden = found is None
    if hidden and split.startswith("train"):
        raise ValueError("no field 'ann_id'; only splits that a benchmark scores may hide it")
    return Referent(record["ref_id"], record["image_id"], found or (), split, tuple(sentences), hidden), problems


def _text(entry: Any, wanted: str) -> str | None:
    """The expression as asked for, else in its other version; None where neither holds a word."""
    if not isinstance(entry, dict):
        return None
    for key in (wanted, "sent" if wanted == "raw" else "raw"):
        value = entry.get(key)
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


# What is published. For gRefCOCO's public file the split sizes are those commonly quoted, which nobody has printed in a
# paper.
_YU = "Yu et al., Modeling Context in Referring Expressions, ECCV 2016"
_COUNTS = (
    Published(
        "refcoco", "unc",
        {
            "train": SplitCounts(120_624, 42_404, 16_994), "val": SplitCounts(10_834, 3_811, 1_500, counted=10_834),
            "testA": SplitCounts(5_657, 1_975, 750, counted=5_657),
            "testB": SplitCounts(5_095, 1_810, 750, counted=5_095),
        },
        f"{_YU}, and its repository", pictures=19_994, objects=50_000, expressions=142_210,
        note="testA: people, testB: everything else; the splits add up to 142,210, papers also print 142,209",
    ),
    Published(
        "refcoco+", "unc",
        {
            "train": SplitCounts(120_191, 42_278, 16_992), "val": SplitCounts(10_758, 3_805, 1_500, counted=10_758),
            "testA": SplitCounts(5_726, 1_975, 750, counted=5_726),
            "testB": SplitCounts(4_889, 1_798, 750, counted=4_889),
        },
        f"{_YU}, and its repository", pictures=19_992, objects=49_856, expressions=141_564,
        note="expressions without words of location",
    ),
    Published(
        "refcocog", "umd",
        {
            "train": SplitCounts(80_512, 42_226, 21_899), "val": SplitCounts(4_896, 2_573, 1_300, counted=4_896),
            "test": SplitCounts(9_602, 5_023, 2_600, counted=9_602),
        },
        "Mao et al., CVPR 2016; split by Nagaraja et al., ECCV 2016", pictures=26_711, objects=54_822,
        expressions=104_560,
        note="totals count the whole set, 95,010 of its expressions are in the splits; LTS calls it the UNC partition",
    ),
    Published(
        "refcocog", "google",
        {"train": SplitCounts(85_474, 44_822, 24_698), "val": SplitCounts(9_536, 5_000, 4_650, counted=9_536)},
        "Mao et al., Generation and Comprehension of Unambiguous Object Descriptions, CVPR 2016", pictures=26_711,
        objects=54_822, expressions=104_560,
        note="split by objects: train and val share pictures; the test part was never published",
    ),
    Published(
        "grefcoco", "unc",
        {
            "train": SplitCounts(209_344), "val": SplitCounts(16_870), "testA": SplitCounts(18_712),
            "testB": SplitCounts(14_933),
        },
        "Liu, Ding, Jiang, GRES, CVPR 2023, and the public file of 2023-08-29", pictures=19_994, objects=60_287,
        expressions=259_859,
        note="the paper counts 278,232 expressions (80,022 several targets, 32,202 none); the public file holds fewer",
    ),
    Published(
        "refcoco", "google",
        {
            "train": SplitCounts(None, 40_000, 19_213), "val": SplitCounts(None, 5_000, 4_559),
            "test": SplitCounts(None, 5_000, 4_527),
        },
        "TensorFlow Datasets, ref_coco; Yu et al., ECCV 2016", pictures=19_994, objects=50_000, expressions=142_210,
        note="split by objects: the parts share pictures; hardly used",
    ),
    Published(
        "refclef", "berkeley", {"train": SplitCounts(54_127), "val": SplitCounts(5_842), "test": SplitCounts(60_103)},
        "Kazemzadeh et al., EMNLP 2014; split by Hu et al., CVPR 2016", pictures=19_894, objects=96_654,
        expressions=130_525,
        note="totals count the whole game; two pictures of training and one of the test are missing from UNC's copy",
    ),
    Published(
        "refclef", "unc", {}, "Yu et al., ECCV 2016, and its repository",
        note="train, val, testA (people), testB (animals), testC (other things); records may belong to two test parts",
    ),
)  # fmt: skip

# The University of North Carolina's server has not answered since September 2022; then the archived copy is taken.
_UNC = "https://bvisionweb1.cs.unc.edu/licheng/referit/data"
_ARCHIVE = "https://web.archive.org/web"
_REFER = "https://github.com/lichengunc/refer"
_COCO_LICENCE = "annotations: Apache 2.0 (the repository's); pictures: COCO's terms, each picture its Flickr licence"
_COCO_PICTURES = RemoteFile(
    ("http://images.cocodataset.org/zips/train2014.zip",), "archives/train2014.zip", "images",
    md5="0da8c0bd3d6becc4dcb32757491aca88", pictures=True,
)  # fmt: skip


def _unc(name: str, stamp: str, size: int | None = None, sha256: str | None = None) -> RemoteFile:
    archived = f"{_ARCHIVE}/{stamp}id_/{_UNC}/{name}.zip"
    return RemoteFile((f"{_UNC}/{name}.zip", archived), f"archives/{name}.zip", "", size, sha256)


_RELEASES = (
    Release(
        "refcoco", "RefCOCO (UNC)", _YU, _REFER, _COCO_LICENCE,
        (
            _unc(
                "refcoco", "20220413011718", 53_993_993,
                "7f924bb7ed8dc4568058e4ff626281918d56e5206f4c868c5a80f088f38c8bf0",
            ),
            _COCO_PICTURES,
        ),
        ("refcoco/refs(unc).p", "refcoco/refs(google).p", "refcoco/instances.json", "images/train2014/*.jpg"),
    ),
    Release(
        "refcoco+", "RefCOCO+ (UNC+)", _YU, _REFER, _COCO_LICENCE,
        (
            _unc(
                "refcoco+", "20220413011656", 45_613_210,
                "5f1238112d63199e68da54a28f201471909b21ded7ed79a57d51b4c1443c6b45",
            ),
            _COCO_PICTURES,
        ),
        ("refcoco+/refs(unc).p", "refcoco+/instances.json", "images/train2014/*.jpg"),
    ),
    Release(
        "refcocog", "RefCOCOg (UMD and Google splits)",
        "Mao et al., Generation and Comprehension of Unambiguous Object Descriptions, CVPR 2016", _REFER,
        "annotations: CC BY 4.0 (Google's release); pictures: COCO's terms, each picture its Flickr licence",
        (
            _unc(
                "refcocog", "20220413012904", 56_712_951,
                "3d1f7e5b2ff2205940bf59de55f861f5f2cc1403fb980669933a7f9af1aa8211",
            ),
            _COCO_PICTURES,
        ),
        ("refcocog/refs(umd).p", "refcocog/refs(google).p", "refcocog/instances.json", "images/train2014/*.jpg"),
    ),
    Release(
        "grefcoco", "gRefCOCO", "Liu, Ding, Jiang, GRES: Generalized Referring Expression Segmentation, CVPR 2023",
        "https://github.com/henghuiding/gRefCOCO",
        "annotations: not stated in the repository, ask its authors; pictures: COCO's terms",
        (
            RemoteFile(
                (), "grefcoco",
                manual="the repository's README links to a cloud drive (OneDrive, Google Drive); put grefs(unc).json "
                "and instances.json into grefcoco/",
            ),
            _COCO_PICTURES,
        ),
        ("grefcoco/grefs(unc).json", "grefcoco/instances.json", "images/train2014/*.jpg"),
        "file_name in the records may belong to another picture: only image_id counts",
    ),
    Release(
        "refclef", "RefCLEF / ReferIt (UNC and Berkeley splits)", "Kazemzadeh et al., ReferItGame, EMNLP 2014",
        _REFER, "annotations: Apache 2.0 (the repository's); pictures: IAPR TC-12, free for research",
        (
            _unc("refclef", "20220413011817"),
            RemoteFile(
                (
                    f"{_UNC}/images/saiapr_tc-12.zip",
                    f"{_ARCHIVE}/20220515000000id_/http://bvisionweb1.cs.unc.edu/licheng/referit/data/images/saiapr_tc-12.zip",
                ),
                "archives/saiapr_tc-12.zip", "images", pictures=True,
            ),
        ),
        ("refclef/refs(unc).p", "refclef/refs(berkeley).p", "refclef/instances.json", "images/saiapr_tc-12/**/*.jpg"),
        "for the format with .mat masks: referitdata.tar.gz, see github.com/ronghanghu/text_objseg (exp-referit)",
    ),
)  # fmt: skip

FORMAT = Format(
    "refs", find, read, _COUNTS, _RELEASES,
    pictures_of={
        "refcoco": "COCO", "refcoco+": "COCO", "refcocog": "COCO", "grefcoco": "COCO", "refclef": "IAPR TC-12",
    },
    watched=_watched, referents=lambda files: read_referents(files.main)[0],
)  # fmt: skip
