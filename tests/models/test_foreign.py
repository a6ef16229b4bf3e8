"""Networks of torchvision, timm and one's own functions behind the three stations."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from striate import api, models
from striate.config import Layer, resolve
from striate.errors import EnvironmentProblem, ModelError, UnknownName, UsageError
from striate.models import foreign
from striate.models.convert import convert
from striate.models.unweighted import unweighted
from striate.ops.losses import pixel_cross_entropy, soft_cross_entropy, soft_dice
from striate.structures import ClassTargets, MaskTargets, Preprocess, Task
from striate.training.config import TrainingConfig

torchvision = pytest.importorskip("torchvision")
timm = pytest.importorskip("timm")

NETS = '''
import torch
from torch import nn


class Net(nn.Module):
    """3 means of colours -> linear; what it gives is decided by `form`."""

    def __init__(self, classes=4, form="plain"):
        super().__init__()
        self.fc, self.form = nn.Linear(3, classes), form

    def forward(self, images):
        logits = self.fc(images.mean((2, 3)))
        if self.form == "dict":
            return {"logits": logits, "aux": 2 * logits, "maps": images}
        return (logits, logits) if self.form == "tuple" else logits


def of_classes(classes, form="plain"):
    return Net(classes, form)


def of_num_classes(num_classes):
    return Net(num_classes)


def of_any(**options):
    return Net(options["num_classes"])


def of_four():
    return Net()


def of_one():
    return Net(1)


class Keeper(Net):
    """Keeps values that no state dict holds."""

    def __init__(self, classes):
        super().__init__(classes)
        self.shift = torch.tensor([1.0, 2.0, 3.0])
        self.register_buffer("factor", torch.tensor([1.0, 0.5, 2.0]), persistent=False)

    def forward(self, images):
        return self.fc(images.mean((2, 3)) * self.factor + self.shift)


class Stubborn(Keeper):
    """Draws a number, which the meta device does not have."""

    def __init__(self, classes):
        super().__init__(classes)
        self.chance = float(torch.rand(1))


class Maps(nn.Module):
    """A 1x1 convolution: a map for each class, of each `step`-th pixel."""

    def __init__(self, classes=4, step=1, aux=False):
        super().__init__()
        self.conv, self.aux = nn.Conv2d(3, classes, 1, step), aux

    def forward(self, images):
        maps = self.conv(images)
        return {"logits": maps, "aux": 2 * maps} if self.aux else maps


def one_map():
    return Maps(1)


class Fixed(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(3 * 8 * 8, classes)

    def forward(self, images):
        return self.fc(images.flatten(1))


def huge():
    net = Stubborn(4)
    net.many = nn.Parameter(torch.empty(1).expand(3_000_000_000))
    return net


def weightless():
    return nn.Flatten()


number = 7
'''

MODULE = "striate_test_unit_nets"


@pytest.fixture(scope="module", autouse=True)
def nets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module above, on the path."""
    root = tmp_path_factory.mktemp("nets")
    (root / f"{MODULE}.py").write_text(NETS)
    sys.path.insert(0, str(root))
    yield __import__(MODULE)
    sys.path.remove(str(root))
    sys.modules.pop(MODULE)


def own(function: str, classes: int | tuple[str, ...] = 4, size: int = 8, **config: Any) -> Any:
    config.setdefault("preprocess", {"size": (size, size), "resize_to": None})
    return models.create(f"{MODULE}:{function}", classes, **config)


def images(size: int = 8, batch: int = 2, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8, generator=generator)


def segmenter(function: str, classes: int = 4, **config: Any) -> Any:
    config.setdefault("preprocess", {"size": (8, 8)})
    return models.create(f"{MODULE}:{function}", classes, task="segmentation", **config)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def masks(batch: int = 2, size: int = 8, classes: int = 4) -> MaskTargets[Tensor]:
    labels = torch.arange(batch * size * size).reshape(batch, size, size) % classes
    return MaskTargets(labels.to(torch.uint8), torch.ones(batch, size, size))


def one_hot(batch: int = 2, classes: int = 4) -> ClassTargets[Tensor]:
    return ClassTargets(torch.eye(classes)[:batch], torch.ones(batch))


@pytest.mark.parametrize("function", ["of_classes", "of_num_classes", "of_any"])
def test_a_function_is_told_the_number_of_classes(function: str) -> None:
    network = own(function, classes=6)
    assert network.dense(images())["logits"].shape == (2, 6)


def test_the_module_gets_normalised_pictures(nets: Any) -> None:
    network = own("of_classes", preprocess={"size": (8, 8), "mean": (0.1, 0.2, 0.3), "std": (0.5, 1.0, 2.0)})
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 1.0, 2.0])
    expected = network.body.fc(((images() / 255).mean((2, 3)) - mean) / std)
    torch.testing.assert_close(network.dense(images())["logits"], expected)


