"""The Python twin of `striate train`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate
from striate.config import read_toml
from striate.errors import DataError, UnknownName, UsageError


def tiny(data: Path, out: Path, **changes: Any) -> Any:
    options = {"epochs": 2, "batch_size": 8, "workers": 0, **changes}
    return striate.train(data, "simple_cnn", out=out, **options)


def test_a_run_holds_its_model_and_its_measured_scores(color_folder: Path, tmp_path: Path) -> None:
    run = tiny(color_folder, tmp_path / "run")
    assert run.folder == tmp_path / "run"
    assert set(run.metrics) == {"top1", "top5", "macro_precision", "macro_recall", "macro_f1", "ece"}
    result = run.model.predict(color_folder / "red" / "03.png")
    assert result.classes == ("blue", "green", "red")
    assert json.loads((run.folder / "metrics.json").read_text())["metrics"] == run.metrics


def test_events_are_told_as_they_happen(color_folder: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    tiny(color_folder, tmp_path / "run", on_event=lambda event: seen.append(type(event).__name__))
    assert seen.count("EvalEvent") == 2
    assert seen[-1] == "StopEvent"


def test_the_test_part_is_never_trained_on(
    color_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from striate.data.loader import TrainLoader

    trained: set[str] = set()
    original = TrainLoader.epoch

    def watched(self: TrainLoader, epoch: int, skip: int = 0) -> Any:
        for batch in original(self, epoch, skip):
            trained.update(batch.keys)
            yield batch

    monkeypatch.setattr(TrainLoader, "epoch", watched)
    run = tiny(color_folder, tmp_path / "run")
    rows = [line.split(",", 1) for line in (run.folder / "split.csv").read_text().splitlines()[1:]]
    assert trained == {key for part, key in rows if part == "train"}
    assert {part for part, _ in rows} == {"train", "val", "test"}


def test_a_small_network_takes_the_pictures_as_they_are(color_folder: Path, tmp_path: Path) -> None:
    plan = striate.api.prepare(color_folder, "simple_cnn", out=tmp_path / "run")
    spec = plan.network.preprocess
    assert (spec.size, spec.fit, spec.color) == ((16, 16), "stretch", "rgb")
    # Mean and deviation are those of the training pictures: each class is a third of them.
    np.testing.assert_allclose(spec.mean, plan.report.facts.mean, rtol=1e-4)
    assert plan.resolved.origins["network.preprocess.mean"] == "training pictures"


def test_size_shrinks_the_crop_with_it(color_folder: Path, tmp_path: Path) -> None:
    plan = striate.api.prepare(
        color_folder, "resnet18", out=tmp_path / "run", layers=striate.api.shorthand_layers({"size": 56})
    )
    spec = plan.network.preprocess
    assert (spec.size, spec.fit, spec.resize_to) == ((56, 56), "crop", 64)


def test_settings_reach_any_value_and_the_run_toml_says_so(color_folder: Path, tmp_path: Path) -> None:
    run = tiny(
        color_folder, tmp_path / "run", settings={"augment": {"flip": 0.25}, "data": {"split": {"seed": 4}}}
    )
    table = read_toml(run.folder / "run.toml").values
    assert table["augment"]["flip"] == 0.25
    assert table["data"]["split"]["seed"] == 4
    assert "flip = 0.25  # train(settings=)" in (run.folder / "run.toml").read_text()


def test_a_misspelt_keyword_is_answered_with_the_nearest(color_folder: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean epochs"):
        striate.train(color_folder, epoch=1)


def test_classes_choose_and_order(color_folder: Path, tmp_path: Path) -> None:
    run = tiny(color_folder, tmp_path / "run", classes=("red", "blue"), epochs=1)
    assert run.model.classes == ("red", "blue")
    with pytest.raises(UnknownName, match="did you mean green"):
        tiny(color_folder, tmp_path / "other", classes=("red", "gren"))


def test_one_class_is_not_enough(color_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of 1 class"):
        tiny(color_folder, tmp_path / "run", classes=("red",))
    assert not (tmp_path / "run").exists()


def test_bad_pictures_are_left_out_and_the_rest_is_trained(hostile_folder: Path, tmp_path: Path) -> None:
    plan = striate.api.prepare(
        hostile_folder,
        "simple_cnn",
        out=tmp_path / "run",
        layers=striate.api.shorthand_layers({"epochs": 1, "size": 24}),
    )
    assert len(plan.dataset) == 24
    assert {finding.level for finding in plan.report.findings} >= {"error"}
    list(plan.events())
    assert plan.finish().part == "test"


def test_a_folder_with_a_run_in_it_is_refused(color_folder: Path, tmp_path: Path) -> None:
    tiny(color_folder, tmp_path / "run", epochs=1)
    with pytest.raises(UsageError, match="there is a run in that folder already"):
        tiny(color_folder, tmp_path / "run")


def test_runs_without_a_name_get_numbers(
    color_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [tiny(color_folder, None, epochs=1).folder.as_posix() for _ in range(2)]  # type: ignore[arg-type]
    assert names == ["runs/simple_cnn-colors", "runs/simple_cnn-colors-2"]


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(
    color_folder: Path, tmp_path: Path
) -> None:
    hashes = {
        striate.api.hash_of(
            tiny(color_folder, tmp_path / str(workers), workers=workers, deterministic=True).folder
        )
        for workers in (0, 2, 4)
    }
    assert len(hashes) == 1


def test_another_seed_gives_other_weights(color_folder: Path, tmp_path: Path) -> None:
    a, b = (
        striate.api.hash_of(tiny(color_folder, tmp_path / str(seed), seed=seed).folder) for seed in (0, 1)
    )
    assert a != b


def test_a_named_model_wins_over_that_of_the_config_file(color_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text('model = "resnet18"\n[training]\nepochs = 1\n')
    plan = striate.api.prepare(
        color_folder, "mlp", out=tmp_path / "run", layers=[read_toml(tmp_path / "small.toml")]
    )
    assert (plan.config.model, plan.config.training.epochs) == ("mlp", 1)
    assert plan.resolved.origins["model"] == "--model"


def test_pictures_that_fit_in_memory_are_not_written_to_a_cache(
    color_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    tiny(color_folder, tmp_path / "a", epochs=1)
    assert not (tmp_path / "cache").exists()
    tiny(color_folder, tmp_path / "b", epochs=1, settings={"cache": {"mode": "disk"}})
    assert list((tmp_path / "cache").iterdir())
    assert striate.api.hash_of(tmp_path / "a") == striate.api.hash_of(tmp_path / "b")
