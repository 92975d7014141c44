"""The systems: one lazy table from name to configuration, presets, ablations and builder.

Importing this module imports no system and no torch; a system is imported when something of it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from refseg import config as configuration
from refseg.errors import ConfigError, did_you_mean
from refseg.plugins import Table

if TYPE_CHECKING:
    from torch import nn

    from refseg.types import ModelConfig

__all__ = [
    "MODELS",
    "System",
    "build",
    "config_from_dict",
    "config_to_dict",
    "preset",
    "preset_names",
    "row_names",
]


@dataclass(frozen=True)
class System:
    """A system: its config dataclass, the named configurations, and how a model is made of one."""

    name: str
    config: type
    presets: Mapping[str, ModelConfig]
    """By upper-case name; the first one is what people should try first."""
    ablations: Mapping[str, ModelConfig]
    """Rows of the paper's tables, by table and row."""
    build: Callable[..., nn.Module]
    """Takes an object of `config`."""
    title: str
    """The paper, in one line."""

    def configures(self, config: object) -> bool:
        """Whether `config` is a configuration of this system."""
        return type(config) is self.config


class _Packaged(System):
    """A system of this package, whose folder is imported when its config, presets, ablations or builder are asked for.

    `config.py` of its folder has the class, `PRESETS` and `ABLATIONS`, `model.py` has `build_NAME`.
    """

    def __init__(self, name: str, kind: str, title: str) -> None:
        vars(self).update(name=name, title=title, kind=kind)

    def __getattr__(self, field: str) -> Any:
        if field == "build":
            import torch

            # What a module keeps in tensors stays usable where a model is built on "meta", to be counted.
            with torch.device("cpu"):
                return getattr(import_module(f"refseg.models.{self.name}.model"), f"build_{self.name}")
        names = {"config": vars(self)["kind"], "presets": "PRESETS", "ablations": "ABLATIONS"}
        if field not in names:
            raise AttributeError(field)
        return getattr(import_module(f"refseg.models.{self.name}.config"), names[field])

    def configures(self, config: object) -> bool:
        return type(config).__module__ == f"refseg.models.{self.name}.config" and super().configures(config)


_OWN: dict[str, System] = {
    system.name: system
    for system in (
        _Packaged(
            "rela",
            "ReLAConfig",
            "ReLA: Liu, Ding, Jiang, GRES: Generalized Referring Expression Segmentation, CVPR 2023",
        ),
        _Packaged(
            "m3att",
            "M3AttConfig",
            "M3Att: Liu et al., Multi-Modal Mutual Attention and Iterative Interaction for Referring Image "
            "Segmentation, TIP 2023",
        ),
        _Packaged(
            "lavt",
            "LAVTConfig",
            "LAVT: Yang et al., Language-Aware Vision Transformer for Referring Image Segmentation, CVPR 2022",
        ),
        _Packaged(
            "vlt",
            "VLTConfig",
            "VLT: Ding, Liu, Wang, Jiang, VLT: Vision-Language Transformer and Query Generation for Referring "
            "Segmentation, ICCV 2021 and TPAMI 2022",
        ),
        _Packaged(
            "reftr",
            "RefTRConfig",
            "RefTR: Li, Sigal, Referring Transformer: A One-step Approach to Multi-task Visual Grounding, NeurIPS 2021",
        ),
        _Packaged(
            "restr",
            "ReSTRConfig",
            "ReSTR: Kim et al., Convolution-free Referring Image Segmentation Using Transformers, CVPR 2022",
        ),
        _Packaged(
            "lts",
            "LTSConfig",
            "LTS: Jing et al., Locate then Segment: A Strong Pipeline for Referring Image Segmentation, CVPR 2021",
        ),
        _Packaged(
            "isfp",
            "ISFPConfig",
            "ISFP: Liu, Jiang, Ding, Instance-Specific Feature Propagation for Referring Segmentation, TMM 2022",
        ),
        _Packaged(
            "mattnet",
            "MAttNetConfig",
            "MAttNet: Yu et al., MAttNet: Modular Attention Network for Referring Expression Comprehension, CVPR 2018",
        ),
        _Packaged(
            "cris",
            "CRISConfig",
            "CRIS: Wang et al., CRIS: CLIP-Driven Referring Image Segmentation, CVPR 2022",
        ),
        _Packaged(
            "photo",
            "PhotoConfig",
            "Photo: ReLA's regions on a detector that knows what things are called (ours)",
        ),
        _Packaged(
            "instances",
            "InstancesConfig",
            "Instances: a detector proposes things, an exact reading of the expression chooses among them (ours)",
        ),
    )
}

MODELS: dict[str, System] = Table(_OWN, "refseg.systems", lambda thing: isinstance(thing, System))
"""The systems by name: those of this package, and those of others that enter theirs (`refseg.plugins`)."""

_RENAMED_PRESETS = {"rela-photo": "photo-rela"}
_REMOVED_PRESETS = ("rela-photo-mobilenet", "vlt-photo")


def build(config: ModelConfig) -> nn.Module:
    """The model of a configuration, with fresh weights and never a download. Raises `ConfigError` for other objects."""
    return _system_of(config).build(config)


def preset(name: str) -> ModelConfig:
    """The configuration called "system-preset" ("rela-mini", "rela-camera-ready"), or that of a row of a paper's
    tables ("rela: table 4: 8x8 regions"). Raises `ConfigError` with the nearest names."""
    wanted = name.lower().replace("_", "-")
    for system in MODELS.values():
        for key, config in system.presets.items():
            if wanted == _preset_name(system, key):
                return config
        for row, config in system.ablations.items():
            if _plain(name) == _plain(f"{system.name}: {row}"):
                return config
    if wanted in _RENAMED_PRESETS:
        raise ConfigError(f"{name!r} is no preset any more; it is called {_RENAMED_PRESETS[wanted]!r} now")
    if wanted in _REMOVED_PRESETS:
        raise ConfigError(f"{name!r} is no preset any more; the nearest one is 'photo-rela'")
    hint = did_you_mean(name, [*preset_names(), *row_names()])
    if not hint.startswith("did you mean"):
        hint = f"choose from {', '.join(preset_names())}, or a row of a table, which `refseg models` lists"
    raise ConfigError(f"{name!r} is no preset and no row of a table; {hint}")


def preset_names() -> list[str]:
    """The names of all presets, "system-preset"."""
    return [_preset_name(system, key) for system in MODELS.values() for key in system.presets]


def row_names() -> list[str]:
    """The names of all rows of the papers' tables of ablations, "system: table: row"."""
    return [f"{system.name}: {row}" for system in MODELS.values() for row in system.ablations]


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """A configuration as nested plain values with its system: {"system": "rela", ...}."""
    return {"system": _system_of(config).name, **configuration.to_dict(config)}


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """The inverse of `config_to_dict`. Raises `ConfigError` for an unknown system or field."""
    rest = dict(values)
    name = rest.pop("system", None)
    if name not in MODELS:
        raise ConfigError(f"system={name!r} is unknown; {did_you_mean(str(name), list(MODELS))}")
    return configuration.from_dict(MODELS[name].config, rest)


def _plain(name: str) -> str:
    """A row's name as it is compared: without case and without doubled spaces."""
    return " ".join(name.lower().split())


def _preset_name(system: System, key: str) -> str:
    return f"{system.name}-{key}".lower().replace("_", "-")


def _system_of(config: object) -> System:
    for system in MODELS.values():
        if system.configures(config):
            return system
    raise ConfigError(f"{type(config).__name__} is not a configuration of {', '.join(MODELS)}")
