"""Expressions to numbers: whole words of a learnt vocabulary, BERT's word pieces, or bytes.

A tokenizer is saved into a model's folder: `tokenizer_options.json` says which kind it is and how many words it keeps,
`vocabulary.txt` (words, one a line) or `tokenizer.json` (word pieces, the format of the library tokenizers) the rest.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from refseg.errors import CheckpointError, RefsegError
from refseg.files import write_text
from refseg.types import Tokens

if TYPE_CHECKING:
    import tokenizers

PADDING, UNKNOWN = "<pad>", "<unk>"
OPTIONS, VOCABULARY, PIECES, BERT_VOCABULARY = (
    "tokenizer_options.json",
    "vocabulary.txt",
    "tokenizer.json",
    "vocab.txt",
)
_SPELLED = 4
"""Letters of the shortest word that is read in spite of a slip; shorter ones are too near to each other."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WORD = re.compile(r"\w+|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks. Full-width letters and ligatures are unified."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


class WordTokenizer:
    """Whole words; `<pad>` is 0, `<unk>` is 1, then the vocabulary in its order."""

    def __init__(self, words: Sequence[str], max_words: int = 20, spelling: bool = False) -> None:
        """`words` without the two special ones; with `spelling`, a word that is not among them is read as the first of
        them that is one slip away. Raises `RefsegError` for duplicates or `max_words` below 1."""
        _check_length(max_words)
        self.words = [PADDING, UNKNOWN, *words]
        self.numbers = {word: number for number, word in enumerate(self.words)}
        if len(self.numbers) != len(self.words):
            double = [word for word, count in Counter(self.words).items() if count > 1]
            raise RefsegError(f"the vocabulary lists {double[0]!r} more than once")
        self.max_words = max_words
        self.spelling = spelling
        self._longest = max(map(len, self.words))

    @classmethod
    def learn(
        cls,
        expressions: Iterable[str],
        max_words: int = 20,
        min_count: int = 1,
        extra_words: Iterable[str] = (),
        spelling: bool = False,
    ) -> WordTokenizer:
        """The vocabulary of `expressions`: words that occur at least `min_count` times, frequent ones first, then
        `extra_words`."""
        counts = Counter(word for expression in expressions for word in split_words(expression))
        ordered = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        return cls(list(dict.fromkeys([*ordered, *extra_words])), max_words, spelling)

    @property
    def vocabulary_size(self) -> int:
        """Rows that an embedding table needs."""
        return len(self.words)

    def unknown(self, text: str) -> list[str]:
        """The words of an expression that are not in the vocabulary."""
        return [word for word in split_words(text) if self.known(word) is None]

    def known(self, word: str) -> str | None:
        """The word of the vocabulary as which a word is read; None where there is none.

        With `spelling` that may be the first one, so the most frequent, which differs from it by one letter left out,
        put in or exchanged, or by two neighbours in each other's place; both of at least four letters. A word that is
        more than a letter longer than all others is none of them, and takes no time.
        """
        if word in self.numbers:
            return word
        if not self.spelling or not _SPELLED <= len(word) <= self._longest + 1:
            return None
        if not word.isalpha() or not word.isascii():
            return None
        near = [self.numbers[other] for other in _one_slip(word) if len(other) >= _SPELLED and other in self.numbers]
        return self.words[min(near)] if near else None

    def __call__(self, texts: list[str]) -> Tokens:
        """Numbers (B, max_words); longer expressions are cut. An expression without any word is one `<unk>`."""
        unknown = self.numbers[UNKNOWN]
        read = (split_words(text)[: self.max_words] for text in texts)
        rows = [[self.numbers.get(self.known(word) or "", unknown) for word in words] or [unknown] for words in read]
        return _pad(rows, self.max_words)

    def save(self, folder: str | Path) -> None:
        """Write the vocabulary and the options into `folder`."""
        _write_options(Path(folder), "words", self.max_words, **({"spelling": True} if self.spelling else {}))
        write_text(Path(folder) / VOCABULARY, "".join(f"{word}\n" for word in self.words))


class WordPieceTokenizer:
    """BERT's tokenizer: `[CLS]` pieces `[SEP]`, cut to `max_words` (a long text loses its `[SEP]`), padded with 0.

    This is how the published ReLA and LAVT cut their expressions.
    """

    def __init__(self, pieces: tokenizers.Tokenizer, max_words: int = 20) -> None:
        """`pieces` is a `tokenizers.Tokenizer`; `load_tokenizer` makes one from a folder or a hub id."""
        _check_length(max_words)
        self.pieces = pieces
        self.pieces.no_padding()
        self.pieces.no_truncation()
        self.max_words = max_words

    @property
    def vocabulary_size(self) -> int:
        """Rows that an embedding table needs."""
        return self.pieces.get_vocab_size()

    def __call__(self, texts: list[str]) -> Tokens:
        """Numbers (B, max_words)."""
        return _pad([encoding.ids for encoding in self.pieces.encode_batch(list(texts))], self.max_words)

    def save(self, folder: str | Path) -> None:
        """Write the pieces and the options into `folder`."""
        _write_options(Path(folder), "pieces", self.max_words)
        write_text(Path(folder) / PIECES, self.pieces.to_str())


