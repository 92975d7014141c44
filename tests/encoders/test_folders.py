"""Folders as transformers writes them, one of each family, into our encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from refseg.encoders.pretrained import load_backbones
from refseg.encoders.text.bert import Bert, BertTextConfig
from refseg.encoders.vision.resnet import ResNet, ResNetConfig
from refseg.encoders.vision.swin import Swin, SwinConfig
from refseg.encoders.vision.vit import ViT, ViTConfig
from refseg.errors import CheckpointError
from refseg.types import Tokens

IMAGES = torch.linspace(-2, 2, 3 * 64 * 64).view(1, 3, 64, 64).sin()
TOKENS = Tokens(torch.tensor([[2, 5, 9, 3]]), torch.ones(1, 4, dtype=torch.bool))
BERT: dict[str, Any] = {
    "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
}  # fmt: skip


class Parts(nn.Module):
    """A model of one encoder of each kind that is given."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def spread(model: Any, folder: Path) -> Any:
    """The model with every tensor away from its initial value, written to a folder."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.add_(0.1 * torch.randn_like(value))
    model.save_pretrained(folder)
    return model.eval()


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("block", ["bottleneck", "basic"])
@torch.no_grad()
def test_resnet(tmp_path: Path, block: str) -> None:
    sizes: dict[str, Any] = {
        "embedding_size": 16,
        "hidden_sizes": [16, 32, 48, 64],
        "depths": [2, 1, 1, 1],
        "layer_type": block,
    }
    theirs = spread(transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes)), tmp_path)
    own = ResNetConfig(block=block, widths=(16, 32, 48, 64), depths=(2, 1, 1, 1), stem_width=16)  # type: ignore[arg-type]
    model: Any = Parts(vision=ResNet(own)).eval()
    load_backbones(model, vision=str(tmp_path))
    close(model.vision(IMAGES)[32], theirs.resnet(IMAGES).last_hidden_state)


@torch.no_grad()
def test_swin(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 2, 4],
        "window_size": 4,
        "image_size": 128,
    }
    theirs = spread(transformers.SwinForImageClassification(transformers.SwinConfig(**sizes)), tmp_path)
    model: Any = Parts(vision=Swin(SwinConfig(embed_dim=8, depths=(1, 1, 1, 1), heads=(1, 2, 2, 4), window=4))).eval()
    load_backbones(model, vision=str(tmp_path))
    # Our maps have normalisations of their own that begin as ones and zeros, theirs the classifier's.
    images = IMAGES.repeat(1, 1, 2, 2)  # the last map is a whole window
    states = theirs.swin(images, output_hidden_states=True).reshaped_hidden_states
    expected = nn.functional.layer_norm(states[-1].flatten(2).transpose(1, 2), (64,))
    close(model.vision(images)[32].flatten(2).transpose(1, 2), expected)


@torch.no_grad()
def test_vit(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"image_size": 64, "patch_size": 16, "layer_norm_eps": 1e-6}
    settings = transformers.ViTConfig(**{k: v for k, v in BERT.items() if k != "vocab_size"}, **sizes)
    theirs = spread(transformers.ViTForImageClassification(settings), tmp_path)
    own = ViTConfig(patch=16, width=16, layers=2, heads=2, feedforward=24, grid=4)
    model: Any = Parts(vision=ViT(own)).eval()
    load_backbones(model, vision=str(tmp_path))
    close(model.vision(IMAGES)[16].flatten(2).transpose(1, 2), theirs.vit(IMAGES).last_hidden_state[:, 1:])


@pytest.mark.parametrize("family", ["bert", "roberta"])
@torch.no_grad()
def test_bert(tmp_path: Path, family: str) -> None:
    if family == "bert":
        theirs = spread(transformers.BertForPreTraining(transformers.BertConfig(**BERT)), tmp_path)
    else:
        settings = transformers.RobertaConfig(
            **BERT, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
        )
        theirs = spread(transformers.RobertaForMaskedLM(settings), tmp_path)
    own = BertTextConfig(
        vocabulary_size=20, max_words=4, width=16, layers=2, heads=2, feedforward=24, dropout=0.0,
        positions=512 if family == "bert" else 514, family=family,  # type: ignore[arg-type]
    )  # fmt: skip
    model: Any = Parts(text=Bert(own)).eval()
    load_backbones(model, text=str(tmp_path))
    expected = getattr(theirs, family)(input_ids=TOKENS.ids, attention_mask=TOKENS.mask.long()).last_hidden_state
    close(model.text(TOKENS).words, expected)


def test_a_folder_of_another_family_is_refused(tmp_path: Path) -> None:
    spread(transformers.BertModel(transformers.BertConfig(**BERT)), tmp_path)
    for encoder in (ResNet(ResNetConfig(widths=(16, 16, 16, 16), depths=(1, 1, 1, 1), stem_width=8)), Swin(SwinConfig(
        embed_dim=8, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), window=4))):  # fmt: skip
        with pytest.raises(CheckpointError, match=r"not a (ResNet|Swin).*unexplained: "):
            load_backbones(Parts(vision=encoder), vision=str(tmp_path))