def test_a_function_of_other_classes_is_refused_with_what_to_change() -> None:
    assert own("of_four").classes == ("0", "1", "2", "3")
    with pytest.raises(UsageError, match=r"gives outputs \(2, 4\) for 5 classes.*num_classes="):
        own("of_four", classes=5)


def test_one_output_tells_two_classes_apart() -> None:
    logits = own("of_one", classes=2).dense(images())["logits"]
    assert logits.shape == (2, 2)
    assert (logits[:, 0] == 0).all()
    with pytest.raises(UsageError, match=r"gives outputs \(2, 1\) for 3 classes"):
        own("of_one", classes=3)


def test_auxiliary_logits_are_a_term_of_weight_three_tenths() -> None:
    network = own("of_classes", options={"form": "dict"})
    raw = network(images())
    terms = network.loss(raw, one_hot())
    assert list(terms) == ["cross_entropy", "auxiliary_1"]
    targets = one_hot()
    expected = 0.3 * soft_cross_entropy(2 * raw.logits, targets.probabilities, targets.weight)
    torch.testing.assert_close(terms["auxiliary_1"], expected)
    half = own("of_classes", options={"form": "dict"}, auxiliary_weight=0.5)
    half.load_state_dict(network.state_dict())
    torch.testing.assert_close(half.loss(raw, one_hot())["auxiliary_1"], expected * 5 / 3)


def test_outputs_without_logits_are_refused() -> None:
    with pytest.raises(UsageError, match=r"gives a tuple without logits.*as 'logits'"):
        own("of_classes", options={"form": "tuple"})


def test_torchvisions_auxiliary_heads_learn_in_training_only() -> None:
    spec = {"size": (64, 64), "resize_to": 64}
    network = models.create("torchvision:googlenet", 4, preprocess=spec)
    terms = network.train().loss(network(images(64)), one_hot())
    assert list(terms) == ["cross_entropy", "auxiliary_1", "auxiliary_2"]
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.eval()
    assert list(network.loss(network(images(64)), one_hot())) == ["cross_entropy"]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("torchvision:mobilenet_v3_small", lambda: torchvision.models.mobilenet_v3_small(num_classes=5)),
        ("timm:test_resnet", lambda: timm.create_model("test_resnet", num_classes=5)),
        (f"{MODULE}:Stubborn", lambda: sys.modules[MODULE].Stubborn(5)),
    ],
)
def test_weights_are_those_that_its_maker_draws_from_the_same_seed(
    name: str, make: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(5)
    expected = make()
    torch.manual_seed(5)
    spec = {"size": (32, 32), "resize_to": 32}
    found = models.create(name, classes=5, preprocess=spec)
    torch.testing.assert_close(found.body.state_dict(), expected.state_dict(), rtol=0, atol=0)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(found.body.eval()(x), expected.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("function", ["Keeper", "Stubborn"])
def test_values_that_no_file_holds_are_there_again(function: str) -> None:
    network = own(function).eval()
    tensors = network.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    before = torch.random.get_rng_state()
    again = models.network_of(models.card_of(network), shapes, "file", f"{MODULE}:{function}").eval()
    assert torch.equal(before, torch.random.get_rng_state())
    again.load_state_dict(tensors)
    assert torch.equal(again.dense(images())["logits"], network.dense(images())["logits"])


def test_a_network_of_too_many_weights_is_refused_even_where_it_has_to_be_made_to_count_them() -> None:
    with pytest.raises(ModelError, match="would have 3,000,000,016 parameters"):
        own("huge")


def test_a_size_that_the_module_does_not_take_is_said_before_training() -> None:
    assert own("Fixed").dense(images())["logits"].shape == (2, 4)
    with pytest.raises(UsageError, match=r"fails on pictures of 3x9x9 .*--size"):
        own("Fixed", size=9)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet_18", "did you mean torchvision:resnet18"),
        ("timm:resnet_18", "did you mean timm:resnet18"),
        ("torchvision:fasterrcnn_resnet50_fpn", "there is no 'torchvision:fasterrcnn"),
        ("timm:resnet50.a1_in1k", "there is no"),
        (f"{MODULE}:of_fuor", "did you mean of_four"),
        (f"{MODULE}:number", "it is a int"),
        (f"{MODULE}:weightless", "it has no weights"),
        ("striate_no_such:net", "there is no module striate_no_such"),
        ("os:getcwd", "it gives a str, not a torch.nn.Module"),
        ("a/b:c", "this names no foreign network"),
    ],
)
def test_a_name_that_means_no_network_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        models.create(name, classes=4)


