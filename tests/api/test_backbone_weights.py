"""Weights of a classification network as the start of a network that builds on one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate import api
from striate.api.settings import flat_settings, recorded_settings
from striate.api.shorthands import shorthand_layers
from striate.api.starting_weights import (
    BACKBONE_TUNING,
    FINE_TUNING,
    InitConfig,
    StartingWeights,
    asked_backbone,
    begin_with,
    starting_weights,
)
from striate.config import Layer
from striate.errors import ModelError
from striate.models import card_of, network_of, variants
from striate.models.network import Network
from striate.training.saving import save

NARROW: dict[str, Any] = {"depths": [1, 1, 1, 1], "width": 8}
SMALL: dict[str, Any] = {"aspp_maps": 8, "low_level_maps": 4, "decoder_maps": 8}
MEAN = (0.1, 0.2, 0.3)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A model file of a narrow ResNet for three classes, whose pictures are prepared in a way of its own."""
    torch.manual_seed(3)
    network = striate.create(
        "resnet18", ("ant", "bee", "cat"), **NARROW, preprocess={"mean": MEAN, "channel_order": "bgr"}
    )
    save(tmp_path / "narrow.safetensors", network, card_of(network))
    return tmp_path / "narrow.safetensors"


def segmenter(classes: int | None = 4, **config: Any) -> Network:
    return striate.create(
        "deeplab_v3plus_resnet18", classes, **{"backbone_settings": NARROW, **SMALL, **config}
    )


def begun(weights: Path, model: str = "deeplab_v3plus_resnet18") -> StartingWeights:
    found = starting_weights(InitConfig(weights=str(weights)), model)
    assert found is not None
    return found


def test_the_encoder_takes_them_and_all_behind_it_stays_as_drawn(encoder: Path) -> None:
    network = segmenter()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    report = begin_with(network, begun(encoder))
    theirs = striate.create("resnet18", weights=encoder, **NARROW).state_dict()
    for name, tensor in network.state_dict().items():
        part, _, rest = name.partition(".")
        assert torch.equal(tensor, theirs[rest] if part == "backbone" else before[name]), name
    names = list(before)
    assert report.keys.matched == tuple(name for name in names if name.startswith("backbone."))
    assert set(report.redrawn) == {
        name for name in names if not name.startswith("backbone.") and "num_batches" not in name
    }


def test_the_plan_says_which_part_began_with_them(encoder: Path) -> None:
    told = begin_with(segmenter(), begun(encoder)).describe()
    count = sum("backbone." in name for name in segmenter().state_dict())
    assert told == [
        f"{encoder.resolve()} (resnet18, the backbone)",
        f"{count} tensors matched, 0 missing, 0 unexpected, 0 of another shape",
        "no part of it, so drawn: aspp, low_level, decoder, classifier",
    ]


def test_what_a_deeper_backbone_lacks_is_missing(encoder: Path) -> None:
    deeper = segmenter(backbone_settings={"depths": [1, 1, 1, 2], "width": 8})
    missing = begin_with(deeper, begun(encoder)).keys.missing
    assert missing
    assert all(name.startswith("backbone.layer4.1.") for name in missing)


def test_colours_and_their_scaling_come_along_and_the_size_does_not(encoder: Path) -> None:
    network = striate.create("deeplab_v3plus_resnet18", weights=encoder, backbone_settings=NARROW, **SMALL)
    spec = network.preprocess
    assert (spec.mean, spec.channel_order) == (MEAN, "bgr")
    assert (spec.size, spec.fit, spec.resize_to) == ((513, 513), "letterbox", None)
    assert len(network.classes) == 21  # its own, not the three that the encoder knew
    settings = begun(encoder).network_settings("deeplab_v3plus_resnet18")
    assert set(settings["preprocess"]) == {"color", "channel_order", "scale", "mean", "std"}


def test_the_preprocessing_asked_for_wins(encoder: Path) -> None:
    network = striate.create(
        "deeplab_v3plus_resnet18",
        5,
        weights=encoder,
        backbone_settings=NARROW,
        preprocess={"size": (64, 96), "std": (0.5, 0.5, 0.5)},
        **SMALL,
    )
    assert (network.preprocess.size, network.preprocess.std) == ((64, 96), (0.5,) * 3)
    assert network.preprocess.mean == MEAN


def test_weights_of_gray_pictures_make_a_gray_network(tmp_path: Path) -> None:
    gray = {"color": "gray", "mean": (0.4,), "std": (0.2,)}
    network = striate.create("resnet18", 3, **NARROW, preprocess=gray)
    save(tmp_path / "gray.safetensors", network, card_of(network))
    made = striate.create(
        "deeplab_v3plus_resnet18", weights=tmp_path / "gray.safetensors", backbone_settings=NARROW, **SMALL
    )
    assert made.preprocess.channels == 1
    assert made.eval().dense(torch.zeros(1, 1, 40, 40))["logits"].shape == (1, 21, 40, 40)


def test_weights_of_another_family_are_refused_with_the_backbone_that_is_needed(encoder: Path) -> None:
    start = begun(encoder, "deeplab_v3plus_mobilenet_v2")
    assert not start.are_backbone
    with pytest.raises(
        ModelError, match=r"fit no deeplab_v3plus_mobilenet_v2 .*nor its backbone mobilenet_v2"
    ):
        start.network_settings("deeplab_v3plus_mobilenet_v2")


def test_weights_of_another_depth_or_width_are_refused_with_the_setting_to_change(encoder: Path) -> None:
    wide = striate.create("deeplab_v3plus_resnet18", 4, backbone_settings={"width": 16}, **SMALL)
    with pytest.raises(ModelError, match=r"backbone\.conv1\.weight is .* set network\.backbone=resnet18"):
        begin_with(wide, begun(encoder))


