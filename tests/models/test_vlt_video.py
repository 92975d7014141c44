"""VLT on clips (section 4.3.5): batches of clips, shared queries, and the encoder that sees frames together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from refseg.encoders.vision.video_swin import VideoSwin
from refseg.models import build
from refseg.models.vlt.config import OFFICIAL, PAPER, PAPER_VIDEO, VLTConfig
from refseg.models.vlt.contrast import InterSampleConfig
from refseg.types import Batch, TextFeatures, Tokens
from tests.support.tiny_parts import tiny_vlt

FRAMES = 3


def clips(config: VLTConfig) -> Batch:
    """Two windows; two expressions about the first and one about the second."""
    images, real = torch.randn(2 * FRAMES, 3, 64, 64), torch.ones(2 * FRAMES, 64, 64, dtype=torch.bool)
    ids = torch.randint(3, 20, (3, 7)).repeat_interleave(FRAMES, dim=0)
    tokens = Tokens(ids, torch.arange(7).expand(len(ids), 7) < 5)
    index = torch.tensor([0, 1, 2, 0, 1, 2, 3, 4, 5])
    return Batch(images, real, tokens, image_index=index, frames=FRAMES)


def filled(config: VLTConfig) -> nn.Module:
    model = build(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("config", [PAPER, PAPER_VIDEO, OFFICIAL], ids=["frames apart", "video encoder", "fused"])
@torch.no_grad()
def test_a_batch_of_clips_is_each_clip_on_its_own(config: VLTConfig) -> None:
    config = replace(tiny_vlt(config), inter_sample=InterSampleConfig("none"))
    model, batch = filled(config), clips(tiny_vlt(config))
    together = model(batch)
    assert together.mask_logits.shape[0] == 3 * FRAMES
    texts = model.encode_text(Tokens(batch.tokens.ids[::FRAMES], batch.tokens.mask[::FRAMES]))
    for number, window in enumerate((0, 0, 1)):
        rows = slice(window * FRAMES, (window + 1) * FRAMES)
        state = model.encode_clip(batch.images[rows], batch.pixel_mask[rows])
        alone = model.decode_clip(state, texts.select(torch.tensor([number])))
        mine = slice(number * FRAMES, (number + 1) * FRAMES)
        torch.testing.assert_close(together.mask_logits[mine], alone.mask_logits, rtol=1e-3, atol=1e-4)
        attention = together.attention_maps["words"][mine]
        assert torch.equal(attention[0], attention[1])


@torch.no_grad()
def test_a_video_encoder_sees_the_frames_of_a_clip_together() -> None:
    config = replace(tiny_vlt(PAPER_VIDEO), inter_sample=InterSampleConfig("none"))
    model, batch = filled(config), clips(tiny_vlt(PAPER_VIDEO))
    assert isinstance(model.vision, VideoSwin)
    images, real = batch.images[:FRAMES], batch.pixel_mask[:FRAMES]
    clip, apart = model.encode_clip(images, real), model.encode_image(images, real)
    assert not torch.allclose(clip.raw, apart.raw, atol=1e-3)
    assert clip.visual_queries is None
    one = model.encode_clip(images[:1], real[:1])
    torch.testing.assert_close(one.raw, apart.raw[:1], rtol=1e-4, atol=1e-5)


def test_expressions_of_a_clip_are_encoded_once_and_lose_one_word() -> None:
    config = replace(
        tiny_vlt(PAPER_VIDEO), inter_sample=InterSampleConfig("mcl", least_words=1, word_select="random", frames=1)
    )
    model, batch = filled(config), clips(config)
    model.train()
    seen: list[int] = []

    class Text(nn.Module):
        width = model.text.width  # type: ignore[union-attr]

        def forward(self, tokens: Tokens) -> TextFeatures:
            seen.append(len(tokens))
            return model_text(tokens)

    model_text, model.text = model.text, Text()
    output = model(batch)
    assert seen == [3]
    words = output.auxiliary["masked_word"].view(3, FRAMES)
    assert (words == words[:, :1]).all()
    assert output.auxiliary["frames"] == FRAMES
