"""What `check` finds in small datasets whose faults are known."""

import hashlib
import io
import json
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock, get_ident

import numpy as np
import pytest
from PIL import Image as Pillow

from striate.data import check as checking
from striate.data import open as opening
from striate.data.check import CheckReport, check
from striate.data.dataset import Dataset, Finding, Item, Part, Storage
from striate.data.decode import decode_image
from striate.data.facts import Measured
from striate.data.storage import ArrayStorage
from striate.errors import UsageError
from striate.structures import Image, Objects

Entry = tuple[Image | bytes, Part, int | None]


class Memory:
    """A storage of arrays and encoded files that counts how often each is read."""

    def __init__(self, contents: dict[str, Image | bytes]) -> None:
        self.contents = contents
        self.reads: list[str] = []

    def content(self, key: str) -> Image | bytes:
        self.reads.append(key)
        return self.contents[key]


class Watched:
    """The storage `inner`, telling of each key before it is read."""

    def __init__(self, inner: Storage, see: Callable[[str], None]) -> None:
        self.inner = inner
        self.see = see

    def content(self, key: str) -> Path | bytes | Image:
        self.see(key)
        return self.inner.content(key)


def dataset_of(*entries: Entry, classes: tuple[str, ...] = ("cat", "dog")) -> Dataset:
    """A dataset with the keys a, b, c, ... in order."""
    keys = [chr(ord("a") + index) for index in range(len(entries))]
    items = tuple(Item(key, part, label) for key, (_, part, label) in zip(keys, entries, strict=True))
    storage = Memory({key: content for key, (content, _, _) in zip(keys, entries, strict=True)})
    return Dataset("pets", "test", "classification", classes, items, storage)


def noise(seed: int, height: int = 20, width: int = 20, channels: int = 3) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def pixel_hash(image: Image) -> bytes:
    shape = np.array(image.shape, "<u4").tobytes()
    return hashlib.blake2b(shape + image.tobytes(), digest_size=16).digest()


def encoded(image: Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def photo(seed: int, side: int = 96) -> Image:
    tiles = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Pillow.fromarray(tiles).resize((side, side), Pillow.Resampling.BICUBIC))


def coded(report: CheckReport, *codes: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.code in codes]


def test_mean_and_std_are_those_of_the_training_pixels_worked_by_hand() -> None:
    # Channel 0 holds 0, 0, 0, 255: mean 1/4, variance 1/4 - 1/16. Channel 1 is 51 = 1/5 throughout.
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[1, 1, 0] = 255
    pixels[..., 1] = 51
    facts = check(dataset_of((pixels, "train", 0), (noise(1), "test", 1))).facts
    assert facts.mean == pytest.approx((0.25, 0.2, 0.0), abs=1e-15)
    assert facts.std == pytest.approx((np.sqrt(3) / 4, 0.0, 0.0), abs=1e-15)


def test_mean_weighs_pixels_not_pictures() -> None:
    black, white = np.zeros((1, 3, 1), np.uint8), np.full((1, 1, 1), 255, np.uint8)
    facts = check(dataset_of((black, "train", 0), (white, "train", 1))).facts
    assert facts.gray
    assert facts.mean == (0.25,)


def test_gray_pictures_among_coloured_ones_count_in_every_channel() -> None:
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    facts = check(dataset_of((red, "train", 0), (np.full((1, 1, 1), 51, np.uint8), "train", 1))).facts
    assert not facts.gray
    assert facts.mean == pytest.approx((0.6, 0.1, 0.1))


def test_statistics_of_a_large_picture_equal_numpys() -> None:
    image = noise(5, 301, 257)
    facts = check(dataset_of((image, "train", 0))).facts
    scaled = image.astype(np.float64) / 255
    assert facts.mean == pytest.approx(scaled.mean(axis=(0, 1)), abs=1e-12)
    assert facts.std == pytest.approx(scaled.std(axis=(0, 1)), abs=1e-12)


