"""`python -m refseg.training.instances RECIPE --language FOLDER -o OUT`: all stages, then a model folder in OUT."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from refseg.errors import RefsegError
from refseg.training.instances.assemble import assemble
from refseg.training.instances.recipe import RecipeState, chooser_weights, read_recipe, run_recipe, train_referring


def main(arguments: list[str] | None = None) -> int:
    """Exits with 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m refseg.training.instances", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a TOML file such as recipes/stages/instances.toml")
    parser.add_argument("--language", type=Path, required=True, help="transformers folder of all-MiniLM-L6-v2")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the stages; the model is OUT/model")
    chosen = parser.parse_args(arguments)
    try:
        recipe, console = read_recipe(chosen.recipe), Console(stderr=True)

        def referring(state: RecipeState) -> list[Path]:
            return train_referring(state, recipe, chosen.language, console)

        state = run_recipe(recipe, chosen.output, referring=referring, console=console)
        folder, weights = chosen.output / "model", chooser_weights(chosen.output / "chooser.safetensors")
        print(assemble(folder, state.proposer, chosen.language, weights=weights))
    except RefsegError as error:
        print(f"refseg.training.instances: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
