"""`refseg models`: which systems, presets and ablations there are, and which weights are here."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from refseg.errors import RefsegError, did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "name",
        nargs="?",
        help="a preset (rela-paper) or an ablation (rela: table 4: 8x8 regions): print its whole configuration",
    )
    parser.add_argument(
        "--cost",
        action="store_true",
        help="with a name: parameters and multiply-accumulates of its parts, for one picture and one sentence",
    )
    parser.add_argument("--size", type=int, help="with --cost: side of the picture in pixels (default: the preset's)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    """Print the overview, one configuration, or what a model costs."""
    if arguments.cost:
        if arguments.name is None:
            raise RefsegError("--cost wants the name of a preset or an ablation, such as rela-mini")
        _print_cost(arguments.name, arguments.size, arguments.json)
        return
    if arguments.size is not None:
        raise RefsegError("--size belongs to --cost")
    if arguments.name is not None:
        _print_one(arguments.name, arguments.json)
        return
    from refseg.inference.predictor import list_models
    from refseg.models import MODELS

    installed = list_models()
    if arguments.json:
        systems = {
            name: {
                "title": system.title,
                "presets": {_label(name, key): _summary(config) for key, config in system.presets.items()},
                "ablations": [f"{name}: {row}" for row in system.ablations],
            }
            for name, system in MODELS.items()
        }
        print(json.dumps({"systems": systems, "weights": installed}, indent=1))
        return
    for name, system in MODELS.items():
        print(system.title)
        width = max(len(_label(name, key)) for key in system.presets)
        for key, config in system.presets.items():
            label = _label(name, key)
            here = "  [weights here]" if label in installed else ""
            print(f"  {label:<{width}}  {_summary(config)}{here}")
        if system.ablations:
            print("  ablations:")
            for row in system.ablations:
                print(f"    {name}: {row}")
    print(f"weights that came with refseg: {', '.join(installed) or 'none'}")


def _print_one(name: str, as_json: bool) -> None:
    from refseg.config import to_dict, to_toml
    from refseg.models import build

    config = _find(name)
    count = sum(parameter.numel() for parameter in build(config).parameters())
    if as_json:
        print(json.dumps({"name": name, "parameters": count, "config": to_dict(config)}, indent=1))
    else:
        print(f"# {name}: {count / 1e6:.2f} M parameters\n{to_toml(config)}", end="")


def _print_cost(name: str, size: int | None, as_json: bool) -> None:
    from refseg.studies.operation_counts import count_cost

    cost = count_cost(_find(name), size)
    if as_json:
        document = {"name": name, **asdict(cost), "parameters": cost.parameters, "macs": cost.macs}
        print(json.dumps(document, indent=1))
        return
    print(f"{name}: one picture of {cost.size} x {cost.size} pixels, one sentence of {cost.words} words")
    rows = [*((part.name, part.parameters, part.macs) for part in cost.parts), ("total", cost.parameters, cost.macs)]
    width = max(len(row[0]) for row in rows)
    print(f"  {'':<{width}}  {'parameters':>12}  {'G MACs':>9}")
    for label, parameters, macs in rows:
        print(f"  {label:<{width}}  {parameters:>12,}  {macs / 1e9:>9.3f}")
    if cost.further_sentence is None:
        print("a further sentence on the same picture costs the same again")
    else:
        print(f"a further sentence on the same picture: {cost.further_sentence / 1e9:.3f} G MACs")


def _find(name: str) -> Any:
    from refseg.models import MODELS, preset, preset_names

    ablations = {f"{key}: {row}": config for key, system in MODELS.items() for row, config in system.ablations.items()}
    if name in ablations:
        return ablations[name]
    if name.lower().replace("_", "-") in preset_names():
        return preset(name)
    names = [*preset_names(), *ablations]
    raise RefsegError(f"{name!r} is neither a preset nor an ablation; {did_you_mean(name, names)}")


def _label(system: str, key: str) -> str:
    return f"{system}-{key}".lower().replace("_", "-")


def _summary(config: Any) -> str:
    """What a preset is made of, in a few words."""
    from refseg.models.lavt.config import LAVTConfig

    parts = [type(getattr(config, part)).__name__.removesuffix("Config") for part in ("vision", "text")]
    parts.append(f"{config.input.size} pixels")
    inside = getattr(config, "language_in_vision", isinstance(config, LAVTConfig))
    parts.append("words inside the picture encoder" if inside else "a picture is encoded once")
    return ", ".join(parts)
