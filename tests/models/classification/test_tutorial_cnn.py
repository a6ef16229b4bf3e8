import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from striate import models
from striate.errors import UsageError
from striate.structures import ClassTargets


def pictures(batch: int = 2, side: int = 39) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)


def test_maps_have_37_17_and_7_pixels_a_side() -> None:
    features = models.create("tutorial_cnn").features(pictures())
    assert [tuple(maps.shape) for maps in features.values()] == [
        (2, 10, 37, 37),
        (2, 20, 17, 17),
        (2, 40, 7, 7),
    ]


@pytest.mark.parametrize(("classes", "outputs"), [(2, 1), (3, 3), (10, 10)])
def test_parameters_counted_by_hand(classes: int, outputs: int) -> None:
    convolutions = (3 * 9 * 10 + 10) + (10 * 25 * 20 + 20) + (20 * 25 * 40 + 40)
    network = models.create("tutorial_cnn", classes=classes)
    assert sum(p.numel() for p in network.parameters()) == convolutions + 1960 * outputs + outputs


def test_one_sigmoid_output_answers_for_two_classes() -> None:
    network = models.create("tutorial_cnn", classes=("no", "yes"))
    raw = network(pictures())
    assert raw.logits.shape == (2, 1)
    probabilities = network.decode(raw)["logits"].softmax(1)
    torch.testing.assert_close(probabilities[:, 1:], raw.logits.sigmoid())


def test_loss_of_two_classes_is_binary_cross_entropy() -> None:
    network = models.create("tutorial_cnn")
    raw = network(pictures())
    truths = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    loss = network.loss(raw, ClassTargets(truths, torch.ones(2)))["cross_entropy"]
    torch.testing.assert_close(loss, binary_cross_entropy_with_logits(raw.logits[:, 0], truths[:, 1]))


def test_fifteen_pixels_leave_one_and_fourteen_are_refused() -> None:
    network = models.create("tutorial_cnn", preprocess={"size": (15, 18)})
    assert network.features(torch.zeros(1, 3, 15, 18))["conv3"].shape == (1, 40, 1, 1)
    assert network.dense(torch.zeros(1, 3, 15, 18))["logits"].shape == (1, 2)
    with pytest.raises(UsageError, match="needs 15 pixels a side"):
        models.create("tutorial_cnn", preprocess={"size": (14, 39)})


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(UsageError, match="takes pictures of 39x39, got 40x40"):
        models.create("tutorial_cnn")(pictures(side=40))
