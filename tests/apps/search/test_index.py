"""Indexes: what the rows answer is what the model answers of the pictures; adding, changing, removing, resuming."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import refseg.search
from refseg.apps.search import Elsewhere, Index, build
from refseg.apps.search import index as index_module
from refseg.apps.search.table import PictureTable, _readable_errors, locked
from refseg.errors import DataError, ImageError, RefsegError
from refseg.inference.predictor import Segmenter, load
from tests.support.painted_things import paint, paint_segmenter
from tests.support.tiny_model import write_model_folder

ASKED = (
    "the dog",
    "the car on the left",
    "all cars",
    "the blue car",
    "the red car",
    "the cat next to the dog",
    "two dogs",
)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return paint_segmenter()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    paint(folder / "a.png", ("dog", (60, 40), 20), ("car", (60, 110), 25))
    paint(folder / "b.png", ("car", (40, 40), 18), ("car", (80, 120), 22), ("cat", (90, 50), 12))
    paint(folder / "sub" / "c.png", ("dog", (30, 30), 15), ("dog", (80, 100), 24), ("cat", (40, 120), 18))
    paint(folder / "sub" / "d.png", ("bus", (60, 80), 40), size=(90, 200))
    paint(folder / "e.png")
    return folder


@pytest.fixture
def index(photos: Path, tmp_path: Path, segmenter: Segmenter) -> Index:
    made = Index.create(tmp_path / "index", segmenter=segmenter)
    made.add(photos)
    return made


def looks(segmenter: Segmenter) -> int:
    return segmenter.model.proposer.calls


@pytest.mark.parametrize("text", ASKED)
def test_rows_answer_as_the_pictures_do(index: Index, photos: Path, segmenter: Segmenter, text: str) -> None:
    before = looks(segmenter)
    found = index.search(text, reject=0.0, exhaustive=True)
    assert looks(segmenter) == before, "no picture is looked at"
    assert found.looked_at == found.answered == len(found.hits) == 5
    for hit in found.hits:
        exact = segmenter(hit.path, text)
        # Colours and probabilities of 8 bits, through a slope of the no-target logit of 2 at most.
        assert hit.no_target_score == pytest.approx(exact.no_target_score, abs=0.02)
        if not exact.no_target:
            np.testing.assert_allclose(hit.boxes, exact.boxes, atol=200 / 65535)


@pytest.mark.parametrize("text", ASKED[:3])
def test_whole_answers_without_and_with_the_picture(index: Index, photos: Path, text: str) -> None:
    fine = paint_segmenter(fine_masks=True)
    opened = Index.open(index._table.folder, segmenter=fine)
    for name in ("a.png", "b.png", "sub/c.png"):
        path = str(photos / name)
        picture, answer = opened.answer(path, text)
        exact = fine(path, text)
        assert picture is not None
        assert (answer.no_target, len(answer.instances)) == (exact.no_target, len(exact.instances))
        assert np.array_equal(answer.mask, exact.mask)
        nothing, coarse = opened.answer(path, text, fine=False)
        assert nothing is None
        overlap = (coarse.mask & exact.mask).sum() / max(1, (coarse.mask | exact.mask).sum())
        assert exact.no_target or overlap > 0.8


def test_the_best_come_first_and_nothing_is_said(index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "CHUNK", 1)
    found = index.search("the dog")
    assert {Path(hit.path).name for hit in found.hits} == {"a.png", "c.png"}
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
    assert not found.nothing
    assert found.complete
    assert found.answered < found.looked_at, "classes say that the others are worse"
    none = index.search("the zebra")
    assert none.nothing
    assert none.hits == ()
    assert none.looked_at == 5
    assert set(found.to_dict()) == {"hits", "nothing", "looked_at"}
    assert set(found.to_dict()["hits"][0]) == {"path", "score", "no_target_score", "boxes"}
    json.dumps(found.to_dict())


@pytest.mark.parametrize("text", ASKED)
def test_the_first_stage_loses_nothing(index: Index, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "CHUNK", 1)
    for top in (1, 2, 5):
        every = index.search(text, top, reject=0.05, exhaustive=True)
        few = index.search(text, top, reject=0.05)
        assert few.complete
        assert [hit.path for hit in few.hits] == [hit.path for hit in every.hits]


def test_a_budget_is_kept_and_said(index: Index) -> None:
    found = index.search("the dog", 5, reject=0.0, budget=2)
    assert found.answered == 2
    assert not found.complete
    assert len(found.hits) == 2


def test_again_costs_nothing_and_changes_are_seen(index: Index, photos: Path, segmenter: Segmenter) -> None:
    before = looks(segmenter)
    assert index.add(photos).unchanged == 5
    (photos / "a.png").touch()
    report = index.add(photos)
    assert (report.updated, report.copied) == (1, 1), "its time has changed, its content has not"
    assert looks(segmenter) == before
    paint(photos / "a.png", ("bus", (60, 60), 30))
    report = index.add([photos])
    assert (report.updated, report.unchanged) == (1, 4)
    assert looks(segmenter) == before + 1
    assert {Path(hit.path).name for hit in index.search("the bus").hits} == {"a.png", "d.png"}
    assert {Path(hit.path).name for hit in index.search("the dog").hits} == {"c.png"}
    assert len(index) == 5


def test_copies_are_not_looked_at(index: Index, photos: Path, segmenter: Segmenter) -> None:
    before = looks(segmenter)
    (photos / "copy.png").write_bytes((photos / "a.png").read_bytes())
    report = index.add(photos)
    assert (report.added, report.copied) == (1, 1)
    assert looks(segmenter) == before
    assert {Path(hit.path).name for hit in index.search("the dog").hits} == {"a.png", "copy.png", "c.png"}


def test_removing_and_pruning(index: Index, photos: Path) -> None:
    assert index.remove([photos / "sub"]) == 2
    assert len(index) == 3
    with pytest.raises(RefsegError, match="holds no such picture"):
        index.remove([photos / "sub"])
    (photos / "a.png").unlink()
    assert index.add(photos).removed == 0
    assert len(index) == 5
    report = index.add(photos, prune=True)
    assert report.removed == 1
    assert sorted(Path(path).name for path in index.paths()) == ["b.png", "c.png", "d.png", "e.png"]


def test_names_with_quotes_and_letters(tmp_path: Path, segmenter: Segmenter) -> None:
    names = ["it's.png", 'a "b" %20.png', "café 猫.png", "x' OR path != '.png"]
    for name in names:
        paint(tmp_path / "photos" / name, ("dog", (60, 60), 20))
    made = Index.create(tmp_path / "index", segmenter=segmenter)
    made.add(tmp_path / "photos")
    assert {Path(hit.path).name for hit in made.search("the dog").hits} == set(names)
    assert made.remove([tmp_path / "photos" / names[3]]) == 1
    assert len(made) == 3


def test_bad_pictures_stand_in_the_index(index: Index, photos: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    (photos / "torn.png").write_bytes((photos / "a.png").read_bytes()[:60])
    (photos / "program.jpg").write_bytes(b"\x7fELF" + bytes(100))
    (photos / "empty.jpg").write_bytes(b"")
    Image.new("1", (12000, 12000)).save(photos / "huge.png")
    report = index.add(photos)
    assert report.added == len(report.bad) == 4
    reasons = {Path(path).name: reason for path, reason in index.bad()}
    assert set(reasons) == {"torn.png", "program.jpg", "empty.jpg", "huge.png"}
    assert "100,000,000" in reasons["huge.png"]
    assert all("\n" not in reason for reason in reasons.values())
    assert index.search("the dog", reject=0.0, exhaustive=True).looked_at == 5
    assert index.add(photos).unchanged == 9, "not tried again before its file changes"
    paint(photos / "torn.png", ("dog", (60, 60), 30))
    index.add(photos)
    assert "torn.png" in {Path(hit.path).name for hit in index.search("the dog").hits}
    with pytest.raises(ImageError, match="empty"):
        index.answer(str(photos / "empty.jpg"), "the dog")


def test_what_is_in_work_when_it_stops_is_all_that_is_lost(
    photos: Path, tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Index.create(tmp_path / "index", segmenter=segmenter)
    monkeypatch.setattr(build, "COMMIT_ROWS", 2)

    def stop(done: int, path: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.add(photos, advance=stop)
    again = Index.open(tmp_path / "index", segmenter=segmenter)
    assert len(again) == 3
    before = looks(segmenter)
    report = again.add(photos)
    assert (report.added, report.unchanged) == (2, 3)
    assert looks(segmenter) == before + 2


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from refseg.apps.search import Elsewhere, Index, build
from refseg.apps.search import index as index_module
from tests.support.painted_things import paint_segmenter
build.COMMIT_ROWS = 2
made = Index.create({index!r}, segmenter=paint_segmenter())
made.add({photos!r}, advance=lambda done, path: os.kill(os.getpid(), signal.SIGKILL) if done == 4 else None)
"""


