"""Fetching published files: interrupted downloads go on where they stopped, and nothing is kept that differs.

A download grows beside its target as `<name>.part` with `<name>.part.json` (address and the server's mark of the file's
version); the next run asks for the rest and starts anew when the server's file has changed. Size and checksum are
checked before the file takes its name. Archives are unpacked with their paths checked.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from refseg import __version__
from refseg.data.published import RemoteFile
from refseg.errors import DataError
from refseg.files import write_text

_CHUNK = 1 << 20
# Unpacked, an archive of the field takes at most a few times its size (annotations as text: ten); a bomb a thousand.
_MOST_TIMES = 200

# (file's path, bytes so far, bytes in all or None)
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Fetched:
    """What became of one file: "there", "fetched", "unpacked" or "manual", with what to do in the last case."""

    file: RemoteFile
    state: str
    path: Path
    message: str = ""


def fetch_all(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    pictures: bool = True,
    mirror: str | None = None,
    progress: Progress | None = None,
) -> list[Fetched]:
    """Fetch and unpack a data set's files into `folder`; those that cannot be fetched are listed with the manual way.

    Args:
        pictures: also the files that hold pictures (COCO's take 13 GB).
        mirror: an address that is tried first, with the file's name after it.

    Raises `DataError` when no address gives what was published and one gives something else, or no room is left.
    """
    results = []
    for file in files:
        if file.pictures and not pictures:
            continue
        if not file.urls:
            there = (folder / file.path).exists()
            results.append(Fetched(file, "there" if there else "manual", folder / file.path, file.manual))
            continue
        urls = file.urls if mirror is None else (f"{mirror.rstrip('/')}/{Path(file.path).name}", *file.urls)
        results.append(_one(file, urls, folder, progress))
    return results


def _one(file: RemoteFile, urls: Sequence[str], folder: Path, progress: Progress | None) -> Fetched:
    target = folder / file.path
    done = target.with_name(target.name + ".unpacked")
    if done.exists() or (target.exists() and file.unpack is None):
        return Fetched(file, "there", target)
    state = "there"
    if not target.exists():
        faults = []
        wrong: Mismatch | None = None
        for url in urls:
            try:
                fetch(url, target, file, progress)
                state = "fetched"
                break
            except Unreachable as error:
                faults.append(str(error))
            except Mismatch as error:  # a parked address answers with a page of its own; the next may have the file
                wrong = error
        else:
            if wrong is not None:
                raise wrong
            return Fetched(file, "manual", target, "; ".join(faults) + (f"; {file.manual}" if file.manual else ""))
    if file.unpack is not None:
        unpack(target, folder / file.unpack)
        write_text(done, "unpacked; remove this mark to unpack the archive again\n")
        state = "unpacked"
    return Fetched(file, state, target)


class Unreachable(DataError):
    """An address that does not answer, or does not have the file."""


class Mismatch(DataError):
    """What came is not what was published."""


def fetch(
    url: str,
    target: Path,
    wanted: RemoteFile,
    progress: Progress | None = None,
    *,
    tries: int = 4,
    wait: float = 1.0,
    timeout: float = 60.0,
) -> None:
    """Fetch one address into `target`, going on with what an earlier try left.

    Raises: `Unreachable` when the address does not answer after `tries` attempts without a byte of progress;
    `DataError` when what came is not what was published, or the disk is full.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: only http and https addresses are fetched")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    attempt = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _transfer(url, part, target, wanted, progress, timeout):
                break
            fault = "the connection ended early"
        except (OSError, http.client.HTTPException) as error:  # URLError and TimeoutError are OSErrors
            if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410):
                raise Unreachable(f"{url}: {error.code} {error.reason}") from error
            if getattr(error, "errno", None) == 28:
                raise DataError(f"{target.parent}: no room is left on the disk; {part.name} keeps what came") from error
            fault = str(getattr(error, "reason", error)) or type(error).__name__
        gained = part.exists() and part.stat().st_size > before
        attempt = 0 if gained else attempt + 1
        if attempt >= tries:
            raise Unreachable(f"{url}: {fault}")
        time.sleep(wait * 2**attempt if not gained else 0)
    _verify(part, target, wanted)
    part.replace(target)
    _mark(part).unlink(missing_ok=True)


