"""The command line looked at from outside: its verbs, and command lines that are parsed and not run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refseg.cli.app import load_verb, root
from refseg.cli.verbs import VERBS


def every_verb() -> Iterator[tuple[str, ...]]:
    """All verbs and the verbs under them: ("segment",), ("data", "check"), ("annotate", "user", "add"), ..."""

    def below(path: tuple[str, ...], command: Any) -> Iterator[tuple[str, ...]]:
        yield path
        for name, further in getattr(command, "commands", {}).items():
            yield from below((*path, name), further)

    for verb in VERBS:
        yield from below((verb,), load_verb(verb))


def parse(words: list[str]) -> dict[str, Any]:
    """The values of a command line (without "refseg"); raises `refseg.cli.app.UsageError` where it is none."""
    command: Any = root()
    context = command.make_context("refseg", [words[0]])
    for index, word in enumerate(words):
        command = command.get_command(context, word)
        assert command is not None, f"there is no verb {' '.join(words[: index + 1])}"
        if not hasattr(command, "commands"):
            return command.make_context(word, words[index + 1 :], parent=context).params
    raise AssertionError(f"{' '.join(words)} lacks a verb")


def documented_commands(page: Path) -> list[str]:
    """The lines of a page's code blocks that call refseg, without their comments."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.join(shlex.split(line, comments=True)) for line in lines if re.match(r"refseg [a-z]", line)]
