from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.cli.main import main
from refseg.data.catalog import PUBLISHED, published
from refseg.data.check import check
from refseg.errors import DataError
from tests.support.published_files import SIZE, annotation, referent, sentence, write_dataset


def test_counts(refcoco: Path, grefcoco: Path) -> None:
    report = check(refcoco)
    assert [(data.name, data.usable) for data in report.datasets] == [("grefcoco", 4), ("refcoco", 4)]
    train = report.datasets[0].splits["train"]
    assert (train.expressions, train.usable, train.referents, train.pictures) == (3, 3, 3, 1)
    assert (train.one_target, train.several_targets, train.no_target, train.objects) == (1, 1, 1, 3)
    assert train.kinds == {"location": 1, "group": 1, "no_target": 1}
    assert (train.published, train.completeness) == (209_344, "0.00143 %")
    val = report.datasets[0].splits["val"]
    assert (val.expressions, val.referents) == (1, 1)
    assert report.datasets[0].splits["testA"].completeness == "absent"
    assert list(report.datasets[0].splits) == ["train", "val", "testA", "testB"]
    assert [data.pictures_found for data in report.datasets] == [2, 2]


def test_as_many_as_published_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = published("refcoco", "unc")
    assert entry is not None
    refs = [referent(0, 1, 100, "val", [sentence(k, f"word {k}") for k in range(10_834)])]
    home = write_dataset(tmp_path, "refcoco", "refs(unc).p", refs, [annotation(100, 1)])
    assert check(tmp_path).datasets[0].splits["val"].completeness == "complete"
    refs[0]["sentences"].append(sentence(10_834, "one more"))
    write_dataset(tmp_path, home.name, "refs(unc).p", refs, [annotation(100, 1)])
    assert check(tmp_path).datasets[0].splits["val"].completeness == "1 too many"


def test_published_numbers_fit_together() -> None:
    keys = [(entry.dataset, entry.split_by) for entry in PUBLISHED]
    assert len(keys) == len(set(keys))
    for entry in PUBLISHED:
        counted = [split.expressions for split in entry.splits.values()]
        if counted and None not in counted and entry.dataset not in ("refclef", "ref-youtube-vos", "mevis"):
            total = sum(counted)
            assert total in (entry.expressions, 95_010, 346_307)  # RefCOCOg's totals count more, miniv is apart
        assert all(split.counted in (None, split.expressions) for split in entry.splits.values())
    for name in ("refcoco", "refcoco+"):
        entry = published(name, "unc")
        assert entry is not None
        assert sum(counts.referents or 0 for counts in entry.splits.values()) == entry.objects


def test_damaged_missing_and_wrong_pictures(refcoco: Path) -> None:
    folder = refcoco / "images" / "train2014"
    first, second = (folder / f"COCO_train2014_{number:012d}.jpg" for number in (1, 2))
    second.unlink()
    Image.new("RGB", (61, 40)).save(first)
    report = check(refcoco).datasets[0]
    assert report.usable == 0
    assert {problem.kind: problem.lost for problem in report.problems} == {"missing_picture": 2, "bad_picture": 2}
    assert "61 x 40, annotated at 60 x 40" in str(report.problems[-1])
    assert (report.pictures_found, report.pictures_missing) == (1, 1)


def test_deep_decodes_everything(refcoco: Path) -> None:
    path = refcoco / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    table_path = refcoco / "refcoco" / "instances.json"
    table = json.loads(table_path.read_text())
    table["annotations"][1]["segmentation"] = {"size": list(SIZE), "counts": [SIZE[0] * SIZE[1]]}
    table_path.write_text(json.dumps(table))
    assert check(refcoco).datasets[0].problems == []
    deep = check(refcoco, deep=True).datasets[0]
    assert {problem.kind for problem in deep.problems} == {"bad_picture", "bad_outline"}
    assert deep.usable == 2


def test_one_unreadable_data_set_does_not_hide_the_other(refcoco: Path, grefcoco: Path) -> None:
    (refcoco / "refcoco" / "refs(unc).p").write_bytes(b"junk")
    report = check(refcoco)
    assert [bool(data.error) for data in report.datasets] == [False, True]
    assert report.usable


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set here"):
        check(tmp_path)


