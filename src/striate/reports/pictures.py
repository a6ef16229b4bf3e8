"""Pictures in rows, each with what is to be said of it."""

from striate.reports.evidence import Gallery, Picture, Shown
from striate.reports.markup import Markup, tag

__all__ = ["figure", "gallery", "image_attributes"]

_SMALL = 48  # pixels; up to here a picture is enlarged with its pixels as squares
_SHOWN = 96  # side that it is enlarged to, at least
_WIDE = 120  # pixels; a larger one takes the place of two


def gallery(made: Gallery) -> Markup:
    """The pictures of `made` with their text, and what is left out."""
    legend = [tag("li", _swatch(color), name, class_="key") for name, color in made.legend]
    more = f"{made.left_out:,} more are not shown." if made.left_out else ""
    return tag(
        "div",
        tag("p", " ".join(part for part in (made.text, more) if part)),
        tag("ul", *legend, class_="legend") if legend else "",
        tag("ul", *(tag("li", figure(picture)) for picture in made.pictures), class_="pictures"),
    )


def figure(picture: Picture) -> Markup:
    """One picture with its lines below."""
    images = tag("div", *map(_image, picture.images), class_="shown")
    name = tag("span", picture.key, class_="key-name", title=picture.key)
    return tag("figure", images, tag("figcaption", *(tag("span", line) for line in picture.lines), name))


def image_attributes(image: Shown) -> dict[str, str | int]:
    """The attributes of its element: a small one is enlarged by whole pixels, which stay squares."""
    longest = max(image.width, image.height)
    factor = -(-_SHOWN // longest) if longest <= _SMALL else 1
    kind = "squares" if factor > 1 else "wide" if longest > _WIDE else "usual"
    size = {"width": image.width * factor, "height": image.height * factor}
    return {"src": image.uri, "alt": image.alt, "class": kind, **size}


def _image(image: Shown) -> Markup:
    return tag("img", **image_attributes(image))


def _swatch(color: str) -> Markup:
    square = tag("rect", width=12, height=12, fill=color, class_="swatch")
    return tag("svg", square, width=12, height=12, viewBox="0 0 12 12", aria_hidden="true")
