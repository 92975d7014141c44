"""`refseg tables` and `refseg attention`: the documents' tables and figures, what makes each, and the page of all."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.cli.tables import percent, print_table
from refseg.errors import RefsegError

if TYPE_CHECKING:
    from refseg.evaluation.leaderboard.experiments import Entry, Experiment

app = App()


def _titles() -> list[str]:
    from refseg.evaluation.leaderboard.experiments import entries

    return [entry.title for entry in entries()]


@app.command("tables")
def tables(
    title: Annotated[
        str | None, arg("TABLE", 'a table or figure, such as "thesis table 4.3" or "gres 5"', names=_titles)
    ] = None,
    assignments: Annotated[
        list[str] | None, arg("KEY=VALUE", "with --run: fields of the recipes, as for refseg train")
    ] = None,
    run: Annotated[bool, flag("--run", "train and score what is not there yet, row by row")] = False,
    data: Annotated[Path, opt("ROOT", "folder of the data sets", "--data", group=options.DATA)] = Path("DATA"),
    measured: Annotated[
        list[Path] | None, opt("SCORE.json...", "scores to stand beside the published, or folders of runs")
    ] = None,
    output: Annotated[Path | None, options.output("write the page of all tables", "FILE.md")] = None,
) -> int:
    """List the documents' tables and figures; with one, what makes it, and its published numbers.

    With --run its rows are trained and scored one after the other: a finished run is left as it is, a stopped one goes
    on, and one that fails is named while the others are made.
    """
    from refseg.evaluation.leaderboard import load_measured
    from refseg.evaluation.leaderboard.experiments import experiments, find_entry

    options.check_file(output, "-o")
    if title is None:
        if run or assignments:
            raise RefsegError('--run wants a table, such as refseg tables "thesis table 4.3" --run --data ROOT')
        results = load_measured(measured or [])
        if output is None:
            _print_list()
            return 0
        from refseg.evaluation.leaderboard.page import page
        from refseg.files import write_text

        write_text(output, page(results))
        print(f"written to {output}")
        return 0
    if assignments and not run:
        raise RefsegError("KEY=VALUE belongs to --run")
    entry = find_entry(title)
    made = experiments(entry, str(data))
    failed = _make(made, assignments or []) if run else []
    if not run:
        _print_commands(entry, made)
    scores = [Path(score) for one in made for score in one.scores if Path(score).is_file()]
    _print_numbers(entry, [*(measured or []), *(scores if run else [])])
    for line in failed:
        print(f"not made: {line}", file=sys.stderr)
    return 1 if failed else 0


def _print_list() -> None:
    from refseg.evaluation.leaderboard.experiments import entries, experiments, numbers_of

    rows = [
        (entry.title, entry.what, str(len(numbers_of(entry)) or ""), str(len(experiments(entry)) or ""))
        for entry in entries()
    ]
    print_table(("table or figure", "of what", "published numbers", "runs"), rows, left=2, lines=False)


def _print_commands(entry: Entry, made: list[Experiment]) -> None:
    from refseg.evaluation.leaderboard.experiments import numbers_of, row_of
    from refseg.evaluation.leaderboard.page import costs

    print(f"{entry.title}: {entry.what}" + (f" ({entry.note})" if entry.note else ""))
    if entry.how:
        print(entry.how)
    if made:
        print(f"all of it: refseg tables {shlex.quote(entry.title)} --run --data ROOT")
    for words in dict.fromkeys(words for one in made for words in (*one.training, *one.scoring)):
        print(shlex.join(("refseg", *words)))
    for command in costs(entry):
        print(command)
    found = {(number.system, number.configuration): row_of(number) for number in numbers_of(entry)}
    for (system, configuration), row in found.items():
        if row is not None and row.missing:
            print(f"{', '.join(filter(None, (system, configuration)))}: not made here: {row.missing}")


def _make(made: list[Experiment], assignments: list[str]) -> list[str]:
    """Train and score what is not there; gives a line for each command that failed."""
    failed: list[str] = []
    done: set[tuple[str, ...]] = set()
    for one in made:
        for folder, words in zip(one.folders, one.training, strict=True):
            if words in done or (Path(folder) / "final").is_dir():
                continue
            done.add(words)
            resume = ["--resume"] if (Path(folder) / "recipe.toml").is_file() else []
            if not _call([*words, *assignments, *resume], failed):
                break
        else:
            for words, file in zip(one.scoring, one.scores, strict=True):
                if words not in done and not Path(file).is_file():
                    done.add(words)
                    _call(list(words), failed)
    return failed


def _call(words: list[str], failed: list[str]) -> bool:
    from refseg.cli.main import main

    print(shlex.join(("refseg", *words)), flush=True)
    if main(words) == 0:
        return True
    failed.append(shlex.join(("refseg", *words)))
    return False


def _print_numbers(entry: Entry, measured: list[Path]) -> None:
    from refseg.evaluation.leaderboard import load_measured
    from refseg.evaluation.leaderboard.page import lines

    header, *body = lines(entry, load_measured(measured))
    if body:
        print_table(header, body, left=3, lines=False)


@app.command("attention")
def attention(
    data: options.Data,
    model: options.Model,
    dataset: options.Dataset = None,
    split: options.Split = None,
    split_by: options.SplitBy = None,
    limit: options.Limit = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 16,
    json: Annotated[Path | None, options.json_file("the shares of each layer, for refseg results --measured")] = None,
) -> None:
    """Average over a data set how much ReSTR's class seed looks at pixels and at words (its table 3a)."""
    import json as json_format

    options.check_file(json, "--json")
    from refseg.data import open_dataset
    from refseg.evaluation.leaderboard import trained_as
    from refseg.files import write_text
    from refseg.inference.predictor import load
    from refseg.progress import progress
    from refseg.studies.attention import attention_shares

    samples = open_dataset(data, dataset, split, split_by)
    chosen = samples if limit is None else samples[:limit]
    segmenter = load(model, device=device)
    with progress("expressions") as update:
        document = attention_shares(segmenter.model, segmenter.tokenizer, chosen, batch_size, update)
    rows = [
        (name, *(percent(shares[key], ".1f") for key in ("attention on pixels", "attention on words")))
        for name, shares in document["breakdowns"]["layer"].items()
    ]
    print_table(("", "pixels", "words"), rows, lines=False)
    if json is not None:
        about = {"dataset": samples.name, "split": samples.split, "split_by": samples.split_by}
        document = {**document, "model": model, "data": about, **trained_as(segmenter.info)}
        write_text(json, json_format.dumps(document, indent=1) + "\n")
        print(f"written to {json}")
