"""The systems: one table from name to configuration, presets, ablations and builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from refseg import config as configuration
from refseg.encoders.pretrained import load_backbones, load_word_vectors
from refseg.errors import ConfigError, did_you_mean
from refseg.models.isfp import config as isfp_config
from refseg.models.isfp import model as isfp
from refseg.models.lavt import config as lavt_config
from refseg.models.lavt import model as lavt
from refseg.models.lts import config as lts_config
from refseg.models.lts import model as lts
from refseg.models.m3att import config as m3att_config
from refseg.models.m3att import model as m3att
from refseg.models.reftr import config as reftr_config
from refseg.models.reftr import model as reftr
from refseg.models.rela import config as rela_config
from refseg.models.rela import model as rela
from refseg.models.restr import config as restr_config
from refseg.models.restr import model as restr
from refseg.models.vlt import config as vlt_config
from refseg.models.vlt import model as vlt

__all__ = [
    "MODELS",
    "System",
    "build",
    "config_from_dict",
    "config_to_dict",
    "load_backbones",
    "load_word_vectors",
    "preset",
    "preset_names",
]


@dataclass(frozen=True)
class System:
    """A published system: its config dataclass, the named configurations, and how a model is made of one."""

    name: str
    config: type
    presets: Mapping[str, Any]
    """By upper-case name; the first one is what people should try first."""
    ablations: Mapping[str, Any]
    """Rows of the paper's tables, by table and row."""
    build: Callable[[Any], nn.Module]
    title: str
    """The paper, in one line."""


MODELS: dict[str, System] = {
    "rela": System(
        "rela",
        rela_config.ReLAConfig,
        rela_config.PRESETS,
        rela_config.ABLATIONS,
        rela.build_rela,
        "ReLA: Liu, Ding, Jiang, GRES: Generalized Referring Expression Segmentation, CVPR 2023",
    ),
    "m3att": System(
        "m3att",
        m3att_config.M3AttConfig,
        m3att_config.PRESETS,
        m3att_config.ABLATIONS,
        m3att.build_m3att,
        "M3Att: Liu et al., Multi-Modal Mutual Attention and Iterative Interaction for Referring Image Segmentation, "
        "TIP 2023",
    ),
    "lavt": System(
        "lavt",
        lavt_config.LAVTConfig,
        lavt_config.PRESETS,
        lavt_config.ABLATIONS,
        lavt.build_lavt,
        "LAVT: Yang et al., Language-Aware Vision Transformer for Referring Image Segmentation, CVPR 2022",
    ),
    "vlt": System(
        "vlt",
        vlt_config.VLTConfig,
        vlt_config.PRESETS,
        vlt_config.ABLATIONS,
        vlt.build_vlt,
        "VLT: Ding, Liu, Wang, Jiang, VLT: Vision-Language Transformer and Query Generation for Referring "
        "Segmentation, ICCV 2021 and TPAMI 2022",
    ),
    "reftr": System(
        "reftr",
        reftr_config.RefTRConfig,
        reftr_config.PRESETS,
        reftr_config.ABLATIONS,
        reftr.build_reftr,
        "RefTR: Li, Sigal, Referring Transformer: A One-step Approach to Multi-task Visual Grounding, NeurIPS 2021",
    ),
    "restr": System(
        "restr",
        restr_config.ReSTRConfig,
        restr_config.PRESETS,
        restr_config.ABLATIONS,
        restr.build_restr,
        "ReSTR: Kim et al., Convolution-free Referring Image Segmentation Using Transformers, CVPR 2022",
    ),
    "lts": System(
        "lts",
        lts_config.LTSConfig,
        lts_config.PRESETS,
        lts_config.ABLATIONS,
        lts.build_lts,
        "LTS: Jing et al., Locate then Segment: A Strong Pipeline for Referring Image Segmentation, CVPR 2021",
    ),
    "isfp": System(
        "isfp",
        isfp_config.ISFPConfig,
        isfp_config.PRESETS,
        isfp_config.ABLATIONS,
        isfp.build_isfp,
        "ISFP: Liu, Jiang, Ding, Instance-Specific Feature Propagation for Referring Segmentation, TMM 2022",
    ),
}


def build(config: Any) -> nn.Module:
    """The model of a configuration, with fresh weights and never a download. Raises `ConfigError` for other objects."""
    return _system_of(config).build(config)


def preset(name: str) -> Any:
    """The configuration called "system-preset" ("rela-mini", "rela-camera-ready"). Raises `ConfigError` with the
    nearest names."""
    for system in MODELS.values():
        for key, config in system.presets.items():
            if name.lower().replace("_", "-") == _preset_name(system, key):
                return config
    raise ConfigError(f"{name!r} is no preset; {did_you_mean(name, preset_names())}")


def preset_names() -> list[str]:
    """Every name that `preset` takes."""
    return [_preset_name(system, key) for system in MODELS.values() for key in system.presets]


def config_to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested plain values with its system: {"system": "rela", ...}."""
    return {"system": _system_of(config).name, **configuration.to_dict(config)}


def config_from_dict(values: Mapping[str, Any]) -> Any:
    """The inverse of `config_to_dict`. Raises `ConfigError` for an unknown system or field."""
    rest = dict(values)
    name = rest.pop("system", None)
    if name not in MODELS:
        raise ConfigError(f"system={name!r} is unknown; {did_you_mean(str(name), list(MODELS))}")
    return configuration.from_dict(MODELS[name].config, rest)


def _preset_name(system: System, key: str) -> str:
    return f"{system.name}-{key}".lower().replace("_", "-")


def _system_of(config: Any) -> System:
    for system in MODELS.values():
        if type(config) is system.config:
            return system
    raise ConfigError(f"{type(config).__name__} is not a configuration of {', '.join(MODELS)}")
