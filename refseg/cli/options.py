"""How options are declared, and those that several verbs take: each stands here once, and means the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from refseg.errors import RefsegError

PACKAGED = Path(__file__).parents[1] / "weights"
CORES = os.cpu_count() or 1
"""The default of --workers where pictures are made."""

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""As in `refseg.inference.placement`, which imports torch."""

MODEL, DATA, WRITING, COUNTING, RAY = "model", "data set", "what is written", "how it is counted", "Ray"
"""Groups of the help page."""

_FILES = {
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".svg", ".pdf", ".mp4", ".mov", ".webm"),
    *(".json", ".jsonl", ".csv", ".tsv", ".txt", ".html", ".onnx", ".safetensors", ".pth", ".pt", ".zip"),
}
"""Ends of names that nobody gives to a folder."""

Check = Callable[[Any], None]
"""Called with the value of an option; raises `BadValue`."""


class BadValue(typer.BadParameter):
    """A value that an option does not take; the message goes on from the option's name: "is at least 1, not 0"."""

    def format_message(self) -> str:
        return f"{self.param.opts[-1]} {self.message}" if self.param else self.message


def arg(metavar: str, text: str, names: Callable[[], Sequence[str]] | None = None) -> Any:
    """An argument; `names` makes the list that the shell completes it from."""
    return typer.Argument(metavar=metavar, help=text, autocompletion=_completion(names))


def opt(
    metavar: str,
    text: str,
    *spellings: str,
    group: str | None = None,
    names: Callable[[], Sequence[str]] | None = None,
    check: Check | None = None,
    **settings: Any,
) -> Any:
    """An option with a value; `spellings` where the parameter's name is not the option's, the rest as for `arg`."""
    return typer.Option(
        *spellings,
        metavar=metavar,
        help=text,
        autocompletion=_completion(names),
        callback=_callback(check),
        rich_help_panel=group,
        **settings,
    )


def flag(name: str, text: str, group: str | None = None) -> Any:
    """An option without a value."""
    return typer.Option(name, help=text, rich_help_panel=group)


def at_least(minimum: int) -> Check:
    """A check for numbers."""

    def check(value: Any) -> None:
        if not value >= minimum:
            raise BadValue(f"is at least {minimum}, not {value}")

    return check


def probability(value: Any) -> None:
    """A check for numbers from 0 to 1."""
    if not 0 <= value <= 1:
        raise BadValue(f"is a probability from 0 to 1, not {value}")


def not_negative(value: Any) -> None:
    """A check for how many there are of something."""
    if not 0 <= value < 1e6:
        raise BadValue(f"is a number of them, not {value}")


def port(value: Any) -> None:
    """A check for ports of TCP; 0 is any that is free."""
    if not 0 <= value < 1 << 16:
        raise BadValue(f"is a port from 0 to 65535, not {value}")


def _callback(check: Check | None) -> Callable[[Any], Any] | None:
    if check is None:
        return None

    def callback(value: Any) -> Any:
        if value is not None:
            check(value)
        return value

    return callback


def _completion(names: Callable[[], Sequence[str]] | None) -> Callable[[str], list[str]] | None:
    if names is None:
        return None

    def complete(incomplete: str) -> list[str]:
        before, comma, word = incomplete.rpartition(",")  # the last of a list with commas
        return [f"{before}{comma}{name}" for name in names() if name.startswith(word)]

    return complete


def model_names() -> list[str]:
    """The weights that came with the package."""
    return sorted(path.parent.name for path in PACKAGED.glob("*/config.json"))


def protocol_names() -> list[str]:
    """All protocols."""
    from refseg.metrics import PROTOCOLS

    return list(PROTOCOLS)


def output(text: str, metavar: str = "DIR") -> Any:
    """-o, --output: where the verb writes; `text` says what, `metavar` whether it is a folder or a file."""
    return opt(metavar, text, "-o", "--output", group=WRITING)


def json_file(text: str) -> Any:
    """--json FILE, where a verb prints something else."""
    return opt("FILE", text, "--json", group=WRITING)


def split(text: str = "train, val, testA, ... (default: all)") -> Any:
    """--split."""
    return opt("NAME", text, "--split", group=DATA)


def seed(text: str) -> Any:
    """--seed."""
    return opt("N", text, "--seed")


Model = Annotated[
    str,
    opt(
        "NAME",
        "packaged weights, model folder or hub id; instances@NAME chooses among the instances of another",
        "--model",
        group=MODEL,
        names=model_names,
    ),
]
Proposals = Annotated[
    str | None,
    opt(
        "FILE|MODEL",
        "choose among the detections of a .json file, or another model's instances",
        "--detections",
        "--proposals",
        group=MODEL,
    ),
]
Device = Annotated[str, opt("NAME", "auto, cpu, cuda, cuda:1 or mps", "--device", group=MODEL)]
Precision = Annotated[
    Literal["float32", "bfloat16"], opt("float32|bfloat16", "of the model's arithmetic", "--precision", group=MODEL)
]
DeviceMap = Annotated[
    str | None,
    opt(
        "NAME",
        f"spread a network of transformers over devices, in place of --device: {', '.join(DEVICE_MAPS)}",
        "--device-map",
        group=MODEL,
        names=lambda: DEVICE_MAPS,
    ),
]
Compile = Annotated[bool, flag("--compile", "have torch.compile translate a network of transformers", MODEL)]
Threads = Annotated[int | None, opt("N", "threads of torch on the CPU", "--threads", check=at_least(1))]
BatchSize = Annotated[int, opt("N", "expressions at once", "--batch-size", check=at_least(1))]
Workers = Annotated[int, opt("N", "processes that prepare pictures (0: this one)", "--workers", check=at_least(0))]
Cores = Annotated[int, opt("N", "processes", "--workers", check=at_least(1), show_default="one a core")]

