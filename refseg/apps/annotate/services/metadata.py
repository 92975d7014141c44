"""What a picture's file says beside its pixels (place, camera, owner, earlier versions), taken out without decoding it.

JPEG (ITU T.81), PNG (W3C), WebP (RFC 9649) and GIF (89a) are lists of parts that say how long they are; those that a
viewer needs for the pixels and their colours are kept, in order and bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

_JPEG_KEPT = (b"JFIF\0", b"ICC_PROFILE\0", b"Adobe")
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length: TEM, RST0 to RST7
_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset(
    b"IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD hIST pHYs acTL fcTL fdAT".split()
)
_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH"))
_WEBP_FLAGS = 0x04 | 0x08  # in VP8X: that XMP, that EXIF follows


def stripped(content: bytes) -> bytes | None:
    """The file without what is not pixels or colours; None for one that is of another kind or not sound."""
    kinds = {b"\xff\xd8\xff": _jpeg, _PNG_HEAD: _png, b"RIFF": _webp, b"GIF8": _gif}
    for head, parts in kinds.items():
        if content.startswith(head):
            try:
                return b"".join(parts(content))
            except (IndexError, ValueError):
                return None
    return None


def _jpeg(content: bytes) -> Iterator[bytes]:
    """Segments up to the end of the first picture; what follows it (previews, films) is left out."""
    yield content[:2]
    place = 2
    while True:
        if content[place] != 0xFF:
            raise ValueError("no marker")
        while content[place + 1] == 0xFF:  # fill bytes
            place += 1
        marker = content[place + 1]
        if marker == _EOI:
            yield b"\xff\xd9"
            return
        if marker in _JPEG_ALONE:
            end = place + 2
        else:
            end = place + 2 + _number(content, place + 2, 2, "big")
            if end > len(content) or end < place + 4:
                raise ValueError("cut short")
        if marker == _SOS:
            end = _scan_end(content, end)
        body = content[place + 4 : place + 4 + 12]
        if not (0xE0 <= marker <= 0xEF or marker == _COM) or body.startswith(_JPEG_KEPT):
            yield content[place:end]
        place = end


def _scan_end(content: bytes, place: int) -> int:
    """Where the coded pixels that start at `place` end: at the first marker that is not one of theirs."""
    while True:
        place = content.index(b"\xff", place)
        if content[place + 1] != 0 and content[place + 1] not in _JPEG_ALONE and content[place + 1] != 0xFF:
            return place
        place += 1 if content[place + 1] == 0xFF else 2


def _png(content: bytes) -> Iterator[bytes]:
    yield _PNG_HEAD
    place = len(_PNG_HEAD)
    while True:
        kind = content[place + 4 : place + 8]
        end = place + 12 + _number(content, place, 4, "big")
        if end > len(content):
            raise ValueError("cut short")
        if kind in _PNG_KEPT:
            yield content[place:end]
        if kind == b"IEND":
            return
        place = end


def _webp(content: bytes) -> Iterator[bytes]:
    if content[8:12] != b"WEBP":
        raise ValueError("not WebP")
    parts, place, last = [], 12, 8 + _number(content, 4, 4, "little")
    if last > len(content):
        raise ValueError("cut short")
    while place + 8 <= last:
        kind, size = content[place : place + 4], _number(content, place + 4, 4, "little")
        end = place + 8 + size + size % 2
        if end > len(content):
            raise ValueError("cut short")
        part = content[place:end]
        if kind == b"VP8X":
            part = part[:8] + bytes([part[8] & ~_WEBP_FLAGS]) + part[9:]
        if kind in _WEBP_KEPT:
            parts.append(part)
        place = end
    yield b"RIFF" + (4 + sum(map(len, parts))).to_bytes(4, "little") + b"WEBP"
    yield from parts


def _gif(content: bytes) -> Iterator[bytes]:
    place = 13 + _colours(content[10])
    yield content[:place]
    while True:
        kind = content[place]
        if kind == 0x3B:
            yield b"\x3b"
            return
        if kind == 0x2C:  # a picture: its head, its colours, the size of its codes, blocks
            end = _blocks_end(content, place + 11 + _colours(content[place + 9]))
            yield content[place:end]
        elif kind == 0x21:
            label, end = content[place + 1], _blocks_end(content, place + 2)
            loops = label == 0xFF and content[place + 3 : place + 14] in (b"NETSCAPE2.0", b"ANIMEXTS1.0")
            if label == 0xF9 or loops:  # delay and transparency; how often it runs
                yield content[place:end]
        else:
            raise ValueError("no block")
        place = end


def _colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(content: bytes, place: int) -> int:
    while size := content[place]:
        place += 1 + size
    return place + 1


def _number(content: bytes, place: int, size: int, order: str) -> int:
    if place + size > len(content):
        raise ValueError("cut short")
    return int.from_bytes(content[place : place + size], "big" if order == "big" else "little")
