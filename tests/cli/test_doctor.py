"""refseg doctor: every line is tried, and nothing that goes wrong is an exception."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from refseg.cli import doctor
from refseg.cli.main import main
from refseg.config import read_toml


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow findings (a matrix product, loading weights) are tested on their own."""
    monkeypatch.setattr(doctor, "precisions", list)
    monkeypatch.setattr(doctor, "weights", list)


def test_versions_are_those_that_are_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert findings["numpy"] == {
        "group": "versions",
        "name": "numpy",
        "state": "ok",
        "detail": metadata.version("numpy"),
    }
    assert "threads" in findings
    assert "--device auto takes" in findings["auto"]["detail"]
    assert "HF_HUB_OFFLINE" in findings["hub"]["detail"]  # the tests run without a network


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "transformers" in printed
    assert "processor" in printed


def test_what_is_missing_and_needed_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", ("numpy", "no-such-package"))
    assert main(["doctor", "--json"]) == 1
    findings = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert findings["no-such-package"]["state"] == "failed"
    assert "pip install no-such-package" in findings["no-such-package"]["detail"]


def test_what_is_missing_and_optional_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OPTIONAL", {"no-such-package": "nothing"})
    finding = {entry.name: entry for entry in doctor.versions()}["no-such-package"]
    assert finding.state == "missing"
    assert main(["doctor"]) == 0


def test_a_part_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def hub() -> list[doctor.Finding]:
        raise OSError("the cable is cut")

    monkeypatch.setattr(doctor, "hub", hub)
    assert doctor.examine()[-1] == doctor.Finding("doctor", "hub", "failed", "the cable is cut")


def test_weights_are_loaded_and_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    from refseg.inference import predictor

    monkeypatch.setattr(predictor, "list_models", lambda: ["damaged"])
    finding = doctor.weights()[0]
    assert (finding.name, finding.state) == ("damaged", "failed")
    monkeypatch.setattr(predictor, "list_models", list)
    assert doctor.weights()[0].state == "missing"


def test_precisions_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    findings = {entry.name: entry for entry in doctor.precisions()}
    assert "GFLOP/s" in findings["float32"].detail
    assert findings["bfloat16"].state in ("ok", "missing")


def test_what_is_required_is_what_installing_brings() -> None:
    project = read_toml(Path(__file__).parents[2] / "pyproject.toml")["project"]
    wanted = {re.split(r"[><=;\[ ]", entry)[0] for entry in project["dependencies"] if ";" not in entry}
    assert set(doctor.REQUIRED) == wanted
