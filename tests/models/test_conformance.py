"""What every network must do, over every family in the folder: its TINY, TINIES and small variants."""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from striate import modelfile, models, plugins
from striate.config import Layer, leaves, resolve
from striate.data import batches
from striate.errors import UnknownName, UsageError
from striate.layers.normalize import Normalize
from striate.models.network import Classifier, Detector, Network, NetworkConfig, Segmenter
from striate.structures import IGNORE, BoxTargets, ClassTargets, MaskTargets, Targets, Task
from striate.training.config import TrainingConfig

SMALL = 300_000  # parameters; variants below run the whole suite under their own settings


class Case(NamedTuple):
    family: ModuleType
    variant: str
    config: NetworkConfig

    def build(self, **changes: Any) -> Network:
        torch.manual_seed(0)
        network: Network = self.family.build(msgspec.structs.replace(self.config, **changes))
        return network.eval()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def on_meta(name: str) -> Network:
    with torch.device("meta"):
        return models.create(name)


def forms(family: ModuleType) -> dict[str, NetworkConfig]:
    """The small configs of `family` by name: TINY, and the forms whose code is another."""
    return {"tiny": family.TINY, **getattr(family, "TINIES", {})}


def cases() -> dict[str, Case]:
    tiny = {
        f"{name}-{form}": Case(family, next(iter(family.VARIANTS)), config)
        for name, family in models.families().items()
        for form, config in forms(family).items()
    }
    small = {
        name: Case(models.family_of(name), name, models.family_of(name).VARIANTS[name])
        for name in models.variants()
        if parameters(on_meta(name)) < SMALL
    }
    return tiny | small


CASES = cases()


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def of_task(task: Task) -> list[str]:
    return [name for name, found in CASES.items() if models.task_of(found.variant) == task]


@pytest.fixture(params=of_task("classification"))
def classifier(request: pytest.FixtureRequest) -> Classifier:
    network = CASES[request.param].build()
    assert isinstance(network, Classifier)
    return network


@pytest.fixture(params=of_task("detection"))
def detector(request: pytest.FixtureRequest) -> Detector:
    network = CASES[request.param].build()
    assert isinstance(network, Detector)
    return network


@pytest.fixture(params=of_task("segmentation"))
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    network = CASES[request.param].build()
    assert isinstance(network, Segmenter)
    return network


