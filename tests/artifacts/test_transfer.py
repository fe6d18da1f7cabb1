# SPDX-License-Identifier: Apache-2.0
"""What goes through a tar stream arrives as it was; what is hostile in one writes nothing outside of its folder."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlops.artifacts import ArchiveItem, ArchiveRefused, Caps, ContentRefused, archive, digest_path, extract
from airflow_mlops.artifacts.tar_reader import MAX_EXTENSION, TarReader

FILES = {
    "a.csv": b"1,2\n",
    "deep/er/b": b"x" * 5000,
    "empty": b"",
    "ünï-日本": b"u",
    "n" * 150 + "/" + "m" * 150: b"l",
    "p" * 80 + "/" + "q" * 80: b"p",
}


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def item(name: str, path: Path | bytes | None, mode: int = 0o644) -> ArchiveItem:
    return ArchiveItem(name, path, mode, 1000, 1001)


def tar(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as writer:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            info.size = len(data)
            writer.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def file(name: str, data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header with any size field, and a right checksum."""
    block = bytearray(struct.pack("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x", name, b"0000644", b"0", b"0", size, b"0", b" " * 8, kind, b"", b"ustar\x0000", b"", b"", b"", b"", b""))  # fmt: skip  # noqa: E501
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


END = b"\0" * 1024


def test_a_folder_goes_there_and_back(tmp_path: Path) -> None:
    source = make(tmp_path / "source", FILES)
    extract(archive([item("mlops/outputs", source)]), tmp_path / "target", strip=2)
    assert digest_path(tmp_path / "target").digest == digest_path(source).digest


def test_python_and_gnu_tar_read_what_is_written(tmp_path: Path) -> None:
    source = make(tmp_path / "source", FILES)
    (source / "a.csv").chmod(0o755)
    items = [item("root", None, 0o755), item("root/in", source, 0o444), item("root/step.json", b"{}", 0o400)]
    data = b"".join(archive(items))
    with tarfile.open(fileobj=io.BytesIO(data)) as reader:
        members = {member.name: member for member in reader}
        assert (members["root/in/a.csv"].mode, members["root/in/empty"].mode) == (0o555, 0o444)
        assert (members["root/in"].mode, members["root/in/deep/er"].mode, members["root"].mode) == (0o555, 0o555, 0o755)
        assert (members["root/step.json"].mode, members["root/step.json"].size) == (0o400, 2)
        assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(1000, 1001, 0)}
    (tmp_path / "gnu").mkdir()
    subprocess.run(["tar", "-xf", "-", "--no-same-owner", "-C", tmp_path / "gnu"], input=data, check=True)
    assert digest_path(tmp_path / "gnu" / "root" / "in").digest == digest_path(source).digest


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "posix"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, form: str) -> None:
    # The oldest of them splits a long name at a slash: up to 155 bytes and up to 100.
    files = {name: data for name, data in FILES.items() if form != "ustar" or "m" not in name}
    source = make(tmp_path / "source", files)
    done = subprocess.run(["tar", f"--format={form}", "-cf", "-", "-C", source, "."], capture_output=True, check=True)
    extract([done.stdout], tmp_path / "target")
    assert digest_path(tmp_path / "target").digest == digest_path(source).digest


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes_is_read(tmp_path: Path, form: int) -> None:
    members = [file(name, data) for name, data in FILES.items()]
    extract([tar(*members, form=form)], tmp_path / "target")
    assert digest_path(tmp_path / "target").digest == digest_path(make(tmp_path / "source", FILES)).digest


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_the_pieces_of_a_stream_do_not_matter(tmp_path: Path, sizes: list[int]) -> None:
    data = tar(*[file(name, data) for name, data in FILES.items()])

    def pieces() -> Iterator[bytes]:
        position = number = 0
        while position < len(data):
            size = sizes[number % len(sizes)]
            yield data[position : position + size]
            yield b""
            position, number = position + size, number + 1

    shutil.rmtree(tmp_path / "target", ignore_errors=True)
    extract(pieces(), tmp_path / "target")
    assert (tmp_path / "target" / "deep" / "er" / "b").read_bytes() == FILES["deep/er/b"]


def test_content_that_is_not_taken_is_skipped() -> None:
    reader = TarReader([tar(*[file(name, data) for name, data in FILES.items()])])
    assert [member.name for member in reader] == list(FILES)