class ByteTokenizer:
    """The bytes of expressions in UTF-8 plus 1 (0 is padding), for systems that parse text: what batches, moves between
    devices and selects expressions needs to know nothing of parsers."""

    def __init__(self, max_words: int = 320) -> None:
        """`max_words` counts bytes, as other tokenizers' counts what they cut into. Raises `RefsegError` below 8."""
        if max_words < 8:
            raise RefsegError(f"max_words={max_words}: 8 or more bytes are wanted")
        self.max_words = max_words

    @property
    def vocabulary_size(self) -> int:
        """Different numbers: 256 bytes and padding."""
        return 257

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Numbers (B, L), L of the longest expression; what lies beyond `max_words` bytes is cut."""
        rows = [[byte + 1 for byte in text.encode("utf-8", "replace")] or [ord(" ") + 1] for text in texts]
        return _pad(rows, min(self.max_words, max((len(row) for row in rows), default=1)))

    def decode(self, tokens: Tokens) -> list[str]:
        """The expressions of B rows; a character that was cut in two is left out."""
        rows = tokens.ids.tolist()
        return [bytes(number - 1 for number in row if 0 < number <= 256).decode("utf-8", "ignore") for row in rows]

    def save(self, folder: str | Path) -> None:
        """Write the options into `folder`; there is no vocabulary."""
        _write_options(Path(folder), "bytes", self.max_words)


Tokenizer: TypeAlias = WordTokenizer | WordPieceTokenizer | ByteTokenizer


def load_tokenizer(source: str | Path, max_words: int | None = None) -> Tokenizer:
    """A tokenizer from a folder (ours, or of a BERT: tokenizer.json or vocab.txt) or from the hub by name.

    `max_words` takes the place of the stored length (20 where none is stored). Raises `CheckpointError` when nothing
    is there, or it cannot be read.
    """
    folder = Path(source)
    options: dict[str, Any] = {}
    if (folder / OPTIONS).is_file():
        options = _read_options(folder / OPTIONS)
    length = max_words or options.get("max_words", 20)
    if options.get("kind") == "bytes":
        return ByteTokenizer(length)
    if options.get("kind") == "words" or (not options and (folder / VOCABULARY).is_file()):
        return _read_vocabulary(folder / VOCABULARY, length, options.get("spelling") is True)
    if folder.is_dir():
        for name in (PIECES, BERT_VOCABULARY):
            if (folder / name).is_file():
                return WordPieceTokenizer(_read_pieces(folder / name), length)
        raise CheckpointError(f"{folder}: no tokenizer there; {VOCABULARY}, {PIECES} or {BERT_VOCABULARY} is wanted")
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; a tokenizer is a folder with {VOCABULARY} or {PIECES}")
    return WordPieceTokenizer(_read_pieces(_download(str(source))), length)


def _pad(rows: list[list[int]], length: int) -> Tokens:
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, row in enumerate(rows):
        kept = row[:length]
        ids[index, : len(kept)] = torch.tensor(kept, dtype=torch.long)
        mask[index, : len(kept)] = True
    return Tokens(ids, mask)


def _check_length(max_words: int) -> None:
    if max_words < 1:
        raise RefsegError(f"max_words={max_words}: at least 1 is wanted")


def _one_slip(word: str) -> Iterator[str]:
    """Every word that differs from `word` by one slip."""
    for at in range(len(word) + 1):
        head, tail = word[:at], word[at:]
        yield head + tail[1:]
        yield head + tail[1:2] + tail[:1] + tail[2:]
        for letter in _LETTERS:
            yield head + letter + tail
            yield head + letter + tail[1:]


def _write_options(folder: Path, kind: str, max_words: int, **more: Any) -> None:
    write_text(folder / OPTIONS, json.dumps({"kind": kind, "max_words": max_words, **more}) + "\n")


def _read_options(path: Path) -> dict[str, Any]:
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if (
        not isinstance(options, dict)
        or options.get("kind") not in ("words", "pieces", "bytes")
        or not isinstance(options.get("max_words"), int)
    ):
        raise CheckpointError(
            f"{path}: kind (words, pieces or bytes) and max_words (a number) are wanted, not {options!r}"
        )
    return options


def _read_vocabulary(path: Path, max_words: int, spelling: bool = False) -> WordTokenizer:
    try:
        words = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    words = [word for word in words if word]
    if words[:2] != [PADDING, UNKNOWN]:
        raise CheckpointError(f"{path}: the first two lines must be {PADDING} and {UNKNOWN}")
    try:
        return WordTokenizer(words[2:], max_words, spelling)
    except RefsegError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_pieces(path: Path) -> tokenizers.Tokenizer:
    from tokenizers import BertWordPieceTokenizer, Tokenizer

    try:
        if path.name != BERT_VOCABULARY:
            return Tokenizer.from_file(str(path))
        return BertWordPieceTokenizer(str(path), lowercase=_lower_case(path.parent))._tokenizer
    except Exception as error:  # the library raises bare exceptions for damaged files
        raise CheckpointError(f"{path}: not a tokenizer that can be read: {error}") from error


def _lower_case(folder: Path) -> bool:
    """Whether a BERT's folder says that its words are lower-cased; they are unless it says no."""
    path = folder / "tokenizer_config.json"
    return not path.is_file() or bool(json.loads(path.read_text(encoding="utf-8")).get("do_lower_case", True))