def _transfer(
    url: str, part: Path, target: Path, wanted: RemoteFile, progress: Progress | None, timeout: float
) -> bool:
    """One request; True when the file is complete."""
    start = part.stat().st_size if part.exists() else 0
    known = _read_mark(part) if start else {}
    headers = {"User-Agent": f"refseg/{__version__}", "Accept-Encoding": "identity"}
    if start and known.get("url") == url:
        headers["Range"] = f"bytes={start}-"
        if known.get("version"):
            headers["If-Range"] = known["version"]
    elif start:
        start = 0  # begun from another address: its bytes may be of another version
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing after what is there: complete, unless the file has become shorter.
        total = _total_of(error.headers.get("Content-Range"))
        if total == start:
            return True
        part.unlink(missing_ok=True)
        return False
    with answer:
        resumed = answer.status == 206
        if not resumed:
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        if wanted.size is not None and total is not None and total != wanted.size:
            raise Unreachable(f"{url}: {total:,} bytes are offered, but {wanted.size:,} were published")
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - start > free:
            raise DataError(f"{part.parent}: {total - start:,} bytes are to come, but only {free:,} are free")
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        write_text(_mark(part), json.dumps({"url": url, "version": "" if version.startswith("W/") else version}))
        came = start
        with part.open("ab" if resumed else "wb") as handle:
            while chunk := answer.read(_CHUNK):
                handle.write(chunk)
                came += len(chunk)
                if progress is not None:
                    progress(str(target), came, total)
        return total is None or came == total


def _verify(part: Path, target: Path, wanted: RemoteFile) -> None:
    size = part.stat().st_size
    faults = []
    if wanted.size is not None and size != wanted.size:
        faults.append(f"{size:,} bytes came, {wanted.size:,} were published")
    for name, published in (("sha256", wanted.sha256), ("md5", wanted.md5)):
        if published is not None and not faults:
            own = checksum(part, name)
            if own != published:
                faults.append(f"its {name} is {own}, published is {published}")
    if wanted.unpack is not None and not faults and not (zipfile.is_zipfile(part) or tarfile.is_tarfile(part)):
        faults.append("neither a zip nor a tar archive came")
    if faults:
        part.unlink(missing_ok=True)
        _mark(part).unlink(missing_ok=True)
        raise Mismatch(f"{target}: not the published file ({faults[0]}); it was removed, try again or another mirror")


def checksum(path: Path, name: str) -> str:
    """The "sha256" or "md5" of a file, hexadecimal."""
    digest = hashlib.new(name, usedforsecurity=False)
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into `folder`.

    Raises `DataError` for a damaged archive, a path that leads out of the folder, or contents far larger than the
    archive.
    """
    limit = max(archive.stat().st_size, 1_000_000) * _MOST_TIMES
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                entries = zipped.infolist()
                _check_names(
                    archive, (entry.filename for entry in entries), sum(entry.file_size for entry in entries), limit
                )
                zipped.extractall(folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tarred:
                members = tarred.getmembers()
                _check_names(archive, (member.name for member in members), sum(m.size for m in members), limit)
                tarred.extractall(folder, filter="data")
        else:
            raise DataError(f"{archive}: neither a zip nor a tar archive; remove it and fetch it again")
    except DataError:
        raise
    except Exception as error:  # damaged archives raise BadZipFile, TarError, zlib.error, EOFError, ...
        raise DataError(f"{archive}: cannot be unpacked ({type(error).__name__}: {error}); fetch it again") from error


def _check_names(archive: Path, names: Any, size: int, limit: int) -> None:
    for name in names:
        path = PurePosixPath(str(name).replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{archive}: {name!r} leads out of the folder; nothing was unpacked")
    if size > limit:
        raise DataError(f"{archive}: {size:,} bytes when unpacked is far more than such an archive holds")


def _mark(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_mark(part: Path) -> dict[str, str]:
    try:
        content = json.loads(_mark(part).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _total_of(header: str | None) -> int | None:
    tail = (header or "").rpartition("/")[2]
    return int(tail) if tail.isdecimal() else None
