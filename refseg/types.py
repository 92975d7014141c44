"""The central types: what travels between the rooms of the package.

Masks are True where something is real: a real word, a real pixel (not padding), a target's pixel. Letters in the
shapes: B expressions, N images (N = B unless `Batch.image_index` says which expression asks about which image), L word
slots, H W the network's input size, h w the size of a feature map, C channels, P phrases of one expression, K predicted
instances of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from refseg.geometry import Geometry, InputConfig

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "Batch",
    "ContrastNeeds",
    "Geometry",
    "InstancePredictions",
    "ModelConfig",
    "NamedMap",
    "Needs",
    "Output",
    "Panels",
    "Phrases",
    "ReadsPictures",
    "ReferringModel",
    "Regions",
    "SystemConfig",
    "Targets",
    "TextConfig",
    "TextEncoder",
    "TextFeatures",
    "TextModelConfig",
    "Tokens",
    "VisionEncoder",
    "VisualFeatures",
]

M = TypeVar("M", bound="_Movable")
State = TypeVar("State")
"""What a model's `encode_image` makes of images and its `decode` takes."""
State_co = TypeVar("State_co", covariant=True)

VisualFeatures: TypeAlias = dict[int, Tensor]
"""Feature maps by stride: {4: "N C h w", 8: ...}."""


class _Movable:
    """Adds `.to(device)` to a dataclass whose fields are tensors, such dataclasses, dicts of them, or anything else."""

    def to(self: M, device: torch.device | str) -> M:
        """The same object with every tensor on `device`."""
        values = {item.name: _move(getattr(self, item.name), device) for item in fields(self)}  # type: ignore[arg-type]
        return type(self)(**values)


def _move(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, (Tensor, _Movable)):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _move(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_move(item, device) for item in value)
    return value


