import json
import pickle

import pytest

from striate.errors import (
    DataError,
    DiskFull,
    EnvironmentProblem,
    Interrupted,
    LabelError,
    ModelError,
    NotFiniteError,
    StriateError,
    UnknownName,
    UsageError,
    nearest,
    printable,
)


def test_an_error_is_one_line_of_where_what_and_fix() -> None:
    error = DataError("cat.jpg", "the file is empty.", "replace it.")
    assert str(error) == "cat.jpg: the file is empty. fix: replace it"


def test_each_kind_has_its_exit_code() -> None:
    kinds = (
        StriateError,
        UsageError,
        UnknownName,
        DataError,
        LabelError,
        ModelError,
        NotFiniteError,
        EnvironmentProblem,
        DiskFull,
    )
    assert [kind.exit_code for kind in kinds] == [1, 2, 2, 3, 3, 4, 4, 5, 28]
    assert Interrupted("run", "stopped", "resume").exit_code == 130
    assert Interrupted("run", "stopped", "resume", exit_code=143).exit_code == 143


def test_an_unknown_name_offers_the_nearest() -> None:
    error = UnknownName("model", "resnet81", ["resnet18", "lenet5"])
    assert str(error) == "model: there is no 'resnet81'. fix: did you mean resnet18?"


def test_an_unknown_name_far_from_all_lists_what_there_is() -> None:
    assert "use one of: a, b" in str(UnknownName("model", "zzzz", ["a", "b"]))


def test_nearest_ignores_case() -> None:
    assert nearest("ResNet18", ["resnet18", "lenet5"]) == ("resnet18",)


def test_control_characters_of_a_file_name_cannot_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb\nc\u202e") == "a\\x1b[31mb\\x0ac\\x202e"
    assert "\x1b" not in str(DataError("\x1b]0;owned\x07.jpg", "is\x1bbad", "remove it"))


@pytest.mark.parametrize(
    "error",
    [
        DataError("a", "b", "c"),
        UnknownName("model", "resnet81", ["resnet18"]),
        Interrupted("run", "stopped", "resume", exit_code=143),
    ],
)
def test_errors_survive_pickling_between_processes(error: StriateError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.exit_code) == (type(error), str(error), error.exit_code)


def test_the_json_twin_holds_the_same_facts() -> None:
    twin = json.loads(json.dumps(ModelError("m.pt", "is pickled", "convert it").to_dict()))
    assert twin == {
        "error": "ModelError",
        "where": "m.pt",
        "what": "is pickled",
        "fix": "convert it",
        "exit_code": 4,
    }
