"""`NamedMap`s from tensors with an entry an expression; nothing is computed before a map is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from refseg.types import NamedMap, Panels

__all__ = ["bar_map", "pixel_map", "word_map"]


def pixel_map(
    title: str,
    values: Float[Tensor, "B *K h w"],
    names: Sequence[str] = (),
    weights: Float[Tensor, "B K"] | None = None,
    *,
    apply: Callable[[Tensor], Tensor] | None = None,
    scale: Literal["share", "probability", "logit"] = "share",
) -> NamedMap:
    """Maps over the input, one an expression or K of them, which are the tokens' without `names`; `apply` makes what is
    shown of an expression's entry of `values`."""

    def read(index: int) -> Panels:
        own = values[index] if apply is None else apply(values[index])
        return _panels(own, 2, names, weights, index)

    return NamedMap(title, "pixels", read, scale)


def word_map(
    title: str,
    values: Float[Tensor, "B *K L"],
    names: Sequence[str] = (),
    weights: Float[Tensor, "B K"] | None = None,
) -> NamedMap:
    """Attention over an expression's tokens, one row or K rows with `names`."""
    return NamedMap(title, "words", lambda index: _panels(values[index], 1, names, weights, index))


def bar_map(title: str, values: Float[Tensor, "B K"], names: Sequence[str]) -> NamedMap:
    """K numbers an expression, 0 to 1."""
    return NamedMap(title, "bars", lambda index: Panels(values[index].detach(), tuple(names)), scale="probability")


def _panels(values: Tensor, axes: int, names: Sequence[str], weights: Tensor | None, index: int) -> Panels:
    alone = values.ndim == axes
    unnamed = alone or (not names and len(values) == 1)
    return Panels(
        (values[None] if alone else values).detach(),
        ("",) if unnamed else tuple(names),
        None if weights is None else weights[index].detach(),
    )