def test_counts_sizes_and_bytes() -> None:
    facts = check(
        dataset_of(
            (noise(1, 20, 30), "train", 0), (noise(2, 40, 30, 1), "train", 0), (noise(3, 60, 90), "val", 1)
        )
    ).facts
    assert facts.counts == {"cat": {"train": 2, "val": 0}, "dog": {"train": 0, "val": 1}}
    assert (facts.heights, facts.widths, facts.uniform) == ((20, 40, 60), (30, 30, 90), False)
    assert facts.decoded_bytes == 20 * 30 * 3 + 40 * 30 + 60 * 90 * 3


def test_each_picture_is_read_and_decoded_once_and_taken_under_its_own_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[str] = []

    def decode(content: Image, name: str) -> Image:
        decoded.append(name)
        return decode_image(content, name)

    monkeypatch.setattr("striate.data.dataset.decode_image", decode)
    data = dataset_of(*((noise(seed), "train", seed % 2) for seed in range(26)))
    fingerprint = check(data, workers=3).facts.fingerprint
    keys = [item.key for item in data.items]
    assert sorted(decoded) == sorted(data.storage.reads) == keys  # type: ignore[attr-defined]
    expected = hashlib.sha256()
    for index, key in enumerate(keys):
        expected.update(f"{key}\0{data.classes[index % 2]}\0".encode() + pixel_hash(noise(index)))
    assert fingerprint == expected.hexdigest()


def test_each_thread_holds_one_picture_or_file_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    held, most = 0, 0
    counting = Lock()

    def count(difference: int) -> None:
        nonlocal held, most
        with counting:
            held += difference
            most = max(most, held)

    class File(bytes):
        def __del__(self) -> None:
            count(-1)

    def decode(content: Image | bytes, name: str) -> Image:
        count(+1)
        if isinstance(content, bytes):
            return decode_image(File(content), name)
        image = decode_image(content, name)
        weakref.finalize(image, count, -1)
        return image

    monkeypatch.setattr("striate.data.dataset.decode_image", decode)
    entries: list[Entry] = [(noise(seed) if seed % 2 else b"no picture", "train", 0) for seed in range(80)]
    for workers in (1, 3):
        most = 0
        assert len(coded(check(dataset_of(*entries), workers=workers), "unreadable")) == 40
        assert 1 <= most <= workers
        assert held == 0


def test_outcome_does_not_depend_on_the_number_of_threads() -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 9, 7, 3), np.uint8)
    images[250] = images[3]
    storage = ArrayStorage(images, "many")
    items = tuple(Item(key, "train", index % 2) for index, key in enumerate(storage.keys()))
    dataset = Dataset("many", "test", "classification", ("cat", "dog"), items, storage)
    one, four = check(dataset, workers=1), check(dataset, workers=4)
    assert one.to_dict() == four.to_dict()
    assert one.groups.tolist() == four.groups.tolist()


def test_pictures_are_read_in_other_threads_and_progress_is_told_in_this_one() -> None:
    readers: set[int] = set()
    calls: list[tuple[int, int, int]] = []
    dataset = dataset_of(*((noise(seed, 4, 4), "train", 0) for seed in range(70)))
    watched = Watched(dataset.storage, lambda _key: readers.add(get_ident()))
    check(
        replace(dataset, storage=watched),
        progress=lambda done, total: calls.append((get_ident(), done, total)),
    )
    assert readers
    assert get_ident() not in readers
    assert calls == [(get_ident(), done, 70) for done in (32, 64, 70)]


