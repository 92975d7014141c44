"""Searching collections of pictures: encoded once, then asked as often as one likes; `refseg index`, `refseg search`.

sources.py    which pictures: folders, lists, buckets
build.py      pictures into rows: what is new, changed, copied, bad
elsewhere.py  rows that other processes make, or a Ray cluster
table.py      the index on disk: a Lance table, a picture a row
proposals.py  proposals as bytes, and back
answers.py    exact answers from a row
ranking.py    the probability that something is meant, and its bound from the classes alone
index.py      `Index`: open, add, remove, search
"""

from __future__ import annotations

from refseg.apps.search.elsewhere import Elsewhere
from refseg.apps.search.index import INDEX_MODEL, Hit, Index, SearchResult

__all__ = ["INDEX_MODEL", "Elsewhere", "Hit", "Index", "SearchResult"]
