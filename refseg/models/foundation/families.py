"""The networks of transformers that this package asks, and what is known of their published weights. Free of torch.

Licences and gates are facts of the weights' own pages, from memory and not checked here, and so are parameters unless
`counted` says that they are those of transformers' own default configuration. `refseg models NAME --cost` counts what
a repository's config.json says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from refseg.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

__all__ = ["FAMILIES", "Family", "PublishedWeights", "family_of", "supported"]


@dataclass(frozen=True)
class PublishedWeights:
    """Weights on the hub."""

    name: str
    parameters: int | float
    """Millions."""
    licence: str
    gated: bool = False
    """Whether access must be asked for on the repository's page."""
    counted: bool = False
    """Whether the parameters were counted from transformers' default configuration, of what is loaded here."""


@dataclass(frozen=True)
class Family:
    """Networks that one adapter asks."""

    name: str
    title: str
    adapter: str
    """module:class in this folder."""
    networks: Mapping[str, str]
    """`model_type` of a config.json -> module:class in `transformers.models`."""
    says: tuple[str, ...]
    """instances, one mask, boxes, none: what an answer can be without another network."""
    none: str
    """When the answer is none."""
    weights: tuple[PublishedWeights, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `FoundationConfig` that differ from its defaults."""
    segmenter: bool = False
    """Whether it stands behind the + and makes masks of boxes."""
    square: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and standard deviation, 0 to 1, where `placing.Warp` places pictures; else transformers' processor does."""

    def load_adapter(self) -> Callable[..., nn.Module]:
        """The adapter's class."""
        return _find(f"refseg.models.foundation.{self.adapter}")

    def load_network(self, model_type: str) -> type[PreTrainedModel]:
        """The network's class of transformers."""
        return _find(f"transformers.models.{self.networks[model_type]}")


_SCORE = "no instance scores above {}"
_WRITTEN = "nothing that can be read is written, or the mean probability of its tokens is at most {}"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_ASK_QWEN = (
    'Locate every object that is meant by "{}" and output all the bbox coordinates in JSON format. '
    "If there is none, output []."
)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "sam3",
            "SAM 3: all instances of a concept, Carion et al., 2025",
            "sam3:Sam3",
            {"sam3": "sam3.modeling_sam3:Sam3Model", "sam3_video": "sam3.modeling_sam3:Sam3Model"},
            ("instances", "none"),
            _SCORE.format(0.5),
            (PublishedWeights("facebook/sam3", 840, "SAM License", gated=True, counted=True),),
            {"score_threshold": 0.5, "proposal_threshold": 0.3},
            square=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ),
        Family(
            "grounding-dino",
            "Grounding DINO: boxes of phrases, Liu et al., ECCV 2024",
            "grounding_dino:GroundingDino",
            {
                "grounding-dino": "grounding_dino.modeling_grounding_dino:GroundingDinoForObjectDetection",
                "mm-grounding-dino": "mm_grounding_dino.modeling_mm_grounding_dino:MMGroundingDinoForObjectDetection",
            },
            ("boxes", "none"),
            _SCORE.format(0.35),
            (
                PublishedWeights("IDEA-Research/grounding-dino-tiny", 172, "Apache-2.0", counted=True),
                PublishedWeights("IDEA-Research/grounding-dino-base", 233, "Apache-2.0"),
            ),
            {"score_threshold": 0.35, "proposal_threshold": 0.25},
        ),
        Family(
            "owlv2",
            "OWLv2: boxes of an open vocabulary, Minderer et al., NeurIPS 2023",
            "owlv2:Owlv2",
            {"owlv2": "owlv2.modeling_owlv2:Owlv2ForObjectDetection"},
            ("boxes", "none"),
            _SCORE.format(0.1),
            (
                PublishedWeights("google/owlv2-base-patch16-ensemble", 154, "Apache-2.0", counted=True),
                PublishedWeights("google/owlv2-large-patch14-ensemble", 438, "Apache-2.0"),
            ),
            {"score_threshold": 0.1, "proposal_threshold": 0.1},
        ),
        Family(
            "clipseg",
            "CLIPSeg: one map of what a text describes, Lüddecke and Ecker, CVPR 2022",
            "clipseg:ClipSeg",
            {"clipseg": "clipseg.modeling_clipseg:CLIPSegForImageSegmentation"},
            ("one mask",),
            "fewer than 50 pixels pass the mask threshold",
            (PublishedWeights("CIDAS/clipseg-rd64-refined", 151, "Apache-2.0", counted=True),),
        ),
        Family(
            "florence2",
            "Florence-2: outlines in location tokens, Xiao et al., CVPR 2024",
            "florence2:Florence2",
            {"florence2": "florence2.modeling_florence2:Florence2ForConditionalGeneration"},
            ("instances",),
            _WRITTEN.format(0.05),
            (
                PublishedWeights("florence-community/Florence-2-base-ft", 232, "MIT"),
                PublishedWeights("florence-community/Florence-2-large-ft", 771, "MIT"),
            ),
            {
                "prompt": "Locate {} in the image with mask",
                "num_beams": 3,
                "max_new_tokens": 1024,
                "score_threshold": 0.05,
                "proposal_threshold": 0.05,
            },
        ),
        Family(
            "paligemma",
            "PaliGemma 2: boxes in location tokens, Steiner et al., 2024",
            "paligemma:PaliGemma",
            {"paligemma": "paligemma.modeling_paligemma:PaliGemmaForConditionalGeneration"},
            ("boxes",),
            _WRITTEN.format(0.05),
            (
                PublishedWeights("google/paligemma2-3b-mix-448", 3033, "Gemma", gated=True),
                PublishedWeights("google/paligemma2-10b-mix-448", 9662, "Gemma", gated=True),
            ),
            {"prompt": "detect {}", "max_new_tokens": 128, "score_threshold": 0.05, "proposal_threshold": 0.05},
        ),
        Family(
            "qwen-vl",
            "Qwen-VL: boxes in text, Qwen team, 2024 and 2025",
            "qwen_vl:QwenVL",
            {
                "qwen2_vl": "qwen2_vl.modeling_qwen2_vl:Qwen2VLForConditionalGeneration",
                "qwen2_5_vl": "qwen2_5_vl.modeling_qwen2_5_vl:Qwen2_5_VLForConditionalGeneration",
                "qwen3_vl": "qwen3_vl.modeling_qwen3_vl:Qwen3VLForConditionalGeneration",
            },
            ("boxes", "none"),
            _WRITTEN.format(0.05),
            (
                PublishedWeights("Qwen/Qwen2.5-VL-3B-Instruct", 3755, "Qwen Research"),
                PublishedWeights("Qwen/Qwen2.5-VL-7B-Instruct", 8292, "Apache-2.0"),
                PublishedWeights("Qwen/Qwen3-VL-2B-Instruct", 2128, "Apache-2.0"),
            ),
            {"prompt": _ASK_QWEN, "max_new_tokens": 512, "score_threshold": 0.05, "proposal_threshold": 0.05},
        ),
        Family(
            "sam2",
            "SAM 2.1: masks of another network's boxes, Ravi et al., 2024",
            "sam2:Sam2Masks",
            {"sam2": "sam2.modeling_sam2:Sam2Model", "sam2_video": "sam2.modeling_sam2:Sam2Model"},
            (),
            "",
            (
                PublishedWeights("facebook/sam2.1-hiera-tiny", 31, "Apache-2.0", counted=True),
                PublishedWeights("facebook/sam2.1-hiera-small", 46, "Apache-2.0"),
                PublishedWeights("facebook/sam2.1-hiera-base-plus", 81, "Apache-2.0"),
                PublishedWeights("facebook/sam2.1-hiera-large", 224, "Apache-2.0"),
            ),
            segmenter=True,
            square=_IMAGENET,
        ),
        Family(
            "sam",
            "SAM: masks of another network's boxes, Kirillov et al., ICCV 2023",
            "sam2:SamMasks",
            {"sam": "sam.modeling_sam:SamModel"},
            (),
            "",
            (
                PublishedWeights("facebook/sam-vit-base", 94, "Apache-2.0"),
                PublishedWeights("facebook/sam-vit-huge", 641, "Apache-2.0"),
            ),
            segmenter=True,
        ),
    )
}


def family_of(model_type: object) -> Family | None:
    """The family of a config.json's `model_type`; None where it is none of these."""
    return next((family for family in FAMILIES.values() if model_type in family.networks), None)


def supported() -> str:
    """A list of all families for messages."""
    alone = [name for name, family in FAMILIES.items() if not family.segmenter]
    behind = [name for name, family in FAMILIES.items() if family.segmenter]
    return f"{', '.join(alone)}; behind a +: {', '.join(behind)}"


def _find(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"this version of transformers has no {attribute} ({error}); pip install -U transformers"
        ) from error
