"""A dataset with fewer training pictures, evenly by class, as files."""

from collections import Counter
from pathlib import Path

from PIL import Image

from striate.data.dataset import Dataset

__all__ = ["write_pictures"]


def write_pictures(dataset: Dataset, count: int, folder: Path) -> None:
    """`count` training pictures and all of the test part, as PNG files in `folder`/part/class.

    Raises SystemExit where there are fewer, or no test part.
    """
    each, taken = count // len(dataset.classes), Counter[tuple[str, int]]()
    for index, item in enumerate(dataset.items):
        if item.label is None or item.part not in ("train", "test"):
            continue
        if item.part == "train" and taken["train", item.label] == each:
            continue
        taken[item.part, item.label] += 1
        place = folder / item.part / dataset.classes[item.label].replace("/", "-")
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(dataset.sample(index).image.squeeze())
        image.save(place / f"{index:06}.png", compress_level=1)
    for label, name in enumerate(dataset.classes):
        if taken["train", label] < each or not taken["test", label]:
            raise SystemExit(f"{name}: it needs {each} training pictures and some of the test part")
