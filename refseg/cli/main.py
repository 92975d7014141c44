"""The command line: one table from verb to module. `refseg VERB --help` describes each."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from refseg import __version__
from refseg.errors import RefsegError, did_you_mean

# verb -> (module with add_arguments(parser) and run(arguments), one line for the overview)
VERBS: dict[str, tuple[str, str]] = {
    "segment": ("refseg.cli.segment", "say which pixels of pictures a sentence means"),
    "models": ("refseg.cli.models", "list systems, presets, ablations and what is installed"),
    "import": ("refseg.cli.import_weights", "turn an authors' checkpoint into a model folder"),
    "train": ("refseg.cli.train", "train a system from a recipe"),
    "evaluate": ("refseg.cli.evaluate", "score a model on a data set under a named protocol"),
    "calibrate": ("refseg.cli.calibrate", "choose a model's thresholds on held-out pictures"),
    "score": ("refseg.cli.score", "score saved predictions without a model"),
    "compare": ("refseg.cli.compare", "compare two runs: which is better, on what, and where they differ"),
    "results": ("refseg.cli.results", "published numbers next to measured ones"),
    "data": ("refseg.cli.data", "draw scenes, check and convert data sets"),
    "annotate": ("refseg.cli.annotate", "make a data set as a game: two players, a browser, a database"),
    "benchmark": ("refseg.cli.benchmark", "time the stages of models"),
    "systems": ("refseg.cli.systems", "train the small systems side by side and compare them"),
    "doctor": ("refseg.cli.doctor", "versions, device, threads, and what works here"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 well, 1 failed, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"refseg {__version__}")
        return 0
    verb = words[0]
    if verb not in VERBS:
        print(f"refseg: {verb!r} is not a verb; {did_you_mean(verb, list(VERBS))}", file=sys.stderr)
        return 2
    module_name, summary = VERBS[verb]
    try:
        module = import_module(module_name)
        parser = argparse.ArgumentParser(prog=f"refseg {verb}", description=summary)
        module.add_arguments(parser)
        return module.run(parser.parse_args(words[1:])) or 0
    except RefsegError as error:
        print(f"refseg {verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"refseg {verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has left: not an error. Keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def overview() -> str:
    """The text of `refseg --help`."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {summary}" for verb, (_, summary) in VERBS.items()]
    return "\n".join(["usage: refseg VERB ...", "", *lines, "", "refseg VERB --help describes a verb."])
