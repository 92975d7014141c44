import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from refseg.cli.main import main
from refseg.data import open_dataset
from refseg.errors import DataError, RefsegError
from refseg.generation.scenes import generate
from refseg.generation.scenes import write as writing
from refseg.generation.scenes.write import SceneSettings, write_scenes

SMALL = SceneSettings(seed=9, counts={"train": 3, "testC": 1}, size=96, sentences=6, picture="png")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_real_loader_reads_what_was_drawn(tmp_path):
    write_scenes(tmp_path, SMALL)
    data = open_dataset(tmp_path, "scenes", "train")
    assert data.problems == ()
    by_text = {(sample.image_id - writing.FIRST_IMAGE_ID, sample.text): sample for sample in data}
    told = 0
    for index in range(3):
        scene = generate(9, index, 96, 6)
        for expression in scene.expressions:
            sample = by_text[index, expression.text]
            assert sample.kind == expression.kind
            assert sample.no_target == (not expression.targets)
            assert np.array_equal(sample.mask(), scene.mask(expression))
            assert np.array_equal(np.asarray(sample.read_image()), scene.image)
            told += 1
    assert told == len(data)
    assert {sample.split for sample in open_dataset(tmp_path, "scenes")} == {"train", "testC"}


def test_workers_and_interruptions_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_CHUNK", 1)
    write_scenes(tmp_path / "straight", SMALL)
    calls = []
    real = writing._draw_chunk

    def stumble(folder, settings, chunk):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(chunk)
        real(folder, settings, chunk)

    monkeypatch.setattr(writing, "_draw_chunk", stumble)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "resumed", SMALL)
    assert not (tmp_path / "resumed/scenes/instances.json").exists()
    drawn = []
    monkeypatch.setattr(writing, "_draw_chunk", lambda *work: (drawn.append(work), real(*work)))
    write_scenes(tmp_path / "resumed", SMALL)
    assert len(drawn) == 2
    assert contents(tmp_path / "resumed") == contents(tmp_path / "straight")
    monkeypatch.setattr(writing, "_draw_chunk", real)
    write_scenes(tmp_path / "parallel", SMALL, workers=2)
    assert contents(tmp_path / "parallel") == contents(tmp_path / "straight")


def test_other_settings_are_refused(tmp_path):
    write_scenes(tmp_path, SMALL)
    before = contents(tmp_path)
    assert write_scenes(tmp_path, SMALL)["train"]
    with pytest.raises(DataError, match=r"other settings \(seed\)"):
        write_scenes(tmp_path, SceneSettings(**{**SMALL.__dict__, "seed": 10}))
    assert contents(tmp_path) == before


def test_close_ups_are_other_settings_and_folders_of_before_are_none(tmp_path):
    path = tmp_path / "scenes/settings.json"
    write_scenes(tmp_path, SMALL)
    settings = json.loads(path.read_text())
    del settings["close_up"]
    path.write_text(json.dumps(settings))
    assert write_scenes(tmp_path, SMALL)["train"]
    with pytest.raises(DataError, match=r"other settings \(close_up\)"):
        write_scenes(tmp_path, replace(SMALL, close_up=True))
    write_scenes(tmp_path / "near", replace(SMALL, close_up=True))
    sample = open_dataset(tmp_path / "near", "scenes", "train")[0]
    assert np.array_equal(np.asarray(sample.read_image()), generate(9, 0, 96, 6, close_up=True).image)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"counts": {"train": 0}}, "no scenes"),
        ({"counts": {"train": -1}}, "counts"),
        ({"size": 10}, "--size"),
        ({"sentences": 0}, "--sentences"),
        ({"picture": "gif"}, "jpg or png"),
    ],
)
def test_bad_settings(fields, message):
    with pytest.raises(DataError, match=message):
        SceneSettings(**{**SMALL.__dict__, **fields})


def test_command(tmp_path, capsys):
    arguments = ["data", "scenes", str(tmp_path / "out"), "--train", "2", "--val", "0", "--test", "1"]
    assert main([*arguments, "--size", "96", "--seed", "1", "--workers", "1"]) == 0
    assert "5 scenes" in capsys.readouterr().out
    refs = json.loads((tmp_path / "out/scenes/grefs(scenes).json").read_text())
    assert {ref["split"] for ref in refs} == {"train", "testA", "testB", "testC"}
    assert all((ref["ann_id"] == [-1]) == ref["no_target"] for ref in refs)
    assert main([*arguments[:-2], "--test", "-1"]) == 2
    assert "--test is at least 0, not -1" in capsys.readouterr().err


def test_while_another_process_draws_nothing_is_done(tmp_path):
    folder = tmp_path / "with {braces}"
    home = folder / "scenes"
    home.mkdir(parents=True)
    hold = (
        "import sys; from refseg.files import locked\n"
        "with locked(sys.argv[1], 'busy'):\n    print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", hold, str(home / ".lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RefsegError, match=f"process {other.pid} is drawing scenes there; wait for it") as caught:
            write_scenes(folder, SMALL)
        assert str(folder) in str(caught.value)
        assert sorted(path.name for path in home.iterdir()) == [".lock"]
        other.communicate("")
    assert write_scenes(folder, SMALL)["train"]


def test_a_whole_folder_needs_no_lock(tmp_path, monkeypatch):
    """It may be on a disk that can only be read."""
    counts = write_scenes(tmp_path, SMALL)
    monkeypatch.setattr(writing, "locked", None)
    assert write_scenes(tmp_path, SMALL) == counts
