"""Letters that look alike: words that mix scripts, and the plain letter that a letter looks like. Pure functions."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["mixed_words", "shapes_of"]

_SCRIPTS = frozenset(("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "COPTIC", "CHEROKEE"))
"""Scripts whose letters look alike."""
_WORD = re.compile(r"[^\W\d_]+")
_NAMED = re.compile(r"LATIN (?:SMALL |CAPITAL )?LETTER (?:SMALL CAPITAL |DOTLESS |SCRIPT )?([A-Z])(?: WITH .*)?")
_SHAPES = str.maketrans(
    "\u0430\u0432\u0433\u0435\u0438\u043a\u043c\u043d\u043e\u043f\u0440\u0441\u0442\u0443\u0445\u0455\u0456\u0458\u04bb"
    "\u0501\u051b\u051d\u0410\u0412\u0415\u0405\u0406\u0408\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425"
    "\u03b1\u03b2\u03b3\u03b5\u03b7\u03b9\u03ba\u03bd\u03bf\u03c1\u03c3\u03c4\u03c5\u03c7\u03c9"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7"
    "\u0578\u057d\u0585\u0570\u0581\u0566\u053c\u054d\u0555\u0251\u0269",
    "abreukmhonpctyxsijhdqwABESIJKMHOPCTYX" + "abyenikvopotuxwABEZHIKMNOPTYX" + "nuohgqLUOai",
)
"""Letters of Cyrillic, Greek and Armenian, and of phonetic alphabets, that look like one of the plain ones."""


def mixed_words(text: str) -> list[str]:
    """The words of a text that mix letters of scripts that look alike, such as a Latin word with a Cyrillic letter.

    Nobody writes so, and it hides what a sentence says. The micro sign of units is no letter here.
    """
    found = []
    for word in _WORD.findall(text.replace("\N{MICRO SIGN}", "")):
        scripts = {unicodedata.name(sign, "").partition(" ")[0] for sign in unicodedata.normalize("NFKC", word)}
        if len(scripts & _SCRIPTS) > 1:
            found.append(word)
    return found


def shapes_of(text: str) -> str:
    """The text with plain letters for words of which each letter looks like one: a Cyrillic "\u0441\u0430\u0440" is
    "cap". Words of other scripts that do not look so stay as they are.
    """
    return _WORD.sub(lambda found: _word_shapes(found.group()), text)


def _word_shapes(word: str) -> str:
    if word.isascii():
        return word
    looks = "".join(sign if sign.isascii() else _shape(sign) for sign in word)
    return looks if looks.isascii() else word


def _shape(sign: str) -> str:
    shape = sign.translate(_SHAPES)
    named = None if shape.isascii() else _NAMED.fullmatch(unicodedata.name(sign, ""))
    if named is None or unicodedata.decomposition(sign):
        return shape  # letters with accents are letters of their own
    return named[1].lower()
