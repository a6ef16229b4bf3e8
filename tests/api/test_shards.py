"""A job in parts."""

from pathlib import Path

import pytest
from PIL import Image

from striate.api.inputs import find_pictures
from striate.api.mask_files import MaskFolder
from striate.api.shards import Shard, chosen_shard
from striate.errors import UsageError


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "2", "1-4", "1/4/2", "a/b", "", "-1/4", "1/ 4"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"give the part's number and how many"):
        Shard.parse(text)


def test_a_part_is_in_the_name_of_a_file_and_of_a_folder() -> None:
    shard = Shard.parse("2/8")
    assert shard.named(Path("a.b/found.csv")) == Path("a.b/found-2-of-8.csv")
    assert shard.named(Path("masks")) == Path("masks-2-of-8")


def test_torchrun_says_the_part_unless_there_is_one_process() -> None:
    assert chosen_shard(None, {}) is None
    assert chosen_shard(None, {"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert chosen_shard(None, {"RANK": "2", "WORLD_SIZE": "4"}) == Shard(3, 4)
    assert chosen_shard("1/3", {}) == chosen_shard("1/3", {"RANK": "0", "WORLD_SIZE": "1"}) == Shard(1, 3)
    with pytest.raises(UsageError, match="torchrun's 4 processes divide the job"):
        chosen_shard("1/3", {"RANK": "2", "WORLD_SIZE": "4"})
    with pytest.raises(UsageError, match="no numbers"):
        chosen_shard(None, {"RANK": "x", "WORLD_SIZE": "4"})


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_the_parts_together_are_the_whole_in_any_order_of_the_list(count: int) -> None:
    names = [f"{number}.png" for number in (3, 11, 0, 5, 7, 2, 9, 1, 12, 4)]
    whole, turned = find_pictures(names), find_pictures(names[::-1])
    parts = [[key for key, _, _ in whole.shard(Shard(i + 1, count)).places] for i in range(count)]
    assert sorted(key for part in parts for key in part) == sorted(names)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == [[key for key, _, _ in turned.shard(Shard(i + 1, count)).places] for i in range(count)]


def test_a_part_names_its_files_as_the_whole_does(tmp_path: Path) -> None:
    for name in ("x/a.png", "x/a.bmp", "y/b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "in" / name)
    whole = find_pictures([tmp_path / "in"])
    names = MaskFolder(tmp_path / "out", whole).names
    for number in (1, 2, 3):
        part = whole.shard(Shard(number, 3))
        found = MaskFolder(tmp_path / f"out-{number}", part)
        assert {key: found.names[key] for key, _, _ in part.places}.items() <= names.items()
        assert found.numbers == {part.places[0][0]: 0}
