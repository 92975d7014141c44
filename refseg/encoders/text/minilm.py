"""MiniLM: a six-layer BERT distilled for sentence similarity, stored in eight bits, as an encoder that is not trained.

Wang et al., MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers,
NeurIPS 2020; Reimers, Gurevych, Sentence-BERT, EMNLP 2019 (mean of the word vectors, unit length). The weights that
`read_minilm` takes are those of all-MiniLM-L6-v2 (Apache-2.0): BERT (Devlin et al., NAACL 2019) with post-norm layers,
GELU and learnt positions, L = 6, H = 384, A = 12.

Ours <-> BERT's names: `layers.i.query` encoder.layer.i.attention.self.query, `layers.i.output` attention.output.dense,
`layers.i.norm1` attention.output.LayerNorm, `layers.i.expand` intermediate.dense, `layers.i.contract` output.dense,
`layers.i.norm2` output.LayerNorm. The one token type is added to the positions.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, WordCount
from refseg.errors import CheckpointError, ConfigError
from refseg.types import TextFeatures, Tokens

__all__ = ["Int8Linear", "MiniLM", "MiniLMConfig", "WordPieces", "prune_vocabulary", "read_minilm"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@dataclass(frozen=True)
class MiniLMConfig(Config):
    """Sizes of the encoder; the defaults are all-MiniLM-L6-v2 with a pruned vocabulary."""

    vocabulary_size: int = 21000
    """Rows of the embedding table; `read_minilm` sets it."""
    max_words: WordCount = 32
    """Positions that are kept: word pieces of a sentence with [CLS] and [SEP]."""
    hidden_dim: int = 384
    layers: int = 6
    heads: int = 12
    feedforward: int = 1536
    """Hidden units of the feed-forward networks."""
    bits: Literal[8, 32] = 8
    """Bits of a stored weight: 8 are integers with one scale a row, and cannot be trained."""

    def check(self) -> None:
        """Raises `ConfigError` for sizes that do not fit together."""
        if self.vocabulary_size < len(SPECIAL) or min(self.layers, self.feedforward) < 1 or self.max_words < 3:
            raise ConfigError(
                "text: vocabulary_size is 4 or more, max_words 3 or more, layers and feedforward 1 or more"
            )
        if self.heads < 1 or self.hidden_dim % self.heads:
            raise ConfigError(f"text.heads={self.heads} does not divide text.hidden_dim={self.hidden_dim}")


def quantize(weight: Float[Tensor, "R C"]) -> tuple[Int[Tensor, "R C"], Float[Tensor, " R"]]:
    """A matrix as 8-bit integers and the scale of each row (16 bits): the largest entry of a row becomes 127."""
    scale = (weight.abs().amax(dim=1) / 127).clamp(min=1e-7).half()
    steps = (weight / scale.float()[:, None]).round().clamp(-127, 127)
    return steps.to(torch.int8), scale


class Int8Linear(nn.Module):
    """A linear map with 8-bit weights. The product is computed in the input's precision, with weights that are
    unpacked at the first call and kept (four bytes a weight in memory, one in files)."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        weight, scale = quantize(torch.randn(outputs, inputs) * inputs**-0.5)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", torch.zeros(outputs))
        self._unpacked: Tensor | None = None

    def forward(self, values: Float[Tensor, "*S I"]) -> Float[Tensor, "*S O"]:
        """values W^T + b."""
        unpacked = self._unpacked
        if unpacked is None or unpacked.device != values.device:
            with torch.inference_mode(False):
                unpacked = self._unpacked = self.weight.float() * self.scale.float()[:, None]
        return F.linear(values, unpacked.to(values.dtype), self.bias.to(values.dtype))

    def _load_from_state_dict(self, *arguments: object, **named: object) -> None:
        self._unpacked = None
        super()._load_from_state_dict(*arguments, **named)  # type: ignore[arg-type]


class Int8Embedding(nn.Module):
    """A table of 8-bit rows."""

    weight: Tensor
    scale: Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        weight, scale = quantize(torch.randn(rows, width) * 0.02)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, ids: Int[Tensor, "*S"]) -> Float[Tensor, "*S C"]:
        """The rows of `ids`."""
        return self.weight[ids].float() * self.scale[ids].float()[..., None]


