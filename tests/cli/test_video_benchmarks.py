"""Ref-YouTube-VOS, MeViS and Ref-DAVIS17 through training on clips, evaluation, and a submission for the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refseg.cli.main import main
from tests.support.small_video import FRAMES, TINY, write_davis, write_mevis, write_pieces, write_youtube

# data set: split with masks, split that is hidden, protocol, files of a submission of each
SETS = {
    "ref-youtube-vos": ("train", "valid", "youtube-vos", 20, 4),
    "mevis": ("valid_u", "valid", "mevis", 6, 3),
    "ref-davis17": ("val", None, "ref-davis17", 16, 0),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("video")
    for write in (write_youtube, write_mevis, write_davis):
        write(root)
    write_pieces(root / "pieces")
    return root


@pytest.fixture(scope="module")
def models(place: Path) -> dict[str, Path]:
    """A model of each data set after two steps."""
    recipe = place / "recipe.toml"
    recipe.write_text(
        '[model]\npreset = "vlt-paper-video"\n[data]\nframes = 3\npictures_per_batch = 8\nsentences_per_picture = 1\n'
        "[training]\nsteps = 2\n[output]\ntensorboard = false\nlog_every = 1\n"
    )
    folders = {}
    for name in SETS:
        folder = folders[name] = place / "runs" / name
        words = [f"data.root={place}", f"data.dataset={name}", f"data.tokenizer={place / 'pieces'}"]
        score = ["evaluation.every=0"]
        if name == "ref-davis17":
            score = ["evaluation.every=2", "evaluation.split=train", "evaluation.pictures=1", "evaluation.samples=1"]
            score += [f'evaluation.protocol="{SETS[name][2]}"', 'evaluation.metric="J&F"']
        assert main(["train", str(recipe), *words, *score, *TINY, f"output.folder={folder}"]) == 0
    return folders


@pytest.mark.parametrize("name", SETS)
def test_train_evaluate_submit(
    name: str, place: Path, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, hidden, protocol, files, unseen = SETS[name]
    log = [json.loads(line) for line in (models[name] / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line["kind"] == "train"] == [1, 2]
    assert all("contrastive" in line["losses"] for line in log if line["kind"] == "train")
    scores = [line["metrics"] for line in log if line["kind"] == "evaluation"]
    assert ["J&F" in metrics for metrics in scores] == [True] * (name == "ref-davis17")
    common = ["evaluate", "--model", str(models[name] / "final"), "--data", str(place), "--dataset", name]
    common += ["--protocol", protocol, "--device", "cpu"]
    out = {option: str(tmp_path / option) for option in ("json", "rows", "predictions", "targets")}
    words = [word for option, path in out.items() for word in (f"--{option}", path)]
    assert main([*common, "--split", split, "--submission", str(tmp_path / "sent"), *words]) == 0
    written = json.loads((tmp_path / "json").read_text())
    assert written["counts"]["unannotated"] == 0
    assert f"{files:,} files for the server" in capsys.readouterr().out
    assert sum(path.suffix == ".png" for path in (tmp_path / "sent").rglob("*")) == files
    again = tmp_path / "again.json"
    lines = ["--predictions", out["predictions"], "--targets", out["targets"]]
    assert main(["score", *lines, "--protocol", protocol, "-o", str(again)]) == 0
    assert json.loads(again.read_text())["metrics"] == pytest.approx(written["metrics"], abs=1e-12)
    if hidden is None:
        return
    capsys.readouterr()
    words = ["--split", hidden, "--submission", str(tmp_path / "hidden"), "--json", str(tmp_path / "h.json")]
    assert main([*common, *words]) == 0
    printed = capsys.readouterr()
    assert "have no annotation and are in no number" in printed.err
    assert str(tmp_path / "hidden") in printed.err
    assert set(json.loads((tmp_path / "h.json").read_text())["metrics"].values()) == {None}
    assert sum(path.suffix == ".png" for path in (tmp_path / "hidden").rglob("*")) == unseen


def test_bad_requests_are_one_line_and_leave_nothing(
    place: Path, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(data: Path, name: str, split: str, protocol: str, *words: object) -> str:
        common = ["evaluate", "--model", str(models["mevis"] / "final"), "--data", str(data), "--dataset", name]
        words = ("--split", split, "--protocol", protocol, "--device", "cpu", *words)
        assert main([*common, *map(str, words)]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert [line for line in error if line.startswith("refseg")] == error[-1:]
        return error[-1]

    taken = tmp_path / "taken"
    taken.mkdir()
    assert "is there already" in told(place, "mevis", "valid_u", "mevis", "--submission", taken)
    assert list(taken.iterdir()) == []
    new = tmp_path / "new"
    assert "compares masks" in told(place, "mevis", "valid_u", "native", "--submission", new)
    assert "wants merged objects" in told(place, "ref-davis17", "val", "mevis", "--submission", new)
    assert "is at least 1" in told(place, "mevis", "valid_u", "mevis", "--clip-frames", 0)
    broken = tmp_path / "broken"
    home = write_youtube(broken)
    (home / "train" / "JPEGImages" / "abc" / f"{FRAMES[1]}.jpg").unlink()
    message = told(broken, "ref-youtube-vos", "train", "youtube-vos", "--submission", new, "--rows", tmp_path / "r")
    assert f"1 of 4 frames are not there, the first is {FRAMES[1]}" in message
    assert not new.exists()
    assert not (tmp_path / "r").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "taken"]


def test_a_threshold_of_ones_own_and_frames_at_once(place: Path, models: dict[str, Path], tmp_path: Path) -> None:
    common = ["evaluate", "--model", str(models["mevis"] / "final"), "--data", str(place), "--dataset", "mevis"]
    common += ["--split", "valid_u", "--protocol", "mevis,youtube-vos", "--device", "cpu", "--limit", "1"]
    found = []
    for threshold in ("0.01", "0.99"):
        path = tmp_path / f"{threshold}.json"
        assert main([*common, "--threshold", threshold, "--clip-frames", "2", "--json", str(path)]) == 0
        document = json.loads(path.read_text())["protocols"]
        assert document["mevis"]["counts"]["objects"] == 1
        assert document["mevis"]["protocol"]["threshold"] == float(threshold)
        found.append(document["mevis"]["metrics"]["J"])
    assert found[0] != found[1]
