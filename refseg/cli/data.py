"""`refseg data`: draw scenes, check, count and convert data sets. Each verb under it is a module of its own."""

from __future__ import annotations

import argparse
from importlib import import_module

# verb -> (module with add_arguments(parser) and run(arguments), one line for the overview)
VERBS: dict[str, tuple[str, str]] = {
    "check": (
        "refseg.cli.data_check",
        "say what a data folder holds, compare with published counts, name problems",
    ),
    "stats": ("refseg.cli.data_stats", "count sentences, words, targets, kinds and areas of a data set"),
    "get": ("refseg.cli.data_get", "fetch a published data set, or say how to get it"),
    "leak": ("refseg.cli.data_leak", "list the pictures that training and evaluation share"),
    "scenes": ("refseg.cli.data_scenes", "draw scenes with sentences and exact masks"),
    "collage": ("refseg.cli.data_collage", "paste objects of photographs into others, annotated anew"),
    "templates": ("refseg.cli.data_templates", "make sentences for photographs from a COCO-style file"),
    "speed": ("refseg.cli.data_speed", "measure how fast a data set opens, and how fast a worker loads samples"),
    "convert": ("refseg.cli.data_convert", "convert to and from JSONL, gRefCOCO, COCO, YOLO, Label Studio, CVAT"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb and all that follows it; the verb's own module reads that."""
    width = max(map(len, VERBS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "verbs:\n" + "\n".join(f"  {verb:<{width}}  {summary}" for verb, (_, summary) in VERBS.items())
    parser.add_argument("verb", choices=list(VERBS), metavar="VERB", help="one of those below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="refseg data VERB --help describes them")


def run(arguments: argparse.Namespace) -> int | None:
    """Run one verb; only its module is imported."""
    module_name, summary = VERBS[arguments.verb]
    module = import_module(module_name)
    parser = argparse.ArgumentParser(prog=f"refseg data {arguments.verb}", description=summary)
    module.add_arguments(parser)
    return module.run(parser.parse_args(arguments.rest))