def test_interrupt_stops_after_the_picture_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    in_hand, ending = Event(), Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            ending.set()
            super().shutdown(wait, cancel_futures=cancel_futures)

    dataset = dataset_of(*((noise(seed, 8, 8), "train", 0) for seed in range(200)))
    keys = [item.key for item in dataset.items]
    recorded: list[Image] = []

    def wait(key: str) -> None:
        # The interrupt comes when the first chunk is done and picture 32, of the second, is in hand.
        if key == keys[32]:
            in_hand.set()
            ending.wait(60)

    class Recording(Measured):
        def record(self, index: int, image: Image) -> None:
            super().record(index, image)
            recorded.append(image)

    def interrupt(done: int, total: int) -> None:
        in_hand.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(checking, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(checking, "Measured", Recording)
    watched = replace(dataset, storage=Watched(dataset.storage, wait))
    with pytest.raises(KeyboardInterrupt):
        check(watched, workers=1, progress=interrupt)
    assert dataset.storage.reads == keys[:33]  # type: ignore[attr-defined]
    assert len(recorded) == 33


def test_an_error_that_no_picture_is_to_blame_for_ends_the_check() -> None:
    def full(key: str) -> None:
        raise MemoryError

    dataset = dataset_of((noise(1), "train", 0))
    with pytest.raises(MemoryError):
        check(replace(dataset, storage=Watched(dataset.storage, full)))


def test_no_thread_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match=r"0 threads cannot decode\. fix: give 1 or more"):
        check(dataset_of((noise(1), "train", 0)), workers=0)


def test_unreadable_and_unlabelled_pictures_are_errors_and_not_usable() -> None:
    report = check(dataset_of((noise(1), "train", 0), (b"", "train", 0), (noise(2), "train", None)))
    assert report.usable.tolist() == [0]
    assert [(finding.file, finding.code) for finding in report.errors] == [
        ("b", "unreadable"),
        ("c", "no-label"),
    ]
    assert "0 bytes" in report.errors[0].message


def test_pictures_of_a_detection_dataset_need_objects_not_labels() -> None:
    nothing = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    storage = ArrayStorage(noise(1)[None], "x")
    dataset = Dataset("x", "test", "detection", ("cat",), (Item("x[0]", objects=nothing),), storage)
    report = check(dataset)
    assert report.usable.tolist() == [0]
    assert not coded(report, "no-label", "few", "empty-class")


def test_equal_pixels_in_other_file_formats_are_one_duplicate_group() -> None:
    image = noise(1)
    report = check(
        dataset_of(
            (encoded(image, "PNG"), "train", 0),
            (noise(2), "train", 0),
            (encoded(image, "BMP"), "train", 0),
            (image, "train", 0),
        )
    )
    assert report.groups.tolist() == [0, -1, 0, 0]
    (duplicate,) = coded(report, "duplicate", "leak", "conflicting-labels")
    assert (duplicate.file, duplicate.level) == ("a", "warning")
    assert duplicate.message == "it has the same pixels as c, d"
    assert report.usable.tolist() == [0, 1, 2, 3]


def test_equal_bytes_of_another_shape_are_no_duplicate() -> None:
    flat = noise(1, 4, 6)
    report = check(dataset_of((flat, "train", 0), (flat.reshape(6, 4, 3), "train", 0)))
    assert report.groups.tolist() == [-1, -1]


def test_unreadable_pictures_are_not_each_others_duplicates() -> None:
    assert check(dataset_of((b"", "train", 0), (b"", "train", 0))).groups.tolist() == [-1, -1]


def test_equal_pixels_in_two_parts_are_a_leak_that_stays_usable() -> None:
    report = check(dataset_of((noise(1), "test", 1), (noise(1), "train", 1)))
    (leak,) = coded(report, "duplicate", "leak")
    assert (leak.code, leak.level, leak.file) == ("leak", "warning", "a")
    assert leak.message == "its pixels are in train and test, so measurements flatter: see b"
    assert report.usable.tolist() == [0, 1]


def test_conflicting_labels_leave_training_but_not_the_test_part() -> None:
    report = check(
        dataset_of(
            (noise(1), "test", 1), (noise(1), "train", 0), (noise(1), "train", 1), (noise(2), "train", 1)
        )
    )
    (conflict,) = coded(report, "conflicting-labels")
    assert (conflict.level, conflict.file) == ("error", "b")
    assert conflict.message == "its pixels are labelled cat and dog: see c, a; none of them is trained on"
    assert report.usable.tolist() == [0, 3]


def test_conflicting_labels_within_the_test_part_are_only_a_warning() -> None:
    report = check(dataset_of((noise(1), "test", 0), (noise(1), "test", 1)))
    assert [finding.level for finding in coded(report, "conflicting-labels")] == ["warning"]
    assert report.usable.tolist() == [0, 1]


