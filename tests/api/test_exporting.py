"""`striate.export`: what was written is proven on real pictures, and what is not the model is not written."""

import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate import api, plugins
from striate.errors import DataError, EnvironmentProblem, ModelError, StriateError, UnknownName, UsageError
from striate.export.targets import onnx as onnx_target
from striate.files import TEMPORARY
from striate.layers.normalize import Normalize
from striate.modelfile import CARD_ENTRY
from striate.models.network import Network
from striate.runtime.pytorch import PyTorchEngine
from striate.structures import Preprocess


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a small network that tells colours, trained once for this file."""
    root = tmp_path_factory.mktemp("exporting")
    chance = np.random.default_rng(3)
    for name, color in (("blue", (100, 100, 130)), ("red", (130, 100, 100)), ("teal", (100, 125, 125))):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(20):
            noise = chance.integers(-60, 60, (12, 14, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{number}.png")
    striate.train(root / "photos", "simple_cnn", out=root / "run", epochs=2, batch_size=8, workers=0)
    return root / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run folder, to export into."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> "api.Export":
    return striate.export(trained, out=tmp_path_factory.mktemp("out") / "colors.onnx")


class Stub:
    """A target whose export is the model after `change`, without the time that a real one takes."""

    SUFFIX, DESCRIPTION, INSTALL = ".stub", "a stub", "nothing"
    PACKAGES: tuple[str, ...] = ()
    change: Callable[[Network], None] | None = None
    network: Network
    calibrated: list[Any]

    def write(self, network: Network, path: Path, card: Any) -> None:  # noqa: ARG002
        self.network = deepcopy(network)
        if self.change is not None:
            self.change(self.network)
        path.write_bytes(b"main")
        path.with_suffix(".weights").write_bytes(b"beside it")

    def quantise(self, source: Path, path: Path, batches: Any) -> None:
        assert source.read_bytes() == b"main"
        self.calibrated = list(batches)
        path.write_bytes(b"int8")

    def opened(self, path: Path) -> PyTorchEngine:  # noqa: ARG002
        return PyTorchEngine(self.network)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The target "onnx" as a stub, whose `change` a test sets."""
    made, real = Stub(), plugins.load

    def load(package: Any, name: str) -> Any:
        return made if name == "onnx" and package.__name__.endswith("targets") else real(package, name)

    monkeypatch.setattr("striate.api.exporting.plugins.load", load)
    return made


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def listed(run: Path, part: str) -> int:
    """How many pictures of the run are of `part`."""
    return sum(row.startswith(f"{part},") for row in (run / "split.csv").read_text().splitlines())


def test_an_export_is_one_file_that_says_what_the_model_says(exported: Any, trained: Path) -> None:
    assert names(exported.path.parent) == {"colors.onnx"}
    assert exported.size == exported.path.stat().st_size
    photo = trained.parent / "photos" / "red" / "3.png"
    ours, theirs = (striate.load(path).predict(photo) for path in (trained, exported.path))
    np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=1e-5)


def test_the_proof_is_of_the_val_part_in_batches_alone_and_at_odd_sizes(exported: Any, trained: Path) -> None:
    count = listed(trained, "val")
    proof = exported.proof
    assert (proof.pictures, proof.alone, proof.odd_sizes, proof.unreadable) == (count, count, count, 0)
    assert proof.source == f"{count} pictures of {trained.parent / 'photos'}, part val"
    # Each picture in a batch and alone, and each odd one too.
    assert proof.agreement.comparisons == 4 * count
    assert proof.agreement.largest["probability"] < 1e-4
    assert proof.change == 0


def test_an_export_tells_what_the_graph_takes_and_gives(exported: Any) -> None:
    height, width = striate.load(exported.path).preprocess.size
    assert exported.inputs == (f"images uint8 (batch, 3, {height}, {width})",)
    assert exported.outputs == ("logits float32 (batch, 3)",)
    assert set(exported.speed) == {"model", "export"}
    assert exported.to_dict()["proof"]["metrics"]["export"] == exported.proof.after.values