def test_a_killed_run_is_gone_on_with(photos: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    code = KILLED.format(root=str(Path(__file__).parents[3]), index=str(tmp_path / "index"), photos=str(photos))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == -9, done.stderr
    made = Index.open(tmp_path / "index", segmenter=segmenter)
    assert len(made) == 4
    assert made.add(photos).added == 1


def test_another_version_is_seen_after_a_refresh(index: Index, photos: Path, segmenter: Segmenter) -> None:
    other = Index.open(index._table.folder, segmenter=segmenter)
    assert other.search("the dog").looked_at == 5
    paint(photos / "new.png", ("dog", (60, 60), 30))
    index.add(photos)
    assert other.search("the dog").looked_at == 5
    other.refresh()
    assert other.search("the dog").looked_at == 6


def test_pictures_that_are_gone_or_others_are_drawn_from_the_row(index: Index, photos: Path) -> None:
    path = photos / "a.png"
    content = path.read_bytes()
    paint(path, ("bus", (60, 60), 50))
    picture, answer = index.answer(str(path), "the dog")
    assert picture is None
    assert answer.mask.any()
    path.unlink()
    assert index.answer(str(path), "the dog")[0] is None
    path.write_bytes(content)
    assert index.answer(str(path), "the dog")[0] is not None
    with pytest.raises(RefsegError, match="holds no such picture"):
        index.answer(str(photos / "x.png"), "the dog")


def test_one_writer_at_a_time(index: Index, photos: Path) -> None:
    with locked(index._table.folder), pytest.raises(RefsegError, match="another process is writing"):
        index.add(photos)
    assert index.add(photos).unchanged == 5


def test_other_weights_are_refused(index: Index) -> None:
    with pytest.raises(DataError, match="other weights"):
        Index.open(index._table.folder, segmenter=paint_segmenter(sureness=0.8))


def test_what_is_no_index(index: Index, tmp_path: Path, segmenter: Segmenter) -> None:
    folder = index._table.folder
    with pytest.raises(DataError, match="is no index"):
        Index.open(tmp_path / "photos", segmenter=segmenter)
    with pytest.raises(RefsegError, match="no index; choose another"):
        Index.create(tmp_path / "photos", segmenter=segmenter)
    index._table._table.drop_columns(["likelihood"])
    with pytest.raises(DataError, match="column 'likelihood' is missing"):
        Index.open(folder, segmenter=segmenter)
    description = folder / "index.json"
    for content, message in (
        ("{}", "format None"),
        ("[1]", "not the description"),
        ('{"format": 1, "x": 2}', "not the"),
    ):
        description.write_text(content)
        with pytest.raises(DataError, match=message):
            Index.open(folder, segmenter=segmenter)


def test_a_full_disk_is_said_in_one_line(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch, segmenter: Segmenter
) -> None:
    paint(photos / "new.png", ("dog", (60, 60), 30))

    class Full:
        def __getattr__(self, name: str) -> object:
            if name == "add":
                raise RuntimeError("lance error: LanceError(IO): No space left on device (os error 28),\n src/io.rs:1")
            return getattr(table, name)

    table = index._table._table
    monkeypatch.setattr(PictureTable, "refresh", lambda self: None)
    index._table._table = Full()
    with pytest.raises(RefsegError, match="disk is full") as caught:
        index.add(photos)
    assert "\n" not in str(caught.value)
    index._table._table = table
    assert len(index) == 5


@pytest.mark.parametrize("options", [{"top": 0}, {"reject": 1.5}, {"reject": -0.1}, {"budget": 0}])
def test_options_out_of_range(index: Index, options: dict[str, float]) -> None:
    with pytest.raises(RefsegError):
        index.search("the dog", **options)


def test_an_empty_index_and_an_empty_text(tmp_path: Path, segmenter: Segmenter) -> None:
    made = Index.create(tmp_path / "index", segmenter=segmenter)
    found = made.search("the dog")
    assert (found.nothing, found.looked_at) == (True, 0)
    with pytest.raises(RefsegError, match="empty"):
        made.search("  ")


def test_lists_patterns_and_addresses(photos: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("# mine\nphotos/a.png\n\nphotos/sub/c.png\nphotos/missing.png\n")
    made = Index.create(tmp_path / "index", segmenter=segmenter)
    report = made.add(listed)
    assert (report.added, len(report.bad)) == (3, 1)
    assert "no such file" in report.bad[0][1]
    assert made.add(f"{photos}/*.png").added == 2
    bucket = made.add(f"file://{photos}/sub")
    assert (bucket.added, bucket.copied) == (2, 1), "an address is another picture than the path; c.png is a copy"
    assert f"file://{photos}/sub/c.png" in set(made.paths())
    for place in ("https://example.org/a.jpg", str(tmp_path / "nowhere"), "zzz://x/y", f"file://{tmp_path}/nowhere"):
        with pytest.raises(RefsegError):
            made.add(place)


def test_models_without_proposals_answer_from_the_pictures(photos: Path, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "tiny")
    dense = load(folder, device="cpu")
    made = Index.create(tmp_path / "index", str(folder), segmenter=dense)
    assert made.keeps == "pictures"
    (photos / "torn.png").write_bytes(b"nothing")
    made.add(photos)
    found = Index.open(tmp_path / "index", device="cpu").search("the red ball", reject=0.0)
    assert found.looked_at == 5
    for hit in found.hits:
        assert hit.no_target_score == pytest.approx(dense(hit.path, "the red ball").no_target_score, abs=1e-5)
        assert hit.score == pytest.approx(1 - hit.no_target_score)
    (photos / "a.png").unlink()
    assert made.search("the red ball", reject=0.0).looked_at == 4
    picture, answer = made.answer(str(photos / "b.png"), "the red ball")
    assert picture is not None
    assert answer.mask.shape == (picture.height, picture.width)


def test_rows_made_elsewhere_are_those_made_here(photos: Path, tmp_path: Path) -> None:
    """Of a bad picture and of a model without proposals too; what changes is brought up to date here."""
    (photos / "bad.png").write_bytes(b"no picture")
    model = write_model_folder(tmp_path / "tiny")
    here, there = (Index.create(tmp_path / name, str(model), device="cpu") for name in ("here", "there"))
    reports = [here.add(photos), there.add(photos, elsewhere=Elsewhere(device="cpu"))]
    assert reports[0].added == reports[1].added == 6
    assert sorted(reports[0].bad) == sorted(reports[1].bad)
    assert len(reports[1].bad) == 1
    columns = there._table.description.schema.names
    first, second = (
        sorted((row for batch in each._table.scan(columns) for row in batch.to_pylist()), key=lambda row: row["path"])
        for each in (here, there)
    )
    drop = {"_rowid"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in first] == [
        {k: v for k, v in row.items() if k not in drop} for row in second
    ]
    paint(photos / "a.png", ("bus", (60, 40), 30))
    report = there.add(photos, elsewhere=Elsewhere(device="cpu"))
    assert (report.added, report.updated, report.unchanged) == (0, 1, 5)


def test_workers_with_other_weights_are_refused(photos: Path, tmp_path: Path) -> None:
    model = write_model_folder(tmp_path / "tiny")
    made = Index.create(tmp_path / "index", str(model), device="cpu")
    write_model_folder(tmp_path / "tiny", max_words=9)
    with pytest.raises(RefsegError, match="other weights"):
        made.add(photos, elsewhere=Elsewhere(device="cpu"))
    assert len(made) == 0


def test_the_short_name() -> None:
    assert refseg.search.Index is Index


def test_a_changed_byte_is_found_and_not_answered_from(index: Index, segmenter: Segmenter) -> None:
    """Any byte of the table's data: the answer is the same, or an error in a line."""
    folder = index._table.folder
    assert index.check() == 5
    right = index.search("the dog", reject=0.0, exhaustive=True)
    said: list[str] = []
    (data,) = sorted((folder / "pictures.lance" / "data").iterdir())
    content = data.read_bytes()
    for place in range(0, len(content), len(content) // 97):
        changed = bytearray(content)
        changed[place] ^= 0x10
        data.write_bytes(bytes(changed))
        try:
            opened = Index.open(folder, segmenter=segmenter)
            assert opened.search("the dog", reject=0.0, exhaustive=True) == right
        except DataError as error:
            said.append(str(error))
    data.write_bytes(content)
    assert Index.open(folder, segmenter=segmenter).search("the dog", reject=0.0, exhaustive=True) == right
    assert len(said) > 20
    assert not [text for text in said if "\n" in text]


@pytest.mark.parametrize(("name", "base"), [("PanicException", BaseException), ("RustPanic", Exception)])
def test_a_panic_of_lance_is_one_line(name: str, base: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--rebuild") as caught, _readable_errors(tmp_path):
        raise type(name, (base,), {})("rust future panicked:\n unknown error")
    assert "\n" not in str(caught.value)
    with pytest.raises(KeyboardInterrupt), _readable_errors(tmp_path):
        raise KeyboardInterrupt


@pytest.mark.parametrize("column", ["path", "hash", "width", "presence", "proposals", "masks"])
def test_each_column_has_a_checksum(index: Index, segmenter: Segmenter, column: str) -> None:
    """Rows as Lance would read them after damage that it does not see."""
    table = index._table
    path = sorted(index.paths())[0]
    (row,) = table.rows_of([path], table.description.schema.names)
    value = row[column]
    if isinstance(value, list):
        other = f"X'{bytes([value[0] ^ 1, *value[1:]]).hex()}'"
    elif isinstance(value, bytes):
        other = f"X'{value[:-1].hex()}{value[-1] ^ 1:02x}'"
    else:
        other = str(value + 1) if isinstance(value, int) else "'other'"
    if isinstance(value, list):
        changed = {**row, column: [value[0] ^ 1, *value[1:]]}
        del changed["_rowid"]
        values = pa.Table.from_pylist([changed], schema=table._table.schema)
        table._table.merge_insert("path").when_matched_update_all().execute(values)
    else:
        table._table.update(where=f"path = '{path}'", values_sql={column: other})
    opened = Index.open(table.folder, segmenter=segmenter)
    with pytest.raises(DataError, match=r"differ from their checksum.*--rebuild"):
        opened.check()


def test_an_index_without_checksums_is_read_and_brought_up_to_date(
    index: Index, photos: Path, segmenter: Segmenter
) -> None:
    index._table._table.drop_columns(["checks"])
    opened = Index.open(index._table.folder, segmenter=segmenter)
    paint(photos / "new.png", ("dog", (60, 60), 20))
    assert opened.add(photos).added == 1
    assert {Path(hit.path).name for hit in opened.search("the dog").hits} == {"a.png", "c.png", "new.png"}
    with pytest.raises(DataError, match="without checksums"):
        opened.check()
