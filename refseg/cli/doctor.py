"""refseg doctor: versions, device, threads, and what works here. Each line is tried, not guessed."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from json import dumps
from pathlib import Path
from typing import Literal

from refseg import __version__
from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.tables import print_table

State = Literal["ok", "missing", "failed"]

REQUIRED = (
    *("torch", "transformers", "safetensors", "huggingface_hub", "numpy", "scipy", "pillow", "pycocotools"),
    *("jaxtyping", "annotated-types", "typing-extensions", "rich", "typer", "tomli-w"),
)
"""The package's own dependencies; a test holds them against pyproject.toml."""
OPTIONAL = {
    "accelerate": "refseg train",
    "tensorboard": "curves of refseg train",
    "supervision": "Segmentation.to_supervision",
}
HUB_TIMEOUT = 3.0


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and in words."""

    group: str
    name: str
    state: State
    detail: str


app = App()


@app.command("doctor")
def doctor(json: options.Json = False) -> int:
    """Print versions, device, threads, and what works here; exit with 1 when something that is needed does not."""
    findings = examine()
    if json:
        print(dumps([asdict(finding) for finding in findings], indent=1))
    else:
        _print(findings)
    return int(any(finding.state == "failed" for finding in findings))


def examine() -> list[Finding]:
    """All findings. Nothing here raises: what goes wrong is a finding."""
    parts: list[Callable[[], list[Finding]]] = [versions, machine, devices, precisions, weights, hub]
    findings: list[Finding] = []
    for part in parts:
        try:
            findings += part()
        except Exception as error:
            findings.append(Finding("doctor", part.__name__, "failed", _words(error)))
    return findings


def versions() -> list[Finding]:
    """refseg, Python, the packages that are needed and those that add something."""
    findings = [
        Finding("versions", "refseg", "ok", f"{__version__} in {Path(__file__).parents[1]}"),
        Finding("versions", "python", "ok", f"{platform.python_version()} ({platform.platform()})"),
    ]
    for name in REQUIRED:
        version = _version(name)
        remedy = f"not installed: pip install {name}"
        findings.append(Finding("versions", name, "ok" if version else "failed", version or remedy))
    for name, use in OPTIONAL.items():
        version = _version(name)
        state: State = "ok" if version else "missing"
        findings.append(Finding("versions", name, state, version or f"not installed; only {use} needs it"))
    return findings


def machine() -> list[Finding]:
    """Processor, cores, threads and memory."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    findings = [
        Finding("machine", "processor", "ok", f"{_processor()}, vector code {torch.backends.cpu.get_cpu_capability()}"),
        Finding("machine", "threads", "ok", f"{torch.get_num_threads()} used by torch, {cores} cores for this process"),
    ]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        findings.append(Finding("machine", "memory", "ok", f"{memory:.1f} GiB"))
    return findings


def devices() -> list[Finding]:
    """Which devices there are, and which one --device auto takes."""
    import torch

    from refseg.inference.predictor import choose_device

    findings = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = f"capability {properties.major}.{properties.minor}"
        detail = f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB, {capability}"
        findings.append(Finding("devices", f"cuda:{index}", "ok", detail))
    if not findings:
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        findings.append(Finding("devices", "cuda", "missing", f"no GPU seen; {built}"))
    if torch.backends.mps.is_available():
        findings.append(Finding("devices", "mps", "ok", "Apple GPU"))
    findings.append(Finding("devices", "auto", "ok", f"--device auto takes {choose_device('auto')}"))
    return findings


def precisions() -> list[Finding]:
    """Whether bfloat16 computes here, and how fast against float32 (a product of 1024 x 1024 matrices)."""
    import torch

    from refseg.inference.predictor import choose_device

    device = choose_device("auto")
    findings = []
    plain = 0.0
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        try:
            seconds = _product_seconds(device, dtype)
        except RuntimeError as error:
            findings.append(Finding("precision", name, "missing", f"does not compute on {device}: {_words(error)}"))
            continue
        detail = f"{2 * 1024**3 / seconds / 1e9:,.0f} GFLOP/s on {device}"
        if name == "float32":
            plain = seconds
        elif plain:
            detail += f", {plain / seconds:.1f} times float32"
        findings.append(Finding("precision", name, "ok", detail))
    return findings


def weights() -> list[Finding]:
    """Whether each packaged model loads and answers an expression about a grey picture."""
    import numpy as np

    from refseg.inference.predictor import list_models, load

    findings = []
    for name in list_models():
        start = time.perf_counter()
        try:
            segmenter = load(name, device="auto")
            loaded = time.perf_counter()
            segmenter(np.full((64, 64, 3), 128, np.uint8), "the dog on the left")
        except Exception as error:
            findings.append(Finding("weights", name, "failed", _words(error)))
            continue
        size = sum(value.numel() for value in segmenter.model.parameters()) / 1e6
        took = f"loads in {loaded - start:.1f} s, first answer after {time.perf_counter() - loaded:.2f} s more"
        findings.append(Finding("weights", name, "ok", f"{size:.1f} million parameters, {took}"))
    if not findings:
        findings.append(
            Finding("weights", "packaged", "missing", "none in this copy: give --model a folder or a hub id")
        )
    return findings


def hub() -> list[Finding]:
    """Whether the Hugging Face hub answers; only models that are not on this machine need it."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return [Finding("network", "hub", "missing", "not asked: HF_HUB_OFFLINE is set; local models work")]
    try:
        with urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_TIMEOUT):
            pass
    except HTTPError:
        pass  # an answer, if not a friendly one
    except OSError as error:
        detail = f"{constants.ENDPOINT} does not answer ({_words(error)}); local models work"
        return [Finding("network", "hub", "missing", detail)]
    return [Finding("network", "hub", "ok", f"{constants.ENDPOINT} answers; downloads go to {constants.HF_HUB_CACHE}")]


def _product_seconds(device: object, dtype: object) -> float:
    import torch

    left = torch.ones(1024, 1024, device=device, dtype=dtype)  # type: ignore[call-overload]
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        product = left @ left
        if not float(product[0, 0]) == 1024.0:  # reading a value also waits for the device
            raise RuntimeError(f"1024 ones add up to {float(product[0, 0])}")
        best = min(best, time.perf_counter() - start)
    return best


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    marks = {"ok": Text("yes", "green"), "missing": Text("no", "yellow"), "failed": Text("FAILS", "red")}
    rows: list[tuple[str | Text, ...]] = []
    group = ""
    for finding in findings:
        name = Text(finding.group if finding.group != group else "", "bold")
        rows.append((name, finding.name, marks[finding.state], finding.detail))
        group = finding.group
    print_table(("", "", "works", ""), rows, left=4)