def _download(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, PIECES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"tokenizer {name!r}: no such folder, and the hub does not give it ({reason}); give a local folder with "
            f"{PIECES} or {BERT_VOCABULARY}, such as a copy of google-bert/bert-base-uncased"
        ) from error


def token_names(tokenizer: object, text: str) -> tuple[str, ...]:
    """The tokens of `text` that are read, special ones too, as they are written; none for bytes, which are no words."""
    if isinstance(tokenizer, WordTokenizer):
        return tuple(split_words(text)[: tokenizer.max_words])
    if isinstance(tokenizer, WordPieceTokenizer):
        return tuple(tokenizer.pieces.encode(text).tokens[: tokenizer.max_words])
    return ()


BERT_UNKNOWN = "[UNK]"
MENTIONED = 5  # words that a remark lists
_EMPTY = """
    it its that this these those the a an is are was were be been am and or but of in on at to for with by from as if
    so than then there here what which who whom whose where when why how do does did have has had i you he she we they
    me him her us them my your his our their yes no not hello hi please
    der die das den dem ein eine und im auf mit von la le les un une et el los las de del y en il lo gli di van het een
"""
EMPTY = frozenset(_EMPTY.split())
"""Words that name nothing and describe nothing, in English and, where people are likely to try them, other languages:
an expression of no others has no content."""


@dataclass(frozen=True)
class Reading:
    """`kept` is the part of the expression that is read (None: all of it), `unknown` the words without meaning to the
    model, `understood` whether half of the others or more have one; `empty` says that no word names or describes
    anything, and `share` how much of it is known."""

    kept: str | None = None
    unknown: tuple[str, ...] = ()
    understood: bool = True
    empty: bool = False
    share: str = "no word"

    def remarks(self) -> list[str]:
        """Sentences for the person who asked; mostly none."""
        remarks = []
        if self.kept is not None:
            remarks.append(f"the expression is longer than the model reads; it is cut after “{_end_of(self.kept)}”")
        if self.empty:
            remarks.append("no word of the expression names or describes anything, so the answer is none")
        elif not self.understood:
            remarks.append(f"the model knows {self.share} of the expression, so the answer is none")
        elif self.unknown:
            more = ", ..." if len(self.unknown) > MENTIONED else ""
            remarks.append(f"words that the model has never seen: {', '.join(self.unknown[:MENTIONED])}{more}")
        return remarks


def read_expression(tokenizer: object, text: str) -> Reading:
    """What `tokenizer` makes of `text`. Punctuation counts neither as known nor as unknown."""
    if isinstance(tokenizer, WordTokenizer):
        words = split_words(text)
        read = words[: tokenizer.max_words]
        kept = " ".join(read) if len(words) > len(read) else None
        known = [tokenizer.known(word) not in (None, UNKNOWN) for word in read]
        return _reading(kept, read, known)
    if isinstance(tokenizer, WordPieceTokenizer):
        encoding = tokenizer.pieces.encode(text)
        # [CLS] at the front is one of the pieces; [SEP] at the end may be cut without loss.
        spans = encoding.offsets[1 : min(tokenizer.max_words, len(encoding.ids) - 1)]
        pieces = encoding.tokens[1 : 1 + len(spans)]
        complete = len(encoding.ids) - 1 <= tokenizer.max_words
        kept = None if complete or not spans else text[: spans[-1][1]]
        return _reading(kept, [text[start:stop] for start, stop in spans], [piece != BERT_UNKNOWN for piece in pieces])
    return Reading()


def _reading(kept: str | None, words: list[str], known: list[bool]) -> Reading:
    pairs = [(word, is_known) for word, is_known in zip(words, known, strict=True) if is_known or _is_word(word)]
    unknown = tuple(dict.fromkeys(word for word, is_known in pairs if not is_known))
    spoken = [(word, is_known) for word, is_known in pairs if _is_word(word)]
    content = [is_known for word, is_known in spoken if word.lower() not in EMPTY]
    empty = bool(spoken) and not content
    share = "less than half" if any(content) else "no word"
    return Reading(kept, unknown, any(content) and 2 * sum(content) >= len(content), empty, share)


def _is_word(word: str) -> bool:
    return any(letter.isalnum() for letter in word) or not word.isascii()


def _end_of(text: str, most: int = 40) -> str:
    return text if len(text) <= most else "..." + text[-most:]
