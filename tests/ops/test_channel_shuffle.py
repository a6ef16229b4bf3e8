import pytest
import torch

from striate.ops.channel_shuffle import channel_shuffle


def test_maps_are_dealt_out_by_turns() -> None:
    maps = torch.arange(6.0).view(1, 6, 1, 1)
    assert channel_shuffle(maps, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert channel_shuffle(maps, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_torchs(groups: int, memory_format: torch.memory_format) -> None:
    maps = torch.rand(2, 12, 3, 5).contiguous(memory_format=memory_format)
    assert torch.equal(channel_shuffle(maps, groups), torch.channel_shuffle(maps, groups))


def test_shuffling_the_groups_back_restores_the_maps() -> None:
    maps = torch.rand(2, 12, 3, 5)
    assert torch.equal(channel_shuffle(channel_shuffle(maps, 3), 4), maps)
