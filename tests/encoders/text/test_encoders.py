"""The text encoders, and pretrained weights going into them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from refseg.encoders.pretrained import load_backbones
from refseg.encoders.text.bert import Bert, BertTextConfig, from_transformers
from refseg.encoders.text.transformer import WordTransformer, WordTransformerConfig, mean_word
from refseg.errors import CheckpointError, ConfigError
from refseg.types import Tokens

SMALL = BertTextConfig(
    vocabulary_size=20, max_words=6, width=16, layers=2, heads=2, feedforward=24, positions=8, dropout=0.0
)
TOKENS = Tokens(
    torch.tensor([[2, 5, 9, 3, 0, 0], [4, 4, 4, 4, 4, 4]]), torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6]).bool()
)


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.text = Bert(SMALL)


def test_mean_word_leaves_padding_out() -> None:
    words = torch.arange(24.0).view(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_word(words, mask).tolist() == [[2, 3, 4, 5], [12, 13, 14, 15]]


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_word_transformer_never_looks_at_padding(norm: str) -> None:
    config = WordTransformerConfig(20, 6, 16, layers=2, heads=2, feedforward=24, norm=norm)  # type: ignore[arg-type]
    encoder = WordTransformer(config).eval()
    features = encoder(TOKENS)
    assert features.words.shape == (2, 6, 16)
    other = TOKENS.ids.clone()
    other[0, 4:] = 7
    changed = encoder(Tokens(other, TOKENS.mask))
    assert torch.allclose(features.words[0, :4], changed.words[0, :4], atol=1e-6)
    assert torch.allclose(features.sentence, changed.sentence, atol=1e-6)
    swapped = TOKENS.ids[:, [1, 0, 2, 3, 4, 5]]
    assert not torch.allclose(features.sentence[0], encoder(Tokens(swapped, TOKENS.mask)).sentence[0], atol=1e-4)


@torch.no_grad()
def test_bert_file_goes_into_our_encoder(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    settings = BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=8,
    )  # fmt: skip
    theirs = BertForMaskedLM(settings).eval()
    tensors = {name: value.clone() for name, value in theirs.state_dict().items() if "decoder" not in name}
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in tensors.items()}
    save_file(old, tmp_path / "model.safetensors")
    model = Parts().eval()
    load_backbones(model, text=str(tmp_path))
    expected = theirs.bert(input_ids=TOKENS.ids, attention_mask=TOKENS.mask.long()).last_hidden_state
    features = model.text(TOKENS)
    assert torch.allclose(features.words, expected, atol=1e-6)
    assert torch.equal(features.sentence, features.words[:, 0])


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = Parts()
    with pytest.raises(CheckpointError, match="unexplained: something"):
        from_transformers({"something": torch.zeros(1)})
    own = {name: value.clone() for name, value in model.text.state_dict().items()}
    save_file({name.removeprefix("bert."): value for name, value in own.items()}, tmp_path / "model.safetensors")
    load_backbones(model, text=str(tmp_path / "model.safetensors"))
    short = {name: value for name, value in own.items() if "layer.1" not in name}
    save_file(short, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: bert\.encoder\.layer\.1"):
        load_backbones(model, text=str(tmp_path))
    own["bert.embeddings.position_embeddings.weight"] = torch.zeros(9, 16)
    save_file(own, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"position_embeddings.* is \(9, 16\)"):
        load_backbones(model, text=str(tmp_path))
    with pytest.raises(CheckpointError, match=r"fit Swin or .*ResNet or .*, not NoneType"):
        load_backbones(model, vision=str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_backbones(model, text=str(tmp_path / "empty"))
    with pytest.raises(CheckpointError, match="give a local folder"):
        load_backbones(model, text="nobody/no-such-bert")


def test_impossible_sizes_are_refused() -> None:
    for wrong in ({"heads": 5}, {"max_words": 600}, {"dropout": 1.0}, {"layers": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            BertTextConfig(**wrong)
    for wrong in ({"heads": 5}, {"dropout": -0.1}, {"vocabulary_size": 2}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            WordTransformerConfig(**wrong)
