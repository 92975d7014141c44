"""How much of a sentence a model can read: what its tokenizer cuts off, and which words it has never seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refseg.text.tokenizer import UNKNOWN, WordPieceTokenizer, WordTokenizer, split_words

BERT_UNKNOWN = "[UNK]"
MENTIONED = 5  # words that a remark lists


@dataclass(frozen=True)
class Reading:
    """`kept` is the part of the sentence that is read (None: all of it), `unknown` the words without meaning to the
    model, `understood` whether any word has one."""

    kept: str | None = None
    unknown: tuple[str, ...] = ()
    understood: bool = True

    def remarks(self) -> list[str]:
        """What a person should be told, in sentences; mostly nothing."""
        said = []
        if self.kept is not None:
            said.append(f"the sentence is longer than the model reads; it is cut after “{_end_of(self.kept)}”")
        if not self.understood:
            said.append("the model knows no word of the sentence, so the answer is none")
        elif self.unknown:
            more = ", ..." if len(self.unknown) > MENTIONED else ""
            said.append(f"words that the model has never seen: {', '.join(self.unknown[:MENTIONED])}{more}")
        return said


def read_sentence(tokenizer: Any, text: str) -> Reading:
    """What `tokenizer` makes of `text`. Punctuation counts neither as known nor as unknown."""
    if isinstance(tokenizer, WordTokenizer):
        words = split_words(text)
        read = words[: tokenizer.max_words]
        kept = " ".join(read) if len(words) > len(read) else None
        known = [word in tokenizer.numbers and word != UNKNOWN for word in read]
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
    return Reading(kept, unknown, any(is_known and _is_word(word) for word, is_known in pairs))


def _is_word(word: str) -> bool:
    return any(letter.isalnum() for letter in word) or not word.isascii()


def _end_of(text: str, most: int = 40) -> str:
    return text if len(text) <= most else "..." + text[-most:]
