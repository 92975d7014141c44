"""The formats of published data sets, one file each; `docs/data.md` says how to add one."""

from __future__ import annotations

from refseg.data.formats import (
    davis,
    flickr30k,
    mdetr,
    parquet,
    phrasecut,
    refcoco,
    referit,
    split_lists,
    video,
    visual_genome,
)
from refseg.data.source import Format
from refseg.plugins import found

__all__ = ["FORMATS"]

FORMATS: tuple[Format, ...] = (
    refcoco.FORMAT,
    flickr30k.FORMAT,
    visual_genome.FORMAT,
    phrasecut.FORMAT,
    referit.FORMAT,
    davis.FORMAT,
    video.FORMAT,
    mdetr.FORMAT,
    split_lists.FORMAT,
    parquet.FORMAT,
    *found("refseg.formats", lambda thing: isinstance(thing, Format)).values(),
)
"""All formats, those of other packages at the end (`refseg.plugins`)."""
