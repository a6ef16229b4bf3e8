"""HTML that cannot be broken by what is written in it: text is escaped unless it was made here."""

from collections.abc import Iterable
from html import escape

__all__ = ["Markup", "joined", "tag"]

_VOID = ("br", "img", "meta", "link")


class Markup(str):
    """HTML as it stands; any other string is text."""

    __slots__ = ()


def tag(element: str, *children: str, **attributes: str | int | float | bool | None) -> Markup:
    """The element `element` around `children`, text among them escaped.

    `class_` is the attribute class and `aria_label` is aria-label; True gives a bare attribute, None and
    False none.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if element in _VOID:
        return Markup(f"<{element}{written}>")
    return Markup(f"<{element}{written}>{joined(children)}</{element}>")


def joined(parts: Iterable[str]) -> Markup:
    """`parts` one after the other, text among them escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(_visible(part)) for part in parts))


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(_visible(str(value)))}"'


def _visible(text: str) -> str:
    # A file name may hold bytes that are no UTF-8, which no HTML file can.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
