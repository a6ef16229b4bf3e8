import pytest
import torch

from striate import models
from striate.errors import ModelError, UnknownName, UsageError
from striate.modelfile import ModelCard
from striate.models.network import class_names
from striate.structures import Preprocess


def test_every_family_of_the_folder_is_listed() -> None:
    assert set(models.families()) >= {"mlp", "lenet", "tutorial_cnn", "simple_cnn", "resnet"}


def test_public_names_belong_to_exactly_one_family() -> None:
    listed = [name for family in models.families().values() for name in family.VARIANTS]
    assert len(listed) == len(set(listed)) == len(models.variants())


def test_misspelt_network_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"did you mean resnet18"):
        models.create("resnet_18")


def test_misspelt_nested_setting_names_its_dotted_path() -> None:
    with pytest.raises(UnknownName, match=r"preprocess\.colour.*did you mean preprocess\.color"):
        models.create("simple_cnn", preprocess={"colour": "gray"})


def test_wrong_type_names_the_setting_and_what_came() -> None:
    with pytest.raises(UsageError, match=r"create\(\): dropout.*received 'half'"):
        models.create("simple_cnn", dropout="half")


def test_value_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="dropout"):
        models.create("simple_cnn", dropout=1.0)


def test_nested_settings_keep_the_rest_of_their_defaults() -> None:
    network = models.create("resnet20_cifar", preprocess={"pad_value": 7})
    assert network.preprocess == Preprocess(size=(32, 32), fit="stretch", pad_value=7)


def test_absurd_size_is_refused_before_allocation() -> None:
    with pytest.raises(ModelError, match="would have"):
        models.create("mlp", hidden=(10_000_000, 10_000_000))


def test_class_names_and_their_number_are_kept() -> None:
    assert models.create("simple_cnn", classes=("cat", "dog")).classes == ("cat", "dog")
    assert models.create("simple_cnn", classes=3).classes == ("0", "1", "2") == class_names(3)


def test_create_needs_no_memory_on_the_meta_device() -> None:
    with torch.device("meta"):
        network = models.create("resnet152", classes=7)
    assert network.state_dict()["fc.weight"].shape == (7, 2048)
    assert network.state_dict()["fc.weight"].is_meta


def card(variant: str = "mlp", family: str = "mlp") -> ModelCard:
    spec = Preprocess(size=(4, 4), color="gray", mean=(0.5,), std=(0.5,))
    return ModelCard("classification", family, variant, {"hidden": [3]}, ("a", "b"), spec)


SHAPES = {
    "layers.0.weight": (3, 16),
    "layers.0.bias": (3,),
    "layers.2.weight": (2, 3),
    "layers.2.bias": (2,),
}


def test_network_of_a_card_has_its_settings_and_no_weights() -> None:
    network = models.network_of(card(), SHAPES, "model.safetensors")
    assert network.classes == ("a", "b")
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layers.0.weight": (3, 17)},
            r"layers\.0\.weight: shape \(3, 17\) in the file, shape \(3, 16\) in mlp",
        ),
        ({"extra": (1,)}, r"tensor extra: shape \(1,\) in the file, none in mlp"),
    ],
)
def test_network_of_a_card_refuses_other_shapes(change: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        models.network_of(card(), SHAPES | change, "model.safetensors")


def test_network_of_a_card_names_a_missing_tensor() -> None:
    shapes = {name: shape for name, shape in SHAPES.items() if name != "layers.2.bias"}
    with pytest.raises(ModelError, match=r"layers\.2\.bias: none in the file"):
        models.network_of(card(), shapes, "model.safetensors")


@pytest.mark.parametrize(("variant", "family"), [("mlp9", "mlp"), ("mlp", "lenet")])
def test_network_of_a_card_refuses_an_unknown_network(variant: str, family: str) -> None:
    with pytest.raises(ModelError, match="unknown here"):
        models.network_of(card(variant, family), SHAPES, "model.safetensors")
