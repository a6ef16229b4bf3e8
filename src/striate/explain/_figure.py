"""A result as static HTML for a notebook: its picture and its lines, nothing that runs."""

import base64
import io
from collections.abc import Iterable
from html import escape

from PIL import Image as PillowImage

from striate.structures import Image

__all__ = ["figure", "png"]


def png(pixels: Image) -> bytes:
    """`pixels` (H, W, 3) as a PNG file."""
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def figure(picture: Image, lines: Iterable[str]) -> str:
    """`picture` with `lines` below it, escaped."""
    first, *rest = lines
    content = base64.b64encode(png(picture)).decode("ascii")
    below = escape("\n".join(rest))
    return (
        f'<figure style="margin:0"><img alt="{escape(first, quote=True)}" style="max-width:100%" '
        f'src="data:image/png;base64,{content}"><figcaption><strong>{escape(first)}</strong>'
        f'<pre style="margin:0;font-size:90%">{below}</pre></figcaption></figure>'
    )