def test_modes_of_an_archive_do_not_come_along(tmp_path: Path) -> None:
    info = tarfile.TarInfo("program")
    info.mode = 0o6777
    folder = special("folder", tarfile.DIRTYPE)
    folder.mode = 0o1777
    old = os.umask(0o022)
    try:
        extract([tar((info, b"x"), folder)], tmp_path / "target")
    finally:
        os.umask(old)
    assert (tmp_path / "target" / "program").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "target" / "folder").stat().st_mode & 0o7777 == 0o755


LINKS: list[tuple[str, list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]]]] = [
    ("a symbolic link", [special("link", tarfile.SYMTYPE, "/etc/passwd")]),
    ("a symbolic link", [special("dir", tarfile.SYMTYPE, "/tmp"), file("dir/evil")]),  # noqa: S108
    ("a symbolic link", [special("a", tarfile.SYMTYPE, "."), special("a/b", tarfile.SYMTYPE, ".."), file("a/b/evil")]),
    ("a hard link", [special("link", tarfile.LNKTYPE, "../outside")]),
    ("a device", [special("null", tarfile.CHRTYPE)]),
    ("a device", [special("disk", tarfile.BLKTYPE)]),
    ("a named pipe", [special("pipe", tarfile.FIFOTYPE)]),
    ("a sparse file", [special("sparse", tarfile.GNUTYPE_SPARSE)]),
    ("unknown kind", [special("odd", b"Z")]),
    ("unsafe name", [file("../evil")]),
    ("unsafe name", [file("a/../../evil")]),
    ("unsafe name", [file("/etc/evil")]),
    ("unsafe name", [file("a//b")]),
    ("unsafe name", [file("a/./b")]),
    ("unsafe name", [file("..")]),
    ("unsafe name", [special("../evil", tarfile.DIRTYPE)]),
    ("unsafe name", [file("a\nb")]),
    ("too deep", [file("/".join("d" * 70))]),
    ("too long", [file("/".join(["n" * 200] * 6))]),
    ("there already", [file("a"), file("a")]),
    ("there already", [special("a", tarfile.DIRTYPE), file("a")]),
    ("no folder", [file("a"), file("a/b")]),
]


@pytest.mark.parametrize(("word", "members"), LINKS)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_hostile_member_is_refused(
    tmp_path: Path, word: str, members: list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]], form: int
) -> None:
    (tmp_path / "outside").write_text("o")
    with pytest.raises(ArchiveRefused, match=word):
        extract([tar(*members, form=form)], tmp_path / "around" / "target")
    assert sorted(os.listdir(tmp_path)) == ["around", "outside"]
    assert os.listdir(tmp_path / "around") == ["target"]
    assert (tmp_path / "outside").read_text() == "o"


@pytest.mark.parametrize("place", ["target/dir", "target/dir/deep"])
def test_a_link_that_is_there_already_is_not_followed(tmp_path: Path, place: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).symlink_to(tmp_path / "outside")
    with pytest.raises(ArchiveRefused):
        extract([tar(file("dir/deep/evil"))], tmp_path / "target")
    (tmp_path / "target" / "evil").symlink_to(tmp_path / "outside" / "evil")
    with pytest.raises(ArchiveRefused, match="there already"):
        extract([tar(file("evil"))], tmp_path / "target")
    assert os.listdir(tmp_path / "outside") == []


def test_caps_hold(tmp_path: Path) -> None:
    members = [file(f"f{number}", b"x" * 100) for number in range(10)]
    extract([tar(*members)], tmp_path / "fits", caps=Caps(files=10, size=1000))
    with pytest.raises(ArchiveRefused, match="more than 9 files"):
        extract([tar(*members)], tmp_path / "many", caps=Caps(files=9, size=1000))
    with pytest.raises(ArchiveRefused, match="more than 999 bytes"):
        extract([tar(*members)], tmp_path / "big", caps=Caps(files=10, size=999))


def test_a_size_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match="more than 1000 bytes"):
        extract([header(b"big", b"77777777777")], tmp_path / "target", caps=Caps(size=1000))
    assert not (tmp_path / "target" / "big").exists()


def test_stripping_drops_the_folder_that_the_daemon_adds(tmp_path: Path) -> None:
    extract([tar(special("outputs", tarfile.DIRTYPE), file("outputs/train/x"))], tmp_path / "target", strip=1)
    assert (tmp_path / "target" / "train" / "x").read_bytes() == b"x"


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match="where a folder was expected"):
        extract([tar(file("outputs"))], tmp_path / "target", strip=1)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return header(b"pax", b"%011o" % len(records), kind) + records + b"\0" * (-len(records) % 512)


