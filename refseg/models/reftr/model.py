r"""RefTR: boxes and masks of the phrases of an expression, decoded from queries that know their context.

Li, Sigal: Referring Transformer: A One-step Approach to Multi-task Visual Grounding, NeurIPS 2021.

    image   -> vision f_I -> projection --.
                                           > visual-lingual encoder -> f_vl: words -.      pixels
    expression Q -> text f_Q -> MLP ------'                                          \       |   \
                                                                                      v      v    \
    phrase p_i -> text, pooled f_p_i -> MLP ---------------------------------> query encoder Q_p -> decoder -> h_p
                                                                                                            |     \
                                            box b = sigmoid(MLP(h_p)) <-------------------------------------'      \
                                            mask s = convolutions(where h_p looks, pixels, skips from vision) <-----'

Ours <-> the paper: `context` f_c(p), `vectors` f_p, `queries` Q_p, `bias` E_p. One phrase: the expression itself. Many:
`Batch.phrases`, each read on its own and by its place in the expression, all decoded together; they see one another.
The image is encoded without the expression, so `encode_image` is called once for many of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.build import build_text, build_vision
from refseg.encoders.text.bert import Bert, BertTextConfig
from refseg.encoders.text.transformer import WordTransformer
from refseg.encoders.vision.nanodet import ShuffleNet
from refseg.encoders.vision.resnet import ResNet
from refseg.encoders.vision.swin import Swin
from refseg.errors import RefsegError
from refseg.models.reftr.config import RefTRConfig
from refseg.models.reftr.heads import (
    AttentionMaps,
    BoxHead,
    MaskHead,
    boxes_of_masks,
    content_of,
    filled_boxes,
)
from refseg.models.reftr.queries import Consistency, QueryEncoder, normalised_mlp
from refseg.nn.boxes import corners
from refseg.nn.conv import group_norm, pointwise
from refseg.nn.detr import DetrDecoderLayer, DetrEncoderLayer
from refseg.nn.heads import NoTargetHead, tag_head
from refseg.nn.losses import (
    box_distance,
    dice_loss,
    focal_loss,
    generalized_iou,
    no_target_loss,
    resize_logits,
    resize_masks,
    tag_losses,
)
from refseg.nn.parts import Part
from refseg.nn.positions import PixelPositions
from refseg.types import Batch, NamedMap, Output, Panels, Phrases, Targets, TextFeatures, Tokens

__all__ = ["PhraseFeatures", "RefTR", "RefTRState", "build_reftr"]


class RefTRState(NamedTuple):
    """N images, encoded once for all their expressions."""

    maps: Float[Tensor, "N C h w"]
    positions: Float[Tensor, "N C h w"]
    mask: Bool[Tensor, "N h w"]
    skips: list[Float[Tensor, "N _ _ _"]]
    content: Float[Tensor, "N 4"]
    """Left, top, width, height of the image without padding, 0 to 1 of the input."""
    output_size: tuple[int, int]
    tag_logits: Float[Tensor, "N t h w"] | None = None


class PhraseFeatures(NamedTuple):
    """The P phrases of B expressions; `span` says which of the expression's tokens are a phrase's words."""

    vectors: Float[Tensor, "B P D"]
    span: Bool[Tensor, "B P L"]
    mask: Bool[Tensor, "B P"]


class RefTR(nn.Module):
    """The model; `build_reftr` wires its parts. `special` says that the text encoder puts [CLS] before an expression
    and [SEP] behind it; otherwise the expression's vector is put before its words and takes the place of [CLS]."""

    late_fusion = True

    def __init__(
        self, config: RefTRConfig, vision: ResNet | Swin | ShuffleNet, text: Bert | WordTransformer, special: bool
    ) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.config, self.needs, self.vision, self.text, self.special = config, config.needs, vision, text, special
        self.project = nn.Sequential(
            nn.Conv2d(vision.channels[32], width, kernel_size=1), group_norm(width, config.groups)
        )
        self.map_sentence = normalised_mlp(text.width, width, config.dropout)
        self.map_phrase = normalised_mlp(text.width, width, config.dropout)
        self.pixel_positions = PixelPositions(width, config.positions)
        self.word_positions = nn.Embedding(config.text_positions, width)
        self.modality = nn.Embedding(2, width)
        self.level = nn.Parameter(torch.randn(width))
        sizes = (width, heads, config.feedforward, config.dropout)
        self.encoder = nn.ModuleList(DetrEncoderLayer(*sizes) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DetrDecoderLayer(*sizes) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width) if config.decoder_layers else None
        self.query_encoder = QueryEncoder(config)
        self.box_head = BoxHead(width, config.box_layers) if config.tasks != "res" else None
        self.pixel_attention: AttentionMaps | None = None
        self.mask_head: MaskHead | None = None
        if config.tasks != "rec":
            self.pixel_attention = AttentionMaps(width, heads)
            self.mask_head = MaskHead(2 * width + heads, width, vision.channels, config.mask_groups)
            assert self.mask_head.logits.bias is not None
            nn.init.constant_(self.mask_head.logits.bias, math.log(config.mask_prior / (1 - config.mask_prior)))
        self.consistency = Consistency(width, width // 16, config.queries) if config.losses.consistency else None
        self.no_target = NoTargetHead(width) if config.no_target_head else None
        self.tags = tag_head(width, config.tags)
        for weight in (self.project[0].weight, self.word_positions.weight, self.modality.weight):
            nn.init.xavier_uniform_(weight)  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> Output:
        """Mask logits at stride 4 (of several phrases their largest), boxes (B, P, 4), and `auxiliary`: `phrase_mask`
        (B, P), `query_boxes` (B, P, n, 4) and `earlier_boxes` of each phrase's n queries, `content` (B, 4),
        `consistency` (B, P), `tag_logits` (N, t, h, w); `attention_maps` "words" (B, P, L) and "pixels"
        (B, P, heads, h, w): as far as the configuration has them."""
        text = self.encode_text(batch.tokens)
        phrases = None if batch.phrases is None else self.encode_phrases(text, batch.phrases)
        return self._answer(self.encode_image(batch.images, batch.pixel_mask), text, phrases, batch.image_index)

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """f_Q: one vector a word, and the pooled expression."""
        read = self.text(tokens)
        if self.config.context_words == "embeddings":
            return TextFeatures(self.text.embed(tokens), read.sentence, read.mask)
        return read

    def encode_phrases(self, text: TextFeatures, phrases: Phrases) -> PhraseFeatures:
        """Phrases read on their own, each with the tokens of its expression that are its words."""
        count, most = phrases.mask.shape
        read = self.text(Tokens(phrases.ids.flatten(0, 1), phrases.word_mask.flatten(0, 1)))
        places = torch.arange(text.mask.shape[1], device=text.mask.device)
        span = (places >= phrases.start[..., None]) & (places < phrases.stop[..., None]) & text.mask[:, None]
        return PhraseFeatures(read.sentence.unflatten(0, (count, most)), span, phrases.mask)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> RefTRState:
        """What no expression changes: f_I at the encoder's width, and the skips of the mask head."""
        encoded = self.vision(images)
        convolution, norm = self.project
        maps = norm(pointwise(convolution, encoded[32]))  # type: ignore[arg-type]
        mask = F.interpolate(pixel_mask[:, None].float(), size=maps.shape[-2:])[:, 0].bool()
        skips = [] if self.mask_head is None else self.mask_head.encode(encoded)
        size = (encoded[4].shape[2], encoded[4].shape[3])
        tags = None if self.tags is None else self.tags(maps)
        return RefTRState(maps, self.pixel_positions(mask), mask, skips, content_of(pixel_mask), size, tags)

    def decode(
        self,
        state: RefTRState,
        text: TextFeatures,
        image_index: Int[Tensor, " B"] | None = None,
        phrases: Phrases | None = None,
    ) -> Output:
        """The answers to B expressions, of one phrase each or of `phrases`; `image_index[b]` is the image of b, None
        means one to one."""
        return self._answer(state, text, None if phrases is None else self.encode_phrases(text, phrases), image_index)

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Weighted losses (equations 3 and 4). Expressions without target have no box loss; their mask is to be empty.

        Boxes come from `targets.boxes`, or without them from the masks. With several phrases, masks are compared one by
        one if `targets.instances` holds one a phrase, else in union. Raises `RefsegError` when targets and phrases do
        not match.
        """
        config, auxiliary = self.config.losses, output.auxiliary
        parts: dict[str, Tensor] = {}
        instances = _instances_of_phrases(output, targets)
        if self.box_head is not None:
            boxes = _target_boxes(output, targets, instances)
            distance, overlap = self._box_losses(auxiliary["query_boxes"], boxes)
            parts |= {"box_l1": config.box_l1 * distance, "box_giou": config.box_giou * overlap}
            if config.auxiliary and auxiliary["earlier_boxes"]:
                earlier = [self._box_losses(each, boxes) for each in auxiliary["earlier_boxes"]]
                total = torch.stack([config.box_l1 * one + config.box_giou * other for one, other in earlier]).sum()
                parts["earlier"] = config.auxiliary * total
        if self.mask_head is not None:
            logits, masks = output.mask_logits, targets.masks
            if instances is not None:
                assert output.phrase_mask_logits is not None
                logits, masks = output.phrase_mask_logits[auxiliary["phrase_mask"]], instances
            if config.mask_size == "input":
                logits, goals = resize_logits(logits, (masks.shape[1], masks.shape[2])), masks.float()
            else:
                goals = resize_masks(masks, (logits.shape[1], logits.shape[2]))
            # Over the expressions, not the phrases, as the box losses are.
            count = len(logits) / len(output.mask_logits) if config.phrases == "sum" else 1.0
            parts["focal"] = count * config.focal * focal_loss(logits, goals, config.focal_alpha, config.focal_gamma)
            parts["dice"] = count * config.dice * dice_loss(logits, goals)
        if self.consistency is not None:
            parts["consistency"] = config.consistency * auxiliary["consistency"][auxiliary["phrase_mask"]].mean()
        if output.no_target_logits is not None:
            parts["no_target"] = no_target_loss(output.no_target_logits, targets.no_target, config.no_target)
        return parts | tag_losses(auxiliary.get("tag_logits"), targets.tags, config.tags)

    def _box_losses(
        self, boxes: Float[Tensor, "B P n 4"], targets: Float[Tensor, "B P 4"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """L1 and 1 - GIoU, over the target boxes with an area."""
        real = (targets[..., 2:] > 0).all(dim=-1)
        counted = real.sum() if self.config.losses.phrases == "mean" else real.any(dim=1).sum()
        share = real[..., None] / (counted.clamp(min=1) * boxes.shape[2])
        goals = targets[:, :, None].expand_as(boxes).to(boxes.dtype)
        distance = box_distance(boxes, goals)
        overlap = 1 - generalized_iou(corners(boxes), corners(goals))
        return (distance * share).sum(), (overlap * share).sum()

    def _answer(
        self, state: RefTRState, text: TextFeatures, phrases: PhraseFeatures | None, image_index: Tensor | None
    ) -> Output:
        words, word_mask, phrases = self._tokens(text, phrases)
        maps, places, mask, content = (
            _of_image(part, image_index) for part in (state.maps, state.positions, state.mask, state.content)
        )
        length, size = words.shape[1], maps.shape[-2:]
        memory = torch.cat([words, maps.flatten(2).transpose(1, 2)], dim=1)
        of_words = (self.word_positions.weight[:length] + self.modality.weight[0]).expand(len(words), -1, -1)
        of_pixels = places.flatten(2).transpose(1, 2) + self.level + self.modality.weight[1]
        positions = torch.cat([of_words, of_pixels], dim=1)
        real = torch.cat([word_mask, mask.flatten(1)], dim=1)
        for layer in self.encoder:
            memory = layer(memory, positions, real)
        vectors = self.map_phrase(phrases.vectors)
        queries, query_positions, attention = self.query_encoder(memory[:, :length], phrases.span, vectors)
        decoded = self._decode(queries, query_positions, phrases.mask, memory, positions, real)
        counts = (phrases.mask.shape[1], self.config.queries)
        auxiliary: dict[str, Any] = {"phrase_mask": phrases.mask, "content": content}
        attention_maps = {}
        if state.tag_logits is not None:
            auxiliary["tag_logits"] = state.tag_logits
        boxes = None
        if attention is not None:
            attention_maps["words"] = attention
        if self.box_head is not None:
            each = [self.box_head(layer).unflatten(1, counts) for layer in decoded]
            auxiliary |= {"query_boxes": each[-1], "earlier_boxes": each[:-1]}
            boxes = each[-1][:, :, 0]
        answering = decoded[-1].unflatten(1, counts)
        if self.mask_head is not None and self.pixel_attention is not None:
            fused = memory[:, length:].transpose(1, 2).unflatten(2, size)
            attended = self.pixel_attention(answering[:, :, 0], fused, mask)
            attention_maps["pixels"] = attended
            # A row for each phrase: which expression, and which image, it belongs to.
            own = torch.arange(len(maps), device=maps.device).repeat_interleave(counts[0])
            image = own if image_index is None else image_index[own]
            parts = [Part(state.maps, image), Part(fused, own), Part(attended.flatten(0, 1))]
            logits, features = self.mask_head(parts, state.skips, image)
            if self.consistency is not None:
                auxiliary["consistency"] = self.consistency(answering.flatten(0, 1), features).unflatten(
                    0, (-1, counts[0])
                )
        else:
            assert boxes is not None
            logits = filled_boxes(boxes.flatten(0, 1), content.repeat_interleave(counts[0], dim=0), state.output_size)
        logits = logits.unflatten(0, (-1, counts[0]))
        lowest = torch.finfo(logits.dtype).min / 2
        union = logits.masked_fill(~phrases.mask[..., None, None], lowest).amax(dim=1)
        no_target = None
        if self.no_target is not None:
            no_target = self.no_target(decoded[-1], phrases.mask.repeat_interleave(counts[1], dim=1))
        shown = _maps(phrases.mask, attention, attention_maps.get("pixels"), self.special)
        return Output(
            union, no_target, boxes, auxiliary, attention_maps=attention_maps, phrase_mask_logits=logits, maps=shown
        )

    def _tokens(
        self, text: TextFeatures, phrases: PhraseFeatures | None
    ) -> tuple[Float[Tensor, "B L C"], Bool[Tensor, "B L"], PhraseFeatures]:
        """The expression's tokens at the encoder's width, a first one that stands for all of it among them; and its
        phrases, where an expression without any is one itself."""
        words, mask = text.words, text.mask
        if phrases is None:
            span = mask.clone()
            if self.special:
                last = mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1, keepdim=True)
                span = span.scatter(1, last, False)
                span[:, 0] = False
            whole = torch.ones(len(mask), 1, dtype=torch.bool, device=mask.device)
            phrases = PhraseFeatures(text.sentence[:, None], span[:, None], whole)
        span = phrases.span
        if not self.special:
            words = torch.cat([text.sentence[:, None], words], dim=1)
            mask, span = F.pad(mask, (1, 0), value=True), F.pad(span, (1, 0), value=False)
        # A phrase without a word looks at the first token.
        first = torch.arange(span.shape[2], device=span.device) == 0
        span = span | (first & ~span.any(dim=2, keepdim=True))
        return self.map_sentence(words), mask, PhraseFeatures(phrases.vectors, span, phrases.mask)

    def _decode(
        self, queries: Tensor, query_positions: Tensor, real: Tensor, memory: Tensor, positions: Tensor, mask: Tensor
    ) -> list[Float[Tensor, "B Q C"]]:
        """The queries after each decoder layer; without a decoder, the queries themselves."""
        if self.decoder_norm is None:
            return [queries + query_positions]
        # Where an expression has no phrase at all, its queries look at each other, and nobody at the answer.
        query_mask = (real | ~real.any(dim=1, keepdim=True)).repeat_interleave(self.config.queries, dim=1)
        answers = []
        for layer in self.decoder:
            queries = layer(queries, query_positions, query_mask, memory, positions, mask)
            answers.append(self.decoder_norm(queries))
        return answers


def _maps(
    real: Bool[Tensor, "B P"],
    words: Float[Tensor, "B P L"] | None,
    pixels: Float[Tensor, "B P n h w"] | None,
    special: bool,
) -> dict[str, NamedMap]:
    """What each phrase's query reads of the words, and where it looks: all heads together, and the first phrase's heads
    apart. Without special tokens a first one stands for the expression, which is no word."""

    def names(index: int) -> tuple[str, ...]:
        count = int(real[index].sum())
        return tuple(f"phrase {number + 1}" for number in range(count)) if count > 1 else ("",) * count

    maps = {}
    if words is not None:
        own = words if special else words[:, :, 1:]
        maps["words"] = NamedMap(
            "phrase attention: what a phrase's query reads of the words",
            "words",
            lambda index: Panels(own[index][real[index]].detach(), names(index)),
        )
    if pixels is not None:
        heads = tuple(f"head {number + 1}" for number in range(pixels.shape[2]))
        maps["pixels"] = NamedMap(
            "where a phrase's query looks",
            "pixels",
            lambda index: Panels(pixels[index][real[index]].sum(dim=1).detach(), names(index)),
        )
        maps["heads"] = NamedMap(
            "where the first phrase's query looks, head by head",
            "pixels",
            lambda index: Panels(pixels[index, 0].detach(), heads),
        )
    return maps


def _of_image(part: Tensor, image_index: Tensor | None) -> Tensor:
    """Entries of the images that the expressions belong to."""
    return part if image_index is None else part[image_index]


def _instances_of_phrases(output: Output, targets: Targets) -> Bool[Tensor, "K H W"] | None:
    """One mask for each real phrase, phrase after phrase; None for one phrase, or when only their union is known."""
    mask = output.auxiliary["phrase_mask"]
    if mask.shape[1] == 1 or targets.instances is None:
        return None
    counts: Sequence[int] = mask.sum(dim=1).tolist()
    for index, (masks, count) in enumerate(zip(targets.instances, counts, strict=True)):
        if len(masks) != count:
            raise RefsegError(f"expression {index}: {count} phrases, but {len(masks)} masks; one a phrase is wanted")
    return torch.cat(list(targets.instances))


def _target_boxes(output: Output, targets: Targets, instances: Tensor | None) -> Float[Tensor, "B P 4"]:
    """The boxes that the phrases mean, zeros where there is none."""
    mask, content = output.auxiliary["phrase_mask"], output.auxiliary["content"]
    if targets.boxes is not None:
        if targets.boxes.shape[:2] != mask.shape:
            raise RefsegError(f"boxes of {tuple(targets.boxes.shape[:2])} phrases, but {tuple(mask.shape)} were asked")
        return targets.boxes * (mask & ~targets.no_target[:, None])[..., None]
    if instances is not None:
        each = boxes_of_masks(instances, content.repeat_interleave(mask.sum(dim=1), dim=0))
        return each.new_zeros(*mask.shape, 4).masked_scatter(mask[..., None], each)
    if mask.shape[1] > 1:
        raise RefsegError("several phrases an expression need a box each (Targets.boxes) or a mask each (instances)")
    return boxes_of_masks(targets.masks, content)[:, None]


def build_reftr(config: RefTRConfig) -> RefTR:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    vision, text = build_vision(config.vision), build_text(config.text)
    assert isinstance(vision, (ResNet, Swin, ShuffleNet))
    assert isinstance(text, (Bert, WordTransformer))
    return RefTR(config, vision, text, special=isinstance(config.text, BertTextConfig))
