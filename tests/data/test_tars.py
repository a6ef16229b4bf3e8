"""Tars: which members are listed and where they lie, what is refused, how pictures are read."""

import io
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from striate.data.dataset import Finding
from striate.data.tars import Member, TarStorage, list_members
from striate.errors import DataError

NAME = "x.tar"


def written(path: Path, *members: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of regular files."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def special(path: Path, name: str, kind: bytes, target: str = "") -> Path:
    """A tar with the regular file `first`, one member of `kind`, and the regular file `last`."""
    with tarfile.open(path, "w") as tar:
        for member, type_flag in (("first", tarfile.REGTYPE), (name, kind), ("last", tarfile.REGTYPE)):
            info = tarfile.TarInfo(member)
            info.type, info.linkname = type_flag, target if member == name else ""
            tar.addfile(info)
    return path


def names(path: Path) -> list[str]:
    return [member.name for member in list_members(path, NAME)[0]]


def finding(path: Path, *kept: str) -> Finding:
    """The only finding; what is listed is `kept`, by default what `special` puts around the odd one."""
    members, (found,) = list_members(path, NAME)
    assert tuple(member.name for member in members) == (kept or ("first", "last"))
    return found


def patched(path: Path, at: int, content: bytes, *, header: int = 0) -> Path:
    """`path` with other bytes in the header at byte `header`, whose checksum is made right again."""
    raw = bytearray(path.read_bytes())
    raw[header + at : header + at + len(content)] = content
    raw[header + 148 : header + 156] = b" " * 8
    raw[header + 148 : header + 156] = b"%06o\0 " % sum(raw[header : header + 512])
    path.write_bytes(raw)
    return path


def test_members_lie_where_their_bytes_are(tmp_path: Path) -> None:
    path = written(tmp_path / NAME, ("a.jpg", b"A" * 600), ("a.cls", b"3"), ("b.jpg", b""))
    members, findings = list_members(path, NAME)
    # A header takes 512 bytes, contents are padded to 512.
    assert members == [Member("a.jpg", 512, 600), Member("a.cls", 2048, 1), Member("b.jpg", 3072, 0)]
    assert findings == []


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_are_read_in_each_form(tmp_path: Path, form: int) -> None:
    wanted = ["n/" * 20 + "x.jpg", "d" * 90 + "/" + "e" * 90 + ".jpg"]
    if form != tarfile.USTAR_FORMAT:
        wanted += ["ä/ö.jpg", "f" * 300 + ".jpg", "g/" * 200 + "h.jpg"]
    path = written(tmp_path / NAME, *((name, b"x") for name in wanted), form=form)
    assert names(path) == wanted


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.dictionaries(
        st.text("ab/é", min_size=1, max_size=120).filter(lambda name: "" not in name.split("/")),
        st.binary(max_size=1100),
        max_size=6,
    ),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_what_is_listed_is_what_pythons_own_reader_finds(
    tmp_path: Path, contents: dict[str, bytes], form: int
) -> None:
    path = written(tmp_path / NAME, *contents.items(), form=form)
    members, findings = list_members(path, NAME)
    raw = path.read_bytes()
    assert {m.name: raw[m.offset : m.offset + m.size] for m in members} == contents
    assert findings == []
    with tarfile.open(path) as tar:
        assert [(m.name, m.offset, m.size) for m in members] == [
            (m.name, m.offset_data, m.size) for m in tar.getmembers()
        ]


def test_a_leading_dot_and_folders_and_file_managers_files_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with tarfile.open(path, "w") as tar:
        for name in ("./a.jpg", "./._a.jpg", "__MACOSX/b.jpg", "c"):
            tar.addfile(tarfile.TarInfo(name))
        folder = tarfile.TarInfo("d")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert list_members(path, NAME) == ([Member("a.jpg", 512, 0), Member("c", 3 * 512 + 512, 0)], [])


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        (tarfile.SYMTYPE, "symlink", "it is a link"),
        (tarfile.LNKTYPE, "symlink", "it is a hard link"),
        (tarfile.CHRTYPE, "special-file", "it is a character device"),
        (tarfile.BLKTYPE, "special-file", "it is a block device"),
        (tarfile.FIFOTYPE, "special-file", "it is a named pipe"),
        (b"Z", "special-file", "it is a special file"),
    ],
)
def test_what_is_no_regular_file_is_left_out_with_a_finding(
    tmp_path: Path, kind: bytes, code: str, message: str
) -> None:
    found = finding(special(tmp_path / NAME, "odd.jpg", kind, "/etc/passwd"))
    assert (found.file, found.level, found.code, found.message) == (
        "x.tar/odd.jpg", "error", code, message,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["/etc/x.jpg", "../x.jpg", "a/../../x.jpg", "a/./x.jpg", "C:/x.jpg", "a\\x.jpg"]
)
def test_a_path_that_leads_out_is_left_out_with_a_finding(tmp_path: Path, name: str) -> None:
    found = finding(special(tmp_path / NAME, name, tarfile.REGTYPE))
    assert (found.level, found.code) == ("error", "path")