def test_reencoded_and_smaller_copies_are_near_duplicates() -> None:
    image = photo(1)
    small = np.asarray(Pillow.fromarray(image).resize((48, 48)))
    report = check(
        dataset_of(
            (image, "train", 0),
            (encoded(image, "JPEG", quality=40), "train", 0),
            (photo(2), "train", 0),
            (small, "train", 0),
        )
    )
    (near,) = coded(report, "near-duplicate")
    assert (near.file, near.level, near.message) == ("a", "note", "it looks nearly the same as b, d")


def test_near_duplicates_across_parts_and_labels_are_a_warning_that_says_so() -> None:
    copy = encoded(photo(1), "JPEG", quality=60)
    report = check(dataset_of((photo(1), "train", 0), (copy, "val", 1)))
    (near,) = coded(report, "near-duplicate")
    assert near.level == "warning"
    assert near.message == "it looks nearly the same as b, in train and val, under other labels"


def test_exact_duplicates_are_not_reported_again_as_near_ones() -> None:
    report = check(dataset_of((photo(1), "train", 0), (photo(1), "train", 0)))
    assert not coded(report, "near-duplicate")


def test_near_duplicates_are_not_sought_when_not_asked_for() -> None:
    copy = encoded(photo(1), "JPEG", quality=60)
    dataset = dataset_of((photo(1), "train", 0), (copy, "train", 0))
    assert not coded(check(dataset, near_duplicates=False), "near-duplicate", "near-duplicates-unchecked")


def test_pictures_too_small_to_compare_are_counted_in_a_note() -> None:
    report = check(dataset_of((noise(1), "train", 0), (photo(1), "train", 0)))
    (note,) = coded(report, "near-duplicates-unchecked")
    assert note.level == "note"
    assert note.message.startswith("1 picture is smaller than 32 pixels")


def test_tiny_and_narrow_pictures_are_named_only_where_sizes_differ() -> None:
    mixed = check(
        dataset_of((noise(1), "train", 0), (noise(2, 8, 20), "train", 0), (noise(3, 20, 201), "train", 0))
    )
    assert [finding.file for finding in coded(mixed, "size")] == ["b", "c"]
    assert "20 x 8 pixels" in coded(mixed, "size")[0].message
    assert not coded(check(dataset_of((noise(1, 8, 8), "train", 0), (noise(2, 8, 8), "train", 0))), "size")


def test_a_picture_of_one_colour_is_named() -> None:
    even, spotted = np.full((20, 20, 3), (9, 8, 7), np.uint8), np.full((20, 20, 3), (9, 8, 7), np.uint8)
    spotted[19, 3] = 0
    report = check(dataset_of((even, "train", 0), (spotted, "train", 0)))
    assert [finding.file for finding in coded(report, "one-colour")] == ["a"]


def test_rare_empty_and_lopsided_classes_are_named() -> None:
    entries: list[Entry] = [(noise(seed), "train", 0) for seed in range(23)]
    entries += [(noise(30), "train", 1), (noise(31), "train", 1)]
    report = check(dataset_of(*entries, classes=("cat", "dog", "emu")))
    found = {finding.code: finding.message for finding in coded(report, "few", "empty-class", "imbalance")}
    assert found == {
        "few": "fewer than 10 pictures to train on: dog (2)",
        "empty-class": "no usable picture of emu",
        "imbalance": "23 pictures of cat, 2 of dog",
    }


def test_ten_times_as_many_is_no_imbalance() -> None:
    entries: list[Entry] = [(noise(seed), "train", int(seed >= 20)) for seed in range(22)]
    assert not coded(check(dataset_of(*entries)), "imbalance")


def test_a_test_set_alone_is_not_blamed_for_few_pictures_to_train_on() -> None:
    report = check(dataset_of((noise(1), "test", 0), (noise(2), "test", 1)))
    assert not coded(report, "few", "imbalance", "empty-class")


