import pytest
import torch
from torch import nn

from striate import models
from striate.layers.inverted_residual import InvertedResidual


def on_meta(name: str = "mobilenet_v3_large", **config: object) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **config)


def blocks(network: nn.Module) -> list[InvertedResidual]:
    return [module for module in network.modules() if isinstance(module, InvertedResidual)]


@pytest.mark.parametrize(
    ("name", "count", "squeezed"), [("mobilenet_v3_large", 15, 8), ("mobilenet_v3_small", 11, 9)]
)
def test_blocks_and_squeezes_are_as_many_as_in_the_tables(name: str, count: int, squeezed: int) -> None:
    found = blocks(on_meta(name))
    assert len(found) == count
    assert sum(block.squeeze is not None for block in found) == squeezed


def test_squeeze_is_a_quarter_of_the_expanded_maps_in_multiples_of_eight() -> None:
    large = blocks(on_meta())
    assert [block.squeeze.reduce.out_channels for block in large if block.squeeze is not None] == [
        24, 32, 32, 120, 168, 168, 240, 240,
    ]  # fmt: skip


def test_hard_swish_starts_where_the_tables_say() -> None:
    kinds = [type(block.depthwise.activation) for block in blocks(on_meta())]
    assert kinds == [nn.ReLU] * 6 + [nn.Hardswish] * 9
    small = [type(block.depthwise.activation) for block in blocks(on_meta("mobilenet_v3_small"))]
    assert small == [nn.ReLU] * 3 + [nn.Hardswish] * 8


def test_layer_behind_the_average_has_a_bias_and_no_norm() -> None:
    head = on_meta("mobilenet_v3_small").classifier
    assert [type(layer) for layer in head] == [nn.Linear, nn.Hardswish, nn.Dropout, nn.Linear]
    assert (head.hidden.in_features, head.hidden.out_features) == (576, 1024)
    assert head.hidden.bias is not None


def test_norm_has_the_papers_epsilon() -> None:
    norms = [m for m in on_meta(norm_momentum=0.01).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_small_starts_with_a_strided_block_that_squeezes() -> None:
    first = on_meta("mobilenet_v3_small").trunk.stage1[0]
    assert first.depthwise.conv.stride == (2, 2)
    assert first.squeeze is not None
    assert first.expand is None
