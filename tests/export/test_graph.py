"""A network as a function of tensors by position, and what cannot be one."""

import dataclasses
import logging
import sys

import msgspec
import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.errors import ModelError
from striate.export.graph import (
    dynamic_shapes,
    example_inputs,
    example_size,
    graph_of,
    input_names,
    output_names,
    quiet,
    traced,
)
from striate.models.network import Network
from striate.structures import Preprocess


class Mean(nn.Module):
    """Four logits of the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, values: Tensor) -> Tensor:
        return self.linear(self.means(values))  # type: ignore[no-any-return]

    def means(self, values: Tensor) -> Tensor:
        return values.mean((2, 3))


class Undecided(Mean):
    def means(self, values: Tensor) -> Tensor:
        means = super().means(values)
        return -means if means.sum() > 0 else means


class OneByOne(Mean):
    def means(self, values: Tensor) -> Tensor:
        return torch.stack([values[number].mean((1, 2)) for number in range(len(values))])


class BeyondTorch(Mean):
    def means(self, values: Tensor) -> Tensor:
        return torch.from_numpy(values.numpy().mean((2, 3)))


class SmallAlone(Mean):
    def means(self, values: Tensor) -> Tensor:
        return super().means(values if values.shape[2] < 700 else 2 * values)


def undecided() -> nn.Module:
    return Undecided()


def one_by_one() -> nn.Module:
    return OneByOne()


def beyond_torch() -> nn.Module:
    return BeyondTorch()


def small_alone() -> nn.Module:
    return SmallAlone()


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which networks of this file are found."""
    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    return "own_networks"


def foreign(name: str, fit: str = "stretch") -> Network:
    preprocess = {"size": (8, 8), "fit": fit, "resize_to": None}
    return models.create(name, classes=4, preprocess=preprocess)


def tiny(family: str, **changes: object) -> Network:
    module = models.families()[family]
    torch.manual_seed(0)
    network: Network = module.build(msgspec.structs.replace(module.TINY, **changes))
    return network


def of_any_size(family: str) -> Network:
    spec = models.families()[family].TINY.preprocess
    return tiny(family, preprocess=dataclasses.replace(spec, fit="none", resize_to=None))


def test_graph_gives_the_dense_outputs_in_order() -> None:
    network = tiny("fast_rcnn").eval()
    inputs = example_inputs(network)
    expected = network.dense(**inputs)
    found = graph_of(network)(*inputs.values())
    assert list(inputs) == list(input_names(network)) == ["images", "proposals"]
    assert list(expected) == list(output_names(network)) == ["boxes", "scores", "labels"]
    assert all(torch.equal(one, other) for one, other in zip(found, expected.values(), strict=True))


def test_names_are_those_of_every_task() -> None:
    for family, names in {
        "lenet": ("logits",),
        "unet": ("logits",),
        "ssd": ("boxes", "scores", "labels"),
    }.items():
        network = tiny(family)
        assert input_names(network) == ("images",)
        assert output_names(network) == names == tuple(network.eval().dense(**example_inputs(network)))


def test_examples_are_noise_and_boxes_within_the_picture() -> None:
    inputs = example_inputs(tiny("fast_rcnn"), batch=3, size=(40, 90))
    images, proposals = inputs["images"], inputs["proposals"]
    assert images.shape == (3, 3, 40, 90)
    assert images.dtype == torch.uint8
    assert images.float().std() > 60
    assert not torch.equal(images[0], images[1])
    assert proposals.shape == (3, 24, 4)
    assert (proposals >= 0).all()
    assert (proposals <= torch.tensor([90.0, 40.0, 90.0, 40.0])).all()
    assert (proposals[..., 2:] >= proposals[..., :2]).all()
    assert not proposals[:, 0].any()
    assert (proposals[:, 1, 2:] > proposals[:, 1, :2]).all()
    assert proposals[..., 2].max() > 50


def test_examples_of_free_size_are_large_and_not_square() -> None:
    assert example_size(Preprocess(size=(64, 64), fit="stretch")) == (64, 64)
    assert example_size(Preprocess(size=(64, 64), fit="none", pad_to=32)) == (512, 544)
    assert example_size(Preprocess(size=(600, 600), fit="shorter", pad_to=16)) == (608, 624)
    assert example_size(Preprocess(size=(600, 100), fit="none")) == (600, 512)


def test_the_batch_is_free_and_the_size_where_pictures_differ_in_it() -> None:
    fixed, free = (dynamic_shapes(network) for network in (tiny("fast_rcnn"), of_any_size("fcn")))
    assert {name: list(axes) for name, axes in fixed.items()} == {"images": [0], "proposals": [0]}
    assert {name: list(axes) for name, axes in free.items()} == {"images": [0, 2, 3]}


def test_network_is_left_as_it_was() -> None:
    network = tiny("resnet").half().train()
    network.get_submodule("bn1").eval()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    traced(network)
    assert network.training
    assert not network.get_submodule("bn1").training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float16}
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_code_that_depends_on_values_is_refused_with_its_line(
    own: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        ModelError, match=r"depends on values in .*test_graph.py, line \d+ \(`return -means if"
    ):
        traced(foreign(f"{own}:undecided"))
    assert capfd.readouterr() == ("", "")


def test_code_that_leaves_torch_is_refused_with_its_line(own: str) -> None:
    with pytest.raises(ModelError, match=r"cannot follow .*line \d+ \(`return torch.from_numpy.* supported"):
        traced(foreign(f"{own}:beyond_torch"))


def test_code_for_one_size_of_batch_is_refused(own: str) -> None:
    with pytest.raises(ModelError, match="works for one size of batch alone"):
        traced(foreign(f"{own}:one_by_one"))


def test_network_of_one_size_is_refused_where_pictures_differ(own: str) -> None:
    network = tiny("ssd", preprocess=Preprocess(size=(64, 64), fit="none"))
    with pytest.raises(ModelError, match=r"one height and width, and with preprocess\.fit 'none'"):
        traced(network)


def test_code_for_small_pictures_alone_is_refused_where_pictures_differ(own: str) -> None:
    traced(foreign(f"{own}:small_alone"))
    with pytest.raises(ModelError, match=r"one height and width, and with preprocess\.fit 'none'"):
        traced(foreign(f"{own}:small_alone", "none"))


def test_quiet_puts_back_what_it_silences() -> None:
    logger, stream = logging.getLogger("torch.export._trace"), sys.stderr
    with quiet():
        silenced = logger.disabled, sys.stderr is not stream
    assert silenced == (True, True)
    assert not logger.disabled
    assert sys.stderr is stream
