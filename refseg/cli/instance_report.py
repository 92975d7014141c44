"""`refseg studies instances`: a model of `instances` measured on one's own data, with what each step loses."""

from __future__ import annotations

import json as json_format
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import flag, opt
from refseg.errors import ConfigError
from refseg.files import write_text
from refseg.inference import DEFAULT_MODEL

SETS = "what is measured"

app = App()


@app.command("instances")
def instances(
    output: Annotated[Path, options.output("folder of the report, and of what is kept for the next run")],
    model: options.Model = DEFAULT_MODEL,
    referring: Annotated[
        list[str] | None,
        opt("SET", "NAME=DIR[,dataset=NAME][,split_by=WHO][,split=NAME+NAME]; again for more", group=SETS),
    ] = None,
    photographs: Annotated[
        list[str] | None,
        opt(
            "SET",
            "COCO-style: NAME=FILE[,images=DIR][,names=yes][,only=FIELD:VALUE][,apart=FIELD:VALUE]; again for more",
            group=SETS,
        ),
    ] = None,
    scenes: Annotated[int, opt("N", "drawn scenes", group=SETS, check=options.at_least(0))] = 0,
    seed: Annotated[int, options.seed("of the drawn scenes")] = 0,
    size: Annotated[int, opt("PX", "side of the drawn scenes", group=SETS, check=options.at_least(64))] = 320,
    nouns: Annotated[
        Path | None, opt("FILE.tsv", "lines of: noun, val or test, categories that a person accepts", group=SETS)
    ] = None,
    objects: Annotated[bool, flag("--objects", "referring sets over their annotated objects, too", SETS)] = False,
    half: Annotated[
        Literal["val", "test", "both"], opt("NAME", "which pictures, by their names; test is to be looked at once")
    ] = "val",
    markdown: Annotated[Path | None, opt("FILE", "the page (default: DIR/report.md)", group=options.WRITING)] = None,
    json: Annotated[Path | None, options.json_file("its numbers (default: DIR/report.json)")] = None,
    threads: options.Threads = None,
) -> int:
    """Measure `instances` on data of yours: answers, boxes, masks, names and nouns, and where what is missing is lost.

    Proposals are computed once a picture, and a run that was stopped goes on. Names=yes is for photographs on which
    every object of the file's categories is annotated: each name is asked of each of them.
    """
    options.check_folder(output)
    for path, option in ((markdown, "--markdown"), (json, "--json")):
        options.check_file(path, option)
    from refseg.progress import progress
    from refseg.studies.instance_report.page import to_markdown
    from refseg.studies.instance_report.run import Report
    from refseg.studies.instance_report.sets import PhotographSet, Settings
    from refseg.studies.photographs import ScoredSet

    if not (referring or photographs or scenes or nouns):
        raise ConfigError("nothing to measure: give --referring, --photographs, --scenes or --nouns")
    settings = Settings(
        referring=tuple(map(ScoredSet.parse, referring or ())),
        photographs=tuple(map(PhotographSet.parse, photographs or ())),
        scenes=scenes,
        seed=seed,
        size=size,
        nouns=nouns,
        half=half,
        objects=objects,
    )
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    with progress("pictures", lines=True) as update:
        document = Report(model, output, settings, update).document()
    page, numbers = markdown or output / "report.md", json or output / "report.json"
    write_text(numbers, json_format.dumps(document, indent=1) + "\n")
    write_text(page, to_markdown(document, shlex.join(["refseg", *sys.argv[1:]])))
    print(f"{page} and {numbers}")
    return 0
