import math

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d

from striate import models
from striate.errors import UsageError
from striate.models.classification import lenet
from striate.structures import ClassTargets


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def pictures(batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 1, 32, 32), dtype=torch.uint8, generator=generator)


def test_textbook_form_has_61706_parameters() -> None:
    assert count(models.create("lenet5")) == 61_706


def test_form_of_1998_has_the_papers_parameters_layer_by_layer() -> None:
    network = models.create("lenet5_1998")
    layers = {name: count(network.get_submodule(name)) for name in ("c1", "s2", "c3", "s4", "c5", "f6")}
    assert layers == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert count(network) == sum(layers.values()) == 60_000


def test_maps_have_the_papers_sizes() -> None:
    for name in ("lenet5", "lenet5_1998"):
        features = models.create(name).features(pictures())
        assert {key: tuple(maps.shape[1:]) for key, maps in features.items()} == {
            "c1": (6, 28, 28),
            "s2": (6, 14, 14),
            "c3": (16, 10, 10),
            "s4": (16, 5, 5),
        }


def test_pixels_are_mapped_as_in_the_paper() -> None:
    network = models.create("lenet5_1998")
    ends = network.normalize(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)).flatten()
    torch.testing.assert_close(ends, torch.tensor([-0.1, 1.175]))
    assert network.preprocess.inner_size == (28, 28)


def test_connection_table_has_60_of_96_and_each_map_of_s2_feeds_ten() -> None:
    assert [len(seen) for seen in lenet.C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    feeds = [sum(i in seen for seen in lenet.C3_TABLE) for i in range(6)]
    assert feeds == [10] * 6
    assert len(set(lenet.C3_TABLE)) == 16


def test_maps_of_c3_see_only_their_maps_of_s2() -> None:
    c3 = lenet.TableConvolution(lenet.C3_TABLE, channels=6)
    torch.nn.init.uniform_(c3.weight, 0.5, 1.0)
    torch.nn.init.zeros_(c3.bias)
    for i in range(6):
        maps = torch.zeros(1, 6, 5, 5)
        maps[0, i] = 1
        reached = {index for index, value in enumerate(c3(maps).flatten()) if value != 0}
        assert reached == {index for index, seen in enumerate(lenet.C3_TABLE) if i in seen}


def test_table_convolution_is_a_convolution_with_zeros_in_the_gaps() -> None:
    torch.manual_seed(0)
    c3 = lenet.TableConvolution(((1,), (0, 2)), channels=3)
    torch.nn.init.normal_(c3.weight)
    torch.nn.init.normal_(c3.bias)
    dense = torch.zeros(2, 3, 5, 5)
    dense[0, 1], dense[1, 0], dense[1, 2] = c3.weight.detach()
    maps = torch.randn(2, 3, 7, 7)
    torch.testing.assert_close(c3(maps), conv2d(maps, dense, c3.bias))


def test_sub_sampling_squashes_coefficient_times_sum_plus_bias() -> None:
    s2 = lenet.SubSampling(1)
    torch.nn.init.constant_(s2.weight, 0.25)
    torch.nn.init.constant_(s2.bias, 0.5)
    window = torch.tensor([[1.0, 2.0], [3.0, -4.0]]).view(1, 1, 2, 2)
    # 0.25 x (1 + 2 + 3 - 4) + 0.5 = 1, and the squashing function keeps 1.
    assert math.isclose(s2(window).item(), 1.0, rel_tol=1e-4)


def test_squashing_function_keeps_plus_and_minus_one() -> None:
    values = lenet.ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0, 100.0]))
    torch.testing.assert_close(values, torch.tensor([-1.0, 0.0, 1.0, 1.7159]), atol=1e-4, rtol=0)


def test_digits_have_bitmaps_as_codes() -> None:
    codes = torch.tensor(lenet.digit_codes())
    assert codes.shape == (10, 84)
    assert codes.unique().tolist() == [-1.0, 1.0]
    differing = (84 - codes @ codes.T) / 2
    assert differing.fill_diagonal_(84).min() >= 8
    assert differing[3, 8] < differing[3, 1]  # digits that look alike have codes that are alike
    assert torch.equal(models.create("lenet5_1998").output.codes, codes)


