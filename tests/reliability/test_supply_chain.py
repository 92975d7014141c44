"""What the package is made of: no reader that runs what it reads, nothing from elsewhere that is not pinned."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "refseg").rglob("*.py"))
RESTRICTED = {"refseg/unpickle.py", "refseg/unpickle_keys.py", "refseg/opcodes.py"}
"""The reader of pickles, and what looks at their opcodes before it."""
UNPACKS = {"refseg/data/download.py"}
"""Looks at the members of archives (`tests/data/test_download.py`)."""
READERS = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "cPickle", "_pickle"}
WRITES = {"dump", "dumps", "Pickler", "UnpicklingError", "PicklingError"}
"""What other files may use of pickle: RefCOCO's own files are pickles, which exports write."""
RUNNING = {"eval", "exec", "compile", "__import__"}


def name_of(node: ast.expr) -> str:
    """ "torch.load" of the expression torch.load; "" of others."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return ""


def faults_in(tree: ast.AST) -> Iterator[str]:
    """What in a file reads or runs what may come from strangers."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"line {node.lineno}: imports {name}" for name in names if name.split(".")[0] in READERS)
            if isinstance(node, ast.ImportFrom) and node.module == "pickle":
                yield from (
                    f"line {node.lineno}: pickle.{alias.name}" for alias in node.names if alias.name not in WRITES
                )
            elif isinstance(node, ast.Import):
                yield from (
                    f"line {node.lineno}: pickle as {a.asname}" for a in node.names if a.name == "pickle" and a.asname
                )
        if isinstance(node, ast.Attribute) and name_of(node.value) == "pickle" and node.attr not in WRITES:
            yield f"line {node.lineno}: pickle.{node.attr}"
        if not isinstance(node, ast.Call):
            continue
        called, given = name_of(node.func), {word.arg: word.value for word in node.keywords}

        def is_true(word: str, given: dict[str | None, ast.expr] = given) -> bool:
            value = given.get(word)
            return value is not None and not (isinstance(value, ast.Constant) and value.value is False)

        safe = isinstance(only := given.get("weights_only"), ast.Constant) and only.value is True
        if (called.endswith("torch.load") and not safe) or called.endswith(("load_state_dict_from_url", "hub.load")):
            yield f"line {node.lineno}: {called}"
        if called in ("np.load", "numpy.load") and is_true("allow_pickle"):
            yield f"line {node.lineno}: {called} with allow_pickle"
        if called in RUNNING or called.endswith(("os.system", "os.popen", "yaml.load", ".read_pickle")):
            yield f"line {node.lineno}: {called}"
        if is_true("shell") or is_true("trust_remote_code"):
            yield f"line {node.lineno}: {called} with shell or trust_remote_code"
        if called.endswith(".extractall"):
            yield f"line {node.lineno}: {called}: members of an archive are not looked at"


def test_no_pickle_outside_the_restricted_reader() -> None:
    assert len(SOURCES) > 200
    found = [
        f"{path.relative_to(ROOT)} {fault}"
        for path in SOURCES
        for fault in faults_in(ast.parse(path.read_text(encoding="utf-8")))
        if (name := str(path.relative_to(ROOT))) not in RESTRICTED and not ("extractall" in fault and name in UNPACKS)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle as p", "pickle.loads(data)", "class U(pickle.Unpickler): ...", "from pickle import loads",
        "import joblib.memory", "torch.load(path)", "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=flag)",
        "eval(text)", "subprocess.run(words, shell=True)", "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "archive.extractall(folder)", "os.system(line)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert list(faults_in(ast.parse(line)))


def test_actions_of_the_workflows_are_pinned_to_commits() -> None:
    files = [*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob(".github/workflows/*.yaml")]
    if not files:
        pytest.skip("there are no workflows")
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            if found := re.search(r"\buses:\s*(\S+)", line):
                assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", found[1]), f"{path.name}: {found[1]}"


def test_workflows_may_read_and_nothing_else() -> None:
    for path in ROOT.glob(".github/workflows/*.yml"):
        assert "permissions: {contents: read}" in path.read_text(encoding="utf-8"), path.name


def test_what_is_installed_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("#")[0].split(";")[0].strip() for line in lines]
    loose = [pin for pin in pins if pin and not re.fullmatch(r"[\w.\[\]-]+==[\w.+!-]+", pin)]
    assert loose == []


@pytest.mark.reliability
@pytest.mark.skipif(find_spec("bandit") is None, reason="bandit is not installed: pip install bandit")
def test_bandit_finds_nothing_grave() -> None:
    """Of high severity and high confidence."""
    done = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", "refseg", "-lll", "-iii"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.reliability
@pytest.mark.skipif(find_spec("pip_audit") is None, reason="pip-audit is not installed: pip install pip-audit")
@pytest.mark.skipif(
    os.environ.get("REFSEG_RELIABILITY_NETWORK") != "1",
    reason="pip-audit asks the network for known faults: REFSEG_RELIABILITY_NETWORK=1 lets it",
)
def test_no_dependency_has_a_known_fault() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "-r", "constraints.txt"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
