"""XML read without what makes it dangerous: no document type, no entities of its own, no large file."""

import re
from xml.etree import ElementTree

from striate.data.tree import Tree, bytes_of
from striate.errors import DataError

__all__ = ["element_of", "xml_of"]

MAX_BYTES = 4_000_000  # an annotation of a thousand objects takes 400 kB

_DECLARED = re.compile(rb"""\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))


def xml_of(tree: Tree, path: str) -> ElementTree.Element:
    """The root element of the file `path`.

    Raises DataError naming it where it is unreadable, larger than 4 MB, no XML, or has a document type or
    an entity, with which a small file can ask for gigabytes or for other files.
    """
    return element_of(bytes_of(tree, path, MAX_BYTES), f"{tree.name}/{path}")


def element_of(content: bytes, where: str) -> ElementTree.Element:
    """The root element of the XML `content`. Raises DataError naming `where`, as `xml_of`."""
    # The parser is given text, which it takes as it is: what was looked through is what it reads.
    text = _text(content, where)
    for forbidden in ("<!DOCTYPE", "<!ENTITY"):
        if forbidden in text:
            raise DataError(where, f"has a {forbidden}, which is not read", "remove it from the file")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(where, f"is no XML ({error})", "correct or remove it") from None


def _text(content: bytes, where: str) -> str:
    """The characters of an XML file in the encoding that it declares."""
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    declared = _DECLARED.match(content.removeprefix(b"\xef\xbb\xbf"))
    if encoding is None:
        encoding = declared[1].decode("ascii") if declared else "utf-8"
    if encoding.lower() in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    try:
        return content.decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise DataError(where, f"is not written in {encoding} ({error})", "save it as UTF-8") from None
