"""What a run tells: a progress bar or plain lines, log.jsonl, TensorBoard. Only the first process tells anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refseg.files import replacing, write_bytes
from refseg.progress import progress

if TYPE_CHECKING:
    from PIL import Image

LOG = "log.jsonl"


class Monitor:
    """Shows and records a run of `steps`; with `active` False (every process but the first) it does nothing."""

    def __init__(self, folder: Path, steps: int, first_step: int, active: bool, tensorboard: bool) -> None:
        self.folder, self.steps, self.active = folder, steps, active
        self.board: Any = None
        if not active:
            return
        from rich.console import Console

        folder.mkdir(parents=True, exist_ok=True)
        self.console = Console(stderr=True)
        _keep_lines_until(folder / LOG, first_step)
        self.log_file = (folder / LOG).open("a", encoding="utf-8")
        self.stack = ExitStack()
        self.update = self.stack.enter_context(progress("training", transient=False, console=self.console))
        self.update(first_step, steps)
        if tensorboard:
            self.board = _board(folder / "tensorboard", first_step)

    def say(self, text: str) -> None:
        """A line for people."""
        if self.active:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def advance(self, step: int, loss: float, speed: float) -> None:
        """Move the progress bar to `step` with the loss of the step and expressions a second."""
        if self.active:
            self.update(step, self.steps, f"loss {loss:.4f}  {speed:.1f} expressions/s")

    def record(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One line of log.jsonl, {"kind", "step", ...}, and its numbers to TensorBoard."""
        if not self.active:
            return
        self.log_file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self.log_file.flush()
        if self.board is not None:
            for name, value in _scalars(values, kind):
                self.board.add_scalar(name, value, step)
            self.board.flush()

    def picture(self, name: str, step: int, image: Image.Image) -> None:
        """A sample picture (PIL, RGB) to samples/ and TensorBoard."""
        if not self.active:
            return
        with replacing(self.folder / "samples" / f"{name}-{step:07d}.png") as temporary:
            image.save(temporary, format="PNG")
        if self.board is not None:
            import numpy as np

            self.board.add_image(name, np.asarray(image), step, dataformats="HWC")

    def close(self) -> None:
        """Leave the terminal and the files as they should be."""
        if not self.active:
            return
        self.stack.close()
        # On a full disk there are lines that cannot be written any more; the run has said so.
        with suppress(OSError):
            self.log_file.close()
        if self.board is not None:
            with suppress(OSError):
                self.board.close()


def time_text(seconds: float) -> str:
    """A duration such as 2:05:09 or 0:42."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def last_step(log: Path) -> int:
    """The last step that any whole line of log.jsonl tells of, damaged ones before it or not; 0 where there is none."""
    try:
        return max((_step(line) or 0 for line in log.read_bytes().split(b"\n")), default=0)
    except OSError:
        return 0


def _keep_lines_until(path: Path, step: int) -> None:
    """Drop log lines after `step`, and a line cut short by a kill or damaged: a resumed run writes them again."""
    if path.exists():
        write_bytes(path, b"".join(line + b"\n" for _, line in takewhile(lambda pair: pair[0] <= step, _lines(path))))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Step and text of the lines up to the first that is none."""
    try:
        content = path.read_bytes()
    except OSError:
        return
    for line in content.split(b"\n"):
        if (step := _step(line)) is None:
            return
        yield step, line


def _step(line: bytes) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _board(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra `train` brings it; a run without it is whole all the same
        return None
    # purge_step hides what an interrupted run wrote after its last checkpoint.
    return SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)


def _scalars(values: dict[str, Any], prefix: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}/{name}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append((f"{prefix}/{name}", float(value)))
    return found
