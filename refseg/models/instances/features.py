"""What the model makes of expressions: text features with what they were parsed into."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from refseg.models.instances.expression import Expression
from refseg.types import TextFeatures

__all__ = ["ExpressionFeatures"]


@dataclass(frozen=True)
class ExpressionFeatures(TextFeatures):
    """Text features with the parsed expressions; `concepts` are each expression's weights of the classes."""

    expressions: tuple[Expression, ...] = ()

    def select(self, rows: Int[Tensor, " S"]) -> ExpressionFeatures:
        """The features of the expressions with these numbers, which may repeat."""
        chosen = super().select(rows)
        return ExpressionFeatures(
            chosen.words,
            chosen.sentence,
            chosen.mask,
            chosen.concepts,
            chosen.word_concepts,
            tuple(self.expressions[number] for number in rows.tolist()),
        )