def test_findings_of_the_reader_come_first() -> None:
    found = Finding("x.jpg", "", "error", "symlink", "it leads out", "copy it")
    report = check(replace(dataset_of((b"", "train", 0)), findings=(found,)))
    assert report.findings[0] == found
    assert report.errors[:2] == (found, report.findings[1])


def test_fingerprint_is_the_stated_hash_and_ignores_order_and_part() -> None:
    image = noise(1, 2, 3)
    dataset = dataset_of((image, "train", 1))
    expected = hashlib.sha256(b"a\0dog\0" + pixel_hash(image)).hexdigest()
    assert check(dataset).facts.fingerprint == expected
    several = dataset_of((noise(1), "train", 0), (noise(2), "val", 1), (noise(3), "train", 1))
    reordered = several.only([2, 0, 1])
    assert check(reordered).facts.fingerprint == check(several).facts.fingerprint


def test_fingerprint_changes_with_a_pixel_a_label_and_a_name() -> None:
    changed = noise(1)
    changed[0, 0, 0] ^= 1
    variants = (
        dataset_of((noise(1), "train", 0)),
        dataset_of((changed, "train", 0)),
        dataset_of((noise(1), "train", 1)),
    )
    assert len({check(variant).facts.fingerprint for variant in variants}) == 3


def test_nothing_usable_gives_empty_facts_not_a_crash() -> None:
    report = check(dataset_of((b"", "train", 0)))
    facts = report.facts
    assert (facts.pictures, facts.heights, facts.mean, facts.uniform) == (0, (0, 0, 0), (), False)
    assert report.usable.tolist() == []
    assert check(dataset_of()).usable.tolist() == []


def test_report_is_plain_data_for_json() -> None:
    report = check(dataset_of((noise(1), "train", 0), (b"", "val", 1)))
    plain = json.loads(json.dumps(report.to_dict()))
    assert (plain["pictures"], plain["usable"]) == (2, 1)
    assert plain["findings"][0]["code"] == "unreadable"
    assert list(plain["findings"][0]) == ["file", "id", "level", "code", "message", "fix"]
    assert plain["facts"]["counts"]["cat"] == {"train": 1}


def test_hostile_folder_is_named_file_by_file_and_the_rest_is_usable(hostile_folder: Path) -> None:
    dataset = opening.open_dataset(opening.DataConfig(source=str(hostile_folder)))
    report = check(dataset)
    found = {finding.file: (finding.code, finding.message) for finding in report.errors}
    assert {file: code for file, (code, _) in found.items()} == {
        "cat/empty.jpg": "unreadable",
        "cat/link.jpg": "symlink",
        "cat/pipe.jpg": "special-file",
        "cat/text.jpg": "unreadable",
        "cat/truncated.jpg": "unreadable",
    }
    for file, word in (("empty", "0 bytes"), ("text", "text file"), ("truncated", "cut"), ("pipe", "pipe")):
        assert word in found[f"cat/{file}.jpg"][1]
    usable = {dataset.items[index].key for index in report.usable}
    assert {"dog/cmyk.jpg", "dog/sixteen.png", "dog/rotated.jpg", "dog/moving.gif"} <= usable
    assert report.facts.counts == {"cat": {"": 10}, "dog": {"": 14}}
    assert {finding.code for finding in report.findings} == {"unreadable", "symlink", "special-file"}
    turned = dataset.sample(next(i for i, item in enumerate(dataset.items) if item.key == "dog/rotated.jpg"))
    assert turned.image.shape == (48, 40, 3)


def test_near_duplicates_of_real_photos_are_real(shared_data: Callable[[str], Path]) -> None:
    archive = shared_data("cifar10-12k/cifar10_12k_png.zip")
    dataset = opening.open_dataset(opening.DataConfig(source=str(archive)))
    frogs = dataset.only(i for i, item in enumerate(dataset.items) if "/frog/" in item.key)
    report = check(frogs)
    assert [(finding.file, finding.level) for finding in coded(report, "near-duplicate")] == [
        ("test/frog/01513.png", "warning"),
        ("train/frog/04875.png", "note"),
    ]
