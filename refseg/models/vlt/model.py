r"""VLT: the expression becomes queries, each a reading of it that the image suggests, and a transformer answers them.

Ding, Liu, Wang, Jiang: Vision-Language Transformer and Query Generation for Referring Segmentation, ICCV 2021; VLT,
TPAMI 2022. Equations are numbered as in chapter 4 of Chang Liu's thesis, which has the text of the journal version.

    image   -> maps -> F_vr --.--> fusion (SDF) -> F_fused -> encoder -> F_ve ---.----------> F_m -> mask decoder
                              |      |                                  decoder -'-> F_r        \
    expression -> words F_t --|------'                                     |          \          masked contrastive
                              `----> query generation (QGM) -> F_q --------'           balance   learning, in training
                                                                \---------------------> (QBM) -> F_b

Ours <-> the paper: `fused` F_fused, `queries` F_q, `memory` F_ve, `responses` F_r, weighed F_b, `mask_features` F_m,
`attention` A_qd, `confidence` C_q. What the published code (Keras, 2021) does otherwise is a field of `config.py`,
preset OFFICIAL. The parts: `fusion.py`, `queries.py`, `decoder.py` (transformer, mask decoder, and ReLA's block for
VLT+ReLA), `contrast.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.build import build_text, build_vision
from refseg.encoders.vision.video_swin import VideoSwin
from refseg.errors import RefsegError
from refseg.models.rela.regions import RegionDecoderConfig, region_maps
from refseg.models.vlt.config import ConvolutionsConfig, VLTConfig
from refseg.models.vlt.contrast import contrastive_loss, select_word
from refseg.models.vlt.decoder import (
    ConvolutionStack,
    MaskDecoder,
    MaskFeatures,
    RegionHead,
    Transformer,
    numbered,
)
from refseg.models.vlt.fusion import ConvSettings, ProductFusion, RawVision, SpatialDynamicFusion, TileFusion
from refseg.models.vlt.queries import Queries, QueryBalance, QueryGeneration, query_maps
from refseg.nn.heads import NoTargetHead, tag_head
from refseg.nn.losses import minimap_targets, resize_masks, shared_losses
from refseg.nn.maps import word_map
from refseg.nn.parts import rows_of
from refseg.nn.positions import PixelPositions
from refseg.types import Batch, NamedMap, Output, Panels, Targets, TextEncoder, TextFeatures, Tokens, VisionEncoder

__all__ = ["VLT", "VLTState", "build_vlt"]


class VLTState(NamedTuple):
    """N images, encoded once for all their expressions."""

    visual: tuple[Float[Tensor, "N _ _ _"], ...]
    """What the fusion keeps of an image."""
    raw: Float[Tensor, "N C h w"] | None
    """F_vr, where it is made."""
    visual_queries: Float[Tensor, "N Q C"] | None
    """relu(F_vq W_v), where queries come from F_vr; None of clips, whose frames share theirs."""
    mask: Bool[Tensor, "N h w"] | None
    """True on places of the grid with a real pixel; None where all may be looked at."""
    size: tuple[int, int]
    """Height and width of the input."""
    tag_logits: Float[Tensor, "N t h w"] | None = None


class VLT(nn.Module):
    """The model; `build_vlt` wires its parts. Images are encoded without the expression."""

    late_fusion = True

    def __init__(self, config: VLTConfig, vision: VisionEncoder, text: TextEncoder) -> None:
        super().__init__()
        self.config, self.needs, self.vision, self.text = config, config.needs, vision, text
        width, stride, part = config.width, config.stride, config.mask_decoder
        settings = ConvSettings(config.slope, config.conv_eps)
        self.raw_vision = RawVision(vision.channels, width, stride, settings) if config.has_raw_map else None
        self.fusion: Any  # one of the three, which read different maps
        if config.fusion.kind == "product":
            self.fusion = ProductFusion(vision.channels, text.width, width, settings)
        else:
            kind = SpatialDynamicFusion if config.fusion.kind == "sdf" else TileFusion
            self.fusion = kind(config.fusion, width, settings)
        own_words = config.generates and config.queries.form == "code"
        product = config.fusion.kind == "product"
        # F_t; the published code's modules read the text encoder's vectors as they are.
        self.project_text = None if product and (own_words or not self._reads_words) else nn.Linear(text.width, width)
        self.positions = PixelPositions(width)
        self.convolutions: ConvolutionStack | None = None
        self.transformer: Transformer | None = None
        if isinstance(config.transformer, ConvolutionsConfig):
            self.convolutions = ConvolutionStack(config.transformer, width, settings)
        else:
            self.transformer = Transformer(config.transformer, width, decodes=self._decodes)
        self.query_generation: QueryGeneration | None = None
        if config.generates:
            raw = config.queries.source == "raw"
            channels = width if raw else self.fusion.source_channels
            self.query_generation = QueryGeneration(
                config.queries, channels, text.width if own_words else width, width, config.grid, settings
            )
        learnt = self._decodes and config.queries.kind == "learnt"
        self.learnt_queries = nn.Parameter(torch.rand(config.queries.number, width)) if learnt else None
        self.query_balance = QueryBalance(width) if self._decodes and config.balance else None
        self.mask_features: MaskFeatures | None = None
        self.mask_decoder: MaskDecoder | None = None
        self.regions: RegionHead | None = None
        if isinstance(part, RegionDecoderConfig):
            self.regions = RegionHead(part, text.width, width, config.regions, stride, settings)
        else:
            ups = (stride // part.output_stride).bit_length() - 1
            inputs = self._query_number()
            if isinstance(config.transformer, ConvolutionsConfig):
                inputs = config.transformer.hidden
            else:
                self.mask_features = MaskFeatures(part, width, config.grid)
            self.mask_decoder = MaskDecoder(part, inputs, ups, settings)
        self.no_target = NoTargetHead(width) if config.no_target_head and self.regions is None else None
        self.tags = tag_head(width, config.tags)

    @property
    def _decodes(self) -> bool:
        """Whether queries are decoded: neither convolutions nor ReLA's block stand in the decoder's place."""
        config = self.config
        return not isinstance(config.transformer, ConvolutionsConfig) and not isinstance(
            config.mask_decoder, RegionDecoderConfig
        )

    @property
    def _reads_words(self) -> bool:
        """Whether queries are made of F_t."""
        return self._decodes and self.config.queries.kind != "learnt"

    def _query_number(self) -> int:
        queries = self.config.queries
        return self.config.text.max_words + 1 if queries.kind == "words" else queries.number

    def forward(self, batch: Batch) -> Output:
        """Mask logits, and `auxiliary`, where they exist: `confidence` (B, Q), `minimap_logits` (B, R), `tag_logits`
        (N, t, h, w); in training, for learning between samples, `mask_features` (B, Q, h, w), `masked_features`, the
        same of the expression without `masked_word` (B), -1 where no word was masked, and `frames` of a clip.
        `attention_maps["words"]` is (B, Q, L), of the queries over words (with other queries (B, L), of the places).
        Of clips (`Batch.frames`) the queries are the same in all frames, see `decode_clip`."""
        frames, tokens = batch.frames, batch.tokens
        state = self._encode_images(batch.images, batch.pixel_mask, frames)
        if frames == 1:
            return self.decode(state, self.encode_text(tokens), batch.image_index)
        text = self.encode_text(Tokens(tokens.ids[::frames], tokens.mask[::frames]))
        rows = torch.arange(len(text.words), device=text.words.device).repeat_interleave(frames)
        return self._decode(_chosen(state, batch.image_index), text.select(rows), frames, batch.image_index)

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """One vector a word, and the expression's."""
        return self.text(tokens)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> VLTState:
        """What no expression changes."""
        return self._encode_images(images, pixel_mask, frames=1)

    def encode_clip(self, images: Float[Tensor, "F 3 H W"], pixel_mask: Bool[Tensor, "F H W"]) -> VLTState:
        """The same of the frames of one clip, which a video encoder sees together: a state for `decode_clip`."""
        return self._encode_images(images, pixel_mask, len(images))

    def _encode_images(
        self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"], frames: int
    ) -> VLTState:
        maps = self.vision(images, frames) if isinstance(self.vision, VideoSwin) else self.vision(images)
        raw = None if self.raw_vision is None else self.raw_vision(maps)
        visual = self.fusion.encode(maps if isinstance(self.fusion, ProductFusion) else raw)
        queries = None
        if (
            self.query_generation is not None
            and self.config.queries.source == "raw"
            and raw is not None
            and frames == 1
        ):
            queries = self.query_generation.visual_queries(raw)
        mask = None
        if self.config.mask_padding and self.config.input.resize != "warp":
            grid = maps[self.config.stride].shape[2:]
            mask = F.adaptive_max_pool2d(pixel_mask[:, None].float(), (grid[0], grid[1]))[:, 0] > 0
        tags = None if self.tags is None else self.tags(raw)
        return VLTState(visual, raw, queries, mask, (images.shape[2], images.shape[3]), tags)

    def decode(self, state: VLTState, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one."""
        return self._decode(_chosen(state, image_index), text, 1, image_index)

    def decode_clip(self, state: VLTState, text: TextFeatures) -> Output:
        """The answer to one expression in each of F frames of a clip, which `state` holds (section 4.3.5).

        The queries come from the frames' mean features, so that they are the same in all of them.
        """
        frames = len(state.visual[0])
        if len(text.words) != 1:
            raise RefsegError(f"one expression for a clip is wanted, not {len(text.words)}")
        words, sentence, mask = (
            value.expand(frames, *value.shape[1:]) for value in (text.words, text.sentence, text.mask)
        )
        return self._decode(state, TextFeatures(words, sentence, mask), frames)

    def _decode(
        self, state: VLTState, text: TextFeatures, frames: int, image_index: Int[Tensor, " B"] | None = None
    ) -> Output:
        """`frames` successive rows are frames of one clip. `state` is `_chosen` by `image_index`."""
        mask = text.mask if self.config.mask_padding else torch.ones_like(text.mask)
        words, sentence = text.words, text.sentence
        if self.project_text is not None:
            words, sentence = self.project_text(words), self.project_text(sentence)
        plain = isinstance(self.fusion, ProductFusion)
        fused, source, attention = self.fusion.decode(
            state.visual, words, text.sentence if plain else sentence, mask, image_index
        )
        auxiliary: dict[str, Any] = {}
        maps = {} if attention is None else {"words": attention}
        shown: dict[str, NamedMap] = {}
        if attention is not None:
            shown["words"] = word_map("what places read of the words", attention)
        if state.tag_logits is not None:
            auxiliary["tag_logits"] = state.tag_logits
        size = (fused.shape[2], fused.shape[3])
        if self.convolutions is not None:
            no_target = self._no_target(fused.flatten(2).transpose(1, 2), state.mask)
            logits = self._mask(self.convolutions(fused), state.size)
            return Output(logits, no_target, auxiliary=auxiliary, attention_maps=maps, maps=shown)
        memory = self._encode(fused, state.mask)
        if self.regions is not None:
            real = state.mask if state.mask is not None else fused.new_ones(len(fused), *size, dtype=torch.bool)
            answers = self.regions(memory.transpose(1, 2).unflatten(2, size), real, text)
            auxiliary["minimap_logits"] = answers.last.minimap_logits
            if answers.attention is not None:
                maps["words"] = answers.attention
            logits = self._cropped(answers.last.mask_logits, state.size, stride=4)
            shown |= region_maps(answers, None, None) | self._place_map(fused, state.mask, logits)
            none = answers.last.no_target_logits
            return Output(logits, none, auxiliary=auxiliary, attention_maps=maps, maps=shown)
        read = TextFeatures(words, sentence, mask)
        own = text.words if self.query_generation is not None and self.config.queries.form == "code" else words
        visual = self._visual_queries(state, source, frames)
        queries = self._queries(visual, own, read, mask)
        if queries.attention is not None:
            maps["words"] = queries.attention
        features, confidence = self._answer(queries, memory, state.mask, size)
        if confidence is not None:
            auxiliary["confidence"] = confidence
        # Learning between samples costs a second pass through the decoder: answers have no use for it.
        kind = self.config.inter_sample.kind if self.training else "none"
        if kind != "none":
            auxiliary["mask_features"] = features
            auxiliary |= {"frames": frames} if frames > 1 else {}
        if kind == "mcl":
            assert queries.attention is not None
            # A clip's frames have one attention, and lose the same word.
            word = select_word(queries.attention[::frames], text.mask[::frames], self.config.inter_sample)
            word = word.repeat_interleave(frames)
            places = torch.arange(mask.shape[1], device=mask.device)
            less = self._queries(visual, own, read, mask & (places != word[:, None]))
            auxiliary["masked_word"] = word
            auxiliary["masked_features"] = self._answer(less, memory, state.mask, size)[0]
        logits, no_target = self._mask(features, state.size), self._no_target(memory, state.mask)
        shown |= query_maps(queries, features, confidence) | self._place_map(fused, state.mask, logits)
        return Output(logits, no_target, auxiliary=auxiliary, attention_maps=maps, maps=shown)

    def _place_map(
        self,
        fused: Float[Tensor, "B C h w"],
        mask: Bool[Tensor, "B h w"] | None,
        logits: Float[Tensor, "B u v"],
    ) -> dict[str, NamedMap]:
        """Where the likeliest place looks in the encoder's second layer (figure 4.15a)."""
        transformer = self.transformer
        assert transformer is not None
        layer = min(2, len(transformer.encoder))
        if not layer:
            return {}

        def read(index: int) -> Panels:
            size, one = (fused.shape[2], fused.shape[3]), slice(index, index + 1)
            likely = F.adaptive_avg_pool2d(logits[one].float(), size).flatten().argmax()
            real = None if mask is None else mask[one]
            places = self._placed(fused[one], real)
            attention = transformer.encoder_attention(places, None if real is None else real.flatten(1), layer)
            return Panels(attention[:, likely].unflatten(1, size).detach(), ("",))

        return {"place": NamedMap(f"where the likeliest place looks, encoder layer {layer}", "pixels", read)}

    def _encode(self, fused: Float[Tensor, "B C h w"], mask: Bool[Tensor, "B h w"] | None) -> Float[Tensor, "B T C"]:
        """F_ve."""
        assert self.transformer is not None
        return self.transformer.encode(self._placed(fused, mask), None if mask is None else mask.flatten(1))

    def _placed(self, fused: Float[Tensor, "B C h w"], mask: Bool[Tensor, "B h w"] | None) -> Float[Tensor, "B T C"]:
        """F_fused as tokens with their positions."""
        assert self.transformer is not None
        places = fused.flatten(2).transpose(1, 2)
        if self.transformer.config.positions == "sine1d":
            places = places + numbered(places)
        else:
            real = mask if mask is not None else fused.new_ones(1, *fused.shape[2:], dtype=torch.bool)
            places = places + self.positions(real).flatten(2).transpose(1, 2).to(places.dtype)
        return places

    def _visual_queries(self, state: VLTState, source: Tensor, frames: int) -> Float[Tensor, "B Q C"] | None:
        """relu(F_vq W_v), of a clip from the mean of its frames."""
        generation = self.query_generation
        if generation is None:
            return None
        if self.config.queries.source == "raw":
            if frames == 1 and state.visual_queries is not None:
                return state.visual_queries
            assert state.raw is not None
            source = state.raw
        means = source.unflatten(0, (-1, frames)).mean(dim=1)
        return generation.visual_queries(means).repeat_interleave(frames, dim=0)

    def _queries(self, visual: Tensor | None, own: Tensor, text: TextFeatures, mask: Bool[Tensor, "B L"]) -> Queries:
        if self.query_generation is not None:
            assert visual is not None
            return self.query_generation(visual, own, mask)
        if self.learnt_queries is not None:
            return Queries(self.learnt_queries.expand(len(mask), -1, -1), None)
        room = self.config.text.max_words - mask.shape[1]
        real = F.pad(F.pad(mask, (0, room)), (0, 1), value=True)
        vectors = torch.cat([F.pad(text.words, (0, 0, 0, room)), text.sentence[:, None]], dim=1)
        return Queries(vectors * real[..., None].to(vectors.dtype), None, real)

    def _answer(
        self, queries: Queries, memory: Float[Tensor, "B T C"], mask: Tensor | None, size: tuple[int, int]
    ) -> tuple[Float[Tensor, "B Q h w"], Float[Tensor, "B Q"] | None]:
        """F_m, and the queries' confidences."""
        assert self.transformer is not None
        assert self.mask_features is not None
        memory_mask = None if mask is None else mask.flatten(1)
        responses, confidence = self.transformer.decode(queries.vectors, memory, memory_mask, queries.mask), None
        if self.query_balance is not None:
            responses, confidence = self.query_balance(queries.vectors, responses)
        if queries.mask is not None:
            responses = responses * queries.mask[..., None].to(responses.dtype)
        return self.mask_features(responses, memory, size), confidence

    def _mask(self, features: Float[Tensor, "B Q h w"], size: tuple[int, int]) -> Float[Tensor, "B u v"]:
        assert self.mask_decoder is not None
        return self._cropped(self.mask_decoder(features), size, self.config.mask_decoder.output_stride)  # type: ignore[union-attr]

    @staticmethod
    def _cropped(logits: Float[Tensor, "B u v"], size: tuple[int, int], stride: int) -> Float[Tensor, "B h w"]:
        """Without what lies beyond the image's border, where the grid's last places do."""
        return logits[:, : -(-size[0] // stride), : -(-size[1] // stride)]

    def _no_target(
        self, places: Float[Tensor, "B T C"], mask: Bool[Tensor, "B h w"] | None
    ) -> Float[Tensor, " B"] | None:
        if self.no_target is None:
            return None
        return self.no_target(places, None if mask is None else mask.flatten(1))

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Cross entropy of the mask, learning between samples (equation 4.8), and what the configuration adds."""
        config, logits = self.config.losses, output.mask_logits
        masks = resize_masks(targets.masks, (logits.shape[1], logits.shape[2]))
        entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction=config.reduction)
        parts = {"mask": config.mask * (entropy / len(logits) if config.reduction == "sum" else entropy)}
        if config.kernel_decay:
            parts["kernel_decay"] = config.kernel_decay * self._kernel_squares()
        if "minimap_logits" in output.auxiliary and config.minimap:
            cells = minimap_targets(targets.masks, self.config.regions, "area")
            entropy = F.binary_cross_entropy_with_logits(output.auxiliary["minimap_logits"], cells)
            parts["minimap"] = config.minimap * entropy
        if "mask_features" in output.auxiliary:
            parts["contrastive"] = self._contrastive(output, targets)
        return parts | shared_losses(config, output, targets, logits, masks)

    def _contrastive(self, output: Output, targets: Targets) -> Float[Tensor, ""]:
        if targets.groups is None:
            raise RefsegError("Targets.groups is missing: learning between samples needs to know who shares an object")
        config, given = self.config.inter_sample, output.auxiliary
        masked, word = given.get("masked_features"), given.get("masked_word")
        weight = config.weight * (targets.initial_weight if config.anchors == "first" else 1.0)
        pictures, frames = targets.groups[:, 1], given.get("frames", 1)
        if frames > 1:
            # A frame in which the object is not seen is no sample of another object.
            alone = -1 - torch.arange(len(pictures), device=pictures.device)
            pictures = torch.where(targets.no_target, alone, pictures)
        return weight * contrastive_loss(
            given["mask_features"].flatten(1),
            targets.groups[:, 0],
            pictures,
            config.temperature,
            None if masked is None else masked.flatten(1),
            None if word is None else (word >= 0) & ~targets.no_target,
            config.anchors,
            frames,
            config.frames,
        )

    def _kernel_squares(self) -> Float[Tensor, ""]:
        kernels = [m.weight for m in self.modules() if isinstance(m, nn.Conv2d) and m.weight.requires_grad]
        return torch.stack([kernel.square().sum() for kernel in kernels]).sum()


def _chosen(state: VLTState, image_index: Int[Tensor, " B"] | None) -> VLTState:
    """The state of each expression's image, but for what the fusion keeps, which chooses for itself."""
    if image_index is None:
        return state
    return VLTState(
        state.visual,
        None if state.raw is None else rows_of(state.raw, image_index),
        None if state.visual_queries is None else state.visual_queries[image_index],
        None if state.mask is None else state.mask[image_index],
        state.size,
        state.tag_logits,
    )


def build_vlt(config: VLTConfig) -> VLT:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    return VLT(config, build_vision(config.vision), build_text(config.text))
