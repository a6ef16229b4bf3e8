from pathlib import Path
from typing import Literal

import pytest

from striate.config import DEFAULT, Layer, Settings, assignment, leaves, read_toml, resolve, to_toml
from striate.errors import UnknownName, UsageError
from striate.structures import Preprocess


class Optimiser(Settings, frozen=True):
    kind: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    steps: tuple[int, ...] = ()


class Everything(Settings, frozen=True):
    epochs: int = 10
    patience: int | None = None
    optimiser: Optimiser = Optimiser()
    preprocess: Preprocess = Preprocess()


def test_a_later_layer_wins_key_by_key_and_each_value_keeps_its_origin() -> None:
    resolved = resolve(
        Everything,
        [
            Layer("recipe", {"epochs": 5, "optimiser": {"kind": "adamw", "learning_rate": 0.5}}),
            Layer("--lr", {"optimiser": {"learning_rate": 0.25}}),
        ],
    )
    assert resolved.value.optimiser == Optimiser(kind="adamw", learning_rate=0.25)
    assert resolved.origins["optimiser.learning_rate"] == "--lr"
    assert resolved.origins["optimiser.kind"] == "recipe"
    assert resolved.origins["patience"] == DEFAULT


def test_an_unknown_key_names_its_dotted_path_and_the_nearest() -> None:
    with pytest.raises(
        UnknownName, match=r"run.toml: optimiser.learning_rte: .*did you mean optimiser.learning_rate"
    ):
        resolve(Everything, [Layer("run.toml", {"optimiser": {"learning_rte": 1}})])


def test_an_unknown_key_inside_a_dataclass_is_found_too() -> None:
    with pytest.raises(UnknownName, match=r"did you mean preprocess\.size"):
        resolve(Everything, [Layer("flags", {"preprocess": {"sise": [8, 8]}})])


def test_a_value_of_the_wrong_type_names_its_path_origin_and_what_came() -> None:
    with pytest.raises(
        UsageError, match=r"run.toml: optimiser.learning_rate: expected `float`, got `str`; received 'fast'"
    ):
        resolve(Everything, [Layer("run.toml", {"optimiser": {"learning_rate": "fast"}})])


def test_a_table_that_gets_a_plain_value_is_refused() -> None:
    with pytest.raises(UsageError, match="flags: optimiser: expected `object`"):
        resolve(Everything, [Layer("flags", {"optimiser": 3})])


def test_leaves_are_dotted_paths_in_the_order_of_the_fields() -> None:
    assert list(leaves(Everything()))[:4] == [
        "epochs",
        "patience",
        "optimiser.kind",
        "optimiser.learning_rate",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("training.epochs=5", {"training": {"epochs": 5}}),
        ("a.b.c=[1, 2]", {"a": {"b": {"c": [1, 2]}}}),
        ("network.shortcut=B", {"network": {"shortcut": "B"}}),
        ("training.sync_bn=true", {"training": {"sync_bn": True}}),
        ("name=a=b", {"name": "a=b"}),
        ("augment.scale=none", {"augment": {"scale": None}}),
    ],
)
def test_an_assignment_is_read_as_toml_and_else_as_text(text: str, value: object) -> None:
    assert assignment(text) == value


def test_an_assignment_without_an_equals_sign_is_refused() -> None:
    with pytest.raises(UsageError, match="not KEY=VALUE"):
        assignment("training.epochs")


def test_what_is_written_as_toml_is_read_back_equal(tmp_path: Path) -> None:
    resolved = resolve(
        Everything,
        [
            Layer(
                'a "quoted"\nname',
                {
                    "optimiser": {"steps": [3, 5]},
                    "preprocess": {"color": "gray", "mean": [0.5], "std": [0.5]},
                },
            )
        ],
    )
    (tmp_path / "run.toml").write_text(to_toml(resolved))
    again = resolve(Everything, [read_toml(tmp_path / "run.toml")])
    assert again.value == resolved.value


def test_the_written_toml_shows_origins(tmp_path: Path) -> None:
    text = to_toml(resolve(Everything, [Layer("--epochs", {"epochs": 3})]))
    assert "epochs = 3  # --epochs" in text
    assert "# patience =  # default" in text


def test_a_file_that_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("epochs = 1\nepochs == 2\n")
    with pytest.raises(UsageError, match=r"bad.toml: is not TOML: .*line 2"):
        read_toml(tmp_path / "bad.toml")


class Nested(Settings, frozen=True):
    optimiser: Optimiser = Optimiser()
    name: str = "last"


def test_a_plain_key_after_a_table_is_not_written_into_it(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(to_toml(resolve(Nested, [Layer("flag", {"name": "mine"})])))
    assert resolve(Nested, [read_toml(tmp_path / "run.toml")]).value.name == "mine"
