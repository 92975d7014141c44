"""`refseg train RECIPE [key=value ...]`: train a system from a recipe, or go on with a run that was stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt

app = App()


def _fields() -> tuple[str, list[tuple[str, str]]]:
    from refseg.config import describe
    from refseg.training.recipe import Recipe

    fields = describe(Recipe)
    tables = {entry.name.rpartition(".")[0] for entry in fields}
    rows = []
    for entry in fields:
        if entry.name not in tables:
            default = "" if entry.default in (None, (), {}) else f", default {entry.default}"
            rows.append((entry.name, f"{entry.text} [{entry.type}{default}]".lstrip()))
    return "fields of a recipe (--show prints a recipe with all of them)", rows


def _models() -> list[str]:
    from refseg.models import preset_names, row_names

    return [*preset_names(), *row_names()]


def _data() -> list[str]:
    from refseg.evaluation.leaderboard.experiments import DATA

    return list(DATA)


@app.command("train", more=_fields)
def train(
    recipe: Annotated[Path, arg("RECIPE", "a TOML file such as recipes/rela-mini-scenes.toml")],
    assignments: Annotated[
        list[str] | None, arg("KEY=VALUE", "fields to change: data.root=DIR training.steps=100 ...")
    ] = None,
    preset: Annotated[
        str | None,
        opt("NAME", 'another model: a preset, or a row of a table ("vlt: table 4.3: 4 queries")', names=_models),
    ] = None,
    data: Annotated[str | None, opt("NAME", "another data set: refcoco+, refcocog-google, ...", names=_data)] = None,
    resume: Annotated[bool, flag("--resume", "go on with the run in output.folder, exactly where it stopped")] = False,
    show: Annotated[bool, flag("--show", "print the whole recipe with every field, and do not train")] = False,
) -> int:
    """Train a system from a recipe; with --preset or --data the run's folder is called after them.

    Exits with 0 when all steps are done, 1 when the run could not go on, 128 + signal when it was stopped.
    """
    from refseg.training.recipe import read_recipe, recipe_to_dict

    chosen = read_recipe(recipe, assignments or [], preset, data)
    if show:
        from refseg.config import to_toml

        print(to_toml(recipe_to_dict(chosen)), end="")
        return 0
    from refseg.training import loop

    try:
        outcome = loop.train(chosen, resume=resume)
    except loop.TrainingError as error:
        print(f"refseg train: {error}", file=sys.stderr)
        return 1
    return 128 + outcome.signal if outcome.signal else 0
