from pathlib import Path

import pytest

from striate.data import plain_xml
from striate.data.plain_xml import xml_of
from striate.data.tree import open_tree
from striate.errors import DataError


def refused(root: Path, content: bytes) -> DataError:
    (root / "1.xml").write_bytes(content)
    with pytest.raises(DataError) as caught:
        xml_of(open_tree(root), "1.xml")
    assert caught.value.where.endswith("1.xml")
    return caught.value


def test_elements_are_read_in_their_encoding(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1", "cp1252"):
        declared = encoding.removesuffix("-sig").removesuffix("-be")
        text = f'<?xml version="1.0" encoding="{declared}"?>\n<a><b>Ähre &amp; &#65;</b></a>'
        (tmp_path / "1.xml").write_bytes(text.encode(encoding))
        assert xml_of(open_tree(tmp_path), "1.xml").findtext("b") == "Ähre & A", encoding


BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>'


@pytest.mark.parametrize(
    "content",
    [
        BOMB.encode(),
        b"\xef\xbb\xbf" + BOMB.encode(),
        BOMB.encode("utf-16"),
        BOMB.encode("utf-16-be"),
        BOMB.encode("utf-16-le"),
        b'<?xml version="1.0" encoding="utf-7"?>' + BOMB.encode("utf-7"),
        b'<?xml version="1.0" encoding="latin-1"?>' + BOMB.encode("latin-1"),
        # Behind such a declaration the parser alone would read EBCDIC, and expand what it says.
        b'<?xml version="1.0" encoding="cp037"?>' + BOMB.encode("cp037"),
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
    ],
)
def test_a_document_type_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "<!DOCTYPE" in refused(tmp_path, content).what


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no XML"),
        (b"<a>", "is no XML"),
        (b"<a>\xff</a>", "is not written in utf-8"),
        (b"<a>&undefined;</a>", "is no XML"),
        (b'<?xml version="1.0" encoding="zlib_codec"?><a/>', "is not written in zlib_codec"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "is not written in no-such"),
    ],
)
def test_what_is_no_xml_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refused(tmp_path, content).what


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_xml, "MAX_BYTES", 10)
    assert "is larger than" in refused(tmp_path, b"<a>01234567</a>").what