Ray = Annotated[str | None, opt("ADDRESS", "on Ray: local, auto, HOST:PORT or ray://HOST:PORT", "--ray", group=RAY)]
Actors = Annotated[
    int | None, opt("N", "models at once (default: as many as fit)", "--actors", group=RAY, check=at_least(1))
]
Gpus = Annotated[float, opt("N", "GPUs of each model", "--gpus", group=RAY, check=not_negative)]
Cpus = Annotated[float, opt("N", "CPUs of each model", "--cpus", group=RAY, check=not_negative)]

Data = Annotated[Path, opt("ROOT", "folder of the data set, or the one above", "--data", group=DATA)]
OptionalData = Annotated[Path | None, opt("ROOT", "the data set: targets, and pictures", "--data", group=DATA)]
Root = Annotated[Path, arg("DIR", "the folder that holds data sets, one data set's own, or a .jsonl file")]
Dataset = Annotated[
    str | None, opt("NAME", "refcoco, scenes, ... (default: the folder's only one)", "--dataset", group=DATA)
]
Split = Annotated[str | None, split()]
SplitBy = Annotated[str | None, opt("NAME", "who made the split: unc, umd, google, ...", "--split-by", group=DATA)]
Limit = Annotated[int | None, opt("N", "only the first N expressions", "--limit", group=DATA, check=at_least(1))]
Images = Annotated[Path | None, opt("DIR", "folder of the pictures, where not beside SRC", "--images", group=DATA)]

_STORED = "(default: the model's)"
Threshold = Annotated[
    float | None,
    opt("P", f"a pixel counts above this probability {_STORED}", "--threshold", group=COUNTING, check=probability),
]
NoTargetThreshold = Annotated[
    float | None,
    opt("P", f"no-target probability of none {_STORED}", "--no-target-threshold", group=COUNTING, check=probability),
]
_PROTOCOL = opt("NAME", "how to count", "--protocol", group=COUNTING, names=protocol_names)
Protocol = Annotated[str, _PROTOCOL]
OptionalProtocol = Annotated[str | None, _PROTOCOL]
Boundary = Annotated[bool, flag("--boundary", "also boundary IoU (slow)", COUNTING)]

Json = Annotated[bool, flag("--json", "print JSON", WRITING)]
JsonOut = Annotated[str | None, opt("[FILE]", "JSON to FILE; without FILE, print it", "--json", group=WRITING)]
Strict = Annotated[bool, flag("--strict", "exit with an error when anything at all is wrong")]
DryRun = Annotated[bool, flag("--dry-run", "say what would be done and write nothing")]


def check_folder(path: Path | None) -> None:
    """Raises `RefsegError` where -o wants a folder and a file stands there, or the new folder is called like a file."""
    if path is None or path.is_dir():
        return
    if path.exists():
        raise RefsegError(f"{path} is a file; -o wants a folder")
    if path.suffix.lower() in _FILES:
        raise RefsegError(f"{path} is the name of a file; -o wants a folder, such as -o {path.with_suffix('')}")


def one_target(word: Path | None, output: Path | None, name: str) -> Path:
    """Where to write, given as the verb's last word (`name`) or with -o. Raises `RefsegError` for neither and both."""
    if word is not None and output is not None:
        raise RefsegError(f"{word} and -o {output} both say where to write; leave one of them")
    target = output if word is None else word
    if target is None:
        raise RefsegError(f"nothing says where to write; add {name}, or -o {name}")
    return target


def check_ray(ray: str | None, actors: int | None, gpus: float) -> None:
    """Raises `RefsegError` where options of --ray stand without it."""
    if ray is None and (actors is not None or gpus):
        raise RefsegError("--actors and --gpus belong to --ray; without it --workers says how many processes there are")


def check_model_folder(folder: Path) -> None:
    """Raises `RefsegError` where -o would replace something that is no model folder."""
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise RefsegError(f"{folder} is not empty and no model folder; choose another one for -o")


def check_images(folder: Path) -> None:
    """Raises `RefsegError` where the folder of the pictures is not there."""
    if not folder.is_dir():
        raise RefsegError(f"{folder}: no such folder; --images is the folder of the pictures")


def check_file(path: Path | None, option: str) -> None:
    """Raises `RefsegError` where a file is to be written and a folder stands there."""
    if path is not None and path.is_dir():
        raise RefsegError(f"{path} is a folder; {option} wants a file name")
