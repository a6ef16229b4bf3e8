"""A whole page around sections: one file, no request, and nothing runs in it but the script from here."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from striate.reports.markup import Markup, tag

__all__ = ["Section", "whole_page"]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page that the list of contents names."""

    name: str  # its anchor
    title: str
    content: Markup


def whole_page(title: str, head: Markup, sections: Sequence[Section]) -> str:
    """The file: `head` at the top, then the list of contents, then the sections."""
    style, script = _text("page.css"), _text("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    links = (tag("li", tag("a", section.title, href=f"#{section.name}")) for section in sections)
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", Markup(style)),
        ),
        tag(
            "body",
            tag("a", "Skip to the content", href="#content", class_="skip"),
            tag("header", head),
            tag("nav", tag("ul", *links), aria_label="Contents"),
            tag("main", *map(_drawn, sections), id="content", tabindex="-1"),
            tag("footer", tag("p", "Made by striate. This file needs no network and sends nothing.")),
            tag("script", Markup(script), type="module"),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def _drawn(section: Section) -> Markup:
    title = tag("h2", section.title, id=f"{section.name}-title")
    return tag("section", title, section.content, id=section.name, aria_labelledby=f"{section.name}-title")


@cache
def _text(name: str) -> str:
    return files("striate.reports").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
