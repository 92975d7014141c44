"""Where `Any` stands in the public signatures of the package, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOLDS_ANYTHING = {"dict", "Mapping", "MutableMapping", "NDArray", "Select"}
"""Of whose contents nothing is said: JSON documents, arrays of any kind, database queries."""


def found() -> dict[str, list[str]]:
    """Dotted name of a function, method or field -> which of its parameters are `Any`; "return" and "field" besides."""
    result: dict[str, list[str]] = {}
    for path in sorted((ROOT / "refseg").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name, node in _public(ast.parse(path.read_text(encoding="utf-8")), module):
            parts = ["field"] if isinstance(node, ast.AnnAssign) and _bare(node.annotation) else []
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                given = node.args
                every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
                parts = [each.arg for each in every if each is not None and _bare(each.annotation)]
                parts += ["return"] if _bare(node.returns) else []
            if parts:
                result[name] = [*result.get(name, []), *parts]
    return result


def _public(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, ast.stmt]]:
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            name = child.target.id
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = child.name
        else:
            continue
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        if isinstance(child, ast.ClassDef):
            yield from _public(child, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", child


def _bare(node: ast.AST | None) -> bool:
    """Whether an annotation has an `Any` outside of what may hold anything."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value, mode="eval").body
        except SyntaxError:  # a shape of jaxtyping
            return False
    if isinstance(node, ast.Name):
        return node.id == "Any"
    if isinstance(node, ast.Subscript):
        name = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
        return name not in HOLDS_ANYTHING and _bare(node.slice)
    return node is not None and any(_bare(child) for child in ast.iter_child_nodes(node))
