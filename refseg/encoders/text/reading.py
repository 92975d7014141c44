"""How much of a sentence a model can read: what its tokenizer cuts off, and which words it has never seen."""

from __future__ import annotations

from dataclasses import dataclass

from refseg.encoders.text.tokenizer import UNKNOWN, WordPieceTokenizer, WordTokenizer, split_words

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
a sentence of no others has no content."""


@dataclass(frozen=True)
class Reading:
    """`kept` is the part of the sentence that is read (None: all of it), `unknown` the words without meaning to the
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
            remarks.append(f"the sentence is longer than the model reads; it is cut after “{_end_of(self.kept)}”")
        if self.empty:
            remarks.append("no word of the sentence names or describes anything, so the answer is none")
        elif not self.understood:
            remarks.append(f"the model knows {self.share} of the sentence, so the answer is none")
        elif self.unknown:
            more = ", ..." if len(self.unknown) > MENTIONED else ""
            remarks.append(f"words that the model has never seen: {', '.join(self.unknown[:MENTIONED])}{more}")
        return remarks


def read_sentence(tokenizer: object, text: str) -> Reading:
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
