"""The command line as a whole: help, start-up, completion, errors, and the command lines that the pages show."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from refseg.cli.app import UsageError, load_verb, spell_out
from refseg.cli.main import main
from refseg.cli.verbs import VERBS
from tests.support.command_line import documented_commands, every_verb, parse

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("refseg/models/*/README.md")])
EVERY_VERB = list(every_verb())
SLOW = {
    *("torch", "transformers", "accelerate", "safetensors", "huggingface_hub", "scipy", "pycocotools", "matplotlib"),
    *("pyarrow", "lancedb", "ray", "onnx", "onnxruntime", "openvino", "av", "fastapi", "uvicorn", "sqlalchemy", "rich"),
}
"""Packages that no help waits for."""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=120,
    )


def test_every_verb_of_today_is_there() -> None:
    assert set(VERBS) == {
        *("segment", "models", "import", "doctor", "train", "evaluate", "calibrate", "score", "compare", "results"),
        *("data", "annotate", "benchmark", "studies", "serve", "serve-load", "index", "search", "batch", "export"),
        *("edit", "label", "video", "explain", "gallery", "attention", "tables", "oracle"),
    }
    below = {path[1] for path in EVERY_VERB if path[0] == "data" and len(path) == 2}
    assert below == {"check", "stats", "get", "leak", "scenes", "collage", "templates", "speed", "convert"}
    below = {path[1] for path in EVERY_VERB if path[0] == "annotate" and len(path) == 2}
    assert below == {
        *(
            "demo",
            "serve",
            "user",
            "import",
            "export",
            "stats",
            "rank",
            "backup",
            "restore",
            "migrate",
            "propose",
            "check",
        )
    }


@pytest.mark.parametrize("path", [(), *EVERY_VERB], ids=" ".join)
def test_help_fits_80_columns(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*path, "--help"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert " ".join(path) in printed.out
    assert "\x1b" not in printed.out, "plain where it is no terminal"
    assert max(map(len, printed.out.splitlines())) <= 80
    assert "…" not in printed.out
    if path:
        for param in parameters(path):
            assert all(option in printed.out for option in param.opts if option.startswith("--"))
            assert param.help, f"{param.name} of {path} says nothing"


def parameters(path: tuple[str, ...]) -> list:
    command = load_verb(path[0])
    for name in path[1:]:
        command = command.commands[name]
    return command.params


def test_one_spelling_means_one_thing() -> None:
    short: dict[str, set[str]] = {}
    for path in EVERY_VERB:
        for param in parameters(path):
            for option in param.opts:
                if option.startswith("-") and not option.startswith("--"):
                    short.setdefault(option, set()).add(param.opts[-1])
    assert short == {"-o": {"--output"}, "-t": {"--text"}}


def test_help_of_train_shows_the_fields_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    from refseg.training.recipe import Recipe

    assert main(["train", "--help"]) == 0
    printed = capsys.readouterr().out
    for table in dataclasses.fields(Recipe):
        for field in dataclasses.fields(table.default_factory()):
            assert f"{table.name}.{field.name}" in printed


def test_defaults_of_the_study_are_its_settings() -> None:
    from refseg.studies.settings import Settings

    values = {name: value for name, value in parse(["studies", "side-by-side"]).items() if hasattr(Settings(), name)}
    assert len(values) == 15
    assert values == {name: getattr(Settings(), name) for name in values}


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_the_overview_imports_neither_typer_nor_torch(words: list[str]) -> None:
    code = (
        f"import sys; from refseg.cli.main import main; main({words!r}); "
        "sys.exit(', '.join({'typer', 'rich', 'torch', 'numpy', 'pydantic'} & set(sys.modules)) or None)"
    )
    done = python(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_help_imports_what_is_slow() -> None:
    code = (
        "import sys; from refseg.cli.main import main\n"
        f"for path in {[list(path) for path in EVERY_VERB]!r}:\n"
        "    assert main([*path, '--help']) == 0\n"
        f"    assert not {SLOW!r} & set(sys.modules), (path, {SLOW!r} & set(sys.modules))\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_help_of_train_imports_no_system_and_no_numpy() -> None:
    code = (
        "import sys; from refseg.cli.main import main; main(['train', '--help'])\n"
        "sys.exit(', '.join(name for name in sys.modules if name.startswith(('numpy', 'refseg.models'))) or None)"
    )
    done = python(code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_made(shell: str) -> None:
    code = "import sys; from refseg.cli.main import main; sys.exit(main(['--show-completion', sys.argv[1]]))"
    done = subprocess.run(
        [sys.executable, "-c", code, shell],
        capture_output=True,
        text=True,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "_REFSEG_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("refseg ev", {"evaluate"}),
        ("refseg data co", {"collage", "convert"}),
        ("refseg segment --no-target-th", {"--no-target-threshold"}),
        ("refseg data convert a b --to la", {"labelstudio"}),
        ("refseg score --protocol rela-5", {"rela-50px"}),
        ("refseg evaluate --protocol native,lav", {"native,lavt"}),
        ("refseg evaluate --precision bf", {"bfloat16"}),
        ("refseg models rela-min", {"rela-mini"}),
        ("refseg calibrate rela-pho", {"rela-photo"}),
    ],
)
def test_the_shell_completes(line: str, names: set[str]) -> None:
    done = python(
        "from refseg.cli.main import main; main([])",
        _REFSEG_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split()) - 1),
    )
    assert set(done.stdout.split()) >= names, done.stderr
    assert all(name.startswith(line.split()[-1]) for name in done.stdout.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluat"], "refseg: 'evaluat' is not a verb; did you mean 'evaluate'"),
        (["data", "chek", "x"], "refseg data: no such command 'chek'. Did you mean 'check'?"),
        (["evaluate", "--data", "x"], "refseg evaluate: missing option '--split'"),
        (["segment"], "refseg segment: missing argument 'IMAGE-or-EXPRESSION'"),
        (["segment", "a", "--modle", "x"], "refseg segment: there is no option --modle; did you mean '--model'"),
        (["segment", "a", "--qqq", "x"], "refseg segment: there is no option --qqq; refseg segment --help lists"),
        (["segment", "a", "--model"], "refseg segment: option '--model' requires an argument"),
        (["data", "collage", "--out", "x"], "refseg data collage: there is no option --out; it is --output now"),
        (["studies", "side-by-side", "--out", "x"], "there is no option --out; it is --output now"),
        (["annotate", "export", "x", "--form", "x"], "there is no option --form; it is --format now"),
        (["evaluate", "--data", "x", "--split", "val", "--limit", "0"], "refseg evaluate: --limit is at least 1"),
        (["evaluate", "--data", "x", "--split", "val", "--limit", "many"], "'--limit'"),
        (["segment", "a", "--precision", "bf16"], "'bf16' is not one of 'float32', 'bfloat16'"),
        (["segment", "a", "--threshold", "nan"], "--threshold is a probability from 0 to 1, not nan"),
        (["models", "rela-mini", "more"], "refseg models: got unexpected extra argument"),
    ],
)
def test_a_wrong_command_line_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_nothing_to_do_prints_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("refseg.cli.doctor.examine", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "refseg doctor: interrupted\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m refseg results | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stderr == ""
    assert done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segment", "photo.jpg", "a dog", "-o", "answer.png"], "answer.png is the name of a file; -o wants a folder"),
        (["data", "scenes"], "add OUT, or -o OUT"),
        (["data", "scenes", "one", "-o", "two"], "one and -o two both say where to write"),
        (["data", "convert", "lines.jsonl", "--to", "coco"], "add DST, or -o DST"),
        (["annotate", "export", "--data", "game"], "add DST, or -o DST"),
    ],
)
def test_where_to_write_is_said_once_and_is_a_folder(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert message in printed[0]
    assert list(tmp_path.iterdir()) == []


def test_scenes_are_written_where_o_says(tmp_path: Path) -> None:
    words = ["data", "scenes", "--train", "1", "--val", "0", "--test", "0", "--size", "64", "--workers", "1"]
    assert main([*words, str(tmp_path / "word")]) == 0
    assert main([*words, "-o", str(tmp_path / "option")]) == 0
    names = [
        sorted(path.relative_to(tmp_path / of) for path in (tmp_path / of).rglob("*")) for of in ("word", "option")
    ]
    assert names[0] == names[1] != []


def test_options_of_several_or_no_values() -> None:
    score, check = load_verb("score"), load_verb("data").commands["check"]  # type: ignore[attr-defined]
    assert spell_out(score, ["--rows", "a", "b", "--boundary"]) == ["--rows", "a", "--rows", "b", "--boundary"]
    assert spell_out(score, ["--rows", "a", "--", "b"]) == ["--rows", "a", "--", "b"]
    assert spell_out(check, ["d", "--json"]) == ["d", "--json", "-"]
    assert spell_out(check, ["d", "--json", "--deep"]) == ["d", "--json", "-", "--deep"]
    assert spell_out(check, ["--json", "o", "d"]) == ["--json", "o", "d"]
    assert parse(["score", "--rows", "a", "b"])["rows"] == [Path("a"), Path("b")]
    assert parse(["data", "leak", "a", "b"])["looks"] is None
    assert parse(["data", "leak", "a", "b", "--no-looks"])["looks"] is False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documented_commands_parse(page: Path) -> None:
    for command in documented_commands(page):
        try:
            parse(shlex.split(command)[1:])
        except UsageError as error:
            pytest.fail(f"{command}: {error}")


def test_there_are_documented_commands() -> None:
    assert sum(len(documented_commands(page)) for page in PAGES) > 60


def test_the_names_of_the_study_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studies", "side-by-side", "--list"]) == 0
    printed = capsys.readouterr().out
    assert "rela-mini-scenes.toml" in printed
    assert "claim" in printed


def test_the_command_of_the_study_names_what_differs() -> None:
    from refseg.cli.side_by_side import _command

    command = load_verb("studies").commands["side-by-side"]
    context = command.make_context("side-by-side", ["-o", "x", "--budget", "4", "--pool", "6250", "--no-timing"])
    assert _command(context) == "refseg studies side-by-side --output x --budget 4 --no-timing"
    words = ["--photographs", "p", "--photograph-test", "a=p", "--photograph-test", "b=q"]
    assert _command(command.make_context("side-by-side", list(words))) == " ".join(
        ["refseg studies side-by-side", *words]
    )
