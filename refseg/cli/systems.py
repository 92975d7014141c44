"""`refseg systems`: train the small systems side by side on drawn scenes, and write the tables that compare them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from refseg.errors import RefsegError
from refseg.files import write_text

TIMES = "times.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    from refseg.studies.side_by_side import Settings

    base = Settings()
    parser.add_argument(
        "--out", default="runs/systems", metavar="DIR", help="where runs are kept (default %(default)s)"
    )
    parser.add_argument("--only", metavar="NAMES", help="comma list of systems and claims (default: all; see --list)")
    parser.add_argument("--list", action="store_true", help="print the names of systems and claims")
    parser.add_argument("--recipes", default="recipes", metavar="DIR", help="folder with NAME-mini-scenes.toml")
    for name, text in (
        ("budget", "sentences that each system is trained on"),
        ("pictures_per_batch", "pictures in a batch"),
        ("sentences_per_picture", "sentences on each of them"),
        ("pool", "different scenes to learn from"),
        ("size", "side of a scene in pixels"),
        ("test_pictures", "scenes that are scored"),
        ("seed", "of the scenes that are learnt from"),
        ("workers", "processes that prepare batches"),
    ):
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=int, default=getattr(base, name), help=f"{text} (default %(default)s)")
    parser.add_argument(
        "--calibrate", action="store_true", help="choose each system's thresholds on further scenes, instead of .5"
    )
    parser.add_argument("--no-timing", action="store_true", help="leave milliseconds out")
    parser.add_argument("--markdown", metavar="FILE", help="the page (default: DIR/scenes.md)")
    parser.add_argument("--json", metavar="FILE", help="its numbers (default: DIR/scenes.json)")
    parser.add_argument("--threads", type=int, help="threads of torch on the CPU")


def run(arguments: argparse.Namespace) -> int:
    """0 when every entry has its numbers, 1 when some failed (the page says which), 130 after a stop."""
    from refseg.studies.claims import CLAIMS, choose, entries_of, systems
    from refseg.studies.report import to_dict, to_markdown
    from refseg.studies.side_by_side import Settings, Stopped, prepare, run_entries

    if arguments.list:
        for entry in systems():
            print(f"{entry.name:<18} system, {entry.recipe}")
        for claim in CLAIMS:
            print(f"{claim.name:<18} claim, {claim.title}: {', '.join(label for label, _ in claim.rows)}")
        return 0
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise RefsegError(f"--threads {arguments.threads}: 1 or more is wanted")
        import torch

        torch.set_num_threads(arguments.threads)
    names = [name.strip() for name in (arguments.only or "").split(",") if name.strip()]
    chosen, claims = choose(names)
    recipes, folder = Path(arguments.recipes), Path(arguments.out)
    if not recipes.is_dir():
        raise RefsegError(f"--recipes {recipes}: no such folder; it holds rela-mini-scenes.toml and the others")
    shared = (
        "budget",
        "pictures_per_batch",
        "sentences_per_picture",
        "pool",
        "size",
        "test_pictures",
        "seed",
        "workers",
    )
    settings = Settings(
        **{name: getattr(arguments, name) for name in shared},
        thresholds="calibrated" if arguments.calibrate else "plain",
    )
    prepare(folder, settings)
    entries = entries_of(chosen, claims)
    try:
        results = run_entries(entries, recipes, folder, settings, lambda text: print(text, file=sys.stderr, flush=True))
    except Stopped as stopped:
        print(f"refseg systems: {stopped}", file=sys.stderr)
        return 130
    times = _times(folder, [] if arguments.no_timing else [e for e in chosen if "error" not in results[e.name]])
    document = to_dict(settings, chosen, claims, results, times)
    page = Path(arguments.markdown or folder / "scenes.md")
    numbers = Path(arguments.json or folder / "scenes.json")
    write_text(numbers, json.dumps(document, indent=1) + "\n")
    write_text(page, to_markdown(document, _command(arguments)))
    print(f"{page} and {numbers}: {len(results)} entries")
    failed = {name: result["error"] for name, result in results.items() if "error" in result}
    for name, message in failed.items():
        print(f"failed: {name}: {message}", file=sys.stderr)
    return 1 if failed else 0


def _times(folder: Path, entries: list) -> dict:
    """Times of the finished systems; measured again, all of them, when one is new."""
    from refseg.studies.side_by_side import time_entries

    path = folder / TIMES
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if entries and any(entry.name not in known for entry in entries):
        known = time_entries(entries, folder)
        write_text(path, json.dumps(known, indent=1) + "\n")
    return {entry.name: known[entry.name] for entry in entries if entry.name in known}


def _command(arguments: argparse.Namespace) -> str:
    """The command that makes the page, with what differs from the defaults."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["refseg systems"]
    for action in parser._actions:
        if action.dest in ("help", "threads", "list") or not hasattr(arguments, action.dest):
            continue
        value = getattr(arguments, action.dest)
        if value != action.default:
            words.append(action.option_strings[0] if value is True else f"{action.option_strings[0]} {value}")
    return " ".join(words)
