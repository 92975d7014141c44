"""The tiny system stands in the table of models, and scenes are drawn by its own function, in every test here."""

from __future__ import annotations

import pytest

from tests.support.tiny_system import install


@pytest.fixture(autouse=True)
def tiny_system(monkeypatch, tmp_path):
    monkeypatch.setenv("REFSEG_CACHE", str(tmp_path / "cache"))
    install(monkeypatch.setitem, monkeypatch.setattr)
