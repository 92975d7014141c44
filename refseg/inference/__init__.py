"""Answers: a model and its tokenizer asked about pictures, and what is made of the answers."""

from __future__ import annotations

DEFAULT_MODEL = "instances"
"""The packaged weights that are asked where nobody says which. Here, so that the command line gets it without torch."""
