import torch
from torch import nn

from striate import models
from striate.layers.relu6 import ReLU6
from striate.models.classification import mobilenet_v1


def on_meta(name: str = "mobilenet_v1", **config: object) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **config)


def test_table_1_has_thirteen_pairs_and_the_last_keeps_its_size() -> None:
    assert len(mobilenet_v1.TABLE_1) == 13
    last = on_meta().trunk.stage5
    assert [block.depthwise.conv.stride for block in last] == [(2, 2), (1, 1)]


def test_norm_and_activation_follow_both_convolutions_of_a_pair() -> None:
    block = on_meta().trunk.stage3[0]
    assert [type(layer) for layer in (*block.depthwise, *block.pointwise)[1:]] == [
        nn.BatchNorm2d,
        ReLU6,
        nn.Conv2d,
        nn.BatchNorm2d,
        ReLU6,
    ]
    assert block.depthwise.conv.groups == block.depthwise.conv.in_channels == 128


def test_activation_of_the_papers_text_can_be_had() -> None:
    kinds = {type(m) for m in on_meta(activation="relu").modules() if isinstance(m, nn.ReLU | nn.ReLU6)}
    assert kinds == {nn.ReLU}


def test_widths_round_to_multiples_of_eight() -> None:
    assert [feature.channels for feature in on_meta(width=0.3).feature_info] == [16, 24, 40, 80, 152, 304]
