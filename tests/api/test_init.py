"""Runs and networks that begin with weights: of a run, of a model file, of torchvision."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import striate
from striate import api
from striate.api.shorthands import shorthand_layers
from striate.api.starting_weights import FINE_TUNING
from striate.config import Layer, read_toml
from striate.errors import ModelError, NotFiniteError, UnknownName, UsageError
from striate.modelfile import MODEL_FILE, read_tensors
from striate.models import card_of
from striate.models.published import Published
from striate.training.saving import save

DECAY = FINE_TUNING["training"]["layer_decay"]
OPTIONS: dict[str, Any] = {"epochs": 1, "batch_size": 8, "workers": 0}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of simple_cnn on three classes, trained once for this file."""
    root = tmp_path_factory.mktemp("source")
    draw(root / "colors", {"blue": (30, 60, 200), "green": (40, 180, 60), "red": (210, 40, 30)})
    return striate.train(root / "colors", "simple_cnn", out=root / "run", **OPTIONS).folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Pictures of two other classes, larger ones."""
    draw(tmp_path / "shades", {"dark": (40, 40, 40), "light": (200, 200, 200)}, side=20)
    return tmp_path / "shades"


def draw(folder: Path, colors: dict[str, tuple[int, int, int]], side: int = 16) -> None:
    chance = np.random.default_rng(5)
    for name, color in colors.items():
        (folder / name).mkdir(parents=True)
        for number in range(14):
            noise = chance.integers(-25, 25, (side, side, 3))
            Image.fromarray((np.array(color) + noise).astype(np.uint8)).save(folder / name / f"{number}.png")


def plan(data: Path, model: str | None = None, out: Path | None = None, **flags: Any) -> Any:
    layers = shorthand_layers({"batch_size": 8, "workers": 0, **flags})
    return api.prepare(data, model, out=out or data.parent / "run", layers=layers)


def weights_of(network: torch.nn.Module) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def test_a_run_begins_with_the_weights_of_another_and_a_last_layer_of_its_own(
    source: Path, other: Path
) -> None:
    made = plan(other, init=source)
    theirs, ours = read_tensors(source / MODEL_FILE), weights_of(made.network)
    for name, tensor in theirs.items():
        assert name.startswith("fc.") or (tensor == ours[name]).all(), name
    assert ours["fc.weight"].shape[0] == 2
    assert made.begun.redrawn == ("fc.weight", "fc.bias")
    assert set(made.begun.keys.matched) == {name for name in theirs if not name.startswith("fc.")}
    assert made.network.classes == ("dark", "light")


def test_the_network_and_its_preprocessing_come_along_unless_set(source: Path, other: Path) -> None:
    theirs = striate.load(source).preprocess
    made = plan(other, init=source)
    assert made.config.model == "simple_cnn"  # though nobody named it
    assert made.network.preprocess == theirs
    assert made.resolved.origins["network.preprocess.mean"] == f"weights {source.resolve()}"
    resized = plan(other, init=source, size=24).network.preprocess
    assert (resized.size, resized.mean) == ((24, 24), theirs.mean)


def test_a_networks_own_settings_come_along(tmp_path: Path, color_folder: Path) -> None:
    network = striate.create(
        "mobilenet_v2", 3, stages=((1, 8, 1, 1), (2, 16, 1, 2)), head=32, preprocess={"size": (32, 32)}
    )
    save(tmp_path / "small.safetensors", network, card_of(network))
    made = plan(color_folder, out=tmp_path / "run", init=tmp_path / "small.safetensors")
    assert (made.config.network.head, len(made.config.network.stages)) == (32, 2)
    assert made.begun.redrawn == ()  # numbers may be any three classes
    assert set(made.begun.keys.matched) == set(network.state_dict())


def test_the_same_classes_keep_the_last_layer_and_others_of_the_same_number_do_not(
    source: Path, tmp_path: Path
) -> None:
    again = plan(source.parent / "colors", init=source, out=tmp_path / "a")
    assert again.begun.redrawn == ()
    np.testing.assert_array_equal(
        weights_of(again.network)["fc.weight"], read_tensors(source / MODEL_FILE)["fc.weight"]
    )
    draw(tmp_path / "grays", {"a": (0, 0, 0), "b": (90, 90, 90), "c": (200, 200, 200)})
    grays = plan(tmp_path / "grays", init=source)
    assert grays.begun.redrawn == ("fc.weight", "fc.bias")
    assert (weights_of(grays.network)["fc.weight"] != read_tensors(source / MODEL_FILE)["fc.weight"]).any()


def test_the_plan_says_what_became_of_the_tensors(source: Path, other: Path) -> None:
    told = dict(plan(other, init=source).describe())["weights"]
    count = len(read_tensors(source / MODEL_FILE))
    assert told == [
        f"{source.resolve()} (simple_cnn)",
        f"{count - 2} tensors matched, 0 missing, 0 unexpected, 2 of another shape",
        "other classes, so drawn anew: fc.weight, fc.bias",
    ]


def test_every_tensor_is_named_by_what_became_of_it(source: Path, other: Path) -> None:
    told = json.loads(json.dumps(plan(other, init=source).begun.to_dict()))
    assert told["wrong_shape"][0] == ["fc.weight", [3, 128], [2, 128]]
    assert "stages.stage1.0.weight" in told["matched"]


def test_a_smaller_network_of_the_family_begins_with_what_fits(tmp_path: Path, color_folder: Path) -> None:
    network = striate.create("resnet32_cifar", 3)
    save(tmp_path / "deep.safetensors", network, card_of(network))
    begun = plan(color_folder, "resnet20_cifar", tmp_path / "run", init=tmp_path / "deep.safetensors").begun
    assert not begun.keys.missing
    assert all(name.startswith(("layer1.", "layer2.", "layer3.")) for name in begun.keys.unexpected)
    assert len(begun.keys.unexpected) == len(network.state_dict()) - len(begun.keys.matched)


def test_settings_for_fine_tuning_stand_under_those_that_are_asked_for(source: Path, other: Path) -> None:
    made = plan(other, init=source, epochs=3)
    training, origins = made.config.training, made.resolved.origins
    assert (training.layer_decay, origins["training.layer_decay"]) == (DECAY, "fine-tuning")
    assert (training.epochs, origins["training.epochs"]) == (3, "--epochs")
    assert plan(other, "simple_cnn", out=other.parent / "b").config.training.layer_decay == 1.0


def test_the_run_remembers_the_weights_and_their_hash(source: Path, other: Path) -> None:
    run = striate.train(other, init=source, out=other.parent / "run", **OPTIONS)
    digest = hashlib.sha256((source / MODEL_FILE).read_bytes()).hexdigest()
    table = read_toml(run.folder / "run.toml").values
    assert table["init"] == {"weights": str(source.resolve()), "sha256": digest}
    assert "train(init=)" in (run.folder / "run.toml").read_text().split("[init]")[1].splitlines()[1]
    from striate.modelfile import read_card

    assert read_card(run.folder / MODEL_FILE).data["init"] == table["init"]


def test_other_weights_than_those_remembered_are_refused(source: Path, other: Path) -> None:
    config = {"init": {"weights": str(source), "sha256": "0" * 64}}
    with pytest.raises(ModelError, match=r"not 0{64} as the settings say"):
        api.prepare(other, out=other.parent / "run", layers=[Layer("run.toml", config)])
    # Who names weights anew does not mean the hash of those before.
    flag = shorthand_layers({"init": source, "batch_size": 8})
    assert api.prepare(other, out=other.parent / "run", layers=[Layer("run.toml", config), *flag]).begun


def test_a_hash_without_weights_is_refused(other: Path) -> None:
    with pytest.raises(UsageError, match="hash of no weights"):
        api.prepare(other, layers=[Layer("--set", {"init": {"sha256": "00"}})])
    with pytest.raises(UsageError, match="'runs/a' is no table"):
        api.prepare(other, layers=[Layer("--set", {"init": "runs/a"})])


def test_a_stopped_run_goes_on_without_the_file_it_began_with(
    source: Path, other: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes((source / MODEL_FILE).read_bytes())
    flags: dict[str, Any] = {"init": file, "freeze": "stages.stage1.*", "epochs": 2, "deterministic": True}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    list(plan(other, out=whole, **flags).events())
    events = plan(other, out=stopped, **flags).events()
    for event in events:
        if type(event).__name__ == "EvalEvent":
            break
    events.close()
    file.unlink()
    striate.train(resume=stopped)
    ends = [read_tensors(folder / "last.safetensors") for folder in (whole, stopped)]
    assert all((tensor == ends[1][name]).all() for name, tensor in ends[0].items())
    begun = read_tensors(source / MODEL_FILE)
    assert (begun["stages.stage1.0.weight"] == ends[0]["stages.stage1.0.weight"]).all()
    assert (begun["stages.stage2.0.weight"] != ends[0]["stages.stage2.0.weight"]).any()


def test_frozen_and_trainable_weights_are_counted(source: Path, other: Path) -> None:
    made = plan(other, init=source, freeze=("stages.*",))
    told = dict(made.describe())["model"]
    assert told[0] == "simple_cnn: 258 weights"  # 128 x 2 and 2 biases
    frozen = [tensor for name, tensor in made.network.named_parameters() if name.startswith("stages.")]
    norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in made.network.modules())
    weights = sum(tensor.numel() for tensor in frozen)
    assert told[-1] == (
        f"frozen: {weights:,} weights in {len(frozen)} tensors; "
        f"{norms} batch normalisations keep their statistics"
    )


def test_a_range_test_begins_with_the_same_weights(source: Path, other: Path) -> None:
    sweep = api.prepare_sweep(other, layers=shorthand_layers({"init": source, "batch_size": 8}))
    stem = weights_of(sweep.network)["stages.stage1.0.weight"]
    assert (stem == read_tensors(source / MODEL_FILE)["stages.stage1.0.weight"]).all()


def test_weights_of_another_family_are_refused_by_both_names(source: Path, other: Path) -> None:
    with pytest.raises(
        ModelError, match=r"weights of simple_cnn \(simple_cnn\); they fit no resnet18 \(resnet\)"
    ):
        plan(other, "resnet18", init=source)


def test_weights_of_another_width_are_refused_by_the_first_tensor(tmp_path: Path, color_folder: Path) -> None:
    network = striate.create("mobilenet_v2_0.5", 3)
    save(tmp_path / "half.safetensors", network, card_of(network))
    wrong = r"tensors of mobilenet_v2_0\.5 have another shape than in mobilenet_v2: trunk\.stem\.conv"
    with pytest.raises(ModelError, match=wrong):
        plan(color_folder, "mobilenet_v2", tmp_path / "run", init=tmp_path / "half.safetensors", size=32)


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth"])
def test_pickled_weights_are_sent_to_convert(name: str, other: Path, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ModelError, match=rf"fix: striate convert .*{name}"):
        plan(other, init=tmp_path / name)


def test_weights_that_are_not_finite_are_refused(source: Path, other: Path, tmp_path: Path) -> None:
    from striate.modelfile import read_card, write_model

    tensors = read_tensors(source / MODEL_FILE)
    tensors["fc.bias"][0] = np.nan
    write_model(tmp_path / "nan.safetensors", tensors, read_card(source / MODEL_FILE))
    with pytest.raises(NotFiniteError, match=r"fc\.bias"):
        plan(other, init=tmp_path / "nan.safetensors")


def test_a_network_is_created_with_the_weights_of_a_file(source: Path) -> None:
    same = striate.create("simple_cnn", weights=source)
    assert same.classes == ("blue", "green", "red")
    assert same.preprocess == striate.load(source).preprocess
    assert all(
        (tensor == weights_of(same)[name]).all() for name, tensor in read_tensors(source / MODEL_FILE).items()
    )
    ten = striate.create("simple_cnn", 10, weights=source, preprocess={"size": (20, 20)})
    assert (len(ten.classes), ten.preprocess.size, ten.preprocess.mean) == (
        10,
        (20, 20),
        same.preprocess.mean,
    )


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, torch.Tensor]]:
    """A hub that has weights for mobilenet_v3_small, and these weights."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    torch.manual_seed(4)
    state = torchvision.models.mobilenet_v3_small().state_dict()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / "new")
    digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    (folder / "new").rename(folder / "mobilenet_v3_small-047dcff4.pth")
    monkeypatch.setattr(Published, "sha256", digest[:8])
    yield state
    torch.hub.set_dir(before)


