"""A run that was stopped goes on: nothing is looked at twice, and the files are those of a run in one piece."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from refseg.cli.main import main
from refseg.data import open_dataset
from refseg.data.formats.coco import read_instances
from refseg.data.sample import Problem
from refseg.generation.photos import cache as module
from refseg.generation.photos.cache import open_cache, record_digest
from refseg.generation.photos.templates import TemplateSettings, make_templates, read_records, write_templates
from tests.support.painted import layout, write_coco


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return write_coco(tmp_path, {number: layout(number) for number in range(1, 13)})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "templates").iterdir())}


def test_a_stopped_run_goes_on(coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, images, kept = TemplateSettings(seed=3), tmp_path / "images", tmp_path / "kept.part"
    instances, spoken, _ = make_templates(coco, images, settings)
    write_templates(tmp_path / "whole", instances, spoken, settings)
    looked: list[int] = []
    look = module.read_photo
    monkeypatch.setattr(module, "read_photo", lambda record: looked.append(record.image_id) or look(record))

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_templates(coco, images, settings, 1, stop, kept=kept)
    assert looked == [1, 2, 3, 4, 5]
    with kept.open("a") as handle:
        handle.write('{"key": "cut o')  # a line that a crash cut off
    looked.clear()
    instances, spoken, _ = make_templates(coco, images, settings, kept=kept)
    assert looked == [6, 7, 8, 9, 10, 11, 12]
    write_templates(tmp_path / "parts", instances, spoken, settings)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    looked.clear()
    make_templates(coco, images, settings, kept=kept)
    assert looked == []


def test_what_has_changed_is_looked_at_again(coco: Path, tmp_path: Path) -> None:
    def digests() -> list[str]:
        return [record_digest(record) for record in read_records(read_instances(coco), tmp_path / "images", True)[0]]

    before = digests()
    assert len(set(before)) == 12
    assert digests() == before
    os.utime(tmp_path / "images" / "2.png", (1, 1))
    text = coco.read_text()
    coco.write_text(text.replace('"name": "dog"', '"name": "cat"'))
    after = digests()
    assert after[1] != before[1]
    changed = {place for place in range(12) if after[place] != before[place]}
    dogs = {number - 1 for number in range(1, 13) if any(name == "dog" for name, _, _ in layout(number))}
    assert changed == dogs | {1}


def test_problems_and_damage_are_kept_too(tmp_path: Path) -> None:
    path = tmp_path / "kept.part"
    with open_cache(path) as views:
        views.add("a", (None, [Problem("bad_picture", "picture 1", "cut short")]))
    path.write_text(path.read_text() + '[]\n{"key": "b", "photo": {}, "problems": []}\nnull\n\x00\n')
    with open_cache(path) as views:
        assert views.known.get("a") == (None, [Problem("bad_picture", "picture 1", "cut short")])
        assert views.known.get("b") is None
    whole = path.read_bytes().partition(b"\n")[0]
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] + b"\n")
        with open_cache(path) as views:
            assert not views.known


def test_the_command_leaves_no_traces(coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["data", "templates", "--coco", str(coco), "--images", str(tmp_path / "images"), "-o", str(out)]
    (out / "templates").mkdir(parents=True)
    (out / "templates" / "pictures.jsonl.part").write_text("")
    assert main([*words, "--workers", "1"]) == 0
    assert "going on" in capsys.readouterr().err
    assert sorted(contents(out)) == ["grefs(templates).json", "instances.json", "settings.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_it_and_leaves_no_half_data_set(tmp_path: Path) -> None:
    coco = write_coco(tmp_path, {number: layout(number) for number in range(1, 150)})
    out = tmp_path / "out"
    words = ["--coco", str(coco), "--images", str(tmp_path / "images"), "-o", str(out), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "refseg", "data", "templates", *words], stderr=subprocess.PIPE, text=True
    )
    part = out / "templates" / "pictures.jsonl.part"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was done before it could be stopped")
    assert (process.returncode, errors.strip()) == (130, "refseg data: interrupted")
    assert not (out / "templates" / "grefs(templates).json").exists()
    assert main(["data", "templates", *words]) == 0
    assert len(open_dataset(out)) > 100
