r"""ReSTR: referring segmentation with transformers alone.

Kim, Kim, Lan, Zeng, Kwak: ReSTR: Convolution-free Referring Image Segmentation Using Transformers, CVPR 2022.

    image    -> ViT z_v ---.------------------------------------------------------.
                            > VL encoder -> patches z'_v ----------.---> masked ---> coarse-to-fine decoder -> Y_m
    expression -> z_l -----'            `-> words z'_l -.           \   /
                                                         > LS encoder  * -> patch map y_p
                                     class seed e_s ----'   `-> e'_s -'

Ours <-> the paper: `seed` e_s, `classifier` e'_s, `patch_logits` y_p before its sigmoid, `mask_logits` Y_m, `patch` P,
`fusion.width` D. The paper's wiring and that of its published code differ in a dozen places; each is a field of
`config.py`, PAPER and OFFICIAL are the two readings.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.build import build_text, build_vision
from refseg.encoders.text.bert import Bert
from refseg.encoders.text.glove_transformer import GloveTransformer
from refseg.encoders.vision.nanodet import ShuffleNet
from refseg.encoders.vision.resnet import ResNet
from refseg.encoders.vision.vit import ViT, patch_mask
from refseg.models.restr.config import FusionConfig, ReSTRConfig
from refseg.nn.block import Block, drop_path_rates
from refseg.nn.heads import NoTargetHead, tag_head
from refseg.nn.losses import resize_masks, shared_losses
from refseg.nn.maps import bar_map, pixel_map, word_map
from refseg.nn.positions import PixelPositions
from refseg.types import Batch, NamedMap, Output, Targets, TextFeatures, Tokens

__all__ = ["CoarseToFine", "Encoder", "Fusion", "ReSTR", "ReSTRState", "build_restr", "patch_targets"]


class ReSTRState(NamedTuple):
    """N images, encoded once for all their expressions."""

    vision: Float[Tensor, "N C h w"]
    """z_v."""
    patches: Float[Tensor, "N T D"]
    """z_v, normalised and led to the fusion's width."""
    mask: Bool[Tensor, "N T"] | None
    """True on patches with a real pixel; None where all may be looked at."""
    size: tuple[int, int]
    """Height and width of the input."""
    tag_logits: Float[Tensor, "N t h w"] | None = None


class Fused(NamedTuple):
    """What the fusion encoder gives."""

    patches: Float[Tensor, "B T D"]
    """z'_v."""
    classifier: Float[Tensor, "B D"]
    """e'_s."""
    attention: Float[Tensor, "B n K"]
    """How much the seed looked at each token of its encoder, layer by layer, mean over the heads."""


class Encoder(nn.Module):
    """n transformer blocks in a row, or one block n times."""

    def __init__(self, config: FusionConfig, layers: int) -> None:
        super().__init__()
        self.rates = drop_path_rates(config.drop_path, layers)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.feedforward) for _ in range(1 if config.share else layers)
        )

    def forward(
        self, tokens: Float[Tensor, "B N D"], mask: Bool[Tensor, "B _ N"] | None
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B n N"]]:
        """The tokens without a last normalisation, and the last token's attention in each layer."""
        rows = []
        for index, rate in enumerate(self.rates):
            tokens, row = self.blocks[index % len(self.blocks)](tokens, mask, rate)
            rows.append(row.mean(dim=1))
        return tokens, torch.stack(rows, dim=1)


class Fusion(nn.Module):
    """The multimodal fusion encoder (section 3.2, figure 3): patches, words and seed become patches and classifier."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        joint = config.encoder == "vme"
        self.seed = nn.Parameter(torch.zeros(1, 1, config.width))
        nn.init.trunc_normal_(self.seed, std=0.02)
        self.visual_linguistic = Encoder(config, config.layers if joint else config.layers // 2)
        self.linguistic_seed = None if joint else Encoder(config, config.layers // 2)
        self.norm = nn.LayerNorm(config.width)
        self.patch_norm = nn.LayerNorm(config.width) if config.output_norm == "each" and not joint else None

    def forward(
        self,
        patches: Float[Tensor, "B T D"],
        words: Float[Tensor, "B L D"],
        patch_mask: Bool[Tensor, "B T"] | None,
        word_mask: Bool[Tensor, "B L"] | None,
    ) -> Fused:
        """Equations 7 and 8. Masks are True where tokens may look; None means everywhere."""
        count, length = patches.shape[1], words.shape[1]
        seed = self.seed.expand(len(patches), -1, -1).to(patches.dtype)
        together = _joined([(patches, patch_mask), (words, word_mask)])
        if self.linguistic_seed is None:
            tokens, rows = self.visual_linguistic(
                torch.cat([patches, words, seed], dim=1),
                _joined([(patches, patch_mask), (words, word_mask), (seed, None)]),
            )
            patches, classifier = tokens[:, :count], tokens[:, -1]
            if self.config.output_norm != "classifier":
                patches = self.norm(patches)
            return Fused(patches, self.norm(classifier), rows)
        tokens, _ = self.visual_linguistic(torch.cat([patches, words], dim=1), together)
        if self.patch_norm is not None:
            tokens = self.patch_norm(tokens)
        if self.config.encoder == "cme":
            words = tokens[:, -length:]
        joined = _joined([(words, word_mask), (seed, None)])
        seeded, rows = self.linguistic_seed(torch.cat([words, seed], dim=1), joined)
        patches = tokens[:, :count]
        if self.config.output_norm == "shared":
            patches = self.norm(patches)
        return Fused(patches, self.norm(seeded[:, -1]), rows)


def _joined(parts: list[tuple[Tensor, Tensor | None]]) -> Bool[Tensor, "B 1 K"] | None:
    """The mask of tokens one after the other, where None is all real; None when all are."""
    if all(mask is None for _, mask in parts):
        return None
    masks = [
        torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if mask is None else mask
        for tokens, mask in parts
    ]
    return torch.cat(masks, dim=1)[:, None]


class CoarseToFine(nn.Module):
    """The segmentation decoder (section 3.3): K blocks of enlarging by 2, a linear map to half the channels, and a
    leaky rectification; then a linear map to one logit. `upsample_first`: the paper's order (`DecoderConfig.order`)."""

    def __init__(self, inputs: int, blocks: int, upsample_first: bool = False) -> None:
        super().__init__()
        self.upsample_first = upsample_first
        widths = [inputs >> index for index in range(blocks + 1)]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=1, bias=False) for before, after in itertools.pairwise(widths)
        )
        self.output = nn.Conv2d(widths[-1], 1, kernel_size=1, bias=False)

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B u v"]:
        """Logits at 2^blocks times the size."""
        if maps.device.type == "cpu":
            maps = maps.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            if not self.upsample_first:
                maps = layer(maps)
            maps = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)
            maps = F.leaky_relu(layer(maps) if self.upsample_first else maps, 0.01)
        return self.output(maps)[:, 0]


