"""MiniLM: the library's BERT gives the same vectors, eight bits change little, pruning keeps every word spellable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from refseg.encoders.text.minilm import (
    Int8Linear,
    MiniLM,
    MiniLMConfig,
    WordPieces,
    prune_vocabulary,
    quantize,
    read_minilm,
)
from refseg.errors import CheckpointError, ConfigError

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *("##" + letter for letter in LETTERS)]
PIECES += ["the", "cat", "dog", "##s", "left", "giraffe", "##ing", "sit", "'", "!"]
PIECES = list(dict.fromkeys(PIECES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small random BERT as the library stores it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(PIECES),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return tmp_path


TEXTS = ["the cats", "Dog sitting LEFT!", "giraffe's", "naïve xyz"]


def test_vectors_are_the_librarys(folder: Path) -> None:
    import transformers

    ours, pieces = read_minilm(folder, bits=32)
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    tokens = pieces(TEXTS)
    kept = torch.tensor(prune_vocabulary(PIECES, (), 21000))
    with torch.inference_mode():
        wanted = theirs(input_ids=kept[tokens.ids], attention_mask=tokens.mask.long()).last_hidden_state
        found = ours(tokens)
    torch.testing.assert_close(found.words[tokens.mask], wanted[tokens.mask], atol=2e-5, rtol=1e-5)
    mean = (wanted * tokens.mask[..., None]).sum(1) / tokens.mask.sum(1, keepdim=True)
    torch.testing.assert_close(found.sentence, torch.nn.functional.normalize(mean, dim=-1), atol=2e-5, rtol=1e-5)


def test_pieces_are_the_librarys(folder: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    ours = WordPieces(PIECES)
    for text in [*TEXTS, "can't", "a, b", "Ünïcödé dogs", ""]:
        assert ours([text]).ids[0].tolist() == theirs.encode(text).ids


def test_eight_bits_change_little(folder: Path) -> None:
    exact, pieces = read_minilm(folder, bits=32)
    packed, _ = read_minilm(folder, bits=8)
    with torch.inference_mode():
        cosines = (exact(pieces(TEXTS)).sentence * packed(pieces(TEXTS)).sentence).sum(1)
    assert cosines.min() > 0.99
    assert not [parameter for parameter in packed.parameters() if parameter.requires_grad]
    assert packed.layers[0].query.weight.dtype == torch.int8


def test_padding_and_company_change_nothing(folder: Path) -> None:
    model, pieces = read_minilm(folder, bits=32)
    with torch.inference_mode():
        alone, together = model(pieces(TEXTS[:1])), model(pieces(TEXTS))
    torch.testing.assert_close(alone.sentence, together.sentence[:1], atol=1e-5, rtol=1e-5)


def test_quantised_rows_err_by_half_a_step_at_most() -> None:
    torch.manual_seed(1)
    weight = torch.randn(7, 50) * torch.logspace(-3, 1, 7)[:, None]
    steps, scale = quantize(weight)
    # Half a step, and what rounding the scale to 16 bits moves the largest entries by.
    bound = scale.float()[:, None] * (0.5 + 127 * 2**-11) + 1e-6
    assert ((steps.float() * scale.float()[:, None] - weight).abs() <= bound).all()


def test_loaded_weights_replace_unpacked_ones() -> None:
    torch.manual_seed(2)
    one, two = Int8Linear(5, 3), Int8Linear(5, 3)
    values = torch.randn(2, 5)
    one(values)  # unpacks
    one.load_state_dict(two.state_dict())
    torch.testing.assert_close(one(values), two(values))


def test_pruning_keeps_words_and_letters() -> None:
    kept = [PIECES[number] for number in prune_vocabulary(PIECES, ["giraffe"], most=len(SPECIAL_AND_LETTERS) + 1)]
    assert "giraffe" in kept
    assert "sit" not in kept
    assert set(kept) >= SPECIAL_AND_LETTERS
    assert [PIECES.index(piece) for piece in kept] == sorted(PIECES.index(piece) for piece in kept)
    short = WordPieces(kept)
    assert short.numbers["[UNK]"] not in short.split("sit")


SPECIAL_AND_LETTERS = (
    {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "'", "!"} | set(LETTERS) | {"##" + letter for letter in LETTERS}
)


def test_errors_say_what_is_wanted(folder: Path) -> None:
    with pytest.raises(ConfigError, match="heads"):
        MiniLMConfig(hidden_dim=10, heads=3)
    with pytest.raises(CheckpointError, match="SEP"):
        WordPieces(["[PAD]", "[UNK]", "[CLS]", "a"])
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stored | {"hidden_act": "relu"}))
    with pytest.raises(CheckpointError, match="gelu"):
        read_minilm(folder)
    with pytest.raises(CheckpointError):
        read_minilm(folder / "nowhere")


def test_fresh_models_run() -> None:
    model = MiniLM(MiniLMConfig(vocabulary_size=len(PIECES), hidden_dim=16, heads=2, layers=1, feedforward=16))
    features = model(WordPieces(PIECES)(["the cat"]))
    assert features.sentence.norm().item() == pytest.approx(1.0, abs=1e-5)


def test_a_given_vocabulary_is_kept_in_its_order(folder: Path) -> None:
    order = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "dog", "cat", "the", "##s"]
    whole, all_pieces = read_minilm(folder, bits=32)
    small, pieces = read_minilm(folder, bits=32, pieces=order)
    assert pieces.pieces == order
    with torch.inference_mode():
        torch.testing.assert_close(small(pieces(["the cats"])).sentence, whole(all_pieces(["the cats"])).sentence)
    with pytest.raises(CheckpointError, match="zzz"):
        read_minilm(folder, pieces=[*order, "zzz"])
