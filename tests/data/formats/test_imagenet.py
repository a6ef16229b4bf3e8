"""ImageNet's layouts: synset folders, flat validation pictures with each kind of list, names of classes."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from striate.data.dataset import Dataset
from striate.data.formats import imagenet
from striate.data.tree import open_tree
from striate.errors import DataError

TENCH, CRANE, MACHINE = "n01440764", "n02012849", "n03126707"
WORDS = f"{TENCH} tench, Tinca tinca\n{CRANE} crane\n{MACHINE} crane\n"
VAL = "ILSVRC2012_val_0000000"


def folder(root: Path, *paths: str, **texts: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    for name, text in texts.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


def train(root: Path) -> Path:
    return folder(root, *(f"train/{synset}/{synset}_1.JPEG" for synset in (TENCH, CRANE, MACHINE)))


def flat_val(root: Path, prefix: str = "val") -> Path:
    return folder(train(root), *(f"{prefix}/{VAL}{number}.JPEG" for number in (1, 2, 3)))


def read(root: Path) -> Dataset:
    return imagenet.read(open_tree(root))


def val_labels(dataset: Dataset) -> dict[str, str]:
    return {item.key: dataset.classes[item.label or 0] for item in dataset.items if item.part == "val"}


EXPECTED = {f"val/{VAL}1.JPEG": MACHINE, f"val/{VAL}2.JPEG": TENCH, f"val/{VAL}3.JPEG": CRANE}


def test_synset_folders_in_parts(tmp_path: Path) -> None:
    dataset = read(folder(train(tmp_path), f"val/{CRANE}/{VAL}1.JPEG"))
    assert dataset.classes == (TENCH, CRANE, MACHINE)
    assert val_labels(dataset) == {f"val/{CRANE}/{VAL}1.JPEG": CRANE}
    assert [f.code for f in dataset.findings] == ["class-missing", "class-missing"]


@pytest.mark.parametrize("name", ["synset_words__txt", "LOC_synset_mapping__txt"])
def test_class_names_are_first_words_and_equal_ones_are_told_apart(tmp_path: Path, name: str) -> None:
    dataset = read(folder(train(tmp_path), **{name: WORDS}))
    assert dataset.classes == ("tench", f"crane ({CRANE})", f"crane ({MACHINE})")


def test_labels_from_the_solution_table(tmp_path: Path) -> None:
    table = f"ImageId,PredictionString\n{VAL}2,{TENCH} 1 2 3 4 \n{VAL}1,{MACHINE} 1 2 3 4 {MACHINE} 5 6 7 8\n"
    dataset = read(folder(flat_val(tmp_path), LOC_val_solution__csv=f"{table}{VAL}3,{CRANE} 1 2 3 4\n"))
    assert val_labels(dataset) == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        f"{VAL}1.JPEG 2\n{VAL}2.JPEG 0\n{VAL}3.JPEG 1\n",
        f"val/{VAL}1.JPEG {MACHINE}\n{VAL}2 {TENCH}\n{VAL}3 {CRANE}",
    ],
)
def test_labels_from_a_list_of_indices_or_synsets(tmp_path: Path, text: str) -> None:
    assert val_labels(read(folder(flat_val(tmp_path), val__txt=text))) == EXPECTED


def test_indices_count_the_synsets_of_the_words_file_where_train_has_fewer(tmp_path: Path) -> None:
    words = "n00000001 first\n" + WORDS
    dataset = read(
        folder(flat_val(tmp_path), val__txt=f"{VAL}1 3\n{VAL}2 1\n{VAL}3 0\n", synset_words__txt=words)
    )
    assert val_labels(dataset) == {f"val/{VAL}1.JPEG": f"crane ({MACHINE})", f"val/{VAL}2.JPEG": "tench"}
    assert [(f.file, f.code) for f in dataset.findings if f.code == "no-label"] == [
        (f"val/{VAL}3.JPEG", "no-label")
    ]


def test_index_that_counts_something_else_is_refused_with_its_line(tmp_path: Path) -> None:
    root = folder(flat_val(tmp_path), val__txt=f"{VAL}1 1\n{VAL}2 2\n{VAL}3 3\n")
    with pytest.raises(DataError, match=r"val\.txt:3: '3' is neither a synset nor an index below 3"):
        read(root)


# The devkit counts classes in an order of its own: here the crane first.
NUMBERS = {"1": CRANE, "2": MACHINE, "3": TENCH}


def test_ground_truth_by_the_devkits_own_numbers(tmp_path: Path) -> None:
    table = "".join(f"{synset} {number} name\n" for number, synset in NUMBERS.items())
    dataset = read(
        folder(flat_val(tmp_path), ILSVRC2012_validation_ground_truth__txt="2\n3\n1\n", map_clsloc__txt=table)
    )
    assert val_labels(dataset) == EXPECTED


def test_ground_truth_by_meta_mat(tmp_path: Path) -> None:
    matlab = pytest.importorskip("scipy.io")
    synsets = np.array(
        [(int(number), synset) for number, synset in NUMBERS.items()],
        dtype=[("ILSVRC2012_ID", object), ("WNID", object)],
    )
    stream = io.BytesIO()
    matlab.savemat(stream, {"synsets": synsets.reshape(-1, 1)})
    root = folder(flat_val(tmp_path), ILSVRC2012_validation_ground_truth__txt="2\n3\n1\n")
    (root / "meta.mat").write_bytes(stream.getvalue())
    assert val_labels(read(root)) == EXPECTED
    (root / "meta.mat").write_bytes(b"MATLAB, or not")
    with pytest.raises(DataError, match=r"meta\.mat: is not the devkit's"):
        read(root)


def test_ground_truth_without_its_meaning_is_refused(tmp_path: Path) -> None:
    root = folder(
        flat_val(tmp_path), ILSVRC2012_validation_ground_truth__txt="2\n3\n1\n", synset_words__txt=WORDS
    )
    with pytest.raises(DataError, match=r"no meaning without the devkit's map_clsloc\.txt or meta\.mat"):
        read(root)


def test_flat_validation_without_a_list_is_left_out_with_a_warning(tmp_path: Path) -> None:
    dataset = read(flat_val(tmp_path))
    assert {item.part for item in dataset.items} == {"train"}
    (warning,) = dataset.findings
    assert (warning.level, warning.code, warning.file) == ("warning", "no-label", f"val/{VAL}1.JPEG")
    assert warning.message.startswith("3 pictures")


def test_kaggles_layout_with_annotations_in_synset_folders_too(tmp_path: Path) -> None:
    deep = "ILSVRC/Data/CLS-LOC"
    folder(tmp_path, f"ILSVRC/Annotations/CLS-LOC/train/{TENCH}/1.xml", f"{deep}/train/{TENCH}/1.JPEG")
    folder(tmp_path, f"{deep}/train/{CRANE}/1.JPEG", f"{deep}/val/{VAL}1.JPEG", f"{deep}/test/{VAL}1.JPEG")
    folder(tmp_path, LOC_val_solution__csv=f"ImageId,PredictionString\n{VAL}1,{CRANE} 1 2 3 4\n")
    dataset = read(folder(tmp_path, LOC_synset_mapping__txt=WORDS))
    assert [item.key for item in dataset.items] == [
        f"train/{TENCH}/1.JPEG",
        f"train/{CRANE}/1.JPEG",
        f"val/{VAL}1.JPEG",
    ]
    assert dataset.storage.content(dataset.items[0].key) == tmp_path / deep / f"train/{TENCH}/1.JPEG"
    assert dataset.classes == ("tench", "crane")
    assert dataset.notes == (f"the pictures lie in {deep}",)
    assert next((f.code, f.file) for f in dataset.findings if f.level == "warning") == (
        "no-label",
        f"test/{VAL}1.JPEG",
    )


def test_tiny_imagenet(tmp_path: Path) -> None:
    folder(
        tmp_path, f"train/{TENCH}/images/a_0.JPEG", f"train/{CRANE}/images/b_0.JPEG", "val/images/val_0.JPEG"
    )
    (tmp_path / "val/val_annotations.txt").write_text(f"val_0.JPEG\t{CRANE}\t0\t32\t44\t62\n")
    dataset = read(
        folder(tmp_path, "test/images/test_0.JPEG", words__txt=f"{CRANE}\tcrane\nn00001740\tentity\n")
    )
    assert dataset.classes == (TENCH, "crane")
    assert val_labels(dataset) == {"val/images/val_0.JPEG": "crane"}
    assert [f.file for f in dataset.findings if f.code == "no-label"] == ["test/images/test_0.JPEG"]


def test_inside_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(train(tmp_path / "data").rglob("*.JPEG")):
            archive.write(path, path.relative_to(tmp_path / "data"))
    assert read(tmp_path / "a.zip").classes == (TENCH, CRANE, MACHINE)


def test_recognised_where_most_class_folders_are_synsets(tmp_path: Path) -> None:
    assert imagenet.recognise(open_tree(train(tmp_path / "a")))
    assert imagenet.recognise(open_tree(folder(tmp_path / "b", f"{TENCH}/1.JPEG", f"{CRANE}/1.JPEG")))
    assert not imagenet.recognise(
        open_tree(folder(tmp_path / "c", f"{TENCH}/1.jpg", "cat/1.jpg", "dog/1.jpg"))
    )
    assert not imagenet.recognise(open_tree(folder(tmp_path / "d", f"train/{TENCH}/1.xml")))
