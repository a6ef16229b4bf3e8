"""Shards: our own by their manifest, anybody's by their headers, and what is said of either's faults."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate import api
from striate.data.dataset import Dataset
from striate.data.formats import shards
from striate.data.manifest import sha256
from striate.data.open import DataConfig, open_dataset
from striate.data.tree import open_tree
from striate.errors import DataError


def picture(level: int) -> bytes:
    """A PNG of 4x4 pixels, all of `level`."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, **members: bytes) -> None:
    """A tar of these members, whose names have `__` for a dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def read(root: Path) -> Dataset:
    return shards.read(open_tree(root))


def rows(dataset: Dataset) -> list[tuple[str, str, int | None]]:
    return [(item.key, item.part, item.label) for item in dataset.items]


# --- anybody's --------------------------------------------------------------------------------------


def test_pictures_have_the_label_that_shares_their_name(tmp_path: Path) -> None:
    tar(
        tmp_path / "train-0.tar",
        a__png=picture(1),
        a__cls=b"2",
        b__cls=b" 0\n",
        b__jpg=picture(2),
        b__json=b"{}",
    )
    tar(tmp_path / "val-0.tar", a__PNG=picture(3), a__cls=b"1")
    dataset = read(tmp_path)
    assert rows(dataset) == [
        ("train-0.tar/a.png", "train", 2), ("train-0.tar/b.jpg", "train", 0), ("val-0.tar/a.PNG", "val", 1),
    ]  # fmt: skip
    assert (dataset.classes, dataset.format, dataset.task) == (("0", "1", "2"), "shards", "classification")
    assert [(finding.level, finding.code) for finding in dataset.findings] == [("note", "not-a-picture")]
    assert [int(dataset.sample(i).image[0, 0, 0]) for i in range(3)] == [1, 2, 3]


def test_a_key_ends_at_the_first_dot_of_the_last_piece(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as file:
        for name, content in (
            ("v1.0/a.png", picture(1)),
            ("v1.0/a.cls", b"1"),
            ("v1.0/a.left.png", picture(2)),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    assert rows(read(tmp_path)) == [("t.tar/v1.0/a.png", "", 1)]


@pytest.mark.parametrize(
    ("tar_name", "part"),
    [
        ("train-000000.tar", "train"), ("imagenet-val-03.tar", "val"), ("test/00001.tar", "test"),
        ("000.tar", ""), ("my_validation_7.tar", "val"), ("train/val-0.tar", ""), ("training.tar", "train"),
        ("straining-0.tar", ""),
    ],
)  # fmt: skip
def test_a_word_in_the_path_is_the_part(tmp_path: Path, tar_name: str, part: str) -> None:
    tar(tmp_path / tar_name, a__png=picture(1), a__cls=b"0")
    assert rows(read(tmp_path)) == [(f"{tar_name}/a.png", part, 0)]


@pytest.mark.parametrize("label", [b"-1", b"1.0", b"cat", b"", b"100000", b"9" * 40, b"\xff", "²".encode()])
def test_a_label_that_is_no_class_id_is_an_error_and_the_picture_left_out(
    tmp_path: Path, label: bytes
) -> None:
    tar(tmp_path / "t.tar", a__png=picture(1), a__cls=label, b__png=picture(2), b__cls=b"1")
    dataset = read(tmp_path)
    assert rows(dataset) == [("t.tar/b.png", "", 1)]
    (found,) = dataset.findings
    assert (found.file, found.level, found.code) == ("t.tar/a.png", "error", "label")


def test_a_label_without_picture_and_two_pictures_of_one_key_are_errors(tmp_path: Path) -> None:
    tar(
        tmp_path / "t.tar",
        a__cls=b"0", b__png=picture(1), b__jpg=picture(2), b__cls=b"0", c__png=picture(3), c__cls=b"0",
    )  # fmt: skip
    dataset = read(tmp_path)
    assert rows(dataset) == [("t.tar/c.png", "", 0)]
    assert [(found.file, found.code) for found in dataset.findings] == [
        ("t.tar/b.png", "two-pictures"), ("t.tar/a.cls", "no-picture"),
    ]  # fmt: skip


def test_a_picture_without_label_is_checks_to_report(tmp_path: Path) -> None:
    tar(tmp_path / "t.tar", a__png=picture(1), b__png=picture(2), b__cls=b"0")
    found = api.check(tmp_path).report
    assert [(f.file, f.code) for f in found.findings if f.level == "error"] == [("t.tar/a.png", "no-label")]
    assert found.usable.tolist() == [1]


def test_hostile_members_are_findings_and_nothing_is_written(tmp_path: Path) -> None:
    root = tmp_path / "set"
    tar(root / "t.tar", a__png=picture(1), a__cls=b"0")
    with tarfile.open(root / "t.tar", "a") as file:
        for name, kind in (
            ("../../out.png", tarfile.REGTYPE),
            ("l.png", tarfile.SYMTYPE),
            ("d.png", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    dataset = read(root)
    assert rows(dataset) == [("t.tar/a.png", "", 0)]
    assert [(found.file, found.code) for found in dataset.findings] == [
        ("t.tar/../../out.png", "path"), ("t.tar/l.png", "symlink"), ("t.tar/d.png", "special-file"),
    ]  # fmt: skip
    assert [path.name for path in tmp_path.rglob("*")] == ["set", "t.tar"]


def test_tars_without_a_picture_and_tars_in_a_zip_are_refused(tmp_path: Path) -> None:
    tar(tmp_path / "set" / "t.tar", a__txt=b"x")
    with pytest.raises(DataError, match="no tar in it holds a picture"):
        read(tmp_path / "set")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "set")
    with pytest.raises(DataError, match="unpack the zip"):
        open_dataset(DataConfig(source=archive))


def test_a_stray_tar_beside_pictures_is_no_shard(color_folder: Path) -> None:
    tar(color_folder / "old.tar", a__png=picture(1), a__cls=b"0")
    assert open_dataset(DataConfig(source=str(color_folder))).format == "class folders"


# --- ours -------------------------------------------------------------------------------------------


@pytest.fixture
def packed(color_folder: Path, tmp_path: Path) -> Path:
    """Two shards of training pictures or more, one of each other part."""
    api.pack_dataset(color_folder, tmp_path / "packed", shard_megabytes=0.05)
    return tmp_path / "packed"


def changed(root: Path, name: str, change: Callable[[Any], None]) -> None:
    """Edit the JSON file `name`; an index keeps its place in the manifest."""
    values = json.loads((root / name).read_text())
    change(values)
    (root / name).write_text(json.dumps(values))
    if name != "manifest.json":
        manifest = json.loads((root / "manifest.json").read_text())
        for shard in manifest["shards"]:
            if shard["name"] == name.replace(".json", ".tar"):
                shard["index_sha256"] = sha256((root / name).read_bytes())
        (root / "manifest.json").write_text(json.dumps(manifest))


def test_a_packed_set_has_the_names_of_its_classes_and_its_parts(packed: Path, color_folder: Path) -> None:
    dataset = open_dataset(DataConfig(source=str(packed)))
    assert dataset.classes == ("blue", "green", "red")
    assert {part: len(dataset.indices(part)) for part in ("train", "val", "test")} == {
        "train": 34, "val": 4, "test": 4,
    }  # fmt: skip
    assert dataset.findings == ()
    for index, item in enumerate(dataset.items):
        source = color_folder / item.key.partition("/")[2]
        assert source.parent.name == dataset.classes[item.label or 0]
        np.testing.assert_array_equal(dataset.sample(index).image, np.asarray(Image.open(source)))


def test_tars_of_ours_are_readable_without_the_manifest(packed: Path) -> None:
    ours = read(packed)
    for file in packed.glob("*.json"):
        file.unlink()
    theirs = read(packed)
    assert set(rows(theirs)) == set(rows(ours))
    assert theirs.classes == ("0", "1", "2")


def test_a_shard_of_another_size_is_refused_with_its_name(packed: Path) -> None:
    with (packed / "val-000000.tar").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DataError, match=r"packed/val-000000\.tar: has [\d,]+ bytes, [\d,]+ by the manifest"):
        read(packed)


@pytest.mark.parametrize("name", ["val-000000.tar", "val-000000.json"])
def test_a_missing_file_is_refused_with_its_name(packed: Path, name: str) -> None:
    (packed / name).unlink()
    with pytest.raises(DataError, match=f"packed/{name}: is in the manifest but not there"):
        read(packed)


def test_a_damaged_byte_is_found_by_check_and_by_nothing_sooner(packed: Path) -> None:
    with (packed / "train-000001.tar").open("r+b") as file:
        file.seek(-1, io.SEEK_END)
        file.write(b"\1")
    assert read(packed).findings == ()
    seen: list[tuple[int, int]] = []
    checked = api.check(packed, progress=lambda done, total: seen.append((done, total)))
    (found,) = checked.report.errors
    assert (found.file, found.code) == ("train-000001.tar", "checksum")
    assert seen[0][0] < 42
    assert (42, 42) in seen


def test_a_damaged_index_or_manifest_is_refused_with_its_name(packed: Path) -> None:
    whole = (packed / "train-000000.json").read_bytes()
    (packed / "train-000000.json").write_bytes(whole.replace(b"[", b" [", 1))
    with pytest.raises(DataError, match=r"train-000000\.json: is damaged: its SHA-256"):
        read(packed)
    (packed / "train-000000.json").write_bytes(whole)
    (packed / "manifest.json").write_text('{"format": "striate shards"')
    with pytest.raises(DataError, match=r"manifest\.json: is damaged or of another version"):
        read(packed)


def _set(values: Any, key: Any, value: Any) -> None:
    values[key] = value


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("manifest.json", lambda m: _set(m, "version", 2), "of another version"),
        ("manifest.json", lambda m: _set(m, "more", 2), "of another version"),
        ("manifest.json", lambda m: _set(m["pictures"], "train", 33), "counts other pictures"),
        (
            "manifest.json",
            lambda m: _set(m["shards"][0], "name", "../../x.tar"),
            "is in the manifest but not there",
        ),
        (
            "manifest.json",
            lambda m: _set(m["shards"], 1, m["shards"][0]),
            "counts other|lists a picture twice",
        ),
        ("val-000000.json", lambda i: _set(i["samples"][0], 1, -512), "does not fit"),
        ("val-000000.json", lambda i: _set(i["samples"][0], 2, 10**9), "does not fit"),
        ("val-000000.json", lambda i: _set(i["samples"][0], 3, 3), "does not fit"),
        ("val-000000.json", lambda i: _set(i["samples"][0], 3, -1), "does not fit"),
        ("val-000000.json", lambda i: _set(i["samples"][0], 0, i["samples"][1][0]), "lists a picture twice"),
        ("val-000000.json", lambda i: i["samples"].pop(), "does not fit"),
    ],
)
def test_a_manifest_or_index_that_lies_is_refused(
    packed: Path, name: str, change: Callable[[Any], None], message: str
) -> None:
    changed(packed, name, change)
    with pytest.raises(DataError, match=message):
        read(packed)


def test_a_tar_that_the_manifest_does_not_know_is_left_out_with_a_warning(packed: Path) -> None:
    tar(packed / "more.tar", a__png=picture(1), a__cls=b"0")
    dataset = read(packed)
    assert len(dataset) == 42
    assert [(found.file, found.code) for found in dataset.findings] == [("more.tar", "not-in-manifest")]


def test_another_programs_manifest_does_not_matter(tmp_path: Path) -> None:
    tar(tmp_path / "t.tar", a__png=picture(1), a__cls=b"0")
    (tmp_path / "manifest.json").write_text('{"files": []}')
    assert len(read(tmp_path)) == 1


def test_a_packing_that_was_interrupted_is_refused(packed: Path) -> None:
    (packed / "manifest.json").rename(packed / "packing.json")
    with pytest.raises(DataError, match="was not packed to the end"):
        open_dataset(DataConfig(source=str(packed)))
    for file in packed.glob("*-*"):
        file.unlink()
    with pytest.raises(DataError, match="was not packed to the end"):
        open_dataset(DataConfig(source=str(packed)))