@dataclass(frozen=True)
class Tokens(_Movable):
    """Expressions as vocabulary numbers; `mask` is True on real words."""

    ids: Int[Tensor, "B L"]
    mask: Bool[Tensor, "B L"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Phrases(_Movable):
    """Up to P phrases of each expression, tokenised on their own, and where each stands in the expression's tokens.

    `mask` is True where a phrase is real; `start` and `stop` (exclusive) are token bounds inside the expression.
    """

    ids: Int[Tensor, "B P K"]
    word_mask: Bool[Tensor, "B P K"]
    start: Int[Tensor, "B P"]
    stop: Int[Tensor, "B P"]
    mask: Bool[Tensor, "B P"]


@dataclass(frozen=True)
class Regions(_Movable):
    """Things of each of N images that a two-stage model is to choose among, in place of those that it would propose
    itself: annotated ones, or another detector's. R of them, varying, an entry an image in each list.
    """

    boxes: list[Tensor]
    """"R 4" each, x0 y0 x1 y1, 0 to 1 of the image without padding."""
    labels: list[list[str]]
    """R class names each; equal names are one class."""
    attributes: list[list[tuple[str, ...]]] | None = None
    """Words that hold of each besides its class, where the data tell."""
    masks: list[Tensor] | None = None
    """"R H W" each, bool, at the network's input size; without, the model makes them."""
    cells: list[Tensor] | None = None
    """"R G C" each: what frozen maps say in G cells of each, where training has it from a cache
    (`data.feature_cache`)."""

    def select(self, images: Sequence[int]) -> Regions:
        """Those of the images with these numbers, which may repeat."""
        return Regions(
            [self.boxes[image] for image in images],
            [self.labels[image] for image in images],
            None if self.attributes is None else [self.attributes[image] for image in images],
            None if self.masks is None else [self.masks[image] for image in images],
            None if self.cells is None else [self.cells[image] for image in images],
        )


@dataclass(frozen=True)
class Batch(_Movable):
    """A model's input: normalised images, which of their pixels are real, and expressions.

    `image_index[b]` is the image of expression b, so that one image with many expressions is stored and encoded once;
    None means that expression b belongs to image b.
    """

    images: Float[Tensor, "N 3 H W"]
    pixel_mask: Bool[Tensor, "N H W"]
    tokens: Tokens
    phrases: Phrases | None = None
    image_index: Int[Tensor, " B"] | None = None
    regions: Regions | None = None
    """For models that choose among given things; others never look at it."""
    features: VisualFeatures | None = None
    """The images' maps by a frozen vision encoder, where training has them from a cache (`data.feature_cache`)."""
    frames: int = 1
    """Of clips: images come in runs of so many successive frames of one clip, and expressions in runs of as many, one
    expression about each frame of a run of images. Models that know nothing of clips answer frame by frame."""

    def expanded(self) -> Batch:
        """The same batch with one image an expression (for models that fuse language into the vision encoder)."""
        if self.image_index is None:
            return self
        regions = None if self.regions is None else self.regions.select(self.image_index.tolist())
        images, pixel_mask = self.images[self.image_index], self.pixel_mask[self.image_index]
        return Batch(images, pixel_mask, self.tokens, self.phrases, regions=regions, frames=self.frames)


@dataclass(frozen=True)
class Targets(_Movable):
    """The union of an expression's targets at the network's input size, and whether there is none.

    `boxes` are cxcywh, 0 to 1 of the image without padding (RefTR: one a phrase). `instances[b]` holds the targets'
    masks one by one, or one a phrase, "K H W". `tags` says of each image at stride 4 where each of T words holds. The
    three, and `groups`, are None unless the model's `Needs` name them.
    """

    masks: Bool[Tensor, "B H W"]
    no_target: Bool[Tensor, " B"]
    boxes: Float[Tensor, "B P 4"] | None = None
    instances: list[Tensor] | None = None
    tags: Bool[Tensor, "N T h w"] | None = None
    groups: Int[Tensor, "B 2"] | None = None
    """For losses between expressions: a number for the targets, equal for expressions about the same ones (each
    expression without target has its own), and a number for the image."""
    initial_weight: float = 1.0
    """Weight of losses about the batch's initial sample alone, the first: where a batch is computed in pieces, of which
    one holds it, their number there and 0 in the others, so that the mean over the pieces is the whole batch's loss."""


@dataclass(frozen=True)
class TextFeatures(_Movable):
    """One vector a word, one an expression, and which words are real."""

    words: Float[Tensor, "B L C"]
    sentence: Float[Tensor, "B D"]
    """D is C but where the encoder leads sentences into a space of their own (`refseg.encoders.text.clip`)."""
    mask: Bool[Tensor, "B L"]
    concepts: Float[Tensor, "B K"] | None = None
    """The expression's share in each of K named concepts (classes, tags, colours), where the encoder has such shares:
    the sum of its words'."""
    word_concepts: Float[Tensor, "B L K"] | None = None
    """Each word's share in them; 0 for padding."""

    def select(self, rows: Int[Tensor, " S"]) -> TextFeatures:
        """The features of the expressions with these numbers, which may repeat."""
        concepts, word_concepts = self.concepts, self.word_concepts
        return TextFeatures(
            self.words[rows],
            self.sentence[rows],
            self.mask[rows],
            None if concepts is None else concepts[rows],
            None if word_concepts is None else word_concepts[rows],
        )


@dataclass(frozen=True)
class InstancePredictions(_Movable):
    """The instances that a model chose, apart: one entry an expression in each list, K of them varying."""

    boxes: list[Tensor]
    """"K 4" each, cxcywh, 0 to 1 of the image without padding."""
    scores: list[Tensor]
    """" K" each, 0 to 1."""
    mask_logits: list[Tensor]
    """"K h w" each; above 0 is foreground."""
    labels: list[list[str]] | None = None
    """K class names each, where the model tells classes."""


@dataclass(frozen=True)
class Panels(_Movable):
    """K pictures of one expression that belong to one `NamedMap`."""

    values: Tensor
    """By the map's kind. "pixels": (K, h, w) over the network's input with its padding; "words": (K, L) over the
    expression's tokens; "bars" and "boxes": (K,)."""
    names: tuple[str, ...] = ()
    """K names; none where panel k is about the expression's token k."""
    weights: Float[Tensor, " K"] | None = None
    """How much each counts in the answer, so that the heaviest are shown; None where their order says it."""
    boxes: Float[Tensor, "K 4"] | None = None
    """Of kind "boxes": cxcywh, 0 to 1 of the image without padding."""


@dataclass(frozen=True)
class NamedMap:
    """What a system made of expression and image on the way to its answer: a figure of its paper, before it is drawn.

    Nothing is computed before `read` is called, so that a map costs an answer nothing.
    """

    title: str
    """In words, with the paper's symbol."""
    kind: Literal["pixels", "words", "bars", "boxes"]
    read: Callable[[int], Panels]
    """The panels of expression b of the output's B."""
    scale: Literal["share", "probability", "logit"] = "share"
    """How values are shown: shares against the largest of their panel, probabilities as they are, logits and scores
    between the lowest and the highest of their panel."""


@dataclass(frozen=True)
class Output(_Movable):
    """A system's answer, the same in training and in evaluation.

    `mask_logits` above 0 are foreground, `no_target_logits` above 0 say that there is no target. `boxes` are cxcywh,
    0 to 1 of the image without padding.
    """

    mask_logits: Float[Tensor, "B h w"]
    no_target_logits: Float[Tensor, " B"] | None = None
    boxes: Float[Tensor, "B P 4"] | None = None
    auxiliary: dict[str, Any] = field(default_factory=dict)
    """What one system alone has and its losses or its documentation name: minimap logits, grids, the predictions of
    earlier layers."""
    instances: InstancePredictions | None = None
    attention_maps: dict[str, Tensor] = field(default_factory=dict)
    """Attention by what is attended: "words" (B, ..., L), "pixels" (B, ..., h, w), rows summing to 1 unless the system
    says otherwise."""
    location_logits: Float[Tensor, "B u v"] | None = None
    """The map in which a model locates the target before it segments it (LTS); pointing accuracy takes its maximum."""
    remarks: list[list[str]] | None = None
    """B lists of sentences on an expression's words and the answer, for whoever asked; mostly empty."""
    used_words: list[list[str]] | None = None
    """The words that each answer rests on, in order, where a system can tell."""
    phrase_mask_logits: Float[Tensor, "B P h w"] | None = None
    """A mask for each of `Batch.phrases`, where the system reads them (`Needs.reads_phrases`); `boxes` are then theirs,
    and `mask_logits` the largest over an expression's phrases."""
    maps: dict[str, NamedMap] = field(default_factory=dict)
    """What can be shown of the way to the answer, by name; `refseg explain` draws all of them."""


@dataclass(frozen=True)
class ContrastNeeds:
    """How training composes batches for a loss between expressions (VLT, section 4.2.5 of the thesis)."""

    compose: bool
    """An initial sample, others about its targets, others about its image, and the rest from other images; otherwise
    batches are the recipe's."""
    same_object: int
    """At most so many further expressions about the initial sample's targets."""
    other_object: float
    """At most so many expressions about other objects of its image, as a share of the batch, 0 to 1."""
    frames: int
    """Of a video: how many frames before and after count as its image for those."""


@dataclass(frozen=True)
class Needs:
    """What a model's losses want beside masks and no-target labels; training loads these and nothing more."""

    boxes: bool = False
    """`Targets.boxes`, one around all targets of an expression."""
    instances: bool = False
    """`Targets.instances`."""
    phrases: int = 0
    """`Batch.phrases`, up to so many an expression, with a box each; 0 has none."""
    tags: tuple[str, ...] = ()
    """`Targets.tags` for these words."""
    contrast: ContrastNeeds | None = None
    """`Targets.groups`, and batches composed for them."""
    regions: bool = False
    """`Batch.regions`: the annotated things of each image."""
    reads_phrases: bool = False
    """Whether answers take `Batch.phrases`, and `decode` the argument `phrases`: several phrases of an expression at
    once, each with its box and mask. Other systems are asked each phrase as an expression of its own."""
    reads_pictures: bool = False
    """Whether `encode_image` also takes the original pictures (`ReadsPictures`)."""


@runtime_checkable
class VisionEncoder(Protocol):
    """A module from normalised images to feature maps by stride."""

    channels: dict[int, int]
    """Stride -> channels of the map."""

    def __call__(self, images: Float[Tensor, "N 3 H W"], /) -> VisualFeatures:
        """{stride: map}."""


@runtime_checkable
class TextEncoder(Protocol):
    """A module from tokens to text features."""

    width: int
    """Channels of a word and of the sentence."""

    def __call__(self, tokens: Tokens, /) -> TextFeatures:
        """One vector a word and one a sentence."""


@runtime_checkable
class ModelConfig(Protocol):
    """What every system's frozen configuration has; the rest is the system's own."""

    @property
    def input(self) -> InputConfig:
        """How an image becomes the network's input."""
        ...


@runtime_checkable
class SystemConfig(ModelConfig, Protocol):
    """A configuration that also says what the system's training and answering want."""

    @property
    def needs(self) -> Needs:
        """See `Needs`."""
        ...


@runtime_checkable
class TextConfig(Protocol):
    """What the configuration of every text encoder that reads a tokenizer's words has."""

    @property
    def max_words(self) -> int:
        """Words or pieces of an expression that are read."""
        ...


@runtime_checkable
class TextModelConfig(ModelConfig, Protocol):
    """The configuration of a system with a text encoder of its own."""

    @property
    def text(self) -> TextConfig:
        """The text encoder's configuration."""
        ...


@runtime_checkable
class ReferringModel(Protocol[State]):
    """What every system meets; it is a `torch.nn.Module` besides.

    Where `late_fusion` is True, `forward(batch)` equals `decode(encode_image(...), encode_text(...), image_index)`, so
    that an image is encoded once for all its expressions; otherwise `encode_image` raises `RefsegError`.
    """

    needs: Needs
    late_fusion: bool

    @property
    def config(self) -> ModelConfig:
        """The system's frozen configuration."""
        ...

    def __call__(self, batch: Batch, /) -> Output:
        """The answers to the batch's B expressions."""
        ...

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Weighted losses by name, scalars; their sum is what training descends."""
        ...

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> State:
        """What no expression changes of N images: a state for `decode`."""
        ...

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """Features of B expressions."""
        ...

    def decode(self, state: State, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one."""
        ...


@runtime_checkable
class ReadsPictures(Protocol[State_co]):
    """What a model whose needs say `reads_pictures` meets besides."""

    def encode_image(
        self,
        images: Float[Tensor, "N 3 H W"],
        pixel_mask: Bool[Tensor, "N H W"],
        pictures: Sequence[Image.Image] | None = None,
    ) -> State_co:
        """As `ReferringModel.encode_image`; `pictures` are the N originals that the images were made of."""
        ...
