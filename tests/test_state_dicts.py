"""Other people's files: what is read, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from refseg.errors import CheckpointError
from refseg.state_dicts import read_state


class Evil:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "iteration": 5}, lambda s: {"state_dict": s}])
def test_wrapped_and_plain_states(tmp_path: Path, wrap) -> None:
    torch.save(wrap({"module.a": torch.ones(2), "module.b": torch.zeros(1)}), tmp_path / "file.pth")
    state = read_state(tmp_path / "file.pth")
    assert sorted(state) == ["a", "b"]
    assert state["a"].tolist() == [1, 1]


def test_safetensors(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "file.safetensors")
    assert read_state(tmp_path / "file.safetensors")["a"].tolist() == [1, 1]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_detectron2_pickles(tmp_path: Path, protocol: int) -> None:
    content = {"model": {"stem.conv1.weight": np.ones((2, 3), dtype=np.float32)}, "__author__": "MSRA"}
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    assert read_state(tmp_path / "file.pkl")["stem.conv1.weight"].shape == (2, 3)


def test_code_is_refused(tmp_path: Path, capsys) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "hook": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"model": Evil()}))
    for name in ("evil.pth", "evil.pkl"):
        with pytest.raises(CheckpointError, match=r"refused|cannot be read"):
            read_state(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_damage_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "half.safetensors").write_bytes(b"\x10")
    torch.save({"model": 3}, tmp_path / "none.pth")
    torch.save({"a": torch.ones(100)}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:200])
    for name in ("text.pth", "empty.pth", "half.safetensors", "none.pth", "cut.pth", "missing.pth"):
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            read_state(tmp_path / name)
    with pytest.raises(CheckpointError, match="is a folder"):
        read_state(tmp_path)
