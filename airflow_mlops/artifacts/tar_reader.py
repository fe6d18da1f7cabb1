# SPDX-License-Identifier: Apache-2.0
"""
Read a tar stream that may be hostile, member by member, in bounded memory.

Python's ``tarfile`` has had an endless loop on negative sizes (CVE-2025-8194) and reads extended headers of any length
into memory, on interpreters that are in use. What an archive of plain files needs is little: the ustar header, pax
records for long names and large sizes, GNU's long names. Everything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airflow_mlops.artifacts.errors import ArchiveRefused

BLOCK = 512
CHUNK = 1 << 20
MAX_EXTENSION = 1 << 20
"""Bytes of an extended header."""

_MAX_NUMBER = 2**63 - 1
_REGULAR, _FOLDER, _PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK = b"0", b"5", b"x", b"g", b"L", b"K"
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"S": "a sparse file",
}
_PAX_RECORD = re.compile(rb"([0-9]{1,8}) ([^=\n]+)=")


@dataclass(frozen=True, slots=True)
class Member:
    """
    A regular file or a folder of an archive.

    :param name: as the archive says it: not checked
    :param size: bytes; 0 for a folder
    :param executable: whether its owner may run it
    """

    name: str
    is_folder: bool
    size: int
    executable: bool


class TarReader:
    """
    The members of a tar stream. Each one's content must be taken, or it is skipped, before the next.

    :param stream: the archive in pieces of any size
    """

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._pieces = iter(stream)
        self._rest = memoryview(b"")
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        """
        Read headers until the end of the archive.

        :raises ArchiveRefused: if the archive is damaged, or holds something else than files and folders
        """
        long_name: str | None = None
        pax: dict[str, str] = {}
        while True:
            self._skip()
            header = self._exactly(BLOCK)
            if not header.strip(b"\0"):
                return
            _check_sum(header)
            kind = header[156:157]
            size = _number(header[124:136])
            if kind in (_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK):
                data = self._extension(size)
                if kind == _GNU_NAME:
                    long_name = _text(data.rstrip(b"\0"))
                elif kind == _PAX:
                    pax = _pax_records(data)
                elif kind == _PAX_GLOBAL and _pax_records(data):
                    raise ArchiveRefused(
                        "the archive sets names or sizes of all its members at once, which no archive of ours does"
                    )
                continue
            member = _member(header, kind, size, long_name, pax)
            long_name, pax = None, {}
            self._left, self._padding = member.size, -member.size % BLOCK
            yield member

    def content(self) -> Iterator[bytes | memoryview]:
        """
        The content of the member that was read last, in pieces.

        :raises ArchiveRefused: if the archive ends in it
        """
        while self._left:
            piece = self._some(min(self._left, CHUNK))
            self._left -= len(piece)
            yield piece

    def _skip(self) -> None:
        for _ in self.content():
            pass
        self._exactly(self._padding)
        self._padding = 0

    def _extension(self, size: int) -> bytes:
        if size > MAX_EXTENSION:
            raise ArchiveRefused(
                f"the archive has an extended header of {size} bytes; at most {MAX_EXTENSION} are allowed"
            )
        data = self._exactly(size)
        self._exactly(-size % BLOCK)
        return data

    def _some(self, most: int) -> memoryview:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                raise ArchiveRefused("the archive ends too early; the transfer was cut off, try again")
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = self._some(size)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def shown(name: str) -> str:
    """A name for a message: printable, and not too long."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= 120 else f"{text[:120]}…"


def _member(header: bytes, kind: bytes, size: int, long_name: str | None, pax: dict[str, str]) -> Member:
    name = pax.get("path") or long_name or _header_name(header)
    if kind not in (_REGULAR, b"\0", _FOLDER):
        what = _REFUSED.get(kind, f"of the unknown kind {kind!r}")
        raise ArchiveRefused(
            f"'{shown(name)}' in the archive is {what}; only regular files and folders are taken: write the file itself"
        )
    if "size" in pax:
        if not re.fullmatch("[0-9]{1,19}", pax["size"]):
            raise ArchiveRefused(f"'{shown(name)}' in the archive has the size '{shown(pax['size'])}'")
        size = int(pax["size"])
    if size > _MAX_NUMBER:
        raise ArchiveRefused(f"'{shown(name)}' in the archive has an impossible size")
    is_folder = kind == _FOLDER or name.endswith("/")
    if is_folder and size:
        raise ArchiveRefused(f"'{shown(name)}' in the archive is a folder with content")
    return Member(name, is_folder, size, bool(_number(header[100:108]) & 0o100))


def _header_name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _check_sum(header: bytes) -> None:
    expected = sum(header[:148]) + 8 * 32 + sum(header[156:])
    if _number(header[148:156]) != expected:
        raise ArchiveRefused("the archive is damaged (a header's checksum does not hold), or is no tar archive")


def _number(field: bytes) -> int:
    """An octal number, or a positive binary one where it would not fit."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise ArchiveRefused("the archive is damaged: a header holds a number that is none, or is negative")
    return int(digits or b"0", 8)


def _pax_records(data: bytes) -> dict[str, str]:
    """Name and size from a pax header; what else it says (times, owners, attributes) does not matter here."""
    records: dict[str, str] = {}
    position = 0
    while position < len(data):
        found = _PAX_RECORD.match(data, position)
        length = int(found[1]) if found else 0
        end = position + length
        if found is None or end <= found.end() or end > len(data) or data[end - 1 : end] != b"\n":
            raise ArchiveRefused("the archive is damaged: an extended header does not hold together")
        key, value = _text(found[2]), data[found.end() : end - 1]
        if key.startswith("GNU.sparse."):
            raise ArchiveRefused("the archive holds a sparse file; write it whole")
        if key in ("path", "size"):
            records[key] = _text(value)
        position = end
    return records


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ArchiveRefused(
            f"the archive holds a name that is not UTF-8: {data[:80]!r}; give the file another name"
        ) from None