def test_a_name_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    path = written(tmp_path / NAME, ("first", b"1"), ("first", b"22"))
    assert finding(path, "first").code == "duplicate-entry"
    assert list_members(path, NAME)[0] == [Member("first", 512, 1)]


def test_a_name_that_is_not_utf8_is_left_out_with_a_finding(tmp_path: Path) -> None:
    path = patched(special(tmp_path / NAME, "odd.jpg", tarfile.REGTYPE), 0, b"\xff", header=512)
    assert finding(path).code == "file-name"


def test_a_size_in_a_link_shifts_nothing(tmp_path: Path) -> None:
    path = special(tmp_path / NAME, "odd.jpg", tarfile.SYMTYPE, "first")
    assert finding(patched(path, 124, b"00000001000", header=512)).code == "symlink"


def test_a_member_longer_than_the_tar_is_refused_with_its_name(tmp_path: Path) -> None:
    path = written(tmp_path / NAME, ("a.jpg", b"x" * 600))
    with pytest.raises(DataError, match=r"x\.tar/a\.jpg: reaches beyond the tar's 10,240 bytes"):
        list_members(patched(path, 124, b"00000040000"), NAME)


@pytest.mark.parametrize(
    ("kept", "message"),
    [(600, "reaches beyond"), (1024, "cut off at byte 1,024"), (1300, "cut off at byte 1,300")],
)
def test_a_tar_that_is_cut_off_is_refused(tmp_path: Path, kept: int, message: str) -> None:
    path = written(tmp_path / NAME, ("a.jpg", b"x" * 300), ("b.jpg", b"y"))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=message):
        list_members(path, NAME)


def test_a_damaged_header_in_the_middle_hides_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / NAME, ("a.jpg", b"x"), ("b.jpg", b"y"))
    raw = bytearray(path.read_bytes())
    raw[1024] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="byte 1024: is no header of a tar"):
        list_members(path, NAME)


def test_tars_strung_together_are_refused_for_half_would_be_lost(tmp_path: Path) -> None:
    path = written(tmp_path / NAME, ("a.jpg", b"x"))
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(DataError, match="goes on behind its end mark"):
        list_members(path, NAME)


def test_a_compressed_tar_and_a_text_are_no_tars(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / NAME, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(DataError, match=r"is cut off|is no header"):
        list_members(tmp_path / NAME, NAME)
    (tmp_path / NAME).write_bytes(b"no tar " * 200)
    with pytest.raises(DataError, match="is no header of a tar"):
        list_members(tmp_path / NAME, NAME)


@pytest.mark.parametrize(
    "headers", [{"GNU.sparse.major": "1"}, {"size": "-5"}, {"size": "9" * 30}, {"size": "x"}]
)
def test_hostile_attributes_are_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    with tarfile.open(tmp_path / NAME, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.pax_headers = headers
        tar.addfile(info)
    with pytest.raises(DataError, match=r"is sparse|has the size"):
        list_members(tmp_path / NAME, NAME)


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"odd\.jpg: is sparse"):
        list_members(special(tmp_path / NAME, "odd.jpg", tarfile.GNUTYPE_SPARSE), NAME)


def test_a_header_that_asks_for_megabytes_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / NAME, ("ä" * 300, b""))
    with pytest.raises(DataError, match="a header takes 2,097,152 bytes"):
        list_members(patched(path, 124, b"00010000000"), NAME)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 4095), content=st.binary(min_size=1, max_size=12), fixed=st.booleans())
