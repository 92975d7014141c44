"""The verbs: where each one's Typer app is, its line in the overview, and the group it stands in. Imports nothing."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """Where a verb's Typer app is, its line in the overview, and the group it stands in."""

    module: str
    summary: str
    group: str


VERBS: dict[str, Verb] = {
    "segment": Verb("refseg.cli.segment", "segment what expressions refer to in pictures", "use a model"),
    "edit": Verb("refseg.cli.edit", "cut a thing out, change its background, or take it away", "use a model"),
    "label": Verb("refseg.cli.label", "label pictures with every phrase of a list", "use a model"),
    "video": Verb("refseg.cli.video", "segment what expressions refer to in a clip", "use a model"),
    "explain": Verb("refseg.cli.explain", "draw how a model comes to its answer", "use a model"),
    "gallery": Verb("refseg.cli.gallery", "a page of your pictures with the answers about them", "use a model"),
    "serve": Verb("refseg.cli.serve", "a page and an API that answer expressions about pictures", "use a model"),
    "serve-load": Verb("refseg.cli.serve", "measure how much a server carries", "use a model"),
    "index": Verb("refseg.cli.search", "encode a collection of pictures, to be searched", "use a model"),
    "search": Verb("refseg.cli.search", "find pictures in which an expression means something", "use a model"),
    "batch": Verb("refseg.cli.batch", "ask about many pictures, on all cores or on Ray", "use a model"),
    "models": Verb("refseg.cli.models", "systems, presets, ablations, and which weights are here", "use a model"),
    "import": Verb("refseg.cli.models", "turn an authors' checkpoint into a model folder", "use a model"),
    "export": Verb(
        "refseg.cli.export", "a model for ONNX Runtime, OpenVINO, or a page without a server", "use a model"
    ),
    "doctor": Verb("refseg.cli.doctor", "versions, device, threads, and what works here", "use a model"),
    "train": Verb("refseg.cli.train", "train a system from a recipe", "train and measure"),
    "evaluate": Verb("refseg.cli.evaluate", "score a model on a data set under a protocol", "train and measure"),
    "calibrate": Verb("refseg.cli.evaluate", "choose a model's thresholds on held-out pictures", "train and measure"),
    "score": Verb("refseg.cli.score", "score saved predictions without a model", "train and measure"),
    "compare": Verb("refseg.cli.score", "compare two runs: which is better, on what, and where", "train and measure"),
    "results": Verb("refseg.cli.results", "published numbers next to measured ones", "train and measure"),
    "tables": Verb(
        "refseg.cli.documents", "the documents' tables and figures, and what makes each", "train and measure"
    ),
    "data": Verb("refseg.cli.data", "check, fetch, convert, draw and paste data sets", "data sets"),
    "annotate": Verb("refseg.cli.annotate", "make a data set as a game in the browser", "data sets"),
    "benchmark": Verb("refseg.cli.benchmark", "time the stages of models", "studies"),
    "oracle": Verb("refseg.cli.oracle", "score choosing alone, over annotated objects", "studies"),
    "attention": Verb("refseg.cli.documents", "how much ReSTR looks at pixels and at words (its table 3a)", "studies"),
    "studies": Verb("refseg.cli.side_by_side", "the small systems side by side; `instances` in numbers", "studies"),
}
COMPLETION = ("--install-completion", "--show-completion")
COMPLETE_VARIABLE = "_REFSEG_COMPLETE"
"""Set by the shell's completion script, to what the app should answer with."""
