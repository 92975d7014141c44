"""Names that several rooms share. No torch in this file."""

from __future__ import annotations

__all__ = ["DEFAULT_MODEL"]

DEFAULT_MODEL = "rela-photo"
"""The packaged weights that are asked where nobody says which."""
