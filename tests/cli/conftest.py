"""What the commands' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_model import write_model_folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model, as `refseg train` would leave it."""
    return write_model_folder(tmp_path_factory.mktemp("model") / "tiny")
