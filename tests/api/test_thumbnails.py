import base64
import io

import numpy as np
from PIL import Image

from striate.api.thumbnails import LARGE, SMALL, thumbnail
from striate.reports.evidence import Shown


def pixels(shown: Shown) -> np.ndarray:
    head, _, content = shown.uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def noise(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def test_small_pictures_keep_every_pixel() -> None:
    image = noise(8, 6, 1)
    shown = thumbnail(image, "a digit")
    assert (shown.width, shown.height, shown.alt) == (6, 8, "a digit")
    assert (pixels(shown) == image).all()  # gray as RGB


def test_large_pictures_are_shrunk_and_keep_their_shape() -> None:
    shown = thumbnail(noise(400, 200, 3), "")
    assert (shown.width, shown.height) == (SMALL // 2, SMALL)
    assert pixels(shown).shape == (SMALL, SMALL // 2, 3)


def test_usual_pictures_are_never_enlarged() -> None:
    assert thumbnail(noise(60, 100, 3), "").width == 100


def test_even_noise_leaves_room_for_all_pictures_of_a_report() -> None:
    small, large = (len(thumbnail(noise(300, 300, 3), "", side).uri) for side in (SMALL, LARGE))
    # A classifier's: 500 behind cells and up to 100 in galleries; a detector's: 400, and 30 large ones.
    assert 600 * small < 9_000_000
    assert 400 * small + 30 * large < 9_000_000
