"""Numbers out of bounds and settings that exclude each other are errors that name the field, in every system."""

from __future__ import annotations

import typing
from dataclasses import replace
from typing import Any

import pytest

from refseg.encoders.text.clip import ClipTextConfig
from refseg.encoders.vision.clip_resnet import ClipResNetConfig
from refseg.errors import ConfigError
from refseg.models import MODELS, preset
from refseg.models.cris.config import OFFICIAL as CRIS
from refseg.models.cris.config import VLDecoderConfig
from refseg.models.isfp.config import BranchConfig, ISFPLosses, RefinementConfig
from refseg.models.lavt.config import LAVTLosses
from refseg.models.lts.config import LocatorConfig
from refseg.models.m3att.config import MaskDecoderConfig as M3AttMasks
from refseg.models.m3att.config import MutualAttentionConfig, MutualDecoderConfig
from refseg.models.photo.config import PhotoConfig
from refseg.models.reftr.config import RefTRLosses
from refseg.models.rela.regions import RegionDecoderConfig
from refseg.models.rela.relations import ParallelRLAConfig
from refseg.models.restr.config import DecoderConfig, FusionConfig
from refseg.models.vlt.config import InterSampleConfig, MaskDecoderConfig, QueryConfig, TransformerConfig
from refseg.nn.aspp import SegmentationConfig
from tests.support.contract import leaf_fields, put

ALL = [(system, name) for system in MODELS for name in MODELS[system].presets]
SIGNED = ("slope", "refine_threshold", "decoder.interaction_weight")
"""Numbers that may be negative."""


def refusal(config: Any, field: str, value: Any) -> str:
    """What the error says to a configuration with one field changed; "" where there is none."""
    try:
        put(config, field, value)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("system", "name"), ALL, ids=[f"{system}-{name}" for system, name in ALL])
def test_no_size_rate_or_weight_is_negative(system: str, name: str) -> None:
    """Each number of a preset is put below 0 by itself."""
    config: Any = MODELS[system].presets[name]
    taken = []
    for field in leaf_fields(config):
        *parents, last = field.split(".")
        owner: Any = config
        for part in parents:
            owner = getattr(owner, part)
        value = getattr(owner, last)
        chosen = typing.get_origin(typing.get_type_hints(type(owner))[last]) is typing.Literal
        if chosen or isinstance(value, bool) or not isinstance(value, (int, float)) or field.endswith(SIGNED):
            continue
        said = refusal(config, field, type(value)(-1))
        if last not in said:
            taken.append(f"{field}: {said}")
    assert not taken


