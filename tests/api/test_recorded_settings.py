"""What a run.toml keeps, read back."""

from pathlib import Path

import numpy as np
import pytest

from striate import models
from striate.api.settings import WITHOUT_EFFECT, flat_settings, recorded_settings, run_settings
from striate.config import Layer, leaves, to_toml
from striate.data.dataset import Dataset
from striate.data.facts import DataFacts
from striate.data.storage import ArrayStorage
from striate.errors import UnknownName, UsageError
from striate.structures import Task

FACTS = DataFacts(
    pictures=30,
    counts={"ant": {"": 15}, "bee": {"": 15}},
    heights=(20, 30, 40),
    widths=(20, 30, 40),
    uniform=False,
    gray=False,
    mean=(0.1, 0.2, 0.3),
    std=(0.2, 0.2, 0.2),
    decoded_bytes=1,
    fingerprint="",
)


def dataset(task: Task = "classification") -> Dataset:
    return Dataset(
        "digits", "drawn", task, ("ant", "bee"), (), ArrayStorage(np.zeros((1, 4, 4, 1), np.uint8), "p")
    )


@pytest.mark.parametrize("model", sorted(models.variants()))
def test_every_networks_settings_come_back_from_their_toml_as_they_were(model: str, tmp_path: Path) -> None:
    # A value that is none is only a comment there, so its default must be none.
    layers = [Layer("--set", {"network": {"preprocess": {"fit": "stretch"}}, "training": {"clip_norm": 1}})]
    for asked in ([], layers):
        resolved = run_settings(
            Layer("--model", {"model": model}), "digits", dataset(models.task_of(model)), FACTS, asked
        )
        (tmp_path / "run.toml").write_text(to_toml(resolved))
        assert leaves(recorded_settings(tmp_path / "run.toml").value) == leaves(resolved.value)


def written(folder: Path, *lines: str) -> Path:
    (folder / "run.toml").write_text("\n".join(lines))
    return folder / "run.toml"


def test_a_file_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not name its model"):
        recorded_settings(written(tmp_path, "[training]", "epochs = 3"))


def test_a_misspelt_setting_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"training\.epochs"):
        recorded_settings(written(tmp_path, 'model = "lenet5"', "[training]", "epochz = 3"))


def test_settings_are_told_one_by_one_and_none_is_one() -> None:
    flat = flat_settings(
        run_settings(Layer("--model", {"model": "lenet5"}), "digits", dataset(), FACTS, []).value
    )
    told = {"data.source": '"digits"', "network.classes": '["ant","bee"]', "training.clip_norm": "null"}
    assert told.items() <= flat.items()


def test_what_has_no_effect_is_a_setting_there_is() -> None:
    resolved = run_settings(Layer("--model", {"model": "lenet5"}), "digits", dataset(), FACTS, [])
    assert set(WITHOUT_EFFECT) <= leaves(resolved.value).keys()