class ReSTR(nn.Module):
    """The model; `build_restr` wires its parts. Images are encoded without the expression."""

    late_fusion = True

    def __init__(
        self, config: ReSTRConfig, vision: ViT | ResNet | ShuffleNet, text: GloveTransformer | Bert, fusion: Fusion
    ) -> None:
        super().__init__()
        self.config, self.needs = config, config.needs
        self.vision = vision
        self.text = text
        width, channels = config.fusion.width, vision.channels[config.patch]
        self.project_patches = nn.Linear(channels, width)
        self.project_words = nn.Linear(text.width, width)
        self.positions = PixelPositions(width) if config.positions == "sine" else None
        self.fusion = fusion
        part = config.decoder
        self.patch_matrix = nn.Parameter(torch.randn(width, width) * width**-0.5) if part.projections else None
        self.classifier_matrix = nn.Parameter(torch.randn(width, width) * width**-0.5) if part.projections else None
        self.decoder = None
        if part.kind == "coarse_to_fine":
            guide = channels if part.guide == "vision" else width
            blocks = int(math.log2(config.patch // part.output_stride))
            self.decoder = CoarseToFine(guide + width, blocks, part.order == "upsample_first")
        self.no_target = NoTargetHead(width) if config.no_target_head else None
        self.tags = tag_head(channels, config.tags)

    def forward(self, batch: Batch) -> Output:
        """Mask logits at `decoder.output_stride`, and `auxiliary`: `patch_logits` (B, h, w) and `tag_logits`
        (N, t, h, w) where there are tags. `attention_maps` of the seed: "words" (B, L) of its last layer, and
        "modalities" (B, n, 2), what each of its layers gives pixels and words in all (table 3a)."""
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """z_l: one vector a word."""
        return self.text(tokens)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> ReSTRState:
        """What no expression changes."""
        # Warped images have no padding, and attention without a mask is faster.
        masked = self.config.mask_padding and self.config.input.resize != "warp"
        mask = patch_mask(pixel_mask, self.config.patch) if masked else None
        maps = self.vision(images, mask) if isinstance(self.vision, ViT) else self.vision(images)
        vision = maps[self.config.patch]
        patches = self.project_patches(self._normalised(vision.flatten(2).transpose(1, 2)))
        if self.positions is not None:
            real = patch_mask(pixel_mask, self.config.patch)
            patches = patches + self.positions(real).flatten(2).transpose(1, 2).to(patches.dtype)
        size = (images.shape[2], images.shape[3])
        tags = None if self.tags is None else self.tags(vision)
        if mask is None:
            return ReSTRState(vision, patches, None, size, tags)
        # Nobody looks at patches of padding, but the decoder would blend them with their neighbours.
        vision = vision * mask[:, None].to(vision.dtype)
        patches = patches * mask.flatten(1)[..., None].to(patches.dtype)
        return ReSTRState(vision, patches, mask.flatten(1), size, tags)

    def decode(self, state: ReSTRState, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one."""
        vision, patches, mask, size, tag_logits = state
        if image_index is not None:
            vision, patches = vision[image_index], patches[image_index]
            mask = None if mask is None else mask[image_index]
        words = self.project_words(self._normalised(text.words)) * text.mask[..., None].to(text.words.dtype)
        word_mask = text.mask if self.config.mask_padding else None
        fused = self.fusion(patches, words, mask, word_mask)
        part, grid = self.config.decoder, (vision.shape[2], vision.shape[3])
        features, classifier = fused.patches, fused.classifier
        if mask is not None:
            features = features * mask[..., None].to(features.dtype)
        if self.patch_matrix is not None and self.classifier_matrix is not None:
            features, classifier = features @ self.patch_matrix, classifier @ self.classifier_matrix
        coarse = (features @ classifier[..., None])[..., 0]
        if part.scale_sigmoid:
            coarse = coarse * classifier.shape[-1] ** -0.5
        patch_logits = coarse.unflatten(1, grid)
        fine = tuple(-(-side // part.output_stride) for side in size)
        if self.decoder is None:
            enlarged = tuple(side * self.config.patch // part.output_stride for side in grid)
            logits = F.interpolate(patch_logits[:, None], size=enlarged, mode="bilinear", align_corners=False)[:, 0]
        else:
            gate = coarse.sigmoid() if part.scale_sigmoid else coarse
            masked = (features * gate[..., None]).transpose(1, 2).unflatten(2, grid)
            guide = vision if part.guide == "vision" else patches.transpose(1, 2).unflatten(2, grid)
            logits = self.decoder(torch.cat([guide, masked], dim=1))
        # Patches beyond the image's border are of no interest.
        logits = logits[:, : fine[0], : fine[1]]
        no_target = None if self.no_target is None else self.no_target(fused.patches, mask)
        auxiliary = {"patch_logits": patch_logits}
        if tag_logits is not None:
            auxiliary["tag_logits"] = tag_logits
        attention = self._attention(fused, text)
        return Output(
            logits, no_target, auxiliary=auxiliary, attention_maps=attention, maps=_maps(patch_logits, attention)
        )

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Equation 12, weighted; and the `shared_losses`."""
        config = self.config.losses
        logits = output.mask_logits
        masks = resize_masks(targets.masks, (logits.shape[1], logits.shape[2]))
        parts = {"pixel": config.pixel * F.binary_cross_entropy_with_logits(logits, masks)}
        if config.patch:
            labels = patch_targets(
                targets.masks, self.config.patch, config.patch_threshold, config.patch_label == "any"
            )
            coarse = output.auxiliary["patch_logits"]
            parts["patch"] = config.patch * F.binary_cross_entropy_with_logits(coarse, labels)
        return parts | shared_losses(config, output, targets, logits, masks)

    def _normalised(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        if self.config.fusion.normalise == "l2":
            return F.normalize(tokens, dim=-1)
        return F.layer_norm(tokens, tokens.shape[-1:])

    def _attention(self, fused: Fused, text: TextFeatures) -> dict[str, Tensor]:
        length = text.mask.shape[1]
        on_words = fused.attention[:, :, -1 - length : -1]
        on_pixels = fused.attention[:, :, : -1 - length].sum(dim=2)
        shares = torch.stack([on_pixels, on_words.sum(dim=2)], dim=2)
        return {"words": on_words[:, -1], "modalities": shares}


def _maps(patch_logits: Float[Tensor, "B h w"], attention: dict[str, Tensor]) -> dict[str, NamedMap]:
    """Figure 4b, and what the class seed looks at (table 3a)."""
    shares = attention["modalities"]
    layers = [f"layer {number + 1}: {of}" for number in range(shares.shape[1]) for of in ("pixels", "words")]
    return {
        "patches": pixel_map("patches y_p", patch_logits, apply=torch.sigmoid, scale="probability"),
        "words": word_map("what the class seed reads of the words in its last layer", attention["words"]),
        "modalities": bar_map("the class seed's attention", shares.flatten(1), layers),
    }


def patch_targets(
    masks: Bool[Tensor, "B H W"], patch: int, threshold: float, any_pixel: bool = False
) -> Float[Tensor, "B h w"]:
    """1 on patches of which more than `threshold` (0 to 1) is foreground (equation 11), or any pixel with `any_pixel`;
    a patch at the border counts what lies outside as background."""
    height, width = masks.shape[1:]
    padded = F.pad(masks.float(), (0, -width % patch, 0, -height % patch))
    shares = F.avg_pool2d(padded[:, None], patch)[:, 0]
    return (shares > (0.0 if any_pixel else threshold)).float()


def build_restr(config: ReSTRConfig) -> ReSTR:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    vision = build_vision(config.vision)
    if isinstance(vision, ResNet):  # stages behind the map that is taken would never be read
        vision.channels = {stride: width for stride, width in vision.channels.items() if stride <= config.patch}
        vision.stages = vision.stages[: len(vision.channels)]
    text = build_text(config.text)
    assert isinstance(vision, (ViT, ResNet, ShuffleNet))
    assert isinstance(text, (GloveTransformer, Bert))
    return ReSTR(config, vision, text, Fusion(config.fusion))
