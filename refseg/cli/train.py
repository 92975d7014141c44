"""`refseg train RECIPE [key=value ...]`: train a system from a recipe, or go on with a run that was stopped."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `refseg train`."""
    parser.add_argument("recipe", help="a TOML file such as recipes/rela-mini-scenes.toml")
    parser.add_argument(
        "assignments",
        nargs="*",
        metavar="key=value",
        help="fields of the recipe to change, such as data.root=DIR training.steps=100 model.width=64",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in output.folder, exactly where it stopped"
    )
    parser.add_argument("--show", action="store_true", help="print the whole recipe with every field, and do not train")


def run(arguments: argparse.Namespace) -> int:
    """0 when all steps are done, 1 when the run could not go on, 128 + signal when it was stopped."""
    from refseg.training.recipe import read_recipe, recipe_to_dict

    recipe = read_recipe(arguments.recipe, arguments.assignments)
    if arguments.show:
        from refseg.config import to_toml

        print(to_toml(recipe_to_dict(recipe)), end="")
        return 0
    from refseg.training.loop import TrainingError, train

    try:
        outcome = train(recipe, resume=arguments.resume)
    except TrainingError as error:
        print(f"refseg train: {error}", file=sys.stderr)
        return 1
    return 128 + outcome.signal if outcome.signal else 0
