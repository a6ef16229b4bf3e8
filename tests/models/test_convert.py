import pytest
import torch
import torchvision
from torch import Tensor

from striate import models
from striate.errors import ModelError, UnknownName, UsageError
from striate.models.convert import convert, convert_state_dict, sources


def weights(name: str = "resnet20_cifar", **config: object) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return models.create(name, **config).state_dict()


def akamaster(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}".replace("fc.", "linear."): tensor for name, tensor in state_dict.items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_sources_are_what_the_family_offers() -> None:
    assert sources("resnet18") == ("striate", "akamaster", "torchvision")
    assert sources("mlp") == ("striate",)


def test_the_source_is_found_by_its_names() -> None:
    expected = weights()
    conversion = convert(akamaster(expected), "resnet20_cifar")
    assert conversion.report.source == "akamaster"
    assert conversion.report.fits
    assert_same(conversion.state_dict, expected)


def test_torchvisions_weights_fit_and_tell_their_classes() -> None:
    theirs = torchvision.models.resnet18(weights=None, num_classes=7).state_dict()
    conversion = convert(theirs, "resnet18", source="torchvision")
    assert conversion.classes == 7
    assert_same(conversion.state_dict, dict(theirs))
    models.create("resnet18", classes=7).load_state_dict(conversion.state_dict, strict=True)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_a_checkpoint_is_unwrapped(wrapper: str) -> None:
    expected = weights("mlp", classes=3)
    wrapped = {f"_orig_mod.module.{name}": tensor for name, tensor in expected.items()}
    checkpoint = {wrapper: wrapped, "best_prec1": 91.7, "epoch": 3}
    assert_same(convert_state_dict(checkpoint, "mlp"), expected)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("tutorial_cnn", 2), ("tutorial_cnn", 5), ("lenet5_1998", 4), ("lenet5", 3), ("simple_cnn", 2)],
)
def test_number_of_classes_is_read_off_the_last_layer(name: str, classes: int) -> None:
    assert convert(weights(name, classes=classes), name).classes == classes


def test_stated_number_of_classes_is_held_to() -> None:
    report = convert(weights("mlp", classes=3), "mlp", classes=4).report
    assert report.wrong_shape == (
        ("layers.6.weight", (3, 100), (4, 100)),
        ("layers.6.bias", (3,), (4,)),
    )
    assert not report.fits


def test_report_names_what_is_missing_and_what_is_unexpected() -> None:
    state_dict = weights("mlp")
    del state_dict["layers.0.bias"]
    state_dict["aux.weight"] = torch.zeros(1)
    conversion = convert(state_dict, "mlp")
    assert conversion.report.missing == ("layers.0.bias",)
    assert conversion.report.unexpected == ("aux.weight",)
    assert len(conversion.report.matched) == 7
    assert conversion.state_dict.keys() == set(conversion.report.matched)


def test_strict_conversion_refuses_and_says_what_does_not_fit() -> None:
    state_dict = weights("mlp")
    del state_dict["layers.0.bias"]
    with pytest.raises(ModelError, match=r"7 tensors fit.*1 missing \(layers\.0\.bias\)"):
        convert_state_dict(state_dict, "mlp")


def test_absent_counters_start_at_zero_and_are_reported() -> None:
    state_dict = {name: t for name, t in weights("simple_cnn").items() if "num_batches" not in name}
    conversion = convert(state_dict, "simple_cnn")
    assert conversion.report.fits
    assert len(conversion.report.filled) == 5
    assert all(conversion.state_dict[name] == 0 for name in conversion.report.filled)
    models.create("simple_cnn").load_state_dict(conversion.state_dict, strict=True)


def test_family_settings_can_be_given() -> None:
    state_dict = weights("resnet20_cifar", shortcut="B")
    assert not convert(state_dict, "resnet20_cifar").report.fits
    assert_same(convert_state_dict(state_dict, "resnet20_cifar", config={"shortcut": "B"}), state_dict)


def test_half_precision_weights_take_the_networks_precision() -> None:
    expected = weights("mlp")
    halves = {name: tensor.half() for name, tensor in expected.items()}
    found = convert_state_dict(halves, "mlp")
    assert all(tensor.dtype == torch.float32 for tensor in found.values())
    assert torch.equal(found["layers.0.weight"], halves["layers.0.weight"].float())


def test_the_result_shares_no_memory_with_its_source() -> None:
    state_dict = weights("mlp")
    found = convert_state_dict(state_dict, "mlp")
    found["layers.0.weight"].zero_()
    assert state_dict["layers.0.weight"].any()


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ModelError, match="no tensor fits mlp"):
        convert(weights("tutorial_cnn"), "mlp")