class MiniLM(nn.Module):
    """Sentences to vectors: one a word piece (the last layer's) and one a sentence (their mean, of length 1)."""

    def __init__(self, config: MiniLMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_dim
        self.width = width
        self.words = (
            nn.Embedding(config.vocabulary_size, width)
            if config.bits == 32
            else Int8Embedding(config.vocabulary_size, width)
        )
        self.positions = nn.Parameter(torch.randn(config.max_words, width) * 0.02, requires_grad=config.bits == 32)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        if config.bits == 8:
            self.requires_grad_(False)

    def forward(self, tokens: Tokens) -> TextFeatures:
        """`words` are not normalised; `sentence` has length 1, so that dot products of two are cosines."""
        hidden = self.norm(self.words(tokens.ids) + self.positions[: tokens.ids.shape[1]])
        for layer in self.layers:
            hidden = layer(hidden, tokens.mask)
        real = tokens.mask[..., None].to(hidden.dtype)
        mean = (hidden * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        return TextFeatures(hidden, F.normalize(mean, dim=-1), tokens.mask)


class _Layer(nn.Module):
    def __init__(self, config: MiniLMConfig) -> None:
        super().__init__()
        linear = nn.Linear if config.bits == 32 else Int8Linear
        width = config.hidden_dim
        self.heads = config.heads
        self.query, self.key, self.value, self.output = (linear(width, width) for _ in range(4))
        self.expand, self.contract = linear(width, config.feedforward), linear(config.feedforward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)

    def forward(self, hidden: Float[Tensor, "B L C"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B L C"]:
        query, key, value = (
            part(hidden).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        gathered = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        hidden = self.norm1(hidden + self.output(gathered.transpose(1, 2).flatten(2)))
        return self.norm2(hidden + self.contract(F.gelu(self.expand(hidden))))


class WordPieces:
    """BERT's uncased word pieces in plain Python: [CLS] pieces [SEP], greedily the longest piece that fits.

    Unlike the library's tokenizers it reads a pruned vocabulary without a file of its own kind; same interface as
    `refseg.encoders.text.tokenizer.WordPieceTokenizer`.
    """

    def __init__(self, pieces: Sequence[str], max_words: int = 32) -> None:
        """`pieces` in the order of the embedding's rows. Raises `CheckpointError` where special ones are missing."""
        self.pieces = list(pieces)
        self.numbers = {piece: number for number, piece in enumerate(self.pieces)}
        missing = [name for name in SPECIAL if name not in self.numbers]
        if missing or len(self.numbers) != len(self.pieces):
            raise CheckpointError(
                f"vocabulary of word pieces: {missing[0] if missing else 'a piece'} is not there once"
            )
        self.max_words = max_words
        self._known: dict[str, list[int]] = {}

    @property
    def vocabulary_size(self) -> int:
        """Rows that an embedding table needs."""
        return len(self.pieces)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Numbers (B, L) with L of the longest sentence; pieces beyond `max_words` - 2 are cut."""
        start, stop = self.numbers["[CLS]"], self.numbers["[SEP]"]
        rows = [
            [start, *[piece for word in split_words(text) for piece in self.split(word)][: self.max_words - 2], stop]
            for text in texts
        ]
        length = max((len(row) for row in rows), default=2)
        ids = torch.full((len(rows), length), self.numbers["[PAD]"])
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = True
        return Tokens(ids, mask)

    def split(self, word: str) -> list[int]:
        """The pieces of one lower-case word; [UNK] where no pieces make it up."""
        if word in self._known:
            return self._known[word]
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(min(len(word), start + 24), start, -1):
                piece = self.numbers.get(word[start:end] if start == 0 else "##" + word[start:end])
                if piece is not None:
                    found.append(piece)
                    start = end
                    break
            else:
                found = [self.numbers["[UNK]"]]
                break
        if len(self._known) < 50_000:  # texts from outside must not fill the memory
            self._known[word] = found
        return found


def split_words(text: str) -> list[str]:
    """BERT's basic tokens: lower case without accents, punctuation marks by themselves."""
    plain = "".join(
        letter for letter in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(letter) != "Mn"
    )
    spaced = "".join(f" {letter} " if _is_mark(letter) else letter for letter in plain)
    return spaced.split()


def _is_mark(letter: str) -> bool:
    ascii_mark = letter.isascii() and letter.isprintable() and not letter.isalnum() and letter != " "
    return ascii_mark or unicodedata.category(letter).startswith("P")


def prune_vocabulary(pieces: Sequence[str], words: Iterable[str], most: int) -> list[int]:
    """Rows of a vocabulary to keep, in their old order: the special pieces, all letters (so that every word of them can
    be spelled), the pieces of `words`, and from the front (BERT lists frequent pieces first) as many others in plain
    letters as make `most`."""
    whole = WordPieces(pieces)
    keep = {whole.numbers[name] for name in SPECIAL}
    plain = []
    for number, piece in enumerate(pieces):
        bare = piece.removeprefix("##")
        if len(bare) == 1 and bare.isascii():
            keep.add(number)
        elif bare.isascii() and bare.isalpha():
            plain.append(number)
    for word in words:
        keep.update(number for part in split_words(word) for number in whole.split(part))
    for number in plain:
        if len(keep) >= most:
            break
        keep.add(number)
    return sorted(keep)


def read_minilm(
    folder: str | Path,
    words: Iterable[str] = (),
    most: int = 21000,
    max_words: int = 32,
    bits: Literal[8, 32] = 8,
    pieces: Sequence[str] | None = None,
) -> tuple[MiniLM, WordPieces]:
    """The encoder and its word pieces from a transformers folder (config.json, model.safetensors, vocab.txt).

    Args:
        words: words whose pieces stay in the vocabulary.
        most: rows of the vocabulary that are kept, `prune_vocabulary`.
        max_words: positions that are kept.
        bits: 8 stores integers, 32 the weights as they are.
        pieces: the vocabulary to keep, in its order, instead of one pruned by `words` and `most`.

    Raises `CheckpointError` for folders that hold something else.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
        listed = (folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    except Exception as error:  # safetensors raises exceptions of its own for damaged files
        raise CheckpointError(f"{folder}: no BERT of the library transformers: {error}") from error
    if stored.get("model_type") != "bert" or stored.get("hidden_act") != "gelu":
        raise CheckpointError(f"{folder}/config.json: model_type=bert with hidden_act=gelu is wanted")
    numbers = {piece: number for number, piece in enumerate(listed)}
    missing = [piece for piece in pieces or () if piece not in numbers]
    if missing:
        raise CheckpointError(f"{folder}/vocab.txt: {missing[0]!r} is not there")
    kept = prune_vocabulary(listed, words, most) if pieces is None else [numbers[piece] for piece in pieces]
    config = MiniLMConfig(
        vocabulary_size=len(kept),
        max_words=min(max_words, stored["max_position_embeddings"]),
        hidden_dim=stored["hidden_size"],
        layers=stored["num_hidden_layers"],
        heads=stored["num_attention_heads"],
        feedforward=stored["intermediate_size"],
        bits=bits,
    )
    model = MiniLM(config)
    model.load_state_dict(_renamed(state, config, torch.tensor(kept)))
    return model.eval(), WordPieces([listed[number] for number in kept], config.max_words)


_NAMES: Mapping[str, str] = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "expand": "intermediate.dense",
    "contract": "output.dense",
    "norm2": "output.LayerNorm",
}


def _renamed(state: Mapping[str, Tensor], config: MiniLMConfig, kept: Int[Tensor, " V"]) -> dict[str, Tensor]:
    """The state of a transformers BERT under our names, quantised where the configuration says so."""
    state = {name.removeprefix("bert."): value for name, value in state.items()}
    result: dict[str, Tensor] = {}

    def put(name: str, weight: Tensor) -> None:
        if config.bits == 8:
            result[f"{name}.weight"], result[f"{name}.scale"] = quantize(weight.float())
        else:
            result[f"{name}.weight"] = weight

    try:
        put("words", state["embeddings.word_embeddings.weight"][kept])
        types = state["embeddings.token_type_embeddings.weight"][0]
        result["positions"] = state["embeddings.position_embeddings.weight"][: config.max_words] + types
        for part in ("weight", "bias"):
            result[f"norm.{part}"] = state[f"embeddings.LayerNorm.{part}"]
        for layer in range(config.layers):
            for ours, theirs in _NAMES.items():
                source = f"encoder.layer.{layer}.{theirs}"
                name = f"layers.{layer}.{ours}"
                if ours.startswith("norm"):
                    result[f"{name}.weight"] = state[f"{source}.weight"]
                else:
                    put(name, state[f"{source}.weight"])
                result[f"{name}.bias"] = state[f"{source}.bias"]
    except KeyError as error:
        raise CheckpointError(f"a BERT without {error.args[0]}") from error
    return result