def pictures(network: Network, batch: int = 3, seed: int = 1) -> Tensor:
    height, width = network.preprocess.size
    shape = (batch, network.preprocess.channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def extras(network: Network, batch: int) -> dict[str, Tensor]:
    """What `network` takes beside pictures: boxes near some objects, others, and places without a box."""
    count = network.preprocess.proposals
    if not count:
        return {}
    near = boxes(network, (batch, 4)) + 1
    return {"proposals": torch.cat((near, boxes(network, (batch, count - 8), seed=3), 0 * near), 1)}


def boxes(network: Network, shape: tuple[int, int], seed: int = 4) -> Tensor:
    """Boxes (B, N, 4) inside the network's input, at least a twentieth of it wide and high."""
    height, width = network.preprocess.size
    sides, found = torch.tensor([width, height]), []
    for number in range(shape[0]):  # those of a picture are the same in a batch of any size
        generator = torch.Generator().manual_seed(100 * seed + number)
        corners = torch.rand(shape[1], 2, generator=generator) * 0.6
        extent = 0.05 + 0.35 * torch.rand(shape[1], 2, generator=generator)
        found.append(torch.cat((corners * sides, (corners + extent) * sides), -1))
    return torch.stack(found)


def forward(network: Network, images: Tensor) -> Any:
    return network(images, **extras(network, len(images)))


def dense(network: Network, images: Tensor) -> dict[str, Tensor]:
    return network.dense(images, **extras(network, len(images)))


def loss(network: Network, images: Tensor, truths: Targets[Tensor]) -> dict[str, Tensor]:
    """The terms of the loss; where one is of anchors drawn by chance, of the same ones each time."""
    torch.manual_seed(7)
    return network.loss(forward(network, images), truths)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def targets(network: Network, batch: int = 3) -> Targets[Tensor]:
    if network.task == "segmentation":
        return masks(network, batch)
    if network.task == "detection":
        return objects(network, batch)
    labels = torch.arange(batch) % len(network.classes)
    one_hot = nn.functional.one_hot(labels, len(network.classes)).float()
    return ClassTargets(0.9 * one_hot + 0.1 / len(network.classes), torch.ones(batch))


def objects(network: Network, batch: int, count: int = 6) -> BoxTargets[Tensor]:
    """Objects of every class, one fewer in each picture than in the one before, and a crowd."""
    rows = torch.arange(count).expand(batch, -1)
    valid = rows < count - torch.arange(batch)[:, None]
    labels = torch.where(valid, (rows + torch.arange(batch)[:, None]) % len(network.classes), 0)
    found = torch.where(valid[..., None], boxes(network, (batch, count)), 0.0)
    return BoxTargets(found, labels, valid, valid & (rows == 1), torch.ones(batch))


def masks(network: Network, batch: int) -> MaskTargets[Tensor]:
    """Each class somewhere in blocks of 4 x 4 pixels, and a corner of no known class."""
    height, width = network.preprocess.size
    rows, columns = torch.arange(height)[:, None] // 4, torch.arange(width) // 4
    labels = torch.stack(
        [(rows * 5 + columns * 3 + number) % len(network.classes) for number in range(batch)]
    )
    labels[:, :3, :5] = IGNORE
    return MaskTargets(labels.to(torch.uint8), (labels != IGNORE).float())


def answers(network: Network, batch: int) -> tuple[int, ...]:
    """The shape of the network's logits."""
    size = network.preprocess.size if network.task == "segmentation" else ()
    return (batch, len(network.classes), *size)


def unsettle(network: Network) -> None:
    """Move every parameter off its start, where zero scales hide the layers behind them."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)


@pytest.mark.parametrize("name", models.families())
def test_tiny_has_at_most_a_million_parameters(name: str) -> None:
    family = models.families()[name]
    for config in forms(family).values():
        assert parameters(family.build(config)) <= 1_000_000


@pytest.mark.parametrize("name", models.variants())
def test_every_public_network_builds_without_allocating(name: str) -> None:
    network = on_meta(name)
    assert network.name == name
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize("name", models.variants())
def test_recipe_holds_settings_that_training_and_augmentation_have(name: str) -> None:
    family = models.family_of(name)
    recipe = family.recipe(family.VARIANTS[name])
    assert recipe.keys() == {"training", "augment"}
    resolve(TrainingConfig, [Layer("recipe", recipe["training"])])
    augment = plugins.load(batches, models.task_of(name)).AugmentConfig
    resolve(augment, [Layer("recipe", recipe["augment"])])


def test_settings_survive_plain_data(case: Case) -> None:
    plain = msgspec.json.decode(msgspec.json.encode(case.config))
    assert msgspec.convert(plain, case.family.Config) == case.config
    assert "preprocess.size" in leaves(case.config)


def test_float_pictures_equal_uint8_pictures(case: Case) -> None:
    network = case.build()
    images = pictures(network)
    assert same(dense(network, images), dense(network, images.float()))


def test_forward_gives_one_type_in_training_and_evaluation(case: Case) -> None:
    network = case.build()
    images = pictures(network)
    evaluated, trained = forward(network.eval(), images), forward(network.train(), images)
    assert isinstance(evaluated, tuple)
    assert type(evaluated) is type(trained)
    if network.task != "detection":  # proposals may be more in training
        assert shapes(evaluated) == shapes(trained)


def shapes(raw: Any) -> list[Any]:
    return [tuple(part.shape) if isinstance(part, Tensor) else shapes(part) for part in raw]


def test_loss_terms_are_finite_scalars(case: Case) -> None:
    network = case.build().train()
    terms = loss(network, pictures(network), targets(network))
    assert terms
    for term in terms.values():
        assert term.shape == ()
        assert term.dtype == torch.float32
        assert term.isfinite()
        assert term.requires_grad


def test_backward_reaches_every_parameter(case: Case) -> None:
    network = case.build().train()
    unsettle(network)
    sum(loss(network, pictures(network), targets(network)).values()).backward()  # type: ignore[union-attr]
    unreached = [
        name
        for name, p in network.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert unreached == []


def test_one_step_of_descent_lowers_the_loss(case: Case) -> None:
    network = case.build()
    images, truths = pictures(network), targets(network)
    before = sum(loss(network, images, truths).values())
    before.backward()  # type: ignore[union-attr]
    with torch.no_grad():
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-3 * parameter.grad / norm)
    assert sum(loss(network, images, truths).values()) < before


@pytest.mark.parametrize("classes", [2, 3, 11])
def test_decode_gives_the_outputs_of_the_task(case: Case, classes: int) -> None:
    network = case.build(classes=classes)
    found = dense(network, pictures(network))
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert len(network.classes) == classes
    if isinstance(network, Detector):
        assert_candidates(network, found)
    else:
        assert found.keys() == {"logits"}
        assert found["logits"].shape == answers(network, 3)


def assert_candidates(network: Detector, found: dict[str, Tensor]) -> None:
    """As many boxes of each class, the best first, each with a score in 0..1."""
    assert found.keys() == {"boxes", "scores", "labels"}
    classes = len(network.classes)
    count = found["labels"].shape[1] // classes
    assert 0 < count <= network.config.per_class
    assert found["boxes"].shape == (3, classes * count, 4)
    assert found["scores"].shape == found["labels"].shape == (3, classes * count)
    assert found["labels"].dtype == torch.int64
    assert torch.equal(found["labels"][1], torch.arange(classes).repeat_interleave(count))
    scores = found["scores"].view(3, classes, count)
    assert 0 <= scores.min() <= scores.max() <= 1
    assert (scores.diff(dim=2) <= 0).all()


def test_class_names_are_kept(case: Case) -> None:
    assert case.build(classes=("ant", "bee")).classes == ("ant", "bee")


def test_a_weight_of_zero_drops_the_sample(case: Case) -> None:
    network = case.build()
    images, truths = pictures(network), targets(network)
    two = truths.map(lambda tensor: tensor[:2])
    three = dataclasses.replace(truths, weight=torch.cat((two.weight, torch.zeros_like(truths.weight[2:]))))
    expected, found = (loss(network, images[: len(t.weight)], t) for t in (two, three))
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term)


def test_dense_gives_the_same_bits_twice(case: Case) -> None:
    network = case.build()
    images = pictures(network)
    assert same(dense(network, images), dense(network, images))


def test_evaluation_changes_no_weight_and_no_buffer(case: Case) -> None:
    network = case.build()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    dense(network, pictures(network))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_gray_and_colour_pictures_are_taken(case: Case, color: Literal["gray", "rgb"]) -> None:
    count = 1 if color == "gray" else 3
    preprocess = dataclasses.replace(
        case.config.preprocess, color=color, mean=(0.5,) * count, std=(0.25,) * count
    )
    network = case.build(preprocess=preprocess)
    assert all(tensor.isfinite().all() for tensor in dense(network, pictures(network)).values())
    wrong = torch.zeros(1, 4 - count, *preprocess.size, dtype=torch.uint8)
    with pytest.raises(UsageError, match=f"takes \\(B, {count}, H, W\\)"):
        forward(network, wrong)


def test_features_are_as_announced(classifier: Classifier) -> None:
    network = classifier
    images = pictures(network)
    features = network.features(images)
    assert list(features) == [info.name for info in network.feature_info]
    strides = [info.stride for info in network.feature_info]
    assert strides == sorted(strides)
    for info in network.feature_info:
        batch, channels, *sides = features[info.name].shape
        assert (batch, channels) == (3, info.channels)
        for side, whole in zip(sides, images.shape[2:], strict=True):
            # Valid convolutions lose a border, never as much as another stride of two would.
            assert whole / (2 * info.stride) < side <= -(-whole // info.stride), info


def test_at_strides_gives_the_deepest_feature(classifier: Classifier) -> None:
    network = classifier
    if network.feature_info:
        last = network.feature_info[-1]
        assert network.at_strides(last.stride) == (last,)
    with pytest.raises(ValueError, match="not at \\[7\\]"):
        network.at_strides(7)


def test_masks_have_the_size_of_the_picture_whatever_it_is(segmenter: Segmenter) -> None:
    height, width = segmenter.preprocess.size
    for size in ((height + 1, width + 7), (height + 18, width + 3)):
        images = torch.zeros(1, segmenter.preprocess.channels, *size, dtype=torch.uint8)
        assert segmenter.dense(images)["logits"].shape == (1, len(segmenter.classes), *size)


@pytest.mark.parametrize("kind", ["cross_entropy", "dice", "focal"])
@pytest.mark.parametrize("name", of_task("segmentation"))
def test_each_loss_over_pixels_can_be_asked_for(name: str, kind: str) -> None:
    network = CASES[name].build(loss=kind)
    terms = network.loss(network(pictures(network)), targets(network))
    assert next(iter(terms)) == kind
    assert all(term.isfinite() for term in terms.values())


def test_saved_and_loaded_network_gives_the_same_bits(case: Case, tmp_path: Path) -> None:
    network = case.build()
    unsettle(network)
    settings = msgspec.to_builtins(case.config)
    del settings["classes"], settings["preprocess"]
    family = case.family.__name__.rpartition(".")[2]
    card = modelfile.ModelCard(
        network.task, family, case.variant, settings, network.classes, network.preprocess
    )
    path = tmp_path / "model.safetensors"
    modelfile.write_model(path, {name: t.numpy() for name, t in network.state_dict().items()}, card)

    loaded = models.network_of(modelfile.read_card(path), modelfile.read_shapes(path), path)
    tensors = {name: torch.from_numpy(np.array(a)) for name, a in modelfile.read_tensors(path).items()}
    loaded.load_state_dict(tensors, assign=True)
    loaded.normalize = Normalize(loaded.preprocess)
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    images = pictures(network)
    assert same(dense(loaded.eval(), images), dense(network, images))


def test_channels_last_agrees_with_contiguous(case: Case) -> None:
    # In double precision: in single the numbers of some networks grow apart on some processors.
    # R-CNN cuts its crops in single.
    network = case.build().to(torch.float32 if case.family.__name__.endswith(".rcnn") else torch.float64)
    unsettle(network)
    images = pictures(network)
    with torch.inference_mode():
        contiguous = unordered(network, images)
        network.to(memory_format=torch.channels_last)
        channels_last = unordered(network, images.to(memory_format=torch.channels_last))
    # Boxes are pixels, and exponentials of what the network says.
    least, share = (1e-2, 1e-3) if network.task == "detection" else (1e-4, 1e-4)
    torch.testing.assert_close(channels_last, contiguous, atol=least, rtol=share)


def unordered(network: Network, images: Tensor) -> Any:
    """The dense outputs; of a detector what they are chosen from, whose order hangs on the last digit."""
    raw = forward(network, images)
    return network.predictions(raw) if isinstance(network, Detector) else network.decode(raw)


class Dense(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, proposals: Tensor | None = None) -> dict[str, Tensor]:
        return self.network.dense(images, **({} if proposals is None else {"proposals": proposals}))


# Torchvision's NMS asks for its number of boxes by a name that torch is about to change.
@pytest.mark.filterwarnings("ignore:.create_unbacked_symint.:FutureWarning")
@pytest.mark.parametrize("name", models.families())
def test_dense_exports_with_a_dynamic_batch(name: str) -> None:
    family = models.families()[name]
    network = Case(family, name, family.TINY).build()
    batch, inputs = (
        torch.export.Dim("batch", min=1, max=64),
        (pictures(network, 2), *extras(network, 2).values()),
    )
    exported = torch.export.export(Dense(network), inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    for count in (1, 5):
        images = pictures(network, count)
        found = exported.module()(images, *extras(network, count).values())
        for output, expected in dense(network, images).items():
            torch.testing.assert_close(found[output], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", models.variants())
def test_a_misspelt_setting_names_the_nearest(name: str) -> None:
    with pytest.raises(UnknownName, match="preprocess") as caught:
        models.create(name, preproces={"color": "gray"})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", models.variants())
def test_default_preprocessing_gives_every_picture_one_size(name: str) -> None:
    if models.task_of(name) != "detection":  # those of R-CNN's line take pictures of any shape
        assert models.family_of(name).VARIANTS[name].preprocess.is_fixed


def nothing(network: Detector, batch: int) -> BoxTargets[Tensor]:
    return objects(network, batch, count=1).map(torch.zeros_like)


def extremes(network: Detector) -> dict[str, BoxTargets[Tensor]]:
    """Targets of three pictures that a loss may stumble over."""
    height, width = network.preprocess.size
    whole = torch.tensor([0.0, 0.0, width, height])
    pixel = torch.tensor([5.0, 5.0, 6.0, 6.0])
    few, many = objects(network, 3), objects(network, 3, count=500)
    alone = BoxTargets(
        torch.stack((whole, pixel, 0 * whole))[:, None],
        torch.zeros(3, 1, dtype=torch.int64),
        torch.tensor([[True], [True], [False]]),
        torch.zeros(3, 1, dtype=torch.bool),
        torch.ones(3),
    )
    one = dataclasses.replace(few, valid=few.valid & torch.tensor([[True], [False], [False]]))
    none = dataclasses.replace(nothing(network, 3), weight=torch.ones(3))
    crowds = dataclasses.replace(few, crowd=few.valid)
    return {"none": none, "one picture": one, "alone": alone, "many": many, "crowds": crowds}


def test_losses_are_finite_whatever_the_boxes(detector: Detector) -> None:
    detector.train()
    for name, truths in extremes(detector).items():
        detector.zero_grad()
        total = sum(loss(detector, pictures(detector), truths).values())
        assert isinstance(total, Tensor)
        assert total.isfinite(), name
        total.backward()
        for parameter in detector.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_rows_without_an_object_change_nothing(detector: Detector) -> None:
    images, truths = pictures(detector), objects(detector, 3)
    padded = truths.map(lambda tensor: tensor)
    for name in ("boxes", "labels", "valid", "crowd"):
        tensor = getattr(truths, name)
        longer = torch.cat((tensor, torch.zeros_like(tensor)), 1)
        padded = dataclasses.replace(padded, **{name: longer})
    expected, found = (loss(detector, images, each) for each in (truths, padded))
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term)


def test_a_single_class_can_be_detected(detector: Detector) -> None:
    case = next(case for case in CASES.values() if case.config == detector.config)
    network = case.build(classes=("cell",))
    assert dense(network, pictures(network))["labels"].max() == 0
