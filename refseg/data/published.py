"""What is known of a published data set: counts in print, addresses, checksums, licence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SplitCounts:
    """Published numbers of one split; None where unknown. A video counts as a picture.

    `counted` is the number of expressions that was counted for this package over a list of all of them; None where
    nobody has counted here, not even where a number is printed everywhere.
    """

    expressions: int | None
    referents: int | None = None
    pictures: int | None = None
    objects: int | None = None
    counted: int | None = None


@dataclass(frozen=True)
class Published:
    """One data set with one split: numbers, source, and what one should know before comparing with them."""

    dataset: str
    split_by: str
    splits: dict[str, SplitCounts]
    source: str
    pictures: int | None = None
    objects: int | None = None
    expressions: int | None = None
    note: str = ""


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    urls: addresses in the order in which they are tried; empty when there is no direct one.
    path: where it is kept below the output folder.
    unpack: folder below the output folder that an archive is unpacked into; None keeps the file as it is.
    size, sha256, md5: what is known of its contents; a download that differs is refused.
    manual: what to do by hand, for files behind a form, in a cloud drive, or whose addresses are dead.
    """

    urls: tuple[str, ...]
    path: str
    unpack: str | None = None
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    manual: str = ""
    pictures: bool = False


@dataclass(frozen=True)
class Release:
    """How one data set is published. `layout` is what a folder holds when everything is there, one line a file.

    Addresses are the authors' own; where those are known to be dead an archived copy is named as a mirror. Checksums
    were measured on those copies by people who published them. Licences are as stated by the authors.
    """

    name: str
    title: str
    paper: str
    home: str
    licence: str
    files: tuple[RemoteFile, ...]
    layout: tuple[str, ...]
    note: str = ""
