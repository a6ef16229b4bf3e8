import torch
from torch import nn

from striate import create
from striate.models.unweighted import unweighted


def test_networks_have_shapes_and_no_memory() -> None:
    with unweighted():
        network = create("resnet18")
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_689_512


def test_outside_it_weights_are_drawn_as_ever() -> None:
    def drawn() -> torch.Tensor:
        torch.manual_seed(0)
        return nn.Linear(3, 2).weight.detach()

    before = drawn()
    with unweighted():
        drawn()
    assert torch.equal(drawn(), before)
    assert before.abs().sum() > 0