def test_the_command(refcoco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(refcoco)]) == 0
    text = capsys.readouterr().out
    for words in ("refcoco (unc)", "120,624", "no problems", "2 found, 0 missing"):
        assert words in text
    assert main(["data", "check", str(refcoco), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["usable"] is True
    assert table["datasets"][0]["splits"]["val"]["expressions"] == 2
    out = tmp_path / "report.json"
    assert main(["data", "check", str(refcoco), "--json", str(out), "--deep"]) == 0
    assert json.loads(out.read_text()) == table


def test_the_command_on_bad_folders(refcoco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (refcoco / "images" / "train2014").iterdir():
        path.unlink()
    assert main(["data", "check", str(refcoco)]) == 2
    assert "nothing here is usable" in capsys.readouterr().out
    assert main(["data", "check", str(refcoco / "gone")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_long_lists_are_cut_unless_all_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refs = [referent(k, k, 100 + k, "val", [sentence(k, "x")]) for k in range(1, 31)]
    write_dataset(tmp_path, "refcoco", "refs(unc).p", refs, [annotation(100 + k, k) for k in range(1, 31)])
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "and 20 more" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path), "--all"]) == 2
    text = capsys.readouterr().out
    assert "more (" not in text
    assert text.count("was not found") == 30


def test_colours_and_brackets_in_names_do_no_harm(refcoco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = refcoco / "refcoco"
    (home / "refs([bold]).p").write_bytes((home / "refs(unc).p").read_bytes())
    assert main(["data", "check", str(refcoco)]) == 0
    assert "refcoco ([bold])" in capsys.readouterr().out


def test_pictures_are_noise_not_constants(refcoco: Path) -> None:
    """The fixtures' pictures differ, so that a mixed-up picture would be seen."""
    first, second = (np.asarray(Image.open(path)) for path in sorted((refcoco / "images" / "train2014").iterdir()))
    assert (first != second).any()


def jsonl(path: Path, root: Path) -> list[dict[str, object]]:
    """RefCOCO's four sentences as a .jsonl file; gives its records."""
    assert main(["data", "convert", str(root), str(path), "--to", "jsonl"]) == 0
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_jsonl_file_is_checked_line_by_line(
    refcoco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own" / "data.jsonl"
    records = jsonl(path, refcoco)
    assert main(["data", "check", str(path), "--deep", "--strict"]) == 0
    assert "no problems" in capsys.readouterr().out
    broken = [
        {**records[0], "masks": []},
        {**records[1], "boxes": [[9, 9, 1, 1]]},
        {**records[2], "image": "no.png", "image_id": 9},
    ]
    path.write_text("\n".join(json.dumps(record) for record in [*broken, records[3], records[3]]) + "\nnonsense\n")
    report = check(path)
    (found,) = report.datasets
    assert (found.name, found.split_by, found.usable) == ("data", "jsonl", 1)
    words = [str(problem) for problem in found.problems]
    for line, fault in ((1, "no masks"), (2, "not x1 y1 x2 y2"), (5, "used before, at line 4"), (6, "not valid JSON")):
        assert any(f"data.jsonl line {line}" in entry and fault in entry for entry in words), (line, words)
    assert any("no.png" in entry and "was not found" in entry for entry in words)
    assert (found.pictures_found, found.pictures_missing) == (1, 1)
    capsys.readouterr()
    assert main(["data", "check", str(path)]) == 0
    assert main(["data", "check", str(path), "--strict"]) == 2
    path.write_text("nonsense\n")
    assert main(["data", "check", str(path)]) == 2
    assert "nothing here is usable" in capsys.readouterr().out


def test_stats_take_a_jsonl_file(refcoco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own" / "data.jsonl"
    jsonl(path, refcoco)
    capsys.readouterr()
    for source, out in ((refcoco, "a.json"), (path, "b.json")):
        assert main(["data", "stats", str(source), "--json", str(tmp_path / out)]) == 0
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert {**one, "dataset": ""} == {**two, "dataset": ""}
    assert main(["data", "stats", str(path), "--split", "nowhere"]) == 2
    assert "no split 'nowhere'" in capsys.readouterr().err


def test_objects_without_sentences_are_told_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path, "photos", "other.json", [], [annotation(100, 1)])
    assert main(["data", "check", str(tmp_path / "photos")]) == 2
    assert "refseg data templates makes some" in capsys.readouterr().err