def test_published_weights_bring_their_classes_and_preprocessing(published: dict[str, torch.Tensor]) -> None:
    network = striate.create("mobilenet_v3_small", weights="torchvision")
    assert network.classes[:2] == ("tench", "goldfish")
    assert (network.preprocess.size, network.preprocess.resize_to) == ((224, 224), 256)
    given, taken = published["features.0.0.weight"], network.state_dict()["trunk.stem.conv.weight"]
    torch.testing.assert_close(taken, given, atol=0, rtol=0)
    small = striate.create("mobilenet_v3_small", ("ant", "bee"), weights="torchvision:IMAGENET1K_V1")
    torch.testing.assert_close(small.state_dict()["trunk.stem.conv.weight"], given, atol=0, rtol=0)
    assert small.classes == ("ant", "bee")
    with pytest.raises(UnknownName, match="IMAGENET1K_V1"):
        striate.create("mobilenet_v3_small", weights="torchvision:IMAGENET1K_V2")


def test_a_run_begins_with_published_weights(
    published: dict[str, torch.Tensor], color_folder: Path, tmp_path: Path
) -> None:
    made = plan(color_folder, "mobilenet_v3_small", tmp_path / "run", init="torchvision", size=32)
    assert made.begun.redrawn == ("classifier.linear.weight", "classifier.linear.bias")
    assert made.config.init.weights == "torchvision:IMAGENET1K_V1"
    spec = made.network.preprocess
    assert (spec.size, spec.resize_to, spec.mean) == ((32, 32), 37, (0.485, 0.456, 0.406))
    stem = made.network.state_dict()["trunk.stem.conv.weight"]
    torch.testing.assert_close(stem, published["features.0.0.weight"], atol=0, rtol=0)


def test_settings_are_explained_without_fetching_weights(color_folder: Path) -> None:
    layers = shorthand_layers({"init": "torchvision"})
    rows = {row.key: row for row in api.explain_config(color_folder, "vgg16", layers=layers).rows}
    assert (rows["init.weights"].value, rows["init.weights"].origin) == (
        "torchvision:IMAGENET1K_V1",
        "--init",
    )
    assert rows["init.sha256"].value == "397923af"
    assert rows["network.preprocess.mean"].origin == "weights torchvision:IMAGENET1K_V1"
    assert rows["training.learning_rate"].origin == "fine-tuning"


def test_no_published_weights_for_a_network_is_said_with_those_that_have_some(color_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"publishes none for simple_cnn\. fix: choose one of alexnet"):
        plan(color_folder, init="torchvision")