def one_weight(network: Network) -> None:
    weights = next(parameter for parameter in network.parameters() if parameter.ndim == 4)
    with torch.no_grad():
        weights[0, 0, 0, 0] += 0.1


def another_mean(network: Network) -> None:
    mean, std = network.preprocess.mean, network.preprocess.std
    network.normalize = Normalize(Preprocess(mean=(mean[0] + 0.02, *mean[1:]), std=std))


def channels_swapped(network: Network) -> None:
    network.normalize = torch.nn.Sequential(_Flipped(), network.normalize)


class _Flipped(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flip(1)


def _last(network: Network) -> torch.nn.Linear:
    return [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]


def everything_blue(network: Network) -> None:
    with torch.no_grad():
        _last(network).bias[0] += 1000


def classes_swapped(network: Network) -> None:
    last, order = _last(network), torch.tensor([1, 0, 2])
    with torch.no_grad():
        last.weight.copy_(last.weight[order])
        last.bias.copy_(last.bias[order])


CHANGES = [one_weight, another_mean, channels_swapped, classes_swapped]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_export_that_is_not_the_model_is_not_written(
    change: Callable[[Network], None], run: Path, stub: Stub
) -> None:
    (run / "model.stub").write_bytes(b"what was there before")
    before = names(run)
    stub.change = change
    with pytest.raises(StriateError, match="nothing was written, for the export is not the model") as raised:
        striate.export(run)
    assert raised.value.exit_code == 1
    assert (run / "model.stub").read_bytes() == b"what was there before"
    assert names(run) == before


def written_as(change: Callable[[Any], None], exported: "api.Export") -> Callable[..., None]:
    """A `write` that gives the real file `exported` after a change to it."""
    import onnx

    def write(network: Network, path: Path, card: Any) -> None:
        model = onnx.load(exported.path)
        change(model)
        onnx.save(model, path)

    return write


def test_a_weight_that_changes_after_the_export_is_found(
    run: Path, exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnx import numpy_helper

    def change(model: Any) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
        weights = np.array(numpy_helper.to_array(tensor))
        weights[0, 0, 0, 0] += 0.1
        tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))

    monkeypatch.setattr(onnx_target, "write", written_as(change, exported))
    with pytest.raises(StriateError, match=r"\.png: \w+ has [\d.e-]+ and gets [\d.e-]+"):
        striate.export(run)
    assert "model.onnx" not in names(run)
    assert not list(run.glob(f"{TEMPORARY}*"))