def test_an_entry_that_is_no_tensor_is_named() -> None:
    with pytest.raises(ModelError, match="entry 'epoch' is int, not a tensor"):
        convert({**weights("mlp"), "epoch": 3}, "mlp")


def test_misspelt_source_and_network_offer_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean torchvision"):
        convert(weights(), "resnet20_cifar", source="torchvison")
    with pytest.raises(UnknownName, match="resnet20_cifar"):
        convert(weights(), "resnet20cifar")


def test_an_empty_state_dict_is_refused() -> None:
    with pytest.raises(ModelError, match="no tensor fits"):
        convert({}, "mlp")


def test_what_is_no_state_dict_is_refused() -> None:
    with pytest.raises(ModelError, match="this is list"):
        convert([torch.zeros(1)], "mlp")  # type: ignore[arg-type]


def nameless(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in the same order, under names that tell nothing."""
    return {f"t{number}": tensor for number, tensor in enumerate(state_dict.values())}


def test_in_order_every_tensor_takes_its_place() -> None:
    expected = weights("resnet20_cifar")
    conversion = convert(nameless(expected), "resnet20_cifar", match="order")
    assert_same(conversion.state_dict, expected)
    assert conversion.report.source == "order"
    assert conversion.report.renamed[0] == ("t0", "conv1.weight")
    assert convert_state_dict(nameless(expected), "resnet20_cifar", match="order").keys() == expected.keys()


def test_in_order_the_classes_are_read_off_the_last_layer() -> None:
    assert convert(nameless(weights("mlp", classes=7)), "mlp", match="order").classes == 7


def test_in_order_the_first_tensor_of_another_shape_is_named_with_its_place() -> None:
    state_dict = weights("mlp")
    state_dict["layers.2.weight"] = torch.zeros(9, 9)
    with pytest.raises(ModelError, match=r"tensor 3, t2, is \(9, 9\); layers\.2\.weight of mlp is"):
        convert(nameless(state_dict), "mlp", match="order")


def test_in_order_tensors_that_would_fit_elsewhere_are_refused() -> None:
    state_dict = weights("mlp")
    swapped = dict(reversed(state_dict.items()))
    with pytest.raises(ModelError, match="tensor 1"):
        convert(swapped, "mlp", match="order")


def test_in_order_a_tensor_too_many_is_named() -> None:
    with pytest.raises(ModelError, match="mlp ends after 8 tensors; they go on with aux"):
        convert({**weights("mlp"), "aux": torch.zeros(1)}, "mlp", match="order")


def test_in_order_an_early_end_names_what_would_come_next() -> None:
    state_dict = dict(list(weights("mlp").items())[:4])
    with pytest.raises(ModelError, match=r"end after 4 tensors; mlp goes on with layers\.4\.weight"):
        convert(state_dict, "mlp", match="order")


def test_in_order_only_the_last_layer_may_be_absent_and_starts_at_zero() -> None:
    expected = weights("mlp", classes=3)
    conversion = convert(dict(list(expected.items())[:6]), "mlp", classes=3, match="order")
    assert conversion.report.untrained == ("layers.6.weight", "layers.6.bias")
    assert conversion.report.fits
    assert not conversion.state_dict["layers.6.weight"].any()
    assert conversion.state_dict["layers.6.weight"].shape == (3, 100)
    assert torch.equal(conversion.state_dict["layers.4.weight"], expected["layers.4.weight"])


def test_in_order_another_number_of_classes_is_said_with_both_shapes() -> None:
    with pytest.raises(ModelError, match=r"tensor 7, .*\(7, 100\); layers\.6\.weight of mlp is \(4, 100\)"):
        convert(weights("mlp", classes=7), "mlp", classes=4, match="order")


def test_in_order_absent_counters_start_at_zero_and_are_reported() -> None:
    expected = weights("simple_cnn")
    without = {name: tensor for name, tensor in expected.items() if "num_batches" not in name}
    conversion = convert(nameless(without), "simple_cnn", match="order")
    assert len(conversion.report.filled) == 5
    assert_same(conversion.state_dict, expected)


def test_in_order_a_source_of_names_is_refused() -> None:
    with pytest.raises(UsageError, match="reads no names"):
        convert(weights("mlp"), "mlp", source="striate", match="order")


def test_an_unknown_way_to_match_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean order"):
        convert(weights("mlp"), "mlp", match="orders")  # type: ignore[arg-type]
