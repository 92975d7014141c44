"""Networks of transformers, tiny and random, saved as their repositories are: config, weights, tokenizer, processor.

`write_network(folder, name)` makes one; `WRITERS` has a network of each family, `MORE` has further ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = [
    "a",
    "the",
    "zebra",
    "dog",
    "cat",
    "red",
    "ball",
    "man",
    "in",
    "white",
    "on",
    "left",
    "of",
    "second",
    "from",
    "right",
    "locate",
    "image",
    "with",
    "mask",
    "detect",
]


def word_tokenizer(
    special: dict[str, str],
    more: list[str] | None = None,
    template: str | None = None,
    at: dict[str, int] | None = None,
) -> PreTrainedTokenizerFast:
    """Whole words; `special` are roles and tokens, `more` further special tokens, `at` numbers that some have."""
    fixed = dict(at or {})
    numbers = {number: token for token, number in fixed.items()}
    waiting = [token for token in [*special.values(), *(more or []), *WORDS] if token not in fixed]
    vocabulary: dict[str, int] = dict(fixed)
    number = 0
    while waiting or number <= max(numbers, default=-1):
        if number not in numbers:
            vocabulary[waiting.pop(0) if waiting else f"[unused{number}]"] = number
        number += 1
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        used = [token for token in dict.fromkeys(template.split()) if not token.startswith("$")]
        inner.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(token, vocabulary[token]) for token in used]
        )
    made = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    made.add_special_tokens({"additional_special_tokens": more or []})
    return made


def clip_tokenizer() -> PreTrainedTokenizerFast:
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return word_tokenizer(special, template="<s> $A </s>")


def _save(folder: Path, network: Any, tokenizer: Any = None, processor: Any = None, scale: float = 0.3) -> Path:
    # Random weights of the published scale say the same of every text; larger ones tell texts apart.
    with torch.no_grad():
        for name, values in network.named_parameters():
            if values.ndim > 1:
                values.normal_(0, scale)
            elif "bias" in name and "norm" not in name:
                values.normal_(0, 0.1)
    network.eval().save_pretrained(folder)
    for part in (tokenizer, processor):
        if part is not None:
            part.save_pretrained(folder)
    return folder


def sam3_config() -> Any:
    from transformers import Sam3Config

    numbers = clip_tokenizer()
    part = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 32}
    return Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                **part,
                "num_hidden_layers": 2,
                "image_size": 64,
                "patch_size": 8,
                "window_size": 4,
                "global_attn_indexes": [1],
                "pretrain_image_size": 32,
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        text_config={
            "model_type": "clip_text_model",
            **part,
            "num_hidden_layers": 2,
            "projection_dim": 32,
            "max_position_embeddings": 32,
            "vocab_size": len(numbers),
            "eos_token_id": numbers.eos_token_id,
            "bos_token_id": numbers.bos_token_id,
            "pad_token_id": numbers.pad_token_id,
        },
        geometry_encoder_config={**part, "num_layers": 1},
        detr_encoder_config={**part, "num_layers": 2},
        detr_decoder_config={**part, "num_layers": 2, "num_queries": 10},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 4, "num_upsampling_stages": 2},
    )


def sam3(folder: Path) -> Path:
    from transformers.models.sam3.modeling_sam3 import Sam3Model

    _save(folder, Sam3Model(sam3_config()), clip_tokenizer())
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_processor_type": "Sam3ImageProcessorFast"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def sam2_config() -> Any:
    from transformers import Sam2Config

    return Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 12,
                "num_attention_heads": 1,
                "image_size": [128, 128],
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [12, 24, 48, 96],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [8, 4, 14, 7],
                "global_attention_blocks": [3],
            },
            "backbone_channel_list": [96, 48, 24, 12],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 128, "patch_size": 16, "mask_input_channels": 8},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": 32,
        },
    )


def sam(folder: Path) -> Path:
    from transformers import SamConfig
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil
    from transformers.models.sam.modeling_sam import SamModel

    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
            "mlp_dim": 64,
            "num_pos_feats": 16,
            "window_size": 4,
            "global_attn_indexes": [1],
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 8, "mask_input_channels": 8},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": 32,
        },
    )
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    return _save(folder, SamModel(config), processor=SamImageProcessorPil(**sizes))


def sam2(folder: Path) -> Path:
    from transformers.models.sam2.modeling_sam2 import Sam2Model

    return _save(folder, Sam2Model(sam2_config()))


def grounding_dino(folder: Path, mm: bool = False) -> Path:
    """`mm`: MM Grounding DINO."""
    from transformers import GroundingDinoConfig, MMGroundingDinoConfig, SwinConfig
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil
    from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoForObjectDetection
    from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import MMGroundingDinoForObjectDetection

    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    # The network looks for these numbers of BERT's.
    at = {"[PAD]": 0, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
    words = word_tokenizer(special, template="[CLS] $A [SEP]", at=at)
    config = (MMGroundingDinoConfig if mm else GroundingDinoConfig)(
        backbone_config=SwinConfig(
            image_size=64,
            window_size=4,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config={
            "model_type": "bert",
            "vocab_size": len(words),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=9,
        num_feature_levels=4,
        encoder_n_points=2,
        decoder_n_points=2,
        max_text_len=32,
    )
    processor = GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 128})
    network = (MMGroundingDinoForObjectDetection if mm else GroundingDinoForObjectDetection)(config)
    with torch.no_grad():  # scores are products of normalised vectors: smaller ones are not all 1
        network.model.decoder.layer_norm.weight.fill_(0.1)
    return _save(folder, network, words, processor, scale=0.08)


def _clip_parts(words: PreTrainedTokenizerFast, layers: int = 2, patch: int = 16) -> dict[str, Any]:
    part = {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 64}
    text = {
        **part,
        "vocab_size": len(words),
        "max_position_embeddings": 16,
        "eos_token_id": words.eos_token_id,
        "bos_token_id": words.bos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    return {
        "text_config": text,
        "vision_config": {**part, "image_size": 64, "patch_size": patch},
        "projection_dim": 32,
    }


def owlv2(folder: Path) -> Path:
    from transformers import Owlv2Config
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil
    from transformers.models.owlv2.modeling_owlv2 import Owlv2ForObjectDetection

    words = clip_tokenizer()
    processor = Owlv2ImageProcessorPil(size={"height": 64, "width": 64})
    return _save(
        folder, Owlv2ForObjectDetection(Owlv2Config(**_clip_parts(words, patch=32))), words, processor, scale=0.12
    )


def clipseg(folder: Path) -> Path:
    from transformers import CLIPSegConfig
    from transformers.models.clipseg.modeling_clipseg import CLIPSegForImageSegmentation
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    words = clip_tokenizer()
    config = CLIPSegConfig(
        **_clip_parts(words, layers=3),
        extract_layers=[1, 2],
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        conditional_layer=0,
    )
    processor = ViTImageProcessorPil(size={"height": 64, "width": 64})
    return _save(folder, CLIPSegForImageSegmentation(config), words, processor)


def florence2(folder: Path) -> Path:
    from transformers import Florence2Config
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.florence2.modeling_florence2 import Florence2ForConditionalGeneration

    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    # A network with random weights writes outlines where the six numbers of a triangle are a word.
    shapes = [f"<loc_{n}><loc_{n}><loc_{n + 400}><loc_{n}><loc_{n}><loc_{2 * n + 300}>" for n in range(300)]
    words = word_tokenizer(special, ["<sep>", "<poly>", "</poly>", "<image>", *shapes])
    config = Florence2Config(
        vision_config={
            "depths": [1, 1, 1, 1],
            "embed_dim": [8, 16, 16, 32],
            "num_heads": [1, 1, 2, 2],
            "num_groups": [1, 1, 2, 2],
            "window_size": 4,
            "projection_dim": 32,
        },
        text_config={
            "model_type": "bart",
            "vocab_size": len(words),
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "max_position_embeddings": 128,
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
            "decoder_start_token_id": words.eos_token_id,
            "forced_eos_token_id": words.eos_token_id,
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    processor = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    return _save(folder, Florence2ForConditionalGeneration(config), words, processor)


def paligemma(folder: Path) -> Path:
    from transformers import PaliGemmaConfig
    from transformers.models.paligemma.modeling_paligemma import PaliGemmaForConditionalGeneration
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    special = {"unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    # A network with random weights writes boxes where four of these together are a word.
    boxes = [f"<loc{n:04}><loc{2 * n:04}><loc{n + 300:04}><loc{2 * n + 200:04}>" for n in range(300)]
    words = word_tokenizer(special, ["<image>", ";", *boxes])
    part = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **part, "image_size": 32, "patch_size": 16},
        text_config={
            "model_type": "gemma2",
            **part,
            "head_dim": 16,
            "num_key_value_heads": 1,
            "vocab_size": len(words),
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
        projection_dim=32,
    )
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return _save(folder, PaliGemmaForConditionalGeneration(config), words, processor)


def _qwen_words() -> tuple[PreTrainedTokenizerFast, dict[str, Any]]:
    """The tokenizer, and the fields of a configuration that hold its numbers."""
    special = {"unk_token": "<unk>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    more = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    # A network with random weights writes boxes where these are words.
    boxes = [f"[{n},{n},{2 * n + 9},{3 * n + 7}]" for n in range(300)]
    words = word_tokenizer(special, [*more, *boxes])
    numbers = dict(zip(more, words.convert_tokens_to_ids(more), strict=True))
    return words, {
        "image_token_id": numbers["<|image_pad|>"],
        "video_token_id": numbers["<|video_pad|>"],
        "vision_start_token_id": numbers["<|vision_start|>"],
        "vision_end_token_id": numbers["<|vision_end|>"],
    }


def _qwen_text(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "vocab_size": len(words),
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
        "bos_token_id": None,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }


def qwen2_vl(folder: Path) -> Path:
    from transformers import Qwen2VLConfig
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLForConditionalGeneration

    words, numbers = _qwen_words()
    config = Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 32},
        text_config={"model_type": "qwen2_vl_text", **_qwen_text(words)},
        **numbers,
    )
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28 * 2, "longest_edge": 28 * 28 * 12})
    return _save(folder, Qwen2VLForConditionalGeneration(config), words, processor)


def qwen3_vl(folder: Path) -> Path:
    from transformers import Qwen3VLConfig
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLForConditionalGeneration

    words, numbers = _qwen_words()
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        text_config={"model_type": "qwen3_vl_text", "head_dim": 8, **_qwen_text(words)},
        **numbers,
    )
    size = {"shortest_edge": 32 * 32 * 2, "longest_edge": 32 * 32 * 12}
    processor = Qwen2VLImageProcessorPil(size=size, patch_size=16)
    return _save(folder, Qwen3VLForConditionalGeneration(config), words, processor)


def qwen_vl(folder: Path) -> Path:
    from transformers import Qwen2_5_VLConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    words, numbers = _qwen_words()
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 32,
        },
        text_config={"model_type": "qwen2_5_vl_text", **_qwen_text(words)},
        **numbers,
    )
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28 * 2, "longest_edge": 28 * 28 * 12})
    return _save(folder, Qwen2_5_VLForConditionalGeneration(config), words, processor)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "sam3": sam3,
    "grounding-dino": grounding_dino,
    "owlv2": owlv2,
    "clipseg": clipseg,
    "florence2": florence2,
    "paligemma": paligemma,
    "qwen-vl": qwen_vl,
    "sam2": sam2,
    "sam": sam,
}
MORE: dict[str, Callable[[Path], Path]] = {
    "mm-grounding-dino": partial(grounding_dino, mm=True),
    "qwen2-vl": qwen2_vl,
    "qwen3-vl": qwen3_vl,
}
"""Further networks that the same adapters ask."""


def write_network(folder: Path, family: str) -> Path:
    """A folder as the family's repositories are, the same in every run."""
    torch.manual_seed(0)
    return {**WRITERS, **MORE}[family](folder)