@pytest.mark.parametrize(
    ("word", "data"),
    [
        ("ends too early", b""),
        ("ends too early", tar(file("a", b"x" * 5000))[:1000]),
        ("ends too early", tar(file("a", b"x" * 600))[:1000]),
        ("ends too early", header(b"a", b"0")),
        ("damaged", b"no tar at all" * 100),
        ("checksum", header(b"a", b"1").replace(b"ustar", b"uspam") + END),
        ("negative", header(b"a", b"\xff" * 12) + END),
        ("impossible size", header(b"a", b"\x80" + b"\xff" * 11) + END),
        ("no(ne|t)|negative", header(b"a", b"-1") + END),
        ("none", header(b"a", b"9z") + END),
        ("extended header of", header(b"x", b"%011o" % (MAX_EXTENSION + 1), b"x")),
        ("extended header of", header(b"x", b"77777777777", b"L")),
        ("extended header of", header(b"x", b"\x80" + b"\xff" * 11, b"g")),
        ("hold together", pax(b"99999999 path=a\n")),
        ("hold together", pax(b"0 path=a\n")),
        ("hold together", pax(b"10 path=aXX")),
        ("hold together", pax(b"path=a\n")),
        ("hold together", pax(b"-5 path=a\n")),
        ("all its members", pax(b"9 path=a\n", b"g") + header(b"a", b"0") + END),
        ("sparse", pax(b"22 GNU.sparse.major=1\n") + header(b"a", b"0") + END),
        ("has the size", pax(b"11 size=-1\n") + header(b"a", b"0") + END),
        ("has the size", pax(b"12 size=1e9\n") + header(b"a", b"0") + END),
        ("impossible size", pax(b"28 size=9999999999999999999\n") + header(b"a", b"0") + END),
        ("unsafe name", pax(b"13 path=../x\n") + header(b"a", b"0") + END),
        ("not UTF-8", pax(b"10 path=\xff\n") + header(b"a", b"0") + END),
        ("not UTF-8", header(b"\xff", b"0") + END),
        ("folder with content", header(b"a/", b"1") + END),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, word: str, data: bytes) -> None:
    with pytest.raises(ArchiveRefused, match=word):
        extract([data], tmp_path / "target")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_spoilt_archive_does_more_than_fail(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes are changed at will, and the checksums of headers mended, so that what is behind them is reached."""
    spoilt = bytearray(tar(file("a" * 120, b"x" * 600), special("d", tarfile.DIRTYPE), file("d/b")))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(spoilt) - 1))
        spoilt[position] = data.draw(st.integers(0, 255))
        block = position // 512 * 512
        if spoilt[block + 257 : block + 262] == b"ustar":
            spoilt[block + 148 : block + 156] = b" " * 8
            spoilt[block + 148 : block + 156] = b"%06o\0 " % sum(spoilt[block : block + 512])
    shutil.rmtree(tmp_path / "around", ignore_errors=True)
    try:
        extract([bytes(spoilt)], tmp_path / "around" / "target", caps=Caps(size=10_000))
    except ArchiveRefused:
        pass
    assert os.listdir(tmp_path / "around") == ["target"]


def test_memory_stays_small_both_ways(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with open(tmp_path / "source" / "big", "wb") as big:
        big.truncate(100 << 20)
    tracemalloc.start()
    extract(archive([item("x", tmp_path / "source")]), tmp_path / "target", strip=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "target" / "big").stat().st_size == 100 << 20
    assert peak < 8 << 20


def link(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize("spoil", [link, pipe])
def test_links_and_pipes_are_not_packed(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(make(tmp_path / "source", FILES))
    with pytest.raises(ContentRefused):
        list(archive([item("x", tmp_path / "source")]))


def test_a_file_that_becomes_shorter_spoils_no_stream(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * (3 << 20))
    stream = archive([item("f", path)])
    next(stream)
    next(stream)
    path.write_bytes(b"")
    with pytest.raises(ArchiveRefused, match="shorter"):
        list(stream)


def test_a_file_larger_than_octal_digits_can_say_goes_through() -> None:
    """The header alone: 9 GiB need a pax record, or a binary number."""
    info = tarfile.TarInfo("big")
    info.size = 9 << 30
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        assert next(iter(TarReader([info.tobuf(form)]))).size == 9 << 30
