"""The tiny system stands in the table of models, and scenes are drawn by its own function, in every test here."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.tiny_system import install


@pytest.fixture(autouse=True)
def tiny_system(monkeypatch, tmp_path):
    monkeypatch.setenv("REFSEG_CACHE", str(tmp_path / "cache"))
    install(monkeypatch.setitem, monkeypatch.setattr)


@pytest.fixture(autouse=True)
def terminal() -> Iterator[None]:
    """SIGHUP ends what it meets, as in a terminal; below nohup it would be ignored, and that is inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
