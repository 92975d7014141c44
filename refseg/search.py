"""Search over collections of pictures, under a short name: `refseg.search.Index`.

>>> import refseg.search
>>> refseg.search.Index.open("holiday.index").search("the red car", top=20).hits
"""

from __future__ import annotations

from refseg.apps.search import INDEX_MODEL, Hit, Index, SearchResult

__all__ = ["INDEX_MODEL", "Hit", "Index", "SearchResult"]