def test_published_weights_are_those_of_the_backbone_and_nothing_is_fetched() -> None:
    init = InitConfig(weights="torchvision")
    found = starting_weights(init, "deeplab_v3plus_mobilenet_v2")
    assert found is not None
    assert (found.model, found.source, found.are_backbone) == (
        "mobilenet_v2",
        "torchvision:IMAGENET1K_V2",
        True,
    )
    assert found.preprocess.size == (513, 513)
    other = starting_weights(init, "deeplab_v3plus_resnet18", "resnet34")
    assert other is not None
    assert other.model == "resnet34"


def test_the_backbone_asked_for_last_counts() -> None:
    layers = [
        Layer("a", {"network": {"backbone": "resnet34"}}),
        Layer("b", {"network": {"backbone": "resnet50"}}),
        Layer("c", {"network": {"output_stride": 8}, "training": {"epochs": 1}}),
    ]
    assert asked_backbone(layers) == "resnet50"
    assert asked_backbone(layers[2:]) is None


def test_the_networks_own_recipe_stands_and_the_encoder_learns_slower(encoder: Path) -> None:
    assert begun(encoder).tuning == BACKBONE_TUNING
    assert set(BACKBONE_TUNING["training"]) == {"layer_decay"}


def test_a_whole_segmentation_network_is_fine_tuned_as_a_whole(tmp_path: Path) -> None:
    network = segmenter(3, preprocess={"size": (40, 48), "mean": MEAN})
    save(tmp_path / "whole.safetensors", network, card_of(network))
    start = begun(tmp_path / "whole.safetensors")
    assert not start.are_backbone
    other = segmenter(5)
    report = begin_with(other, start)
    assert report.redrawn == ("classifier.weight", "classifier.bias")
    assert torch.equal(other.aspp.project.conv.weight, network.aspp.project.conv.weight)
    assert start.network_settings("deeplab_v3plus_resnet18")["preprocess"]["size"] == (40, 48)
    assert start.tuning["training"].keys() == FINE_TUNING["training"].keys() - {"batch_size"}


def test_a_model_file_of_such_a_network_holds_all_its_settings(tmp_path: Path, encoder: Path) -> None:
    from striate.modelfile import read_card, read_shapes

    network = striate.create("deeplab_v3plus_resnet18", 4, weights=encoder, backbone_settings=NARROW, **SMALL)
    path = tmp_path / "segmenter.safetensors"
    save(path, network, card_of(network))
    again = network_of(read_card(path), read_shapes(path), path)
    assert again.config.backbone_settings == NARROW
    assert variants()[again.name] == "deeplab_v3plus"


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """Fourteen pictures of a bright square on a dark ground, and their masks."""
    chance = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "squares" / folder).mkdir(parents=True)
    for number in range(14):
        mask = np.zeros((40, 48), np.uint8)
        top, left = chance.integers(0, 24, 2)
        mask[top : top + 16, left : left + 16] = 1
        pixels = np.where(mask[..., None] == 1, 200, 40) + chance.integers(-20, 20, (40, 48, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "squares" / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "squares" / "masks" / f"{number}.png")
    return tmp_path / "squares"


def layers(init: Path) -> list[Layer]:
    own = {"backbone_settings": NARROW, **SMALL}
    flags = shorthand_layers({"init": init, "batch_size": 4, "workers": 0, "epochs": 1})
    return [*flags, Layer("--set", {"network": own})]


def test_a_run_begins_with_them_and_trains(encoder: Path, masked: Path, tmp_path: Path) -> None:
    plan = api.prepare(masked, "deeplab_v3plus_resnet18", out=tmp_path / "run", layers=layers(encoder))
    assert plan.begun is not None
    assert not plan.begun.keys.missing
    stem = striate.create("resnet18", weights=encoder, **NARROW).conv1.weight
    torch.testing.assert_close(plan.network.backbone.conv1.weight, stem, atol=0, rtol=0)
    origins, config = plan.resolved.origins, plan.config
    assert (origins["training.layer_decay"], config.training.layer_decay) == (
        "fine-tuning",
        BACKBONE_TUNING["training"]["layer_decay"],
    )
    assert origins["training.learning_rate"] == "recipe of deeplab_v3plus_resnet18"
    assert origins["network.preprocess.mean"] == f"weights {encoder.resolve()}"
    assert (plan.network.preprocess.size, plan.network.preprocess.mean) == ((40, 48), MEAN)
    assert [type(event).__name__ for event in plan.events()].count("StepEvent") == 3
    recorded = recorded_settings(tmp_path / "run" / "run.toml").value
    assert flat_settings(recorded) == flat_settings(config)
    trained = striate.load(tmp_path / "run")
    assert trained.preprocess.mean == MEAN
    begun = striate.create(
        "deeplab_v3plus_resnet18", weights=tmp_path / "run", backbone_settings=NARROW, **SMALL
    )
    assert (begun.backbone.conv1.weight != stem).any()


def test_settings_are_explained_with_the_backbone_asked_for(masked: Path) -> None:
    asked = Layer("--set", {"network": {"backbone": "resnet34"}})
    explained = api.explain_config(
        masked, "deeplab_v3plus_resnet18", layers=[*shorthand_layers({"init": "torchvision"}), asked]
    )
    rows = {row.key: row for row in explained.rows}
    assert rows["init.weights"].value == "torchvision:IMAGENET1K_V1"
    assert rows["init.sha256"].value == "b627a593"  # of resnet34's file
    assert rows["network.preprocess.mean"].value == (0.485, 0.456, 0.406)
    assert rows["network.preprocess.size"].origin == "size of the pictures"
