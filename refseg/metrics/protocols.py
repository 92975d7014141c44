"""Named ways of scoring: published work prints "IoU" for different things, so a number here carries its protocol.

`PROTOCOLS` holds one frozen `Protocol` a source. Rules of comparison (empty unions, gating, strictness, means) act in
`refseg.metrics.referring`; rules of making a mask (threshold, resolution, resampling) act in
`refseg.evaluation.evaluate`, where
there are probabilities to cut. Metrics are fractions, 0 to 1, whatever unit the source prints.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from refseg.errors import ConfigError, did_you_mean
from refseg.plugins import Table

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)

# The levels that numpy.arange(0.5, 1, 0.05) and torch.arange(0.5, 1.0, 0.1) hold: not the decimal numbers they print
# as, which matters where an IoU falls on a level.
_NUMPY_LEVELS = tuple(float(value) for value in np.arange(0.5, 1, 0.05)[::2])
_FLOAT32_LEVELS = tuple(float(np.float32(value)) for value in LEVELS)


@dataclass(frozen=True)
class Protocol:
    """How predictions become numbers.

    name, title, source: what it is called, in words, and the paper or code (with commit) that it reproduces.
    task: what is compared: "masks", "boxes" (all of an expression, GREC), "box" (the best one, REC), "phrases" (the
        best ones of a caption's phrases, Flickr30k Entities) or "video" (DAVIS).
    headline: the metric that the source prints first.

    Making a mask from probabilities:
    threshold: a pixel is foreground when its probability is above this; with `inclusive` also when equal.
    resolution: where masks are compared: "original" (the picture's size) or "input" (the network's, without padding).
    target: how a target comes to the input's size: "polygons" (outlines scaled, then filled) or "nearest" (resized).
    interpolation: how the network's map is enlarged; "bicubic" is CRIS's chain of two (corner-aligned to the input's
        size, then cv2's pixel-index affine map to the picture).
    resized: what is enlarged, "logits" or "probabilities".

    Which expressions, and what saying "none" does:
    sentences: "all", or "with_target" (expressions that mean nothing in the picture are left out).
    no_target_rule: who says none: "answer" (the prediction's own flag; where it has none, an empty mask) or "pixels"
        (fewer than `minimum_pixels` foreground pixels, and nothing else).
    no_target_threshold: a network's flag is raised when its no-target probability is above this.
    minimum_pixels: see `no_target_rule`.
    gating: what that decision does where there is a target: "mask" (the mask is cleared), "intersection" (the
        intersection is 0, the union of the uncleared mask stays) or "none" (nothing).
    no_target: the value of an expression without target: "decision" (1 when none is said and the mask is then ignored,
    else
        0 and the mask's area enters the cumulative union) or "iou" (the IoU with the empty mask, after gating).

    Counting:
    empty_union: IoU of two empty masks.
    numerator_smoothing, denominator_smoothing: added inside every IoU.
    mean_smoothing: added to the number of expressions under gIoU and mIoU.
    cumulative_smoothing: added to the union sum under cIoU.
    precision_levels: X of Pr@X; strict: Pr@X, and the recall of phrases, wants IoU > X rather than IoU >= X.
    accuracy_without_no_target: N_acc and T_acc where no expression is without target; None computes T_acc and leaves
        N_acc undefined.
    score_threshold, box_overlap, overlap_level: GREC: a box is kept from this score on; boxes are matched by
        "generalized" or "plain" IoU, at least this much.
    phrase_boxes: targets of several boxes, of a phrase or under REC: "any" of them, or the one box around them,
        "merged", is to be found.
    skipped_frames: video: frames left out at the start and the end of a clip; boundary_tolerance: of the diagonal.
    objects: video: masks of one annotator's expressions about a video stay "apart", or are "merged": a pixel belongs to
        the one with the largest probability above the threshold.
    match_objects: video: each target is compared with the best answer to any of that annotator's expressions.
    average: video: over all "expressions", or over "annotators", whose expressions are averaged before.
    """

    name: str
    title: str
    source: str
    task: Literal["masks", "boxes", "box", "phrases", "video"] = "masks"
    headline: str = "cIoU"
    threshold: float = 0.5
    inclusive: bool = False
    resolution: Literal["original", "input"] = "original"
    target: Literal["polygons", "nearest"] = "nearest"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    resized: Literal["logits", "probabilities"] = "logits"
    sentences: Literal["all", "with_target"] = "all"
    no_target_rule: Literal["answer", "pixels"] = "answer"
    no_target_threshold: float = 0.5
    minimum_pixels: int = 1
    gating: Literal["mask", "intersection", "none"] = "none"
    no_target: Literal["decision", "iou"] = "iou"
    empty_union: float = 0.0
    numerator_smoothing: float = 0.0
    denominator_smoothing: float = 0.0
    mean_smoothing: float = 0.0
    cumulative_smoothing: float = 0.0
    precision_levels: tuple[float, ...] = LEVELS
    strict: bool = False
    accuracy_without_no_target: float | None = None
    score_threshold: float = 0.0
    box_overlap: Literal["generalized", "plain"] = "plain"
    overlap_level: float = 0.5
    phrase_boxes: Literal["any", "merged"] = "any"
    skipped_frames: tuple[int, int] = (0, 0)
    boundary_tolerance: float = 0.008
    objects: Literal["apart", "merged"] = "apart"
    match_objects: bool = False
    average: Literal["expressions", "annotators"] = "expressions"

    def __post_init__(self) -> None:
        for name in ("threshold", "no_target_threshold", "score_threshold"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"protocol {self.name}: {name} lies between 0 and 1, not {getattr(self, name)}")
        if self.minimum_pixels < 0 or min(self.skipped_frames) < 0:
            raise ConfigError(f"protocol {self.name}: minimum_pixels and skipped_frames cannot be negative")
        if self.empty_union not in (0.0, 1.0):
            raise ConfigError(f"protocol {self.name}: the IoU of two empty masks is 0 or 1, not {self.empty_union}")
        if not all(0.0 < level <= 1.0 for level in self.precision_levels):
            raise ConfigError(f"protocol {self.name}: precision_levels lie in 0 to 1, not {self.precision_levels}")

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain JSON values, and the unit of the metrics."""
        values = asdict(self)
        values["precision_levels"] = list(self.precision_levels)
        values["skipped_frames"] = list(self.skipped_frames)
        return {**values, "units": "fractions, 0 to 1"}

    def same_masks(self, other: Protocol) -> bool:
        """Whether predictions made for `other` are the ones that this protocol wants (only the counting differs)."""
        names = ("task", "threshold", "inclusive", "resolution", "interpolation", "resized", "objects")
        return all(getattr(self, name) == getattr(other, name) for name in names)


_RELA = {
    "headline": "gIoU",
    "resolution": "input",
    "target": "polygons",
    "no_target": "decision",
    "accuracy_without_no_target": 0.0,
}

_MCN = {
    "headline": "mIoU",
    "threshold": 0.35,
    "resized": "probabilities",
    "empty_union": 1.0,
    "numerator_smoothing": 1e-10,
    "denominator_smoothing": 1e-10,
    "precision_levels": _NUMPY_LEVELS,
    "strict": True,
}

_VIDEO = {"task": "video", "headline": "J&F", "empty_union": 1.0, "gating": "mask"}

_TABLE = (
    Protocol(
        "native",
        "this package's own: what a person gets, at the picture's size",
        "refseg",
        headline="gIoU",
        gating="mask",
        empty_union=1.0,
    ),
    Protocol(
        "rela",
        "GRES as ReLA's published code scores it",
        "Liu, Ding, Jiang: GRES, CVPR 2023; henghuiding/ReLA main@3ca9551, gres_model/evaluation/refer_evaluation.py",
        gating="intersection",
        **_RELA,  # type: ignore[arg-type]
    ),
    Protocol(
        "rela-50px",
        "GRES with the paper's rule: fewer than 50 foreground pixels are an empty mask and say none",
        "Liu, Ding, Jiang: GRES, CVPR 2023, section 5.3 (the rule is in no published code); counting as rela",
        no_target_rule="pixels",
        minimum_pixels=50,
        gating="mask",
        **_RELA,  # type: ignore[arg-type]
    ),
    Protocol(
        "lavt",
        "LAVT: at 480 x 480 warped, cumulative",
        "Yang et al.: LAVT, CVPR 2022; yz93/LAVT-RIS@066bcf2, test.py and transforms.py",
        headline="cIoU",
        resolution="input",
    ),
    Protocol(
        "cris",
        "CRIS: threshold 0.35 on bicubically enlarged probabilities, mean",
        "Wang et al.: CRIS, CVPR 2022; DerrickWang005/CRIS.pytorch@5a23df6, engine/engine.py",
        headline="mIoU",
        threshold=0.35,
        interpolation="bicubic",
        resized="probabilities",
        denominator_smoothing=1e-6,
        precision_levels=_FLOAT32_LEVELS,
        strict=True,
    ),
    Protocol(
        "vlt",
        "VLT: threshold 0.35 at the picture's size, mean",
        "Ding et al.: VLT, ICCV 2021; henghuiding/Vision-Language-Transformer@9b24015, callbacks/eval.py",
        **_MCN,  # type: ignore[arg-type]
    ),
    Protocol(
        "mcn",
        "MCN: threshold 0.35 at the picture's size, mean (the mask after the system's own suppression by its box)",
        "Luo et al.: MCN, CVPR 2020; luogen1996/MCN@66b6988, callbacks/eval.py",
        **_MCN,  # type: ignore[arg-type]
    ),
    Protocol(
        "reftr",
        "RefTR: at the resized picture (longest side 640), mean; box accuracy over 0.5",
        "Li, Sigal: Referring Transformer, NeurIPS 2021; ubc-vision/RefTR@f31b28b, engine_vg.py and util/box_ops.py",
        headline="mIoU",
        resolution="input",
        strict=True,
    ),
    Protocol(
        "restr",
        "ReSTR: at the picture's size, cumulative (a logit of exactly 0 is background)",
        "Kim et al.: ReSTR, CVPR 2022; SouthFlame/restr@371f102, eval/evaluate.py",
        headline="cIoU",
    ),
    Protocol(
        "lts",
        "LTS: threshold 0.25 at the picture's size, mean (no published code: the counting is MCN's)",
        "Jing et al.: Locate then Segment, CVPR 2021",
        **{**_MCN, "threshold": 0.25},  # type: ignore[arg-type]
    ),
    Protocol(
        "gsva",
        "GSVA on gRefCOCO: at the picture's size; the [REJ] token is the no-target decision and clears no mask",
        "Xia et al.: GSVA, CVPR 2024; LeapLabTHU/GSVA@a1af9b2, solver.py, eval_gres",
        headline="gIoU",
        inclusive=True,
        no_target="decision",
        denominator_smoothing=1e-8,
        mean_smoothing=1e-5,
        cumulative_smoothing=1e-10,
    ),
    Protocol(
        "lisa",
        "LISA: at the picture's size, gIoU is the plain mean, an empty union counts 1",
        "Lai et al.: LISA, CVPR 2024; dvlab-research/LISA@2261509, train_ds.py, validate",
        headline="cIoU",
        empty_union=1.0,
        denominator_smoothing=1e-5,
        mean_smoothing=1e-5,
        cumulative_smoothing=1e-10,
    ),
    Protocol(
        "grec",
        "GREC: share of expressions whose boxes are all right (F1 = 1 at 0.5), as published: by generalized IoU",
        "He et al.: GREC, 2023; henghuiding/gRefCOCO, the MDETR evaluator",
        task="boxes",
        headline="F1",
        score_threshold=0.7,
        box_overlap="generalized",
        accuracy_without_no_target=0.0,
    ),
    Protocol(
        "rec",
        "REC: share of expressions whose one box has IoU > 0.5 with the target's (the box around several); of a system "
        "that gives masks alone, the box around its mask",
        "Yu et al.: MAttNet, CVPR 2018; Li, Sigal: Referring Transformer, NeurIPS 2021, section 4.3",
        task="box",
        headline="Acc@0.5",
        strict=True,
        phrase_boxes="merged",
    ),
    Protocol(
        "flickr30k",
        "Flickr30k Entities: share of phrases of which one of the k best boxes has IoU >= 0.5 with any of their boxes",
        "Kamath et al.: MDETR, ICCV 2021, any-box",
        task="phrases",
        headline="Recall@1",
        box_overlap="plain",
    ),
    Protocol(
        "flickr30k-merged",
        "the same with the one box around all of a phrase's boxes, IoU > 0.5",
        "Plummer et al.: Flickr30k Entities, IJCV 2017; Li, Sigal: Referring Transformer, NeurIPS 2021, its code",
        task="phrases",
        headline="Recall@1",
        box_overlap="plain",
        strict=True,
        phrase_boxes="merged",
    ),
    Protocol(
        "davis",
        "DAVIS: region similarity J and contour accuracy F, first and last frame left out, the mean over annotators; "
        "an annotator's objects are merged",
        "Perazzi et al.: DAVIS, CVPR 2016; davisvideochallenge/davis2017-evaluation@30b698a, semi-supervised",
        skipped_frames=(1, 1),
        objects="merged",
        average="annotators",
        **_VIDEO,  # type: ignore[arg-type]
    ),
    Protocol(
        "ref-davis17",
        "Ref-DAVIS17 as ReferFormer's code has it scored: every frame, each object against the answer that fits it "
        "best, the mean over annotators; an annotator's objects are merged",
        "Wu et al.: ReferFormer, CVPR 2022; wjn922/ReferFormer@9a2d4f6, inference_davis.py and eval_davis.py; "
        "davisvideochallenge/davis2017-evaluation@30b698a, unsupervised",
        objects="merged",
        match_objects=True,
        average="annotators",
        **_VIDEO,  # type: ignore[arg-type]
    ),
    Protocol(
        "youtube-vos",
        "Ref-YouTube-VOS: J and F over every annotated frame, the mean over expressions (the server's code is not "
        "public)",
        "Seo et al.: URVOS, ECCV 2020",
        **_VIDEO,  # type: ignore[arg-type]
    ),
    Protocol(
        "mevis",
        "MeViS: J and F over every frame, the mean over expressions; nothing in both masks counts 1",
        "Ding et al.: MeViS, ICCV 2023; henghuiding/MeViS@7869f22, tools/eval_mevis.py",
        **_VIDEO,  # type: ignore[arg-type]
    ),
)

PROTOCOLS: dict[str, Protocol] = Table(
    {protocol.name: protocol for protocol in _TABLE}, "refseg.protocols", lambda thing: isinstance(thing, Protocol)
)
"""The protocols by name: those above, and those of other packages (`refseg.plugins`)."""


def get_protocol(protocol: str | Protocol) -> Protocol:
    """The protocol of that name (a `Protocol` passes through). Raises `ConfigError` for an unknown name."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ConfigError(f"{protocol!r} is not a protocol; {did_you_mean(str(protocol), list(PROTOCOLS))}")
    return PROTOCOLS[protocol]
