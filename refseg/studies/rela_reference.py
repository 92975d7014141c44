"""ReLA's heavy parts written the plain way, as the published code computes them: the yardstick of `refseg benchmark`.

The functions take our modules and use their weights, so that they must give the same numbers as the modules' own
`forward`, only later: windows by padding, rolling and partitioning with padding multiplied like everything else,
deformable sampling by `grid_sample` one map at a time, normalisation after convolution. Nothing else uses this file.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from refseg.encoders.vision.swin import STRIDES, Stage, Swin, SwinBlock
from refseg.models.rela.masked_regions import SCALES, DecoderLayer, MaskedRegionDecoder, Residual
from refseg.models.rela.model import ReLA
from refseg.nn.attention import Attention
from refseg.nn.conv import ConvNorm
from refseg.nn.deformable import DeformableAttention, Sizes
from refseg.nn.pixel_word import FAR_AWAY, AfterStage, LanguageStages, PixelWordAttention
from refseg.nn.pyramid import COARSE_STRIDES, DeformablePyramid, PyramidFeatures, sine_positions
from refseg.nn.window import MASKED, WindowAttention
from refseg.types import Batch, Output, TextFeatures

__all__ = ["plain_decode", "plain_fusion", "plain_pyramid", "plain_rela", "plain_swin"]


Clock = Callable[[str], AbstractContextManager[object]]


def plain_rela(model: ReLA, batch: Batch, clock: Clock = nullcontext) -> Output:
    """`ReLA.forward` of the `OFFICIAL` presets with a Swin transformer. `clock(stage)` surrounds what a stage does."""
    batch = batch.expanded()
    text = model.encode_text(batch.tokens)
    assert isinstance(model.vision, Swin)
    assert isinstance(model.pixel_decoder, DeformablePyramid)
    assert isinstance(model.relation, MaskedRegionDecoder)
    assert model.language_stages is not None
    fuse = plain_fusion(model.language_stages, text)

    def timed(stage: int, pixels: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        with clock("fusion"):
            return fuse(stage, pixels, size)

    with clock("vision"):
        maps = plain_swin(model.vision, batch.images, timed)
    with clock("mask"):
        pyramid = plain_pyramid(model.pixel_decoder, maps)
    return plain_decode(model.relation, pyramid, text)


def plain_swin(
    model: Swin, images: Float[Tensor, "B 3 H W"], after_stage: AfterStage | None = None
) -> dict[int, Float[Tensor, "B _ _ _"]]:
    """`Swin.forward`."""
    height, width = images.shape[-2:]
    maps = model.patch_embed.proj(F.pad(images, (0, -width % 4, 0, -height % 4)))
    size = (maps.shape[2], maps.shape[3])
    tokens = model.patch_embed.norm(maps.flatten(2).transpose(1, 2))
    features = {}
    norms = (model.norm0, model.norm1, model.norm2, model.norm3)
    for index, (stride, stage, norm) in enumerate(zip(STRIDES, model.layers, norms, strict=True)):
        assert isinstance(stage, Stage)
        mask = _shift_mask(size, stage.window, images.device)
        for block in stage.blocks:
            assert isinstance(block, SwinBlock)
            tokens = _block(block, tokens, size, mask)
        outgoing = tokens
        if after_stage is not None:
            outgoing, tokens = after_stage(index, tokens, size)
        features[stride] = norm(outgoing).view(len(images), *size, -1).permute(0, 3, 1, 2).contiguous()
        if stage.downsample is not None:
            grid = tokens.view(len(images), *size, -1)
            grid = F.pad(grid, (0, 0, 0, size[1] % 2, 0, size[0] % 2))
            quarters = [grid[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
            size = (grid.shape[1] // 2, grid.shape[2] // 2)
            merged = torch.cat(quarters, dim=-1).view(len(images), size[0] * size[1], -1)
            tokens = stage.downsample.reduction(stage.downsample.norm(merged))
    return features


def _shift_mask(size: tuple[int, int], window: int, device: torch.device) -> Float[Tensor, "W n n"]:
    """What is added to the scores of a shifted block: pairs from different bands of the rolled map are kept apart."""
    rows, columns = (-(-length // window) * window for length in size)
    shift = window // 2
    bands = torch.zeros(1, rows, columns, 1, device=device)
    stretches = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (across, along) in enumerate((a, b) for a in stretches for b in stretches):
        bands[:, across, along] = number
    flat = _partition(bands, window).squeeze(-1)
    apart = flat[:, None, :] != flat[:, :, None]
    return torch.zeros(apart.shape, device=device).masked_fill(apart, MASKED)


def _partition(grid: Float[Tensor, "B H W C"], window: int) -> Float[Tensor, "M n C"]:
    batch, height, width, channels = grid.shape
    grid = grid.view(batch, height // window, window, width // window, window, channels)
    return grid.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window * window, channels)


def _block(
    block: SwinBlock, tokens: Float[Tensor, "B T C"], size: tuple[int, int], mask: Float[Tensor, "W n n"]
) -> Float[Tensor, "B T C"]:
    batch, _, channels = tokens.shape
    height, width = size
    window, shift = block.attn.window[0], block.shift[0]
    grid = block.norm1(tokens).view(batch, height, width, channels)
    grid = F.pad(grid, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = grid.shape[1:3]
    if shift:
        grid = torch.roll(grid, shifts=(-shift, -shift), dims=(1, 2))
    attended = _attention(block.attn, _partition(grid, window), mask if shift else None)
    attended = attended.view(batch, rows // window, columns // window, window, window, channels)
    grid = attended.permute(0, 1, 3, 2, 4, 5).contiguous().view(batch, rows, columns, channels)
    if shift:
        grid = torch.roll(grid, shifts=(shift, shift), dims=(1, 2))
    tokens = tokens + grid[:, :height, :width].contiguous().view(batch, height * width, channels)
    return tokens + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(tokens))))


def _attention(
    layer: WindowAttention, windows: Float[Tensor, "M n C"], mask: Float[Tensor, "W n n"] | None
) -> Float[Tensor, "M n C"]:
    count, slots, channels = windows.shape
    heads, window = layer.heads, layer.window[0]
    qkv = layer.qkv(windows).reshape(count, slots, 3, heads, channels // heads).permute(2, 0, 3, 1, 4)
    query, key, value = qkv[0] * (channels // heads) ** -0.5, qkv[1], qkv[2]
    places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    down, right = (places[:, :, None] - places[:, None, :] + window - 1).unbind(0)
    index = (down * (2 * window - 1) + right).to(windows.device)
    bias = layer.relative_position_bias_table[index.view(-1)].view(slots, slots, heads).permute(2, 0, 1).contiguous()
    scores = query @ key.transpose(-2, -1) + bias[None]
    if mask is not None:
        scores = scores.view(-1, len(mask), heads, slots, slots) + mask[None, :, None]
        scores = scores.view(-1, heads, slots, slots)
    attended = scores.softmax(dim=-1) @ value
    return layer.proj(attended.transpose(1, 2).reshape(count, slots, channels))


def plain_pyramid(model: DeformablePyramid, maps: dict[int, Float[Tensor, "B _ _ _"]]) -> PyramidFeatures:
    """`DeformablePyramid.forward`."""
    projected = [project(maps[stride]) for project, stride in zip(model.input_proj, COARSE_STRIDES, strict=True)]
    sizes = tuple((level.shape[2], level.shape[3]) for level in projected)
    width, device = projected[0].shape[1], projected[0].device
    positions = torch.cat(
        [sine_positions(*size, width, device) + embed for size, embed in zip(sizes, model.level_embed, strict=True)]
    )
    pixels = torch.cat([level.flatten(2).transpose(1, 2) for level in projected], dim=1)
    for layer in model.layers:
        pixels = layer.norm1(pixels + _deformable(layer.self_attn, pixels + positions, pixels, sizes))  # type: ignore
        pixels = layer.norm2(pixels + layer.linear2(F.relu(layer.linear1(pixels))))  # type: ignore[operator]
    levels = [
        part.transpose(1, 2).reshape(len(pixels), width, *size)
        for part, size in zip(pixels.split([h * w for h, w in sizes], dim=1), sizes, strict=True)
    ]
    fine = _conv_norm(model.lateral, maps[4])
    fine = fine + F.interpolate(levels[-1], size=fine.shape[-2:], mode="bilinear", align_corners=False)
    fine = F.relu(_conv_norm(model.smooth, fine))
    return PyramidFeatures(model.mask_features(fine), levels)


def _conv_norm(layer: ConvNorm, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
    return layer.norm(layer.conv(maps))


def _deformable(
    layer: DeformableAttention, queries: Float[Tensor, "B T C"], values: Float[Tensor, "B T C"], sizes: Sizes
) -> Float[Tensor, "B T C"]:
    batch, number, width = queries.shape
    heads, levels, points = layer.heads, layer.levels, layer.points
    maps = layer.value_proj(values).view(batch, number, heads, width // heads)
    offsets = layer.sampling_offsets(queries).view(batch, number, heads, levels, points, 2)
    weights = layer.attention_weights(queries).view(batch, number, heads, levels * points).softmax(-1)
    spans = torch.tensor([(w, h) for h, w in sizes], dtype=queries.dtype, device=queries.device)
    centres = []
    for height, width_ in sizes:
        y, x = torch.meshgrid(
            (torch.arange(height, device=queries.device) + 0.5) / height,
            (torch.arange(width_, device=queries.device) + 0.5) / width_,
            indexing="ij",
        )
        centres.append(torch.stack([x, y], dim=-1).flatten(0, 1))
    places = torch.cat(centres)[None, :, None, None, None] + offsets / spans[:, None]
    sampled = []
    for level, (part, (rows, columns)) in enumerate(zip(maps.split([h * w for h, w in sizes], 1), sizes, strict=True)):
        plane = part.flatten(2).transpose(1, 2).reshape(batch * heads, width // heads, rows, columns)
        grid = (2 * places - 1)[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
    scale = weights.transpose(1, 2).reshape(batch * heads, 1, number, levels * points)
    summed = (torch.stack(sampled, dim=-2).flatten(-2) * scale).sum(-1).view(batch, width, number)
    return layer.output_proj(summed.transpose(1, 2).contiguous())


def plain_fusion(stages: LanguageStages, text: TextFeatures) -> AfterStage:
    """`LanguageStages.after_stage`, with every layer a convolution of kernel 1 over (channels, pixels)."""

    def fuse(stage: int, pixels: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        fusion = stages.fusions[stage]
        assert isinstance(fusion, PixelWordAttention)
        fused = _pixel_words(fusion, pixels.transpose(1, 2), text).transpose(1, 2)
        if stage == len(stages.gates):
            return fused, pixels
        gate = stages.gates[stage]
        return fused, pixels + gate.outer(gate.inner(fused).relu()).tanh() * fused  # type: ignore[operator, union-attr]

    return fuse


def _pixel_words(
    fusion: PixelWordAttention, pixels: Float[Tensor, "B C T"], text: TextFeatures
) -> Float[Tensor, "B C T"]:
    def convolve(layer: torch.nn.Linear, features: Tensor) -> Tensor:
        return F.conv1d(features, layer.weight[..., None], layer.bias)

    real = text.mask.to(pixels.dtype)[:, None]
    words = text.words.transpose(1, 2)
    queries = F.instance_norm(convolve(fusion.query, pixels)).transpose(1, 2)
    keys, values = convolve(fusion.key, words) * real, convolve(fusion.value, words) * real
    scores = queries @ keys * pixels.shape[1] ** -0.5 + (FAR_AWAY * real - FAR_AWAY)
    gathered = (scores.softmax(dim=-1) @ values.transpose(1, 2)).transpose(1, 2)
    gathered = F.instance_norm(convolve(fusion.gathered, gathered))
    return F.gelu(convolve(fusion.output, F.gelu(convolve(fusion.vision, pixels)) * gathered))


def plain_decode(decoder: MaskedRegionDecoder, pyramid: PyramidFeatures, text: TextFeatures) -> Output:
    """`MaskedRegionDecoder` of branch main: after every layer all regions' masks at full size, and all three heads."""
    assert decoder.first is not None
    features = pyramid.mask_features
    levels = [level.flatten(2).transpose(1, 2) for level in pyramid.levels]
    sizes = [(level.shape[2], level.shape[3]) for level in pyramid.levels]
    values = [level + embed for level, embed in zip(levels, decoder.scales.weight, strict=True)]
    places = [sine_positions(*size, features.shape[1], features.device) for size in sizes]
    words = decoder.words(text.words)
    regions = decoder.regions.weight[None].repeat(len(words), 1, 1)
    positions = decoder.region_positions.weight
    for index, layer in enumerate(decoder.layers):
        assert isinstance(layer, DecoderLayer)
        scale = index % SCALES
        masks = _heads(decoder, regions, features)[0]
        resized = F.interpolate(masks, size=sizes[scale], mode="bilinear", align_corners=False)
        blocked = (resized.sigmoid().flatten(2)[:, None] < 0.5).repeat(1, layer.ria.attention.heads, 1, 1)
        blocked = blocked & ~blocked.all(dim=-1, keepdim=True)
        keys = values[scale] + places[scale]
        regions = _residual(layer.ria, regions, regions + positions, keys, values[scale], blocked)
        if index == 0:
            read = _residual(decoder.first.language, regions, regions, words, words)
            regions = regions + decoder.first.factor * decoder.first.gate.sigmoid() * read
        placed = regions + positions
        regions = _residual(layer.regions, regions, placed, placed, regions)
        regions = layer.norm(regions + layer.feed_forward(regions))
    _, minimap, pairs, no_target = _heads(decoder, regions, features)
    return Output(
        pairs[:, 1] - pairs[:, 0],
        no_target[:, 1] - no_target[:, 0],
        auxiliary={"minimap_logits": minimap[..., 1] - minimap[..., 0], "mask_pairs": pairs},
    )


def _heads(
    decoder: MaskedRegionDecoder, regions: Float[Tensor, "B R C"], features: Float[Tensor, "B C h w"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Region masks (B, R, h, w), minimap pairs (B, R, 2), mask pairs (B, 2, h, w), no_target pairs (B, 2)."""
    normal = decoder.norm(regions)
    masks = torch.einsum("bqc,bchw->bqhw", decoder.filter(normal), features)
    minimap = decoder.minimap(normal)
    pairs = torch.einsum("bqa,bqhw->bahw", minimap, masks)
    return masks, minimap, pairs, decoder.no_target(normal).mean(dim=1)


def _residual(
    step: Residual, regions: Tensor, queries: Tensor, keys: Tensor, values: Tensor, blocked: Tensor | None = None
) -> Float[Tensor, "B R C"]:
    layer: Attention = step.attention
    query, key, value = (
        project(tokens).unflatten(2, (layer.heads, -1)).transpose(1, 2)
        for project, tokens in ((layer.query, queries), (layer.key, keys), (layer.value, values))
    )
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if blocked is not None:
        scores = scores.masked_fill(blocked, float("-inf"))
    return step.norm(regions + layer.output((scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)))
