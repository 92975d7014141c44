"""The Typer app: a group that imports a verb's file when the verb is asked for, help in groups, errors in one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from refseg.cli.verbs import COMPLETE_VARIABLE, VERBS
from refseg.errors import did_you_mean

if TYPE_CHECKING:
    from typer._click import Command as ClickCommand
    from typer._click import Context, HelpFormatter

Rows = list[tuple[str, str]]

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What Typer raises for a wrong command line; its own module for it has no public name."""

RENAMED = {"--out": "--output", "--form": "--format"}
"""Options of earlier versions, and what they are called now."""


class Command(TyperCommand):
    """A verb: options that take several values or an optional one, and help by groups (`rich_help_panel`).

    An option whose metavar ends with "..." takes all words up to the next option; one whose metavar is in brackets may
    stand alone, which means the value "-". Typer knows options of exactly one value only.

    Help is plain text: at 80 columns Typer's panels cut the names of longer options.
    """

    context_class = typer.Context
    more: Callable[[], tuple[str, Rows]] | None = None
    """Made when the help is shown, since it may need what is slow to import."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, spell_out(self, args))
        except UsageError as error:
            error.ctx = error.ctx or ctx  # type: ignore[attr-defined]
            raise

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        groups: dict[str, Rows] = {}
        for param in self.get_params(ctx):
            argument = param.param_type_name == "argument"
            group = "arguments" if argument else getattr(param, "rich_help_panel", None) or "options"
            record = param.get_help_record(ctx)
            if record is not None:
                # Typer adds the type to an argument's name: its metavar says enough.
                groups.setdefault(group, []).append(
                    (str(param.metavar or param.name), record[1]) if argument else record
                )
        for group in sorted(groups, key=lambda name: (name != "arguments", name == "options")):
            with formatter.section(typer.style(group, bold=True)):
                formatter.write_dl(groups[group], col_max=26)

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        if self.more is not None:
            title, rows = self.more()
            with formatter.section(typer.style(title, bold=True)):
                formatter.write_dl(rows, col_max=26)


class Group(TyperGroup):
    """Verbs under a verb, listed with their whole first sentences."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, (command.help or "").split("\n\n")[0].rstrip(".")) for name, command in commands if command]
        with formatter.section(typer.style("verbs", bold=True)):
            formatter.write_dl(rows)


class Verbs(Group):
    """All verbs of `refseg.cli.verbs.VERBS`, none of which is imported before it is asked for."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Context, cmd_name: str) -> ClickCommand | None:
        return load_verb(cmd_name) if cmd_name in VERBS else None


class App(typer.Typer):
    """The Typer app of one file of verbs; `name` where they stand under a verb of that name."""

    def __init__(self, name: str | None = None, help: str | None = None) -> None:
        super().__init__(name=name, help=help, cls=Group, rich_markup_mode=None, add_completion=False)

    def command(  # type: ignore[override]
        self, name: str, more: Callable[[], tuple[str, Rows]] | None = None
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a function as the verb `name`; `more` gives a heading and rows that the help ends with."""
        cls = Command if more is None else type("Command", (Command,), {"more": staticmethod(more)})
        return super().command(name, cls=cls)


@cache
def load_verb(name: str) -> ClickCommand:
    """The command of a verb, or the group of the verbs under it; imports its file."""
    command = get_command(import_module(VERBS[name].module).app)
    return command if command.name == name else command.commands[name]  # type: ignore[attr-defined]


@cache
def root() -> ClickCommand:
    """The command `refseg`."""
    app = typer.Typer(
        name="refseg", cls=Verbs, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
    )
    # Without a callback Typer makes no group of an app that holds no command yet.
    app.callback()(lambda: None)
    return get_command(app)


def run(words: Sequence[str]) -> int:
    """Run one command line (without "refseg"); returns its exit code.

    Raises `UsageError` where the words do not fit the verb, and what the verb raises.
    """
    if COMPLETE_VARIABLE in os.environ:
        root().main(list(words), prog_name="refseg", complete_var=COMPLETE_VARIABLE)
    try:
        with root().make_context("refseg", list(words)) as context:
            return root().invoke(context) or 0
    except typer.Exit as stop:  # after --help
        return stop.exit_code
    except SystemExit as stop:  # after --show-completion
        return int(stop.code or 0)


def spell_out(command: ClickCommand, args: Sequence[str]) -> list[str]:
    """Arguments with `--rows A B` written as `--rows A --rows B`, and `--json` without a value as `--json -`."""
    metavars = {name: str(param.metavar or "") for param in command.params for name in param.opts}
    words = list(args)
    result: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            return [*result, word, *words]
        metavar = metavars.get(word, "")
        if word.startswith("-") and metavar.endswith("..."):
            result += [word, words.pop(0)] if words else [word]
            while words and not words[0].startswith("-"):
                result += [word, words.pop(0)]
        elif word.startswith("-") and metavar.startswith("["):
            alone = not words or (words[0].startswith("-") and words[0] != "-")
            result += [word, "-" if alone else words.pop(0)]
        else:
            result.append(word)
    return result


def explain(error: Any) -> str:
    """A `UsageError` as one line: the verb, what is wrong with which option, and the nearest right names."""
    context = error.ctx
    path = context.command_path if context is not None else "refseg"
    text = " ".join(str(error.format_message()).replace("Value error, ", "").split()).rstrip(".")
    if hasattr(error, "possibilities"):
        text = f"there is no option {error.option_name}; {_near(error.option_name, context, path)}"
    elif text.startswith(("Missing", "Got", "No such", "Option")):
        text = f"{text[0].lower()}{text[1:]}; {path} --help describes it"
    return f"{path}: {text}"


def _near(name: str, context: Context, path: str) -> str:
    """The option that `name` has become, or those that are like it."""
    options = [option for param in context.command.get_params(context) for option in param.opts]
    if RENAMED.get(name) in options:
        return f"it is {RENAMED[name]} now"
    hint = did_you_mean(name, options)
    return hint if hint.startswith("did you mean") else f"{path} --help lists the options"
