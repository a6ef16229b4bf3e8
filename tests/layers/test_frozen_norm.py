"""Batch normalisation that nothing changes: the numbers of evaluation, under the same names."""

import torch
from torch import nn

from striate.layers.frozen_norm import FrozenNorm, freeze_norms


def trained(channels: int = 3) -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(channels, eps=1e-3)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.uniform_(0.5, 2.0)
    return norm.eval()


def test_frozen_gives_what_evaluation_gives_in_training_too() -> None:
    norm, frozen = trained(), FrozenNorm(3, 1e-3).train()
    frozen.load_state_dict({name: t for name, t in norm.state_dict().items() if "num_batches" not in name})
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    maps = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(frozen(maps), norm(maps))
    assert all(torch.equal(tensor, before[name]) for name, tensor in frozen.state_dict().items())
    assert list(frozen.parameters()) == []


def test_every_norm_within_is_replaced_and_begins_as_the_identity() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(2)))
    names = {name for name in network.state_dict() if "num_batches" not in name}
    freeze_norms(network, 0.0)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert set(network.state_dict()) == names
    maps = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(network.train()(maps), network[0](maps))
