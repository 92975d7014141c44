"""`python -m tests.loadtest`: small, whole, and gone in the end."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the optional extra 'annotate' is not installed")

from refseg.errors import ConfigError
from tests.loadtest import load
from tests.loadtest.__main__ import main
from tests.loadtest.load import LoadSettings, Times, measure
from tests.loadtest.players import Exchange
from tests.loadtest.served import Served


def test_a_small_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    given = ["--samples", "60", "--players", "4", "--seconds", "3", "--settle", "0.5", "--think", "0.05"]
    code = main([*given, "-o", str(out)])
    printed = capsys.readouterr().out
    report = json.loads(out.read_text())
    assert (code, report["first_errors"], report["contradictions"]) == (0, [], []), printed
    rows = {row["route"]: row for row in report["routes"]}
    assert rows["POST write/next"]["requests"] > 0
    assert rows["all"]["requests"] == sum(row["requests"] for name, row in rows.items() if name != "all")
    assert all(row["median"] <= row["p95"] <= row["p99"] <= row["slowest"] for row in rows.values())
    assert "POST write/next" in printed


def test_ctrl_c_ends_the_server_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Served] = []

    class Noted(Served):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            started.append(self)

    def on_progress(what: str, share: float) -> None:
        if what == "playing":
            raise KeyboardInterrupt

    monkeypatch.setattr(load, "Served", Noted)
    report = measure(LoadSettings(players=3, samples=10, seconds=60.0, think=0.05, settle=0.5), tmp_path, on_progress)
    assert report["interrupted"]
    assert started[0].process.poll() is not None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("player")]


def test_pauses_have_the_mean_that_was_asked_for() -> None:
    rng = random.Random(1)
    pauses = [LoadSettings(think=3.0, spread=0.6).pause(rng) for _ in range(20_000)]
    assert np.mean(pauses) == pytest.approx(3.0, rel=0.03)
    assert np.std(np.log(pauses)) == pytest.approx(0.6, rel=0.03)


@pytest.mark.parametrize("field", [{"players": 0}, {"samples": -1}, {"seconds": 0.0}, {"think": -1.0}, {"workers": 0}])
def test_nonsense_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(field))}"):
        LoadSettings(**field)


def test_what_came_before_the_counting_is_left_out() -> None:
    times = Times(since=10.0)
    for started in (9.0, 10.0, 11.0):
        times.hear(Exchange("p", "GET me", "GET", "/", None, started, started + 0.1, 0.1, 200, {}, ""))
    assert times.rows()[0]["requests"] == 2


def test_errors_are_counted_and_refusals_of_the_game_are_not() -> None:
    times = Times()
    for status, code in ((201, ""), (409, "lease_lost"), (422, "invalid"), (500, "internal"), (0, "")):
        body = {"error": {"code": code}} if status >= 400 else None
        times.hear(Exchange("p", "POST samples", "POST", "/", {}, 0.0, 0.1, 0.1, status, body, ""))
    assert [(row["route"], row["requests"], row["errors"]) for row in times.rows()] == [
        ("all", 5, 3), ("POST samples", 5, 3),
    ]  # fmt: skip
