"""Tables of files and labels: headers, delimiters, parts, and what is said of each bad line."""

import zipfile
from pathlib import Path

import pytest

from striate.data.dataset import Dataset
from striate.data.formats import labels_csv
from striate.data.tree import open_tree
from striate.errors import DataError


def folder(root: Path, pictures: str, **tables: str | bytes) -> Path:
    for path in pictures.split():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    for name, text in tables.items():
        (root / f"{name}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def read(root: Path) -> Dataset:
    return labels_csv.read(open_tree(root))


def rows(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(item.key, item.part, dataset.classes[item.label or 0]) for item in dataset.items]


def errors(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(f.file, f.id, f.code) for f in dataset.findings if f.level == "error"]


@pytest.mark.parametrize(
    "text",
    [
        "file,label\n1.jpg,cat\n2.jpg,dog\n",
        "\ufefffilename;class\r\n1.jpg;cat\r\n2.jpg;dog\r\n",
        'Label\tIMAGE_PATH\ncat\t"1.jpg"\n\n dog \t./2.jpg',
        '"image","category","note"\n1.jpg,cat,"a, ""b"""\n2.jpg,dog,\n',
    ],
)
def test_header_delimiter_and_line_ends_are_found_out(tmp_path: Path, text: str) -> None:
    dataset = read(folder(tmp_path, "1.jpg 2.jpg", labels=text))
    assert rows(dataset) == [("1.jpg", "", "cat"), ("2.jpg", "", "dog")]
    assert dataset.findings == ()


def test_tables_named_by_part_are_parts(tmp_path: Path) -> None:
    folder(tmp_path, "a.jpg b.jpg c.jpg", train="file,label\na.jpg,x\n", valid="file,label\nb.jpg,y\n")
    dataset = read(folder(tmp_path, "", test="file,label\nc.jpg,x\n"))
    assert rows(dataset) == [("a.jpg", "train", "x"), ("b.jpg", "val", "y"), ("c.jpg", "test", "x")]


def test_part_column(tmp_path: Path) -> None:
    text = "file,label,split\n1.jpg,a,Training\n2.jpg,a,valid\n3.jpg,a,\n4.jpg,a,holdout\n"
    dataset = read(folder(tmp_path, "1.jpg 2.jpg 3.jpg 4.jpg", labels=text))
    assert [part for _, part, _ in rows(dataset)] == ["train", "val", ""]
    assert errors(dataset) == [("labels.csv", "line 5", "part")]


def test_pictures_in_a_folder_named_images_or_like_the_table(tmp_path: Path) -> None:
    folder(tmp_path, "images/1.jpg train/2.jpg images/train/3.jpg")
    dataset = read(folder(tmp_path, "", train="file,label\n1.jpg,a\n2.jpg,a\n3.jpg,a\n"))
    assert [item.key for item in dataset.items] == ["images/1.jpg", "images/train/3.jpg", "train/2.jpg"]


def test_whole_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    text = "file,label\n1.jpg,10\n2.jpg,9\n3.jpg,2\n"
    assert read(folder(tmp_path, "1.jpg 2.jpg 3.jpg", labels=text)).classes == ("2", "9", "10")


def test_each_bad_line_is_found_with_its_number(tmp_path: Path) -> None:
    text = (
        "file,label\n1.jpg,a\nabsent.jpg,a\n2.jpg,\n../secret.jpg,a\n/etc/hostname,a\n"
        "3.jpg\n4.jpg,a,b\nx\\..\\..\\y,a\n"
    )
    dataset = read(folder(tmp_path / "data", "1.jpg 2.jpg 3.jpg 4.jpg ../secret.jpg", labels=text))
    assert rows(dataset) == [("1.jpg", "", "a")]
    expected = [
        (3, "missing"),
        (4, "no-label"),
        (5, "path"),
        (6, "path"),
        (7, "row"),
        (8, "row"),
        (9, "path"),
    ]
    assert errors(dataset) == [("labels.csv", f"line {line}", code) for line, code in expected]


def test_line_numbers_count_lines_and_not_records(tmp_path: Path) -> None:
    text = 'file,label,note\n1.jpg,a,"two\nlines"\nabsent.jpg,a,\n'
    assert errors(read(folder(tmp_path, "1.jpg", labels=text))) == [("labels.csv", "line 4", "missing")]


def test_contradictions_leave_the_picture_out(tmp_path: Path) -> None:
    train = "file,label\n1.jpg,a\n1.jpg,b\n2.jpg,a\n2.jpg,a\n3.jpg,a\n4.jpg,b\n"
    dataset = read(folder(tmp_path, "1.jpg 2.jpg 3.jpg 4.jpg", train=train, test="file,label\n3.jpg,a\n"))
    assert rows(dataset) == [("2.jpg", "train", "a"), ("4.jpg", "train", "b")]
    assert [code for _, _, code in errors(dataset)] == ["conflicting-parts", "conflicting-labels"]
    message = next(f.message for f in dataset.findings if f.code == "conflicting-labels")
    assert message == "'1.jpg' is labelled 'a' and 'b' (train.csv:2, train.csv:3)"


def test_picture_in_a_table_of_all_and_in_one_of_a_part_has_that_part(tmp_path: Path) -> None:
    dataset = read(
        folder(tmp_path, "1.jpg 2.jpg", all="file,label\n1.jpg,a\n2.jpg,a\n", test="file,label\n2.jpg,a\n")
    )
    assert rows(dataset) == [("1.jpg", "", "a"), ("2.jpg", "test", "a")]


def test_links_that_leave_the_folder_are_missing_and_said_to_be_links(tmp_path: Path) -> None:
    folder(tmp_path, "secret.jpg data/1.jpg")
    (tmp_path / "data/out.jpg").symlink_to("../secret.jpg")
    folder(tmp_path / "data", "", labels="file,label\n1.jpg,a\nout.jpg,a\n")
    for dataset in (read(tmp_path / "data"), labels_csv.read_file(tmp_path / "data/labels.csv")):
        assert rows(dataset) == [("1.jpg", "", "a")]
        assert {(f.file, f.code) for f in dataset.findings} == {
            ("out.jpg", "symlink"),
            ("labels.csv", "missing"),
        }


@pytest.mark.parametrize(("file", "written"), [("u\u0308.jpg", "\u00fc.jpg"), ("\u00fc.jpg", "u\u0308.jpg")])
def test_accents_match_however_they_are_composed(tmp_path: Path, file: str, written: str) -> None:
    folder(tmp_path, file, labels=f"file,label\n{written},a\n")
    assert [item.key for item in read(tmp_path).items] == [file]


def test_pictures_that_no_table_lists_are_noted_once(tmp_path: Path) -> None:
    dataset = read(folder(tmp_path, "1.jpg 2.jpg 3.jpg", labels="file,label\n1.jpg,a\n"))
    (note,) = dataset.findings
    assert (note.level, note.code) == ("note", "unlisted")
    assert note.message == "2 pictures not listed in labels.csv left out: 2.jpg, 3.jpg"


def test_none_of_the_pictures_there_is_refused_with_the_first(tmp_path: Path) -> None:
    folder(tmp_path, "1.jpg", labels="file,label\nx/1.jpg,a\nx/2.jpg,a\n")
    with pytest.raises(
        DataError, match=r"labels\.csv, line 2: none of its 2 lines can be used; there is no 'x/1"
    ):
        read(tmp_path)


def test_empty_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lists no picture"):
        read(folder(tmp_path, "1.jpg", labels="file,label\n"))


def test_broken_table_is_refused_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv:3: is no CSV"):
        read(folder(tmp_path, "1.jpg", labels='file,label\n1.jpg,a\n2.jpg,"a"b\n'))
    with pytest.raises(DataError, match=r"labels\.csv:2: is not UTF-8"):
        read(folder(tmp_path, "1.jpg", labels=b"file,label\ncaf\xe9.jpg,a\n"))


def test_table_without_the_columns_is_not_recognised(tmp_path: Path) -> None:
    assert not labels_csv.recognise(open_tree(folder(tmp_path, "", other="id,label\n1,2\n", empty="")))
    assert labels_csv.recognise(open_tree(folder(tmp_path, "", labels="path;class\n")))


def test_the_same_inside_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("labels.csv", "file,label\nx/1.jpg,a\nx/2.jpg,b\n")
        archive.writestr("x/1.jpg", b"1")
    dataset = read(tmp_path / "a.zip")
    assert rows(dataset) == [("x/1.jpg", "", "a")]
    assert errors(dataset) == [("labels.csv", "line 3", "missing")]


def test_table_given_itself_reads_only_what_it_lists(tmp_path: Path) -> None:
    folder(tmp_path, "1.jpg images/2.jpg 3.jpg", train="file,label\n1.jpg,a\n2.jpg,b\n9.jpg,b\n")
    dataset = labels_csv.read_file(tmp_path / "train.csv")
    assert rows(dataset) == [("1.jpg", "train", "a"), ("images/2.jpg", "train", "b")]
    assert [f.code for f in dataset.findings] == ["missing"]
    assert dataset.name == str(tmp_path / "train.csv")
    assert dataset.storage.content("1.jpg") == tmp_path / "1.jpg"


def test_table_given_itself_without_the_columns_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, "", other="id,label\n1,2\n")
    with pytest.raises(DataError, match=r"other\.csv:1: has no file and label column"):
        labels_csv.read_file(tmp_path / "other.csv")
