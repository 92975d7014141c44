"""refseg batch without Ray: every row once, whatever is killed; what is there is not done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from refseg.apps.batch import job
from refseg.apps.batch.execute import Shard
from refseg.apps.batch.job import Settings, run_batch
from refseg.apps.batch.rows import answer_of, read_answers, rows_of, table_of
from refseg.cli.main import main
from refseg.errors import DataError, RefsegError
from refseg.inference.predictor import load
from refseg.inference.segmentation import Instance, Segmentation
from tests.apps.batch.pictures import TEXTS, alike, pairs, wanted, write_pictures
from tests.support.tiny_model import write_model_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    write_pictures(folder, 7)
    (folder / "p3.png").write_bytes(b"junk")
    return folder


def test_rows_are_the_answers_of_one_process(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("a dog\n\n  the red  ball on the left \na dog\n")
    (tmp_path / "list.txt").write_text(f"{photos}/p0.png\n{photos}/gone.png\n")
    out = tmp_path / "out"
    words = ["batch", f"{photos}/p[1-6].png", tmp_path / "list.txt", "--texts", tmp_path / "texts.txt", "-o", out]
    options = ["--model", model, "--workers", "1", "--part-size", "3", "--device", "cpu", "--batch-size", "4"]
    assert main([str(word) for word in [*words, *options]]) == 1
    assert "16 rows" in capsys.readouterr().out
    assert pairs(out) == wanted(7, "gone.png")
    segmenter = load(model, "cpu")
    for image, text, answer in read_answers(out):
        if isinstance(answer, RefsegError):
            assert Path(image).name in ("p3.png", "gone.png")
            assert str(image) in str(answer)
        else:
            assert alike(answer, segmenter(image, text))
            assert answer.extra == segmenter(image, text).extra
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock",
        "job.json",
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
        "plan.jsonl",
    ]


def test_a_second_start_does_what_is_missing(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    write = job.write_part

    def counted(*words: object) -> Shard:
        made.append(words[-1]["part"])  # type: ignore[index]
        return write(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(job, "write_part", counted)
    out = tmp_path / "out"
    settings = Settings(TEXTS, str(model))
    run = partial(run_batch, settings=settings, output=out, device="cpu", part_size=2)
    pictures = sorted(photos.iterdir())
    seen: list[tuple[int, int]] = []
    first = run(pictures[:5], progress=lambda done, total: seen.append((done, total)))
    assert (first.rows, first.errors, first.new) == (10, 2, 10)
    assert seen == [(0, 5), (2, 5), (4, 5), (5, 5)]
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert run(pictures[:5]).new == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("part-*")} == stamps
    # A part that was being written when its writer was killed, one that was lost, and pictures that are new.
    (out / ".part-00001.parquet.x.part").write_bytes(b"half")
    (out / "part-00001.parquet").unlink()
    made.clear()
    assert run(pictures).new == 2 * 2 + 2 * 2
    assert made == ["part-00001.parquet", "part-00003.parquet"]
    assert pairs(out) == wanted(7)
    assert not list(out.glob(".part*"))


def test_other_jobs_and_other_writers_are_kept_apart(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch([photos / "p0.png"], Settings(TEXTS, str(model)), out, device="cpu")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir() if path.name != ".lock")
    for settings, said in (
        (Settings(TEXTS[:1], str(model)), "another texts"),
        (Settings(TEXTS, str(model), 0.4), "another threshold"),
        (Settings(TEXTS, "instances", precision="bfloat16"), "another model and precision"),
    ):
        with pytest.raises(RefsegError, match=said):
            run_batch([photos / "p0.png"], settings, out, device="cpu")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir() if path.name != ".lock") == before
    with job._locked(out), pytest.raises(RefsegError, match="another refseg batch is writing"):
        run_batch([photos / "p0.png"], Settings(TEXTS, str(model)), out, device="cpu")
    with pytest.raises(RefsegError, match="not empty"):
        run_batch([photos / "p0.png"], Settings(TEXTS, str(model)), photos, device="cpu")
    (out / "plan.jsonl").write_text("{")
    with pytest.raises(RefsegError, match=r"plan\.jsonl: damaged"):
        run_batch([photos / "p0.png"], Settings(TEXTS, str(model)), out, device="cpu")
    with pytest.raises(DataError, match="no part"):
        list(read_answers(photos))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photos"], "no expression is given"),
        (["photos", "--texts", "gone.txt"], "gone.txt: cannot be read"),
        (["photos", "--texts", "photos/p0.png"], "no UTF-8 text"),
        (["photos", "-t", "x" * 20_000], "20,000 letters"),
        (["nowhere", "-t", "a dog"], "nowhere: no such picture"),
        (["empty.txt", "-t", "a dog"], "no picture is given; empty.txt lists none"),
        (["photos", "-t", "a dog", "-o", "photos"], "not empty"),
        (["photos", "-t", "a dog", "-o", "file"], "-o wants a folder"),
        (["photos", "-t", "a dog", "--model", "gone"], "gone: no such model"),
        (["photos", "-t", "a dog", "--workers", "0"], "--workers is at least 1"),
        (["photos", "-t", "a dog", "--part-size", "0"], "--part-size is at least 1"),
        (["photos", "-t", "a dog", "--device", "cpu:3"], "not available"),
        (["photos", "-t", "a dog", "--actors", "2"], "belong to --ray"),
        (["photos", "-t", "a dog", "--ray", "somewhere"], "HOST:PORT"),
        (["photos", "-t", "a dog", "--ray", "127.0.0.1:1"], "nothing answers there"),
    ],
)
def test_bad_input_gets_one_line(
    words: list[str],
    said: str,
    model: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty.txt").write_text("\n")
    out = [] if "-o" in words else ["-o", "out"]
    options = [] if "--model" in words else ["--model", str(model)]
    assert main(["batch", *words, *out, *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("refseg batch: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("part-*"))


def test_rows_come_back_as_the_answers_they_were_made_of() -> None:
    mask = np.zeros((9, 12), bool)
    mask[2:5, 3:9] = True
    parts = [Instance.from_mask(mask, 0.7, "dog", [2.5, 1.5, 9.25, 5.0]), Instance.from_mask(~mask, 0.1, "cat")]
    some = Segmentation(mask, None, False, 0.1 + 0.2, 1 / 3, "it", {"remarks": ["so"]}, instances=parts)
    none = Segmentation(np.zeros((9, 12), bool), None, True, 0.9, 0.1, "them")
    rows = table_of(rows_of("a.png", ["it", "them"], [some, none])).to_pylist()
    assert [row["image"] for row in rows] == ["a.png", "a.png"]
    assert [answer_of(row) for row in rows] == [some, none]
    assert answer_of(rows[0]).extra == {"remarks": ["so"]}  # type: ignore[union-attr]
    failed = table_of(rows_of("b.png", ["it", "them"], DataError("no"))).to_pylist()
    assert [(row["expression"], row["error"], row["mask"]) for row in failed] == [
        ("it", "no", None),
        ("them", "no", None),
    ]


def test_a_killed_driver_goes_on_where_it_was(model: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    write_pictures(photos, 60)
    out = tmp_path / "out"
    words = ["batch", photos, "-t", TEXTS[0], "-t", TEXTS[1], "-o", out, "--model", model, "--workers", "2"]
    command = [sys.executable, "-m", "refseg", *map(str, words), "--part-size", "2", "--device", "cpu"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 200
    while len(list(out.glob("part-*"))) < 3:
        assert first.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    assert 3 <= len(stamps) < 30
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "120 rows" in done.stdout
    assert pairs(out) == wanted(60)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert [json.loads(line)["part"] for line in (out / "plan.jsonl").read_text().splitlines()] == [
        f"part-{number:05}.parquet" for number in range(30)
    ]
