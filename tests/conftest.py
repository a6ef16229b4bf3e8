"""Fixtures for every test."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Several test processes share the cores: one thread each, before any numeric library starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
COLORS = {"blue": (30, 60, 200), "green": (40, 180, 60), "red": (210, 40, 30)}


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """The path of a real dataset or weight file; skips the test where it is absent."""

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"real data {name!r} is not on this machine")
        return path.resolve()

    return find


@pytest.fixture
def color_folder(tmp_path: Path) -> Path:
    """Class folders of 3 x 14 small noisy pictures that any network can tell apart by their colour."""
    chance = np.random.default_rng(7)
    for name, color in COLORS.items():
        folder = tmp_path / "colors" / name
        folder.mkdir(parents=True)
        for number in range(14):
            noise = chance.integers(-25, 25, (16, 16, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return tmp_path / "colors"


def _photo(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A picture of `size` (width, height) like no other: random 6x6 tiles, smoothly enlarged."""
    tiles = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(tiles).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """Classes cat and dog, ten plain photos each, then what people's folders also hold.

    cat: a zero-byte file, a truncated JPEG, a text named .jpg, a named pipe, a link out of the folder.
    dog: a CMYK JPEG, a 16-bit PNG, a photo turned by EXIF (stored 48x40), an animated GIF: all good.
    """
    root = tmp_path / "hostile"
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for index in range(10):
            _photo(100 * number + index).save(root / name / f"plain{index}.jpg")
    _bad(root / "cat", tmp_path)
    _unusual(root / "dog")
    return root


def _bad(folder: Path, outside: Path) -> None:
    (folder / "empty.jpg").touch()
    whole = (folder / "plain0.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) * 6 // 10])
    (folder / "text.jpg").write_text("this is no picture, whatever its name says\n")
    os.mkfifo(folder / "pipe.jpg")
    _photo(7).save(outside / "secret.jpg")
    (folder / "link.jpg").symlink_to(outside / "secret.jpg")


def _unusual(folder: Path) -> None:
    _photo(201).convert("CMYK").save(folder / "cmyk.jpg")
    ramp = np.linspace(0, 65535, 48 * 40).reshape(40, 48).astype(np.uint16)
    Image.fromarray(ramp).save(folder / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    _photo(202).save(folder / "rotated.jpg", exif=exif)
    frames = [_photo(seed) for seed in (203, 204)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