def test_no_damage_gives_anything_but_members_inside_or_a_data_error(
    tmp_path: Path, at: int, content: bytes, fixed: bool
) -> None:
    path = written(tmp_path / NAME, ("ü" * 120, b"x" * 10), ("b.cls", b"1"))
    if fixed:
        patched(path, at % 512, content[: 512 - at % 512], header=at // 512 * 512)
    else:
        raw = bytearray(path.read_bytes())
        raw[at : at + len(content)] = content
        path.write_bytes(raw)
    try:
        members, _ = list_members(path, NAME)
    except DataError:
        return
    assert all(m.offset >= 0 and m.offset + m.size <= path.stat().st_size for m in members)


# --- pictures ---------------------------------------------------------------------------------------


def storage(tmp_path: Path, count: int = 3) -> TarStorage:
    """One tar of `count` pictures of 700 bytes: all 0, all 1, ..."""
    path = written(tmp_path / NAME, *((f"{i}.jpg", bytes([i]) * 700) for i in range(count)))
    members, _ = list_members(path, NAME)
    places = np.array([(0, member.offset, member.size) for member in members], np.int64)
    return TarStorage((NAME,), (path,), {f"{NAME}/{i}.jpg": i for i in range(count)}, places)


def test_a_picture_is_read_by_its_place(tmp_path: Path) -> None:
    held = storage(tmp_path)
    assert [held.content(f"x.tar/{i}.jpg") for i in (2, 0, 1)] == [bytes([i]) * 700 for i in (2, 0, 1)]
    assert held.block_of("x.tar/1.jpg") == 0
    with pytest.raises(DataError, match=r"x\.tar/9\.jpg: there is no such picture"):
        held.content("x.tar/9.jpg")


def test_a_tar_that_became_shorter_or_went_names_the_picture(tmp_path: Path) -> None:
    held = storage(tmp_path)
    with (tmp_path / NAME).open("r+b") as file:
        file.truncate(2600)
    assert held.content("x.tar/0.jpg") == bytes(700)
    with pytest.raises(DataError, match=r"x\.tar/1\.jpg: is cut off at byte 2,600|x\.tar/2\.jpg: is cut off"):
        held.content("x.tar/2.jpg")
    (tmp_path / NAME).unlink()
    with pytest.raises(DataError, match=r"x\.tar/1\.jpg: its tar cannot be read \(No such file"):
        held.content("x.tar/1.jpg")


@pytest.fixture
def read_whole(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often a tar was read from front to back so far; the readers are waited for."""
    started: list[threading.Thread] = []
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "striate-read-ahead":
            started.append(thread)
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)

    def count() -> int:
        for thread in started:
            thread.join()
        return len(started)

    return count


def test_a_tar_is_read_ahead_once_a_pass_and_not_for_a_few_pictures(
    tmp_path: Path, read_whole: Callable[[], int]
) -> None:
    held = storage(tmp_path, 10)
    for key in [f"x.tar/{i}.jpg" for i in range(2)]:
        held.content(key)
    assert read_whole() == 0
    for key in [f"x.tar/{i}.jpg" for i in range(2, 10)]:
        held.content(key)
    assert read_whole() == 1
    for key in [f"x.tar/{i}.jpg" for i in range(10)]:
        held.content(key)
    assert read_whole() == 2


def test_damage_names_each_tar_whose_checksum_is_wrong(tmp_path: Path) -> None:
    held = storage(tmp_path)
    assert [finding for _, finding in held.damage()] == [None]
    noted = TarStorage(held.names, held.paths, held.rows, held.places, ("0" * 64,))
    ((count, found),) = noted.damage()
    assert (count, found and (found.file, found.code)) == (3, ("x.tar", "checksum"))
    (tmp_path / NAME).unlink()
    ((count, found),) = noted.damage()
    assert (count, found and (found.file, found.code)) == (3, ("x.tar", "unreadable"))
