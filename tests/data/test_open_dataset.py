"""The loaders, from files on disk to samples: RefCOCO's and gRefCOCO's format, folders, faults, published masks."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refseg.data import ReferringDataset, open_dataset
from refseg.data.check import check
from refseg.errors import DataError, ImageError, RefsegError
from tests.support.published_files import SIZE, annotation, referent, sentence, write_dataset, write_pictures

GOLDEN = Path(__file__).parent.parent / "golden" / "data"


def test_refcoco(refcoco: Path) -> None:
    dataset = open_dataset(refcoco)
    assert (dataset.name, dataset.split, dataset.split_by, len(dataset)) == ("refcoco", None, "unc", 4)
    assert [sample.id for sample in dataset] == ["7_0", "7_1", "8_2", "8_3"]
    assert dataset.problems == ()
    sample = dataset[0]
    assert (sample.text, sample.split, sample.kind, sample.no_target) == ("The left Ball", "train", None, False)
    assert (sample.ref_id, sample.sent_id, sample.image_id, sample.size) == (7, 0, 1, SIZE)
    assert sample.objects[0].category == "ball"
    assert sample.boxes().tolist() == [[4, 4, 14, 14]]
    wanted = np.zeros(SIZE, dtype=bool)
    wanted[4:14, 4:14] = True
    assert (sample.mask() == wanted).all()
    assert sample.read_image().size == (60, 40)
    encoded = dataset[3]
    assert encoded.mask()[20:30, 30:50].all()
    assert encoded.mask().sum() == 200
    assert dataset.by_picture() == {1: [0, 1], 2: [2, 3]}


def test_a_sentence_is_read_as_typed_or_as_cleaned(refcoco: Path) -> None:
    assert open_dataset(refcoco, sentence="sent")[0].text == "the left ball"


def test_grefcoco(grefcoco: Path) -> None:
    dataset = open_dataset(grefcoco, "grefcoco", "train")
    assert [(sample.text, sample.kind, len(sample.objects)) for sample in dataset] == [
        ("left ball", "location", 1),
        ("all balls", "group", 2),  # the crowd object is left out, as in the published loader
        ("the blue cat", "no_target", 0),
    ]
    assert dataset[2].no_target
    assert not dataset[2].mask().any()
    assert dataset[2].boxes().shape == (0, 4)
    assert dataset[1].mask().sum() == 200
    assert dataset.problem_counts() == {"no_sentences": 1, "crowd": 1}
    assert open_dataset(grefcoco, split="val").problem_counts() == {"no_sentences": 1, "bad_polygon": 1}


def test_one_target_written_as_a_bare_number(tmp_path: Path) -> None:
    write_pictures(tmp_path, [1])
    write_dataset(
        tmp_path, "grefcoco", "grefs(unc).json", [referent(0, 1, 100, "val", [sentence(0, "x")])], [annotation(100, 1)]
    )
    assert len(open_dataset(tmp_path)[0].objects) == 1


def test_a_pickle_has_priority_over_json(refcoco: Path) -> None:
    home = refcoco / "refcoco"
    (home / "refs(unc).json").write_text("[]")
    assert len(open_dataset(refcoco)) == 4
    refs = pickle.loads((home / "refs(unc).p").read_bytes())
    (home / "refs(unc).p").unlink()
    (home / "refs(unc).json").write_text(json.dumps(refs))
    assert len(open_dataset(refcoco)) == 4


def test_the_data_sets_own_folder_is_a_root_too(refcoco: Path) -> None:
    assert [sample.id for sample in open_dataset(refcoco / "refcoco")] == ["7_0", "7_1", "8_2", "8_3"]


@pytest.mark.parametrize("name", ["COCO_train2014_000000000001.jpg", "000000000001.jpg", "mine.jpg"])
@pytest.mark.parametrize("folder", ["images/train2014", "images", "train2014", "refcoco/images", "refcoco"])
def test_pictures_are_found_where_people_keep_them(refcoco: Path, name: str, folder: str) -> None:
    table = json.loads((refcoco / "refcoco" / "instances.json").read_text())
    table["images"][0]["file_name"] = "mine.jpg"
    (refcoco / "refcoco" / "instances.json").write_text(json.dumps(table))
    old = refcoco / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    (refcoco / folder).mkdir(parents=True, exist_ok=True)
    old.rename(refcoco / folder / name)
    assert open_dataset(refcoco, split="train")[0].image_path == refcoco / folder / name


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/passwd", "a\0b.jpg", "..\\secret.jpg"])
def test_a_file_name_cannot_reach_out_of_the_folder(refcoco: Path, name: str) -> None:
    table = json.loads((refcoco / "refcoco" / "instances.json").read_text())
    table["images"][0]["file_name"] = name
    (refcoco / "refcoco" / "instances.json").write_text(json.dumps(table))
    Image.new("RGB", (60, 40)).save(refcoco / "secret.jpg")
    (refcoco / "images" / "train2014" / "COCO_train2014_000000000001.jpg").unlink()
    assert open_dataset(refcoco).problem_counts() == {"missing_picture": 1}


def test_which_data_set_and_split_must_be_clear(refcoco: Path, grefcoco: Path) -> None:
    assert refcoco == grefcoco  # both fixtures wrote into one root
    for arguments, words in [
        ({}, "holds grefcoco, refcoco; say which"),
        ({"dataset": "refcocoo"}, "did you mean 'refcoco'"),
        ({"dataset": "refcoco", "split": "testA"}, "no split 'testA'.*'train', 'val'"),
        ({"dataset": "refcoco", "split_by": "google"}, "no split by 'google'"),
    ]:
        with pytest.raises(DataError, match=words):
            open_dataset(refcoco, **arguments)
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(refcoco / "gone")
    with pytest.raises(DataError, match="a file; the folder"):
        open_dataset(refcoco / "refcoco" / "instances.json")
    (refcoco / "nothing").mkdir()
    with pytest.raises(DataError, match="no data set here"):
        open_dataset(refcoco / "nothing")


def test_refcocog_has_two_splits(tmp_path: Path) -> None:
    write_pictures(tmp_path, [1])
    for maker, split in (("google", "val"), ("umd", "test")):
        refs = [referent(0, 1, 100, split, [sentence(0, maker)])]
        write_dataset(tmp_path, "refcocog", f"refs({maker}).p", refs, [annotation(100, 1)])
    assert open_dataset(tmp_path)[0].text == "umd"
    assert open_dataset(tmp_path, split_by="google")[0].text == "google"


def break_refs(change: Callable[[list[Any]], object]) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        path = root / "refcoco" / "refs(unc).p"
        refs = pickle.loads(path.read_bytes())
        change(refs)
        path.write_bytes(pickle.dumps(refs, protocol=2))

    return act


def break_instances(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        path = root / "refcoco" / "instances.json"
        table = json.loads(path.read_text())
        change(table)
        path.write_text(json.dumps(table))

    return act


@pytest.mark.parametrize(
    ("breakage", "kind", "left"),
    [
        (break_refs(lambda refs: refs.append(5)), "bad_record", 4),
        (break_refs(lambda refs: refs[0].pop("split")), "bad_record", 2),
        (break_refs(lambda refs: refs[0].update(split="")), "bad_record", 2),
        (break_refs(lambda refs: refs[0].update(ann_id=[100])), "bad_record", 2),
        (break_refs(lambda refs: refs[0].update(ann_id=True)), "bad_record", 2),
        (break_refs(lambda refs: refs[0].update(image_id="1")), "bad_record", 2),
        (break_refs(lambda refs: refs[0].update(sentences={})), "bad_record", 2),
        (break_refs(lambda refs: refs[0].update(ann_id=999)), "unknown_object", 2),
        (break_refs(lambda refs: refs[0].update(ann_id=101)), "foreign_object", 2),
        (break_refs(lambda refs: refs[0].update(image_id=999)), "unknown_picture", 2),
        (break_refs(lambda refs: refs[0].update(sentences=[])), "no_sentences", 2),
        (break_refs(lambda refs: refs[0]["sentences"][0].update(raw=" ", sent="")), "blank_sentence", 3),
        (break_refs(lambda refs: refs[0]["sentences"].append(None)), "blank_sentence", 4),
        (break_refs(lambda refs: refs[0]["sentences"][0].update(raw="dog \ud83d")), "bad_record", 3),
        (break_refs(lambda refs: refs.append(refs[0])), "duplicate_referent", 6),
        (break_refs(lambda refs: refs.append(refs[0])), "duplicate_sentence", 6),
        (break_instances(lambda table: table["images"].append(table["images"][0])), "duplicate_picture", 4),
        (break_instances(lambda table: table["images"].append({"id": 5})), "bad_record", 4),
        (break_instances(lambda table: table["images"][0].update(height=0)), "unknown_picture", 2),
        (break_instances(lambda table: table["images"][0].update(height=10**6, width=10**6)), "unknown_picture", 2),
        (break_instances(lambda table: table["annotations"].append(table["annotations"][0])), "duplicate_object", 4),
        (break_instances(lambda table: table["annotations"].append("x")), "bad_record", 4),
        (break_instances(lambda table: table["annotations"][0].update(segmentation=[])), "no_outline", 2),
        (break_instances(lambda table: table["annotations"][1]["segmentation"].update(size=[3, 3])), "no_outline", 2),
        (break_instances(lambda table: table["annotations"][0].update(bbox=[1, 2])), "bad_box", 4),
        (break_instances(lambda table: table["annotations"][0].update(bbox=[1, 2, -3, 4])), "bad_box", 4),
        (break_instances(lambda table: table["annotations"][0].update(category_id=3)), "unknown_category", 4),
        (lambda root: (root / "images/train2014/COCO_train2014_000000000002.jpg").unlink(), "missing_picture", 2),
    ],
)
def test_faults_are_named_and_gone_around(
    refcoco: Path, breakage: Callable[[Path], None], kind: str, left: int
) -> None:
    breakage(refcoco)
    dataset = open_dataset(refcoco)
    assert kind in dataset.problem_counts()
    assert len(dataset) == left
    assert len({sample.id for sample in dataset}) == left
    for sample in dataset:
        assert sample.mask().any()
    lost = sum(problem.lost for problem in dataset.problems)
    assert lost <= 4 - left or left >= 4


def test_a_box_that_is_missing_comes_from_the_outline(refcoco: Path) -> None:
    break_instances(lambda table: table["annotations"][0].pop("bbox"))(refcoco)
    assert open_dataset(refcoco)[0].boxes().tolist() == [[4, 4, 14, 14]]


@pytest.mark.parametrize(
    ("targets", "flag", "words"),
    [
        ([], False, "lists the targets"),
        ([-1, 100], False, "mixes"),
        ([100], True, "no_target is True"),
        (["a"], False, "integers"),
    ],
)
def test_targets_that_contradict_themselves(tmp_path: Path, targets: list[Any], flag: bool, words: str) -> None:
    bad = {**referent(0, 1, targets, "val", [sentence(0, "x")]), "no_target": flag}
    good = referent(1, 1, [100], "val", [sentence(1, "y")])
    write_pictures(tmp_path, [1])
    write_dataset(tmp_path, "grefcoco", "grefs(unc).json", [bad, good], [annotation(100, 1)])
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 1
    assert words in dataset.problems[0].message
    assert dataset.problems[0].where == "grefs(unc).json[0]"


def test_missing_pictures_can_be_done_without(refcoco: Path) -> None:
    for path in (refcoco / "images" / "train2014").iterdir():
        path.unlink()
    with pytest.raises(
        DataError, match=r"no usable expression \(2 missing_picture\).*COCO_train2014_000000000002.jpg was not"
    ):
        open_dataset(refcoco)
    dataset = open_dataset(refcoco, need_pictures=False)
    assert len(dataset) == 4
    with pytest.raises(ImageError, match="there is no picture"):
        dataset[0].read_image()


def test_crowds_are_kept_in_refcoco_and_can_empty_a_referent_in_grefcoco(tmp_path: Path) -> None:
    write_pictures(tmp_path, [1])
    crowd = [annotation(100, 1, iscrowd=1), annotation(101, 1)]
    write_dataset(tmp_path, "refcoco", "refs(unc).p", [referent(0, 1, 100, "val", [sentence(0, "x")])], crowd)
    assert open_dataset(tmp_path)[0].objects[0].crowd
    refs = [referent(key, 1, [100 + key], "val", [sentence(key, "x")]) for key in (0, 1)]
    write_dataset(tmp_path, "grefcoco", "grefs(unc).json", refs, crowd)
    dataset = open_dataset(tmp_path, "grefcoco")
    assert [sample.id for sample in dataset] == ["1_1"]
    assert "all its objects are crowds" in [problem.message for problem in dataset.problems]


@pytest.mark.parametrize("name", ["refs(unc).p", "instances.json"])
def test_every_cut_of_a_file_is_named(refcoco: Path, name: str) -> None:
    path = refcoco / "refcoco" / name
    content = path.read_bytes()
    for length in range(0, len(content) - 1, max(1, len(content) // 80)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError) as caught:
            open_dataset(refcoco)
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "content",
    ["null", "5", "{}", '{"images": 5, "annotations": []}', '{"images": [], "annotations": []}', "[" * 100_000],
)
def test_json_of_another_kind_is_named(refcoco: Path, content: str) -> None:
    (refcoco / "refcoco" / "instances.json").write_text(content)
    with pytest.raises(DataError, match=r"instances\.json"):
        open_dataset(refcoco)


def test_random_damage_is_read_or_named(grefcoco: Path) -> None:
    path = grefcoco / "grefcoco" / "grefs(unc).json"
    content = path.read_bytes()
    order = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        for position in order.integers(0, len(content), 3):
            damaged[position] = order.integers(32, 127)
        path.write_bytes(bytes(damaged))
        try:
            dataset = open_dataset(grefcoco)
        except RefsegError:
            continue
        for sample in dataset:
            hidden = not sample.objects and sample.split != "train"
            assert sample.no_target or hidden or sample.mask().any()


def test_a_picture_of_another_size_is_named(refcoco: Path) -> None:
    path = refcoco / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    Image.new("RGB", (59, 40)).save(path)
    with pytest.raises(ImageError, match="59 x 40, but it was annotated at 60 x 40"):
        open_dataset(refcoco)[0].read_image()


def test_an_orientation_is_ignored_where_annotations_ignored_it(refcoco: Path) -> None:
    path = refcoco / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), "red").save(path, exif=exif)
    assert open_dataset(refcoco)[0].read_image().size == (60, 40)
    Image.new("RGB", (40, 60), "red").save(path, exif=exif)
    assert open_dataset(refcoco)[0].read_image().size == (60, 40)


def test_slices_and_subsets(refcoco: Path) -> None:
    dataset = open_dataset(refcoco)
    assert dataset[-1].id == "8_3"
    part = dataset[1:3]
    assert isinstance(part, ReferringDataset)
    assert [sample.id for sample in part] == ["7_1", "8_2"]
    assert dataset.subset([3, 0]).texts() == ["it", "The left Ball"]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[0] == dataset[0]
    with pytest.raises(IndexError):
        dataset[4]


def test_reading_data_needs_no_torch(refcoco: Path) -> None:
    code = (
        "import sys; from refseg.data import open_dataset; from refseg.data.check import check;"
        f"s = open_dataset({str(refcoco)!r})[0]; s.read_image(); s.mask(); check({str(refcoco)!r}, deep=True);"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_masks_at_the_pictures_size_agree_with_the_published_interface() -> None:
    expected = np.load(GOLDEN / "mapper.npz")
    checked = 0
    for sample in open_dataset(GOLDEN, need_pictures=False):
        key = f"mask_ref{sample.ref_id}"
        if key in expected:
            size = sample.size
            wanted = np.unpackbits(expected[key], count=size[0] * size[1]).reshape(size).astype(bool)
            assert (sample.mask() == wanted).all()
            checked += 1
        else:
            assert sample.no_target
    assert checked == 4


@pytest.mark.parametrize("hide", [lambda ref: ref.update(ann_id=None), lambda ref: ref.pop("ann_id")])
def test_targets_that_a_benchmark_hides(tmp_path: Path, hide: Callable[[dict[str, Any]], object]) -> None:
    """They are samples without annotation: neither lost, nor without target; and a fault where they are objects."""
    shown, hidden = (referent(n, 1, [100], "test", [sentence(n, "a ball")]) for n in (0, 1))
    none = referent(2, 1, [-1], "test", [sentence(2, "a cat")])
    hide(hidden)
    none.update(ann_id=None, no_target=True)
    write_dataset(tmp_path, "grefcoco", "grefs(unc).json", [shown, hidden, none], [annotation(100, 1)])
    write_pictures(tmp_path, [1])
    for _ in range(2):  # from the file, and from the table that was kept of it
        dataset = open_dataset(tmp_path)
        assert [(len(sample.objects), sample.no_target) for sample in dataset] == [(1, False), (0, False), (0, True)]
        assert not dataset.problems
    (report,) = check(tmp_path).datasets
    assert (report.splits["test"].expressions, report.splits["test"].no_target) == (3, 1)
    hidden["split"] = "train"  # nobody hides what is to be learnt from
    write_dataset(tmp_path, "grefcoco", "grefs(unc).json", [shown, hidden, none], [annotation(100, 1)])
    assert [problem.kind for problem in open_dataset(tmp_path).problems] == ["bad_record"]
