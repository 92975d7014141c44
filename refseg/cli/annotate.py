"""`refseg annotate`: the annotation game. Each verb under it is a module of its own."""

from __future__ import annotations

import argparse
from importlib import import_module

from refseg.errors import RefsegError

# verb -> (module with add_arguments(parser) and run(arguments), one line for the overview)
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("refseg.cli.annotate_demo", "open a game on drawn scenes, or your pictures, with accounts to try"),
    "serve": ("refseg.cli.annotate_serve", "open the game of a data folder in a browser"),
    "user": ("refseg.cli.annotate_user", "add, list and change accounts; make tokens for scripts"),
    "import": ("refseg.cli.annotate_import", "bring in pictures, objects and sentences"),
    "export": ("refseg.cli.annotate_export", "write the accepted samples as a data set, with a data card"),
    "stats": ("refseg.cli.annotate_stats", "queues, agreement, kinds and progress of the splits"),
    "rank": ("refseg.cli.annotate_rank", "let a model find the pictures that are hard, to be drawn more often"),
    "backup": ("refseg.cli.annotate_backup", "copy the database while the game runs"),
    "restore": ("refseg.cli.annotate_restore", "put a backup into a database, SQLite or PostgreSQL"),
    "migrate": ("refseg.cli.annotate_migrate", "bring the database up to date (serve does so too)"),
    "load": ("refseg.cli.annotate_load", "measure how fast pages are with many players and samples"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb and all that follows it; the verb's own module reads that."""
    width = max(map(len, VERBS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "verbs:\n" + "\n".join(f"  {verb:<{width}}  {summary}" for verb, (_, summary) in VERBS.items())
    parser.add_argument("verb", choices=list(VERBS), metavar="VERB", help="one of those below")
    parser.add_argument(
        "rest", nargs=argparse.REMAINDER, metavar="...", help="refseg annotate VERB --help describes them"
    )


def run(arguments: argparse.Namespace) -> int | None:
    """Run one verb; only its module is imported."""
    module_name, summary = VERBS[arguments.verb]
    module = import_module(module_name)
    parser = argparse.ArgumentParser(prog=f"refseg annotate {arguments.verb}", description=summary)
    module.add_arguments(parser)
    parsed = parser.parse_args(arguments.rest)
    try:
        import alembic  # noqa: F401
        import argon2  # noqa: F401
        import fastapi  # noqa: F401
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise RefsegError(f"the annotation game needs {error.name}: pip install 'refseg[annotate]'") from error
    return module.run(parsed)