def test_a_card_that_names_the_classes_otherwise_is_found(
    run: Path, exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(model: Any) -> None:
        (entry,) = (entry for entry in model.metadata_props if entry.key == CARD_ENTRY)
        entry.value = entry.value.replace('"blue", "red"', '"red", "blue"')

    monkeypatch.setattr(onnx_target, "write", written_as(change, exported))
    with pytest.raises(StriateError, match="the classes in its card are not the model's"):
        striate.export(run)


def test_a_proven_export_replaces_the_file_that_was_there(
    run: Path, exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_target, "write", written_as(lambda _: None, exported))
    (run / "model.onnx").write_bytes(b"an older export")
    plan = api.prepare_export(run)
    assert "replaces the file there once it is proven" in dict(plan.describe())["export"][0]
    assert plan.finish().path == run / "model.onnx"
    assert striate.load(run / "model.onnx").classes == ("blue", "red", "teal")


def test_all_files_of_an_export_get_their_places_together(run: Path, stub: Stub) -> None:
    before = names(run)
    found = striate.export(run)
    assert names(run) - before == {"model.stub", "model.weights"}
    assert found.size == len(b"main") + len(b"beside it")
    stub.change = one_weight
    with pytest.raises(StriateError):
        striate.export(run, out=run / "other.stub")
    assert names(run) - before == {"model.stub", "model.weights"}


def test_int8_is_measured_and_may_say_something_else(run: Path, stub: Stub) -> None:
    stub.change = one_weight
    found = striate.export(run, int8=True, max_drop=40)
    assert found.path == run / "model-int8.stub"
    assert found.path.read_bytes() == b"int8"
    assert found.proof.agreement.largest["ratio"] > 0.01
    # Calibrated on the train part, as the network is given it.
    size = found.inputs[0].removeprefix("images uint8 (batch, ").removesuffix(")")
    shape = (1, *map(int, size.split(", ")))
    assert [batch["images"].shape for batch in stub.calibrated] == [shape] * listed(run, "train")
    assert "float" not in names(run)


def test_int8_that_loses_more_than_allowed_is_not_written(run: Path, stub: Stub) -> None:
    stub.change = everything_blue
    with pytest.raises(StriateError, match=r"more than 1 percentage point: top-1 is 33\.33 %, the model's"):
        striate.export(run, int8=True)
    with pytest.raises(StriateError, match="more than 2 percentage points"):
        striate.export(run, int8=True, max_drop=2)
    assert "model-int8.stub" not in names(run)
    assert striate.export(run, int8=True, max_drop=67).path.exists()


def test_pictures_without_labels_prove_an_export_and_not_int8(run: Path, stub: Stub) -> None:
    plain = run / "plain"
    plain.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(50, 190, (17, 31, 3), np.uint8)
        Image.fromarray(noise).save(plain / f"{number}.png")
    found = striate.export(run, data=plain)
    assert (found.proof.pictures, found.proof.before, found.proof.change) == (3, None, None)
    assert found.to_dict()["proof"]["metrics"] == {"model": None, "export": None}
    stub.change = one_weight
    with pytest.raises(StriateError, match="the export is not the model"):
        striate.export(run, data=plain)
    with pytest.raises(DataError, match="int8 is proven by top1"):
        striate.export(run, data=plain, int8=True)


@pytest.mark.usefixtures("stub")
def test_a_picture_that_cannot_be_read_is_told_of_and_left_out(run: Path, trained: Path) -> None:
    photos = shutil.copytree(trained.parent / "photos", run / "photos")
    (photos / "red" / "1.png").write_bytes(b"no picture")
    told: list[str] = []
    plan = api.prepare_export(run, data=photos)
    found = plan.finish(on_error=lambda key, _: told.append(key))
    assert told == ["red/1.png"]
    assert (found.proof.pictures, found.proof.unreadable) == (59, 1)


def test_a_model_whose_data_is_not_known_needs_pictures(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(run / "model.safetensors", alone)
    with pytest.raises(DataError, match=r"proven on pictures.*striate export .*alone --data DATA"):
        striate.export(alone)


def test_data_that_was_moved_is_said_with_the_way_out(run: Path) -> None:
    toml = run / "run.toml"
    toml.write_text(toml.read_text().replace("/photos", "/gone"))
    with pytest.raises(DataError, match="--data DATA"):
        striate.export(run)


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ({"to": "onxx"}, UnknownName, "did you mean onnx"),
        ({"calibrate": "photos"}, UsageError, "--calibrate photos: it is for --int8"),
        ({"max_drop": 2}, UsageError, "--max-drop 2: it is for --int8"),
        ({"int8": True, "max_drop": 101}, UsageError, "out of range"),
        ({"int8": True, "to": "torch"}, UsageError, "--int8: torch has none.*--to onnx or openvino"),
        ({"out": "model.xml"}, UsageError, r"ends in \.onnx.*fix: --out model\.onnx"),
        ({"out": "."}, UsageError, "this is a folder"),
        ({"data": "nowhere"}, DataError, "nowhere"),
    ],
    ids=["target", "calibrate", "max-drop", "range", "no-int8", "suffix", "folder", "data"],
)
def test_what_cannot_be_done_is_refused_before_anything_is(
    choices: dict[str, Any], error: type[StriateError], message: str, run: Path
) -> None:
    before = names(run)
    with pytest.raises(error, match=message):
        api.prepare_export(run, **choices)
    assert names(run) == before


def test_an_export_is_not_exported_again(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is an export already"):
        striate.export(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="there is no such file"):
        striate.export(tmp_path / "nothing")


def test_a_missing_package_is_said_with_its_command(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.api.exporting.find_spec", lambda name: None if name == "onnx" else object())
    with pytest.raises(
        EnvironmentProblem, match=r"onnx is not installed. fix: pip install 'striate\[export\]'"
    ):
        api.prepare_export(run)
