import pytest
import torch
from torch import Tensor

from striate import models
from striate.models.recognise import _CLASSES, candidates


def weights(name: str, **config: object) -> dict[str, Tensor]:
    with torch.device("meta"):
        return models.create(name, **config).state_dict()


def exact(state_dict: dict[str, Tensor]) -> list[str]:
    return [candidate.model for candidate in candidates(state_dict) if candidate.exact]


@pytest.mark.parametrize(
    ("name", "classes"), [("mobilenet_v2", 7), ("mobilenet_v1_0.5", 1000), ("lenet5", 10), ("mlp", 3)]
)
def test_a_network_is_told_by_its_shapes_whatever_its_classes_and_names(name: str, classes: int) -> None:
    state_dict = weights(name, classes=classes)
    shuffled = {f"t{number}": tensor for number, tensor in enumerate(reversed(state_dict.values()))}
    assert exact(shuffled) == [name]


def test_networks_of_equal_shapes_are_all_named() -> None:
    assert exact(weights("resnet50")) == ["resnet50", "resnet50_v1"]


def test_a_last_layer_may_be_absent() -> None:
    assert exact({k: v for k, v in weights("mobilenet_v2").items() if "classifier" not in k}) == [
        "mobilenet_v2"
    ]


def test_one_tensor_too_many_or_too_few_is_near_but_not_exact() -> None:
    state_dict = weights("mobilenet_v2")
    more = {**state_dict, "extra": torch.zeros(3)}
    fewer = {k: v for k, v in state_dict.items() if k != "trunk.stem.conv.weight"}
    total = sum("num_batches" not in name for name in state_dict)
    for changed, share in ((more, total / (total + 1)), (fewer, (total - 1) / total)):
        best = candidates(changed)[0]
        assert (best.model, best.exact) == ("mobilenet_v2", False)
        assert best.share == pytest.approx(share)


@pytest.mark.parametrize("name", models.variants())
def test_the_number_that_marks_the_last_layer_is_no_other_layers_size(name: str) -> None:
    assert not any(_CLASSES in tensor.shape for tensor in weights(name).values())
