"""Whose checkpoint it is: every importer refuses the others' and says whose they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from refseg.errors import CheckpointError, ConfigError
from refseg.official import SYSTEMS, load, recognise

GOLDEN = Path(__file__).parent / "golden"
FILES = {
    "rela": "rela/main_swin_tiny.json",
    "reftr": "reftr/tiny_seg.json",
    "restr": "restr/tiny_cme.json",
    "vlt": "vlt/official_416.json",
}


def names_of(system: str) -> list[str]:
    document = json.loads((GOLDEN / FILES[system]).read_text())
    keys = document["keys"] if "keys" in document else next(iter(document.values()))["keys"]
    return list(keys)


@pytest.mark.parametrize("system", FILES)
def test_every_published_checkpoint_is_recognised(system: str) -> None:
    assert recognise(dict.fromkeys(names_of(system), torch.zeros(1))) == system
    assert recognise({"something.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_checkpoint_of_another_system_is_named(system: str) -> None:
    for other in FILES:
        if other != system:
            state = dict.fromkeys(names_of(other), torch.zeros(1))
            with pytest.raises(CheckpointError, match=f"its names are those of '{other}': load it as that"):
                load(system, state)


def test_a_system_without_importer_lists_the_near_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean 'restr'"):
        load("resstr", {})