@pytest.mark.parametrize("option", ["weights", "pretrained", "checkpoint_path", "num_classes"])
def test_options_that_are_not_the_users_to_give_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=rf"network\.options\.{option}"):
        models.create("timm:test_resnet", options={option: 1})


def test_an_option_that_the_network_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unexpected keyword argument 'widht'.*now widht=2"):
        models.create("torchvision:resnet18", options={"widht": 2})


def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    foreign.listed.cache_clear()
    with pytest.raises(EnvironmentProblem, match=r"timm is not installed\. fix: pip install timm"):
        models.create("timm:resnet18")


def test_pictures_are_prepared_as_for_the_published_weights() -> None:
    spec = foreign.VARIANTS["torchvision:efficientnet_v2_s"].preprocess
    assert (spec.size, spec.resize_to, spec.interpolation) == ((384, 384), 384, "bilinear")
    spec = foreign.VARIANTS["timm:resnet10t"].preprocess
    assert (spec.size, spec.resize_to, spec.interpolation) == ((176, 176), 201, "bicubic")
    assert foreign.VARIANTS["timm:vit_tiny_patch16_224"].preprocess.mean == (0.5, 0.5, 0.5)


def test_a_gray_network_of_timm_takes_one_channel() -> None:
    spec = {"size": (32, 32), "resize_to": 32, "color": "gray", "mean": (0.5,), "std": (0.5,)}
    network = models.create("timm:test_resnet", 4, preprocess=spec)
    assert network.dense(images(32, channels=1))["logits"].shape == (2, 4)


def test_weights_of_the_bare_module_are_converted() -> None:
    bare = torchvision.models.mobilenet_v3_small(num_classes=5).state_dict()
    conversion = convert(bare, "torchvision:mobilenet_v3_small")
    assert conversion.report.fits
    assert (conversion.report.source, conversion.classes) == ("module", 5)


def test_a_function_may_stand_for_its_name(nets: Any) -> None:
    network = api.create(nets.of_classes, classes=3, preprocess={"size": (8, 8), "resize_to": None})
    assert network.name == f"{MODULE}:of_classes"


@pytest.mark.parametrize("maker", [lambda classes: nn.Linear(3, classes), nn.Linear(3, 4)])
def test_what_cannot_be_found_again_by_its_name_is_refused(maker: Any) -> None:
    with pytest.raises(UsageError, match=r"made already|cannot be found again"):
        api.create(maker, classes=4)


def test_it_has_no_named_features() -> None:
    with pytest.raises(UsageError, match="no named features"):
        own("of_classes").features(images())


def test_options_of_several_layers_are_put_together() -> None:
    def option(name: str, value: object) -> Layer:
        return Layer(name, {"options": {name: value}})

    layers = [Layer("default", {"name": "a:b"}), option("x", 1), option("y", 2), option("x", 3)]
    assert resolve(foreign.Config, layers).value.options == {"x": 3, "y": 2}


def test_every_name_listed_has_settings() -> None:
    names = foreign.listed("torchvision")
    assert len(names) == 80 + 6
    assert all(min(foreign.VARIANTS[name].preprocess.size) >= 224 for name in names)
    with pytest.raises(UnknownName):
        foreign.VARIANTS["torchvision:"]


# Segmentation


SEGMENTERS = ("deeplabv3_mobilenet_v3_large", "deeplabv3_resnet101", "deeplabv3_resnet50")
SEGMENTERS += ("fcn_resnet101", "fcn_resnet50", "lraspp_mobilenet_v3_large")


@pytest.mark.parametrize(
    ("name", "task"),
    [
        *((f"torchvision:{name}", "segmentation") for name in SEGMENTERS),
        ("torchvision:resnet18", "classification"),
        ("timm:resnet18", "classification"),
        ("resnet18", "classification"),
        ("reseg", "segmentation"),
        (f"{MODULE}:Maps", "classification"),
    ],
)
def test_what_a_network_is_for_is_known_by_its_name(name: str, task: Task) -> None:
    assert models.task_of(name) == task
    with unweighted():
        assert models.create(name, 4).task == task if "Maps" not in name else True


def test_a_function_is_for_what_it_is_asked_for() -> None:
    assert models.task_of(f"{MODULE}:Maps", "segmentation") == "segmentation"
    assert models.task_of("resnet18", "segmentation") == "classification"
    assert models.defaults_of(f"{MODULE}:Maps", "segmentation").preprocess == Preprocess(
        size=(512, 512), fit="letterbox"
    )


@pytest.mark.parametrize(
    ("name", "aux", "count"),
    [
        ("fcn_resnet50", None, 35_322_218),
        ("fcn_resnet50", False, 35_322_218 - 2_365_205),
        ("deeplabv3_resnet50", True, 42_004_074),
    ],
)
def test_torchvisions_segmentation_networks_come_with_their_auxiliary_head(
    name: str, aux: bool | None, count: int
) -> None:
    with unweighted():
        network = models.create(f"torchvision:{name}", options={} if aux is None else {"aux_loss": aux})
    assert parameters(network) == count
    assert network.preprocess == Preprocess(size=(512, 512), fit="letterbox")


