"""PASCAL's text files of boxes, read and written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from striate.data.dataset import Dataset, Finding
from striate.data.formats import pascal_boxes
from striate.data.open import recognise_format
from striate.data.tree import open_tree
from striate.errors import DataError


def text(*boxes: str, count: int | None = None, first: str = "(1, 1)", size: str = "30 x 20 x 3") -> str:
    """An annotation as Penn-Fudan has it; each box is `NAME: (l, t) - (r, b)`."""
    lines = [
        "# Compatible with PASCAL Annotation Version 1.00",
        'Image filename : "Set/PNGImages/1.png"',
        f"Image size (X x Y x C) : {size}",
        f"Objects with ground truth : {len(boxes) if count is None else count} {{ }}",
        f"# Top left pixel co-ordinates : {first}",
    ]
    for row, box in enumerate(boxes, start=1):
        name, corners = box.split(": ")
        lines += [
            f'# Details for pedestrian {row} ("{name}")',
            f'Original label for object {row} "{name}" : "Set"',
            f'Bounding box for object {row} "{name}" (Xmin, Ymin) - (Xmax, Ymax) : {corners}',
            f'Pixel mask for object {row} "{name}" : "Set/PedMasks/1_mask.png"',
        ]
    return "\n".join(lines) + "\n"


def pascal(root: Path, pictures: Sequence[str], texts: Mapping[str, str]) -> Path:
    """Pictures of 30x20 pixels and text files."""
    for path in pictures:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(root / path)
    for path, content in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root


def read(root: Path) -> Dataset:
    return pascal_boxes.read(open_tree(root))


def one(tmp_path: Path, *boxes: str, **settings: str) -> Dataset:
    """A dataset of one picture with these boxes."""
    texts = {"Annotation/1.txt": text(*boxes, **settings)}  # type: ignore[arg-type]
    return read(pascal(tmp_path, ["PNGImages/1.png"], texts))


def boxes_of(dataset: Dataset, index: int = 0) -> list[list[float]]:
    objects = dataset.items[index].objects
    assert objects is not None
    found: list[list[float]] = objects.boxes.tolist()
    return found


def finding(dataset: Dataset, code: str) -> Finding:
    (found,) = [finding for finding in dataset.findings if finding.code == code]
    return found


def test_the_last_pixel_is_inside(tmp_path: Path) -> None:
    dataset = one(tmp_path, "walker: (1, 2) - (10, 20)", "rider: (3.5, 4) - (9, 9.25)")
    assert (dataset.task, dataset.classes) == ("detection", ("rider", "walker"))
    assert boxes_of(dataset) == [[0, 1, 10, 20], [2.5, 3, 9, 9.25]]
    assert dataset.items[0].ids == ("object 1", "object 2")
    assert dataset.stated_sizes == {"PNGImages/1.png": (20, 30)}


def test_the_first_pixel_is_what_the_file_calls_it(tmp_path: Path) -> None:
    assert boxes_of(one(tmp_path, "a: (0, 1) - (9, 19)", first="(0, 0)")) == [[0, 1, 10, 20]]


@pytest.mark.parametrize(
    ("corners", "code"),
    [
        ("(7, 8) - (7, 8)", "box-empty"),
        ("(9, 8) - (7, 9)", "box-empty"),
        ("(nan, 8) - (9, 9)", "box-number"),
        ("(x, 8) - (9, 9)", "box-number"),
        ("(40, 1) - (50, 9)", "box-outside"),
    ],
)
def test_an_unusable_box_is_left_out_by_its_number(tmp_path: Path, corners: str, code: str) -> None:
    dataset = one(tmp_path, "a: (1, 1) - (9, 9)", f"a: {corners}")
    assert dataset.items[0].ids == ("object 1",)
    found = finding(dataset, code)
    assert (found.file, found.id, found.level) == ("Annotation/1.txt", "object 2", "error")


def test_fewer_boxes_than_stated_are_said(tmp_path: Path) -> None:
    texts = {"1.txt": text("a: (1, 1) - (9, 9)", count=2)}
    assert finding(read(pascal(tmp_path, ["1.png"], texts)), "object-count").file == "1.txt"


def test_texts_without_pictures_and_pictures_without_texts_are_said(tmp_path: Path) -> None:
    texts = {f"Annotation/{name}.txt": text("a: (1, 1) - (9, 9)") for name in "12"}
    pictures = ["PNGImages/1.png", "PNGImages/3.png", "PedMasks/1_mask.png"]
    dataset = read(pascal(tmp_path, pictures, texts))
    assert [item.key for item in dataset.items] == ["PNGImages/1.png", "PNGImages/3.png"]
    assert dataset.items[1].objects is None
    assert finding(dataset, "picture-missing").file == "Annotation/2.txt"
    assert finding(dataset, "unlisted").file == "PedMasks/1_mask.png"


def test_masks_come_first_and_boxes_alone_are_boxes(tmp_path: Path) -> None:
    texts = {"Annotation/1.txt": text("a: (1, 1) - (9, 9)")}
    both = pascal(tmp_path / "a", ["PNGImages/1.png", "PedMasks/1_mask.png"], texts)
    alone = pascal(tmp_path / "b", ["PNGImages/1.png"], texts)
    assert recognise_format(open_tree(both)) == "paired_masks"
    assert recognise_format(open_tree(alone)) == "pascal_boxes"


def test_what_is_written_is_read_again_with_its_parts(tmp_path: Path) -> None:
    texts = {f"{part}/Annotation/1.txt": text("b: (1, 2) - (10, 20)") for part in ("train", "test")}
    source = read(pascal(tmp_path / "a", ["train/PNGImages/1.png", "test/PNGImages/1.png"], texts))
    source = replace(source, classes=("b", "a"), items=tuple(replace(item) for item in source.items))
    lost = pascal_boxes.write(source, tmp_path / "b")
    assert [sentence.partition(":")[0] for sentence in lost] == ["2 pictures got another name"]
    again = read(tmp_path / "b")
    assert again.classes == ("b", "a"), "their order is that of classes.txt"
    assert [item.part for item in again.items] == ["test", "train"]
    assert boxes_of(again) == [[0, 1, 10, 20]]


def test_a_name_that_would_end_its_quotes_is_refused(tmp_path: Path) -> None:
    source = replace(one(tmp_path / "a", "a: (1, 1) - (9, 9)"), classes=('a"',))
    with pytest.raises(DataError, match="cannot be written"):
        pascal_boxes.write(source, tmp_path / "b")


def test_penn_fudan_is_read_with_all_its_boxes(shared_data: Callable[[str], Path]) -> None:
    dataset = read(shared_data("pennfudan"))
    assert (len(dataset), dataset.classes) == (170, ("PASpersonStanding", "PASpersonWalking"))
    assert sum(len(item.objects) for item in dataset.items if item.objects is not None) == 423
    assert not [found for found in dataset.findings if found.level != "note"]