def test_one_is_drawn_upright_in_its_code() -> None:
    one = torch.tensor(lenet.digit_codes()[1]).view(12, 7)
    assert (one[:, 3] == 1).all()
    assert one[-1].tolist() == [-1, 1, 1, 1, 1, 1, -1]


def test_codes_of_other_classes_are_half_their_bits_apart() -> None:
    codes = torch.tensor(lenet.orthogonal_codes(168))
    assert torch.equal(codes[:84] @ codes[:84].T, 84 * torch.eye(84))
    assert torch.equal(codes[84:], -codes[:84])
    named = models.create("lenet5_1998", classes=("cat", "dog", "eel")).output.codes
    assert torch.equal(named, codes[:3])


def test_more_classes_than_codes_are_refused() -> None:
    with pytest.raises(UsageError, match="at most 168 classes, got 169"):
        models.create("lenet5_1998", classes=169)


def test_answer_is_the_class_whose_code_is_nearest() -> None:
    output = models.create("lenet5_1998").output
    energies = output(output.codes + 0.1)
    assert energies.argmin(1).tolist() == list(range(10))
    torch.testing.assert_close(energies.diagonal(), torch.full((10,), 84 * 0.01))


def test_loss_is_equation_9_by_hand() -> None:
    network = models.create("lenet5_1998", classes=2, rejection=3.0)
    raw = lenet.Energies(torch.zeros(1, 84), torch.tensor([[1.0, 2.0]]))
    truth = ClassTargets(torch.tensor([[1.0, 0.0]]), torch.ones(1))
    expected = 1 + math.log(math.exp(-1) + math.exp(-2) + math.exp(-3))
    assert math.isclose(network.loss(raw, truth)["map_criterion"].item(), expected, rel_tol=1e-6)


def test_loss_falls_to_zero_as_the_own_class_comes_near() -> None:
    network = models.create("lenet5_1998", classes=2, rejection=30.0)
    truth = ClassTargets(torch.tensor([[1.0, 0.0]]), torch.ones(1))
    losses = [
        network.loss(lenet.Energies(torch.zeros(1, 84), torch.tensor([[own, 80.0]])), truth)["map_criterion"]
        for own in (60.0, 30.0, 0.0)
    ]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2].item() < 1e-6


def test_starting_weights_lie_within_the_papers_bounds() -> None:
    network = models.create("lenet5_1998")
    fans = {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120}
    for name, fan_in in fans.items():
        weight = network.get_submodule(name).weight
        assert weight.abs().max() <= 2.4 / fan_in
        assert weight.abs().max() > 0.5 * 2.4 / fan_in
        assert not network.get_submodule(name).bias.any()
    # The last map of C3 sees six maps of S2, the first three.
    assert network.c3.weight[-6:].abs().max() <= 2.4 / 150 < network.c3.weight[:3].abs().max() <= 2.4 / 75


def test_textbook_form_averages_windows() -> None:
    network = models.create("lenet5")
    features = network.features(pictures())
    torch.testing.assert_close(features["s2"], avg_pool2d(features["c1"], 2))


def test_larger_pictures_are_taken_and_small_ones_refused() -> None:
    network = models.create("lenet5", preprocess={"size": (40, 16), "border": 0})
    assert network.dense(torch.zeros(1, 1, 40, 16))["logits"].shape == (1, 10)
    with pytest.raises(UsageError, match="needs 16 pixels a side"):
        models.create("lenet5", preprocess={"size": (15, 32), "border": 0})


def test_rejection_must_be_positive() -> None:
    with pytest.raises(UsageError, match="rejection"):
        models.create("lenet5_1998", rejection=0)


def test_textbook_form_refuses_the_rejection_energy_that_it_has_not() -> None:
    with pytest.raises(UsageError, match="no effect"):
        models.create("lenet5", rejection=3.0)
