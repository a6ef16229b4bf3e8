"""Lists of classes: every way to write them, and lines that are wrong."""

from pathlib import Path

import pytest

from striate.data.class_list import ClassList, find_class_list, parsed
from striate.data.tree import open_tree
from striate.errors import DataError
from striate.structures import IGNORE


def rows(found: ClassList) -> list[tuple[str, int, tuple[int, int, int] | None]]:
    return [(row.name, row.value, row.color) for row in found.listed]


def test_names_count_from_zero() -> None:
    found = parsed("sky\n\n# comment\n traffic light \n", "classes.txt")
    assert found.classes == ("sky", "traffic light")
    assert found.by_value == {0: 0, 1: 1, IGNORE: IGNORE}
    assert found.by_color == {}


@pytest.mark.parametrize(
    "text", ["7 road\n9 parking meter", "7: road\n9: parking meter", "7,road\n9,parking meter"]
)
def test_numbers_before_names_are_kept(text: str) -> None:
    found = parsed(text, "classes.txt")
    assert found.by_value == {7: 0, 9: 1, IGNORE: IGNORE}
    assert found.classes == ("road", "parking meter")


@pytest.mark.parametrize(
    "text",
    [
        "64 128 64\tanimal\n0 0 192 lane marking",
        "64,128,64,animal\n0,0,192,lane marking",
        "name,r,g,b\nanimal,64,128,64\nlane marking,0,0,192",
        'name, r, g, b\n"animal", 64, 128, 64\n"lane marking", 0, 0, 192',
        "# label:color_rgb:parts:actions\nanimal:64,128,64::\nlane marking:0,0,192::",
    ],
)
def test_colours_stand_before_or_after_names(text: str) -> None:
    expected = [("animal", 0, (64, 128, 64)), ("lane marking", 1, (0, 0, 192))]
    found = parsed(text, "classes.txt")
    assert rows(found) == expected
    assert found.by_color == {(64, 128, 64): 0, (0, 0, 192): 1}


def test_names_with_digits_at_their_end_are_names() -> None:
    assert parsed("lane 1\nlane 2", "classes.txt").classes == ("lane 1", "lane 2")


@pytest.mark.parametrize("void", ["void", "Void", "unlabelled", "ignore"])
def test_a_class_called_void_is_none_and_the_others_close_up(void: str) -> None:
    found = parsed(f"sky\n{void}\nroad", "classes.txt")
    assert found.classes == ("sky", "road")
    assert found.by_value == {0: 0, 1: IGNORE, 2: 1, IGNORE: IGNORE}


def test_background_is_a_class() -> None:
    assert parsed("background\ncat", "classes.txt").classes == ("background", "cat")


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("sky\nroad\nsky", "classes.txt:3", "'sky' is listed twice"),
        ("1 sky\n1 road", "classes.txt:2", "the number 1 is listed twice"),
        ("1 2 3 sky\n1 2 3 road", "classes.txt:2", "the colour 1, 2, 3 is listed twice"),
        ("1 2 300 sky", "classes.txt:1", "is listed twice or no colour"),
        ("# nothing", "classes.txt", "lists no class"),
        ("void", "classes.txt", "it lists 1 classes"),
        ("sky\n" + "x" * 301, "classes.txt:2", "its 301 characters name no class"),
        ("\n".join(f"c{number}" for number in range(256)), "classes.txt", "it lists 256 classes"),
    ],
)
def test_wrong_lines_are_named(text: str, where: str, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        parsed(text, "classes.txt")
    assert caught.value.where == where


def test_the_list_with_colours_comes_first_and_folders_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "classes.txt").write_text("outer")
    tree = open_tree(tmp_path)
    assert find_class_list(tree, ["deep", ""]) == parsed("outer", "classes.txt")
    assert find_class_list(tree, ["deep"]) is None
    (tmp_path / "deep" / "labels.txt").write_text("plain")
    (tmp_path / "deep" / "label_colors.txt").write_text("1 2 3 coloured")
    found = find_class_list(open_tree(tmp_path), ["deep", ""])
    assert found is not None
    assert found.classes == ("coloured",)


def test_names_in_a_yaml_stand_below_classes_or_names(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(
        "# data\ntrain:\n  images: x\nnames:\n  0: unlabeled\n  5: cat\nnc: 2\n"
    )
    found = find_class_list(open_tree(tmp_path), [""])
    assert found is not None
    assert found.by_value == {0: IGNORE, 5: 0, IGNORE: IGNORE}
    assert [row.line for row in found.listed] == [5, 6]
    (tmp_path / "data.yaml").write_text("names:\n- cat\n- dog\n")
    found = find_class_list(open_tree(tmp_path), [""])
    assert found is not None
    assert found.classes == ("cat", "dog")
    (tmp_path / "data.yaml").write_text("model: unet\nlayers:\n  - 3\n")
    assert find_class_list(open_tree(tmp_path), [""]) is None


def test_boxes_may_have_more_classes_than_masks(tmp_path: Path) -> None:
    text = "\n".join(f"class {number}" for number in range(300))
    (tmp_path / "classes.txt").write_text(text)
    found = find_class_list(open_tree(tmp_path), [""], most=300)
    assert found is not None
    assert len(found.classes) == 300
    with pytest.raises(DataError, match="list 1 to 299"):
        parsed(text, "classes.txt", most=299)
