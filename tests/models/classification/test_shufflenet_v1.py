from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.classification import shufflenet_v1

# Parameters, and millions of multiply-adds of one picture.
COUNTS = {
    "shufflenet_v1_g1": (1_531_936, 143.1),
    "shufflenet_v1_g2": (1_733_848, 140.8),
    "shufflenet_v1_g3": (1_865_728, 137.5),
    "shufflenet_v1_g4": (1_968_344, 134.3),
    "shufflenet_v1_g8": (2_434_768, 138.4),
    "shufflenet_v1_g3_0.5": (718_324, 37.6),
    "shufflenet_v1_g3_1.5": (3_442_168, 292.4),
    "shufflenet_v1_g3_2": (5_450_776, 524.0),
}


def test_every_variant_has_its_counts_here() -> None:
    assert set(COUNTS) == set(shufflenet_v1.VARIANTS)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(name: str, counts: Callable[..., tuple[int, int]]) -> None:
    parameters, multiply_adds = counts(name)
    assert (parameters, round(multiply_adds / 1e6, 1)) == COUNTS[name]


class ByHand:
    """The same network from its weights alone: a loop over the groups, and the shuffle as a table.

    Section 3.1: output map j of a shuffle of C maps in g groups is input map (j mod g) * C / g + j div g.
    """

    def __init__(self, network: shufflenet_v1.ShuffleNetV1, groups: int) -> None:
        self.weights, self.groups = dict(network.state_dict()), groups
        self.units = [f"stage{s}.{unit}" for s, count in ((2, 4), (3, 8), (4, 4)) for unit in range(count)]

    def logits(self, pixels: Tensor) -> Tensor:
        maps = self.norm("conv1.1", F.conv2d(pixels, self.weights["conv1.0.weight"], stride=2, padding=1))
        maps = F.max_pool2d(maps.relu(), 3, stride=2, padding=1)
        for name in self.units:
            maps = self.unit(name, maps, first=name.endswith(".0"))
        return F.linear(maps.mean((2, 3)), self.weights["fc.weight"], self.weights["fc.bias"])

    def unit(self, name: str, maps: Tensor, first: bool) -> Tensor:
        groups = 1 if name == "stage2.0" else self.groups
        branch = self.norm(f"{name}.bn1", self.grouped(f"{name}.conv1", maps, groups)).relu()
        branch = branch[:, self.table(branch.shape[1])]
        stride = 2 if first else 1
        branch = self.norm(f"{name}.bn2", self.depthwise(f"{name}.conv2", branch, stride))
        branch = self.norm(f"{name}.bn3", self.grouped(f"{name}.conv3", branch, self.groups))
        if first:
            return torch.cat((F.avg_pool2d(maps, 3, stride=2, padding=1), branch.relu()), 1)
        return (maps + branch).relu()

    def grouped(self, name: str, maps: Tensor, groups: int) -> Tensor:
        weights = self.weights[f"{name}.weight"][:, :, 0, 0].chunk(groups)
        parts = maps.chunk(groups, 1)
        each = [torch.einsum("oc,bchw->bohw", w, x) for w, x in zip(weights, parts, strict=True)]
        return torch.cat(each, 1)

    def depthwise(self, name: str, maps: Tensor, stride: int) -> Tensor:
        kernels = self.weights[f"{name}.weight"]
        each = [
            F.conv2d(maps[:, i : i + 1], kernels[i : i + 1], stride=stride, padding=1)
            for i in range(len(kernels))
        ]
        return torch.cat(each, 1)

    def table(self, channels: int) -> list[int]:
        return [(j % self.groups) * (channels // self.groups) + j // self.groups for j in range(channels)]

    def norm(self, name: str, maps: Tensor) -> Tensor:
        weight, bias, mean, variance = (
            self.weights[f"{name}.{part}"].view(1, -1, 1, 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (maps - mean) / (variance + 1e-5).sqrt() * weight + bias


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
def test_equals_an_independent_formulation(
    groups: int,
    randomised: Callable[[nn.Module], nn.Module],
    pictures: Callable[..., Tensor],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    settings = {"classes": 10, "channels": 16 * groups, "stem": 8 if groups != 3 else 6}
    network = randomised(models.create(f"shufflenet_v1_g{groups}", **settings)).double().eval()
    by_hand, images = ByHand(network, groups), pictures(64)
    with torch.inference_mode():
        expected = by_hand.logits(network.normalize(images))
        assert relative_difference(network.dense(images)["logits"], expected) < 1e-12


def test_without_the_shuffle_it_is_another_network(
    randomised: Callable[[nn.Module], nn.Module],
    pictures: Callable[..., Tensor],
    relative_difference: Callable[[Tensor, Tensor], float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = randomised(models.create("shufflenet_v1_g3_0.5", classes=10)).eval()
    images = pictures(64)
    with torch.inference_mode():
        expected = network.dense(images)["logits"]
        monkeypatch.setattr(shufflenet_v1, "channel_shuffle", lambda maps, _: maps)
        assert relative_difference(network.dense(images)["logits"], expected) > 1e-2


@pytest.mark.parametrize("name", COUNTS)
def test_only_the_first_convolution_of_stage_2_has_no_groups(name: str) -> None:
    with torch.device("meta"):
        network = models.create(name)
    groups = network.config.groups
    found = [
        unit.conv1.groups for stage in (network.stage2, network.stage3, network.stage4) for unit in stage
    ]
    assert found == [1, *[groups] * 15]
    assert {unit.conv3.groups for unit in network.stage2} == {groups}


def test_a_unit_with_stride_keeps_its_input_pooled_and_makes_only_the_new_maps() -> None:
    maps = torch.rand(2, 6, 7, 7)
    unit = shufflenet_v1.Unit(6, 24, groups=3, first_groups=1, stride=2).eval()
    assert unit.conv3.out_channels == 18
    torch.testing.assert_close(unit(maps)[:, :6], F.avg_pool2d(maps, 3, stride=2, padding=1))


def test_maps_halve_as_in_table_1() -> None:
    with torch.device("meta"):
        features = models.create("shufflenet_v1_g3").features(torch.zeros(1, 3, 224, 224))
    assert {name: tuple(maps.shape[1:]) for name, maps in features.items()} == {
        "conv1": (24, 112, 112),
        "maxpool": (24, 56, 56),
        "stage2": (240, 28, 28),
        "stage3": (480, 14, 14),
        "stage4": (960, 7, 7),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 250}, r"network\.channels: .*multiple of 12 above 24"),
        ({"channels": 24}, r"network\.channels: .*multiple of 12 above 24"),
        ({"stem": 25}, r"network\.stem: 240 - 25 maps .* not 3 equal groups"),
    ],
)
def test_maps_that_do_not_split_into_groups_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        models.create("shufflenet_v1_g3", **settings)
