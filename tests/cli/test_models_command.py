"""refseg models: what there is."""

from __future__ import annotations

import dataclasses
import json

from refseg.cli.main import main
from refseg.config import read_toml
from refseg.models import MODELS, config_from_dict, preset, preset_names


def test_overview_names_every_preset_and_row(capsys) -> None:
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    for name in preset_names():
        assert name in printed
    for row in MODELS["rela"].ablations:
        assert row in printed
    assert main(["models", "--json"]) == 0
    systems = json.loads(capsys.readouterr().out)["systems"]
    assert sorted(systems["rela"]["presets"]) == sorted(name for name in preset_names() if name.startswith("rela-"))


def test_one_configuration_can_be_read_back(capsys, tmp_path) -> None:
    assert main(["models", "rela-mini"]) == 0
    (tmp_path / "mini.toml").write_text(capsys.readouterr().out)
    assert config_from_dict({"system": "rela", **read_toml(tmp_path / "mini.toml")}) == preset("rela-mini")


def test_every_field_is_listed_with_type_value_and_text(capsys) -> None:
    assert main(["models", "rela-mini", "--fields", "--json"]) == 0
    fields = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    config = preset("rela-mini")
    assert {field.name for field in dataclasses.fields(config)} <= fields.keys()
    assert fields["input.size"]["value"] == config.input.size
    assert "pixels" in fields["input.size"]["text"]
    assert all(entry["type"] for entry in fields.values())
    assert main(["models", "rela-mini", "--fields"]) == 0
    assert f"= {config.input.size}\n" in capsys.readouterr().out
    assert main(["models", "--fields"]) == 2


def test_unknown_names_get_a_hint(capsys) -> None:
    assert main(["models", "rela-mimi"]) == 2
    assert "rela-mini" in capsys.readouterr().err


def test_preset_names_forgive_case_and_underscores() -> None:
    assert preset("RELA_CAMERA_READY") == preset("rela-camera-ready")


def test_the_name_of_a_system_lists_its_presets(capsys) -> None:
    assert main(["models", "ReLA"]) == 0
    printed = capsys.readouterr().out
    mine = [name for name in preset_names() if name.startswith("rela-")]
    assert all(f"  {name} " in printed for name in mine)
    assert all(f"rela: {row}" in printed for row in MODELS["rela"].ablations)
    assert "  lavt-" not in printed
    assert main(["models", "rela", "--json"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)["presets"]) == sorted(mine)
    assert main(["models", "rela", "--fields"]) == 2
    assert mine[0] in capsys.readouterr().err
