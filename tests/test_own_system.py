"""The example of a system of one's own: it trains, is found by every verb, and only where it is entered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=200)


def test_a_system_of_ones_own_is_known_to_every_verb(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fields = ["training.steps=2", "data.pool=0", "data.vocabulary_pictures=4", "data.workers=0", "evaluation.every=0"]
    script = str(EXAMPLES / "own_system.py")
    trained = run(script, "train", str(EXAMPLES / "own_system.toml"), *fields, f"output.folder={folder}")
    assert trained.returncode == 0, trained.stderr
    scene = tmp_path / "scenes"
    assert (
        run("-m", "refseg", "data", "scenes", str(scene), "--train", "0", "--val", "1", "--test", "0").returncode == 0
    )
    scored = run(script, "evaluate", "--model", str(folder / "final"), "--data", str(scene), "--split", "val")
    assert scored.returncode == 0, scored.stderr
    assert "gIoU" in scored.stdout
    listed = run(script, "models")
    assert "filter-mini" in listed.stdout, listed.stderr
    refused = run("-m", "refseg", "evaluate", "--model", str(folder / "final"), "--data", str(scene), "--split", "val")
    assert refused.returncode == 2
    assert "'filter'" in refused.stderr
