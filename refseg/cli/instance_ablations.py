"""`refseg studies instance-ablations`: the system `instances` with its parts switched off one by one."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated, Literal

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import opt
from refseg.errors import ConfigError
from refseg.files import write_text
from refseg.inference import DEFAULT_MODEL

app = App()


@app.command("instance-ablations")
def instance_ablations(
    output: Annotated[Path, options.output("folder of the table, and of what is kept for the next run")],
    referring: Annotated[
        list[str], opt("SET", "NAME=DIR[,dataset=NAME][,split_by=WHO][,split=NAME+NAME]; again for more")
    ],
    model: options.Model = DEFAULT_MODEL,
    half: Annotated[
        Literal["val", "test", "both"], opt("NAME", "which pictures, by their names; test is to be looked at once")
    ] = "val",
    chooser: Annotated[
        list[str] | None, opt("NAME=FILE", "a further row: weights that the training stages wrote; again for more")
    ] = None,
    threads: options.Threads = None,
) -> int:
    """Answer the expressions of data sets without language, geometry, relations, colours, ..., over the same proposals.

    Proposals are computed once a picture. DIR/ablations.md is the table, DIR/ablations.json its numbers.
    """
    options.check_folder(output)
    from refseg.progress import progress
    from refseg.studies.instance_ablations import ROWS, Row, measure, to_markdown
    from refseg.studies.photographs import ScoredSet

    more = []
    for text in chooser or ():
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise ConfigError(f"--chooser {text!r}: a name and a file are wanted, NAME=FILE")
        more.append(Row(name, weights=Path(file)))
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    with progress("pictures", lines=True) as update:
        document = measure(model, list(map(ScoredSet.parse, referring)), output, half, (*ROWS, *more), update)
    write_text(output / "ablations.json", json_format.dumps(document, indent=1) + "\n")
    write_text(output / "ablations.md", to_markdown(document))
    print(to_markdown(document), end="")
    return 0