def test_a_segmentation_network_of_torchvision_gives_its_own_maps_on_normalised_pictures() -> None:
    network = models.create("torchvision:lraspp_mobilenet_v3_large", 5, preprocess={"size": (64, 96)}).eval()
    pixels = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    mean, std = (torch.tensor(v)[:, None, None] for v in (network.preprocess.mean, network.preprocess.std))
    expected = network.body((pixels / 255 - mean) / std)["out"]
    torch.testing.assert_close(network.dense(pixels)["logits"], expected, rtol=1e-5, atol=1e-5)
    assert expected.shape == (2, 5, 64, 96)


def test_the_auxiliary_head_of_a_segmentation_network_learns_by_half() -> None:
    network = segmenter("Maps", options={"aux": True})
    raw = network(images())
    targets = masks()
    terms = network.loss(raw, targets)
    expected = pixel_cross_entropy(2 * raw.logits, targets.labels, targets.weight)
    assert list(terms) == ["cross_entropy", "auxiliary1"]
    torch.testing.assert_close(terms["auxiliary1"], 0.5 * expected)


def test_small_maps_are_brought_to_the_size_of_the_picture() -> None:
    network = segmenter("Maps", options={"step": 4})
    small = network.body(network.normalize(images()))
    assert small.shape == (2, 4, 2, 2)
    logits = network.dense(images())["logits"]
    expected = nn.functional.interpolate(small, (8, 8), mode="bilinear", align_corners=False)
    assert torch.equal(logits, expected)
    assert network(images(9)).logits.shape == (2, 4, 9, 9)


def test_one_map_tells_two_classes_apart() -> None:
    logits = segmenter("one_map", classes=2).dense(images())["logits"]
    assert logits.shape == (2, 2, 8, 8)
    assert not logits[:, 0].any()
    assert logits[:, 1].all()


def test_the_loss_of_a_segmentation_network_is_a_setting() -> None:
    network = segmenter("Maps", loss="dice")
    raw, targets = network(images()), masks()
    assert network.loss(raw, targets) == {"dice": soft_dice(raw.logits, targets.labels, targets.weight)}
    with pytest.raises(UsageError, match=r"network\.loss: dice is a loss of segmentation"):
        own("of_classes", loss="dice")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: own("Maps"), r"maps \(2, 4, 8, 8\).*network\.task = \"segmentation\""),
        (lambda: segmenter("of_classes"), r"outputs \(2, 4\) for 4 classes, needed is \(B, 4, H, W\)"),
        (lambda: segmenter("one_map", classes=3), r"outputs \(2, 1, 8, 8\) for 3 classes"),
        (lambda: models.create("timm:test_resnet", 4, task="segmentation"), "test_resnet is for classificat"),
        (lambda: models.create("torchvision:fcn_resnet50", task="classification"), "is for segmentation"),
        (lambda: models.create("timm:test_resnet", task="detection"), "task: invalid enum value 'detection'"),
        (lambda: segmenter("Maps", classes=300), "a mask has 8 bits"),
    ],
)
def test_a_network_for_another_task_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_a_function_for_segmentation_is_built_again_from_its_card() -> None:
    network = segmenter("Maps", options={"step": 2}, loss="focal")
    card = models.card_of(network)
    assert card.task == "segmentation"
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    again = models.network_of(card, shapes, "file", f"{MODULE}:Maps")
    assert msgspec.structs.replace(again.config, classes=4) == network.config
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.dense(images())["logits"], network.dense(images())["logits"])


def test_weights_of_a_bare_segmentation_network_are_converted_with_their_auxiliary_head() -> None:
    with torch.device("meta"):
        bare = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=7, aux_loss=True
        )
    state = {name: torch.zeros(tensor.shape) for name, tensor in bare.state_dict().items()}
    small = {"preprocess": {"size": (64, 64)}}
    conversion = convert(state, "torchvision:deeplabv3_mobilenet_v3_large", "module", classes=7, config=small)
    assert conversion.report.fits
    assert len(conversion.report.matched) == len(state)


@pytest.mark.parametrize("name", [f"torchvision:{name}" for name in SEGMENTERS])
def test_recipes_for_segmentation_have_settings_that_training_has(name: str) -> None:
    recipe = foreign.recipe(foreign.VARIANTS[name])
    resolve(TrainingConfig, [Layer("recipe", recipe["training"])])
    assert recipe["augment"].keys() == {"flip", "zoom", "jitter"}
