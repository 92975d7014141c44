"""The words of the interface in other languages: a file a language, English text to text, beside this module.

English stands in the templates and scripts, as with gettext; what a file lacks is shown in English.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from fastapi import Request

from refseg.apps.annotate.database.tables import Person

FOLDER = Path(__file__).parent / "texts"
LANGUAGES: dict[str, str] = {"en": "English", "zh": "中文"}
"""code -> the language's own name"""


@cache
def catalog(language: str) -> dict[str, str]:
    """English text -> text in a language; empty for English."""
    path = FOLDER / f"{language}.json"
    if language not in LANGUAGES or not path.is_file():
        return {}
    content: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return content


def translator(language: str) -> Callable[[str], str]:
    """The function that templates call `_`."""
    found = catalog(language)
    return lambda text: found.get(text, text)


def language_of(request: Request, person: Person | None) -> str:
    """The person's language, else the first of the browser's that there is, else English."""
    if person is not None and person.language in LANGUAGES:
        return person.language
    for part in request.headers.get("accept-language", "")[:200].split(","):
        code = part.partition(";")[0].strip().lower().partition("-")[0]
        if code in LANGUAGES:
            return code
    return "en"