RELA, LAVT, ISFP, LTS, M3ATT = (preset(f"{name}-paper") for name in ("rela", "lavt", "isfp", "lts", "m3att"))
RESTR, REFTR, MATTNET, VLT = (preset(f"{name}-paper") for name in ("restr", "reftr", "mattnet", "vlt"))
WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (preset("rela-mini"), {"language_in_vision": True}, "Swin"),
    (RELA, {"width": 30}, "multiple of 4"),
    (ParallelRLAConfig(), {"language_attention": False}, "expression"),
    (LAVT, {"width": 0}, "width=0"),
    (LAVT, {"norm": "group", "groups": 7}, "groups=7"),
    (LAVTLosses(), {"background": 0.0}, "background"),
    (ISFP, {"grid": 1}, "grid=1"),
    (ISFP, {"identify": False, "answer": "union"}, "no cells to unite"),
    (ISFP, {"cell_threshold": 1.0}, "cell_threshold=1"),
    (ISFPLosses(), {"refine_threshold": 1.0}, "refine_threshold=1"),
    (RefinementConfig(), {"output_stride": 3}, "output_stride=3"),
    (BranchConfig(), {"rates": (0,)}, "rates"),
    (LTS, {"fusion": False, "locator": LocatorConfig(kind="none")}, "nothing would see the expression"),
    (LTS, {"width": 30}, "width=30"),
    (LTS, {"locator": LocatorConfig(kind="transformer", heads=3)}, r"locator\.heads=3"),
    (LocatorConfig(), {"times": 0}, "times"),
    (LocatorConfig(), {"dropout": 1.0}, "dropout=1"),
    (SegmentationConfig(), {"rates": ()}, "rates"),
    (M3ATT, {"stride": 8}, "stride=8: VLT"),
    (M3ATT, {"mask_decoder": M3AttMasks(convs=3)}, "3 doublings"),
    (M3ATT, {"decoder": MutualDecoderConfig(attention=MutualAttentionConfig(heads=3))}, r"decoder\.attention\.heads=3"),
    (M3ATT, {"heads": 7}, "heads=7 does not divide width=256"),
    (M3ATT, {"width": 30}, "multiple of 4"),
    (M3AttMasks(), {"output_stride": 3}, "power of 2"),
    (MutualDecoderConfig(), {"layers": 0}, "layers=0"),
    (MutualDecoderConfig(), {"attention": MutualAttentionConfig("vision_attended"), "requery": False}, "requery=false"),
    (RESTR, {"patch": 8}, r"patch=8 must be vision\.patch=16"),
    (RESTR, {"decoder": DecoderConfig(output_stride=16)}, "output_stride=16"),
    (preset("restr-mini-resnet"), {"patch": 12}, "strides"),
    (FusionConfig(), {"layers": 3}, "even"),
    (DecoderConfig(), {"output_stride": 3}, "power of 2"),
    (REFTR, {"width": 40}, "multiple of 16"),
    (REFTR, {"heads": 3}, "heads=3"),
    (REFTR, {"queries": 0}, "queries=0"),
    (REFTR, {"mask_prior": 0.0}, "mask_prior"),
    (REFTR, {"text_positions": 30}, "text_positions"),
    (REFTR, {"tasks": "rec", "losses": RefTRLosses(consistency=1.0)}, "tasks = both"),
    (RefTRLosses(), {"focal_alpha": 1.0}, "focal_alpha"),
    (VLT, {"width": 30}, "width"),
    (VLT, {"queries": QueryConfig("learnt")}, r"inter_sample\.kind"),
    (VLT, {"mask_decoder": RegionDecoderConfig()}, r"inter_sample\.kind"),
    (VLT, {"mask_decoder": MaskDecoderConfig(output_stride=1)}, "output_stride"),
    (preset("vlt-official"), {"stride": 8}, "stride"),
    (preset("vlt-official"), {"tags": ("red",)}, "tags"),
    (preset("vlt-mini"), {"mask_decoder": MaskDecoderConfig(output_stride=16)}, r"mask_decoder\.output_stride"),
    (QueryConfig(), {"number": 33}, "number=33"),
    (MaskDecoderConfig(), {"output_stride": 3}, "output_stride=3"),
    (InterSampleConfig(), {"temperature": 0.0}, "temperature"),
    (TransformerConfig(), {"dropout": 1.0}, "dropout=1"),
    (MATTNET, {"attributes": ("red",), "subject_attributes": False}, "attributes"),
    (MATTNET, {"attributes": ("red",), "attribute_counts": (1, 2)}, "attribute_counts: 2 numbers for 1"),
    (MATTNET, {"attributes": ("red",), "regions": "detected"}, "annotated"),
    (MATTNET, {"modular": False}, "modular=false"),
    (MATTNET, {"neighbors": 0}, "neighbors"),
    (CRIS, {"kernel": 2}, "kernel=2: an odd side"),
    (CRIS, {"width": 30}, "width=30"),
    (CRIS, {"decoder": VLDecoderConfig(heads=7)}, "heads=7"),
    (CRIS, {"norm": "group", "groups": 7}, "groups=7"),
    (ClipResNetConfig(), {"width": 5}, "width=5"),
    (ClipResNetConfig(), {"heads": 7}, "heads=7"),
    (ClipTextConfig(), {"family": "siglip"}, "family='siglip'"),
    (ClipTextConfig(), {"max_words": 78}, "max_words=78"),
    (PhotoConfig(), {"width": 30}, "width=30"),
    (PhotoConfig(), {"mask_units": 0}, "mask_units"),
    (PhotoConfig(), {"mask_scale": 0.0}, "0.0"),
]
"""A configuration, fields that cannot stand beside its others, and what the error says."""


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    WRONG,
    ids=[f"{type(config).__name__}: {'+'.join(changes)}" for config, changes, _ in WRONG],
)
def test_settings_that_cannot_be_say_so(config: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(config, **changes)
