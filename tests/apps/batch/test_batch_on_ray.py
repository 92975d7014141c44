"""refseg batch and refseg.ray.Segment on Ray: a machine's own, and a cluster of two raylets that lose one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from refseg.apps.batch.ray_data import Segment
from refseg.apps.batch.rows import answer_of, read_answers
from refseg.errors import RefsegError
from refseg.inference.predictor import load
from tests.apps.batch.pictures import TEXTS, alike, pairs, wanted, write_pictures
from tests.support.ray_cluster import ENVIRONMENT, OTHER, PATIENCE, Cluster, running
from tests.support.tiny_model import write_model_folder

COUNT = 120


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_pictures(folder, COUNT)
    return folder


def command(model: Path, photos: Path, out: Path, *words: str) -> list[str]:
    texts = [word for text in TEXTS for word in ("-t", text)]
    options = ["--model", str(model), "--part-size", "2", "--device", "cpu"]
    return [sys.executable, "-m", "refseg", "batch", str(photos), *texts, "-o", str(out), *options, *words]


def test_batches_of_every_kind_of_picture(model: Path, photos: Path) -> None:
    """What Ray calls, without Ray."""
    segment = Segment(TEXTS, str(model), device="cpu")
    path = photos / "p1.png"
    expected = load(model, "cpu")(path, list(TEXTS))
    paths = np.array([str(path), "gone.png"], dtype=object)
    rows = segment({"path": paths}).to_pylist()
    assert all(map(alike, map(answer_of, rows[:2]), expected))
    assert [(row["image"], row["expression"]) for row in rows] == [(name, text) for name in paths for text in TEXTS]
    assert all("gone.png" in row["error"] for row in rows[2:])
    content = np.empty(1, dtype=object)
    content[0] = path.read_bytes()
    rows = segment({"bytes": content}).to_pylist()
    assert all(map(alike, map(answer_of, rows), expected))
    assert rows[0]["image"] is None
    own = Segment(None, str(model), device="cpu")
    rows = own({"path": np.array([str(path)] * 2), "expression": np.array([TEXTS[1], " "])}).to_pylist()
    assert alike(answer_of(rows[0]), expected[1])
    assert "empty" in rows[1]["error"]
    with pytest.raises(RefsegError, match="path, bytes, image is wanted"):
        segment({"picture": paths})
    with pytest.raises(RefsegError, match="no texts were given"):
        own({"path": paths})


def test_ray_on_this_machine(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    photos = tmp_path / "photos"
    photos.mkdir()
    write_pictures(photos, 5)
    (photos / "p2.png").write_bytes(b"junk")
    out = tmp_path / "out"
    words = command(model, photos, out, "--ray", "local", "--actors", "1")
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=280)
    assert done.returncode == 1, done.stderr
    assert "10 rows" in done.stdout
    assert "2 without an answer" in done.stdout
    assert pairs(out) == wanted(5)
    segmenter = load(model, "cpu")
    for image, text, answer in read_answers(out):
        assert isinstance(answer, RefsegError) == image.endswith("p2.png")
        if not isinstance(answer, RefsegError):
            assert alike(answer, segmenter(image, text))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray")
    folder = Path(tempfile.mkdtemp(prefix="rs", dir="/tmp"))  # paths of sockets have at most 107 letters
    try:
        with running(folder / "ray") as started:
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parts(out: Path) -> int:
    return len(list(out.glob("part-*.parquet")))


def wait_for_parts(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while parts(out) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_driver_and_a_node_are_killed_and_every_row_is_there_once(
    cluster: Cluster, model: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = command(model, photos, out, "--ray", cluster.address, "--actors", "2")

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
        )

    # The driver: what it had done is kept, and is not done again.
    driver = start()
    wait_for_parts(out, 4, driver)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    time.sleep(2)  # until Ray has ended its actors, which may finish what they are at
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    assert 4 <= len(stamps) < COUNT // 2, "too quick to be killed in the middle"
    # A node, while the second start goes on.
    driver = start()
    wait_for_parts(out, len(stamps) + 4, driver)
    cluster.kill(OTHER)
    assert parts(out) < COUNT // 2, "too quick to be killed in the middle"
    stdout, stderr = driver.communicate(timeout=900)
    assert driver.returncode == 0, stderr
    assert f"{COUNT * len(TEXTS):,} rows" in stdout
    assert pairs(out) == wanted(COUNT)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    segmenter = load(model, "cpu")
    for image, text, answer in read_answers(out):
        assert alike(answer, segmenter(image, text))
