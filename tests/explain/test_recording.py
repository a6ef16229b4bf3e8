"""What one pass keeps: the values of the calls that are asked for, as they were when they were made."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from torch import Tensor, nn

import striate
from striate.errors import UnknownName, UsageError
from striate.explain.recording import Recording, record
from striate.explain.summary import summarise


def everything(_: str) -> bool:
    return True


def picture(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def pixels(network: nn.Module) -> Tensor:
    preprocess = network.preprocess
    size = (1, preprocess.channels, *preprocess.size)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def kept(recording: Recording) -> list[str]:
    return [call.name for call in recording.calls if call.output is not None]


class Twice(nn.Module):
    """One ReLU called twice, a residual, a concatenation, functions between the modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        first = self.relu(self.norm(self.conv(images)))
        second = self.relu(self.norm(first) - 0.5)
        both = torch.cat((first, second + first), 1)
        return {"map": both, "sums": F.relu(both.flatten(1)).sum(1)}


@pytest.mark.parametrize("name", ["lenet5", "alexnet_2012", "resnet20_cifar", "ssd300"])
def test_calls_have_the_names_of_the_summary(name: str) -> None:
    network = striate.create(name)
    found = record(network, pixels(network))
    listed = [node.call for node in striate.summary(name).nodes if not node.children]
    assert [call.name for call in found.calls if not (call.is_function and call.only_moves)] == listed


@pytest.mark.parametrize("name", ["densenet121", "shufflenet_v2_x1_0", "swin_t"])
def test_foreign_calls_have_the_names_of_the_summary(name: str) -> None:
    network = zoo.get_model(name, weights=None)
    found = record(network, picture(1, 3, 64, 64))
    listed = [node.call for node in summarise(network, (3, 64, 64)).nodes if not node.children]
    assert [call.name for call in found.calls if not (call.is_function and call.only_moves)] == listed


def test_a_module_called_twice_is_two_calls_and_functions_have_names_of_their_own() -> None:
    found = record(Twice(), picture(1, 3, 6, 5))
    assert [call.name for call in found.calls] == [
        "conv", "norm", "relu", "norm #2", "(sub)", "relu #2", "(add)", "(cat)", "(view)", "(relu)", "(sum)",
    ]  # fmt: skip
    assert found["relu#2"] is found["relu #2"]
    assert found["(cat)"].input_shapes == ((1, 4, 6, 5), (1, 4, 6, 5))
    assert found["(cat)"].output_shape == (1, 8, 6, 5)
    assert found["(view)"].only_moves
    assert not found["(add)"].only_moves
    with pytest.raises(UnknownName, match="relu"):
        found["rellu"]


def test_a_block_is_refused_with_the_last_call_inside() -> None:
    found = record(nn.Sequential(nn.Sequential(nn.ReLU(), nn.Tanh())), picture(1, 2))
    with pytest.raises(UsageError, match=r"made of 2 calls. fix: choose one of them: 0.1 is its last"):
        found["0"]


def test_values_are_those_from_before_anything_wrote_into_them() -> None:
    network = Twice().eval()
    found = record(network, picture(1, 3, 6, 5), wanted=everything)
    conv = network.conv(picture(1, 3, 6, 5))
    norm = network.norm(conv)
    assert torch.equal(found["conv"].output, conv)
    assert torch.equal(found["norm"].output, norm)
    assert norm.min() < 0  # the ReLU behind it has written into the network's own
    assert torch.equal(found["relu"].inputs[0], norm)
    assert torch.equal(found["relu"].output, norm.relu())
    # What an operation gave is what its call gave, also where it wrote into its input.
    assert found["relu"].output is found["relu"].performed[0].outputs[0]
    second = network.norm(norm.relu()) - 0.5
    assert torch.equal(found["(sub)"].output, second)
    assert torch.equal(found["(add)"].inputs[0], second.relu())


def test_only_the_wanted_and_what_normalises_and_activates_it_is_kept() -> None:
    found = record(Twice(), picture(1, 3, 6, 5), wanted=lambda name: name == "conv")
    assert kept(found) == ["conv", "norm", "relu", "norm #2", "(sub)", "relu #2"]
    assert [call.name for call in found.following(found["conv"])] == kept(found)[1:]
    assert kept(record(Twice(), picture(1, 3, 6, 5), wanted=lambda name: name == "(cat)")) == ["(cat)"]
    assert kept(record(Twice(), picture(1, 3, 6, 5))) == []


def test_memory_holds_the_wanted_alone() -> None:
    network = zoo.resnet18()
    found = record(network, picture(1, 3, 64, 64), wanted=lambda name: name == "layer1.0.conv2", thumbs=True)
    assert kept(found) == ["layer1.0.conv2", "layer1.0.bn2"]
    held = {
        tensor.data_ptr(): tensor.nbytes
        for call in found.calls
        for tensor in (*(call.inputs or ()), *([] if call.output is None else [call.output]))
    }
    # In and out of conv2, and behind bn2: three maps of 64 x 16 x 16, beside the norm's own numbers.
    assert sum(held.values()) - sum(p.nbytes for p in network.layer1[0].bn2.state_dict().values()) < 4 * 65536
    assert len([call for call in found.calls if call.thumbnail is not None]) > 60


def test_a_thumbnail_keeps_peaks_and_its_range() -> None:
    maps = torch.zeros(1, 2, 64, 64)
    maps[0, 0, 17, 40] = -8.0
    found = record(nn.Sequential(nn.Identity()), maps, thumbs=True)["0"].thumbnail
    assert found.pixels.shape == (2, 32, 32)
    assert (found.low.tolist(), found.high.tolist()) == ([-8.0, 0.0], [0.0, 0.0])
    assert found.pixels[0, 8, 20] == 0
    assert (found.pixels[0] == 255).sum() == 32 * 32 - 1


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(inplace=True)
    ).train()
    network[2].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for training in (False, True):
        state = torch.get_rng_state()
        record(network, picture(2, 3, 6, 6), wanted=everything, training=training)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert [part.training for part in network] == [True, True, False, True]
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


def test_training_mode_is_used_if_asked() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3))
    images = 9 * picture(2, 3, 6, 6)
    assert record(network, images, wanted=everything)["0"].output.mean() > 4
    assert record(network, images, wanted=everything, training=True)["0"].output.mean().abs() < 1e-5


def test_a_pass_that_fails_keeps_what_was_seen_and_names_the_call_with_both_shapes() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(9, 8, 3), nn.ReLU())
    found = record(network, picture(1, 3, 9, 9), wanted=everything)
    assert [call.name for call in found.calls] == ["0", "1"]
    assert found["1"].output.shape == (1, 8, 7, 7)
    assert found.outputs is None
    assert found.failure.call == "2"
    assert str(found.failure).startswith("2 (Conv2d): 1x8x7x7 and 8x9x3x3 and 8: ")
    with pytest.raises(UsageError, match="1x8x7x7 and 8x9x3x3"):
        found.whole()


def test_a_refusal_of_the_network_itself_is_raised() -> None:
    with pytest.raises(UsageError, match="takes pictures of 32x32"):
        record(striate.create("lenet5"), torch.zeros(1, 1, 40, 40, dtype=torch.uint8))


def test_gradients_reach_what_a_later_operation_wrote_into() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)).eval()
    network.requires_grad_(False)
    found = record(network, picture(1, 3, 6, 6), wanted=lambda name: name == "1", gradients=True)
    live = found["1"].live
    assert torch.equal(live, found["1"].output)
    assert live.min() < 0
    gradient, at_input = torch.autograd.grad(found.outputs.sum(), [live, found.images])
    assert torch.equal(gradient, (live > 0).float())
    assert at_input.shape == (1, 3, 6, 6)
    assert [call.name for call in found.following(found["1"])] == ["2"]


def test_a_network_takes_whole_pixels_through_dense() -> None:
    network = striate.create("lenet5", classes=10)
    images = pixels(network)
    found = record(network, images, wanted=everything)
    assert torch.equal(found.outputs["logits"], network.eval().dense(images)["logits"])
    assert found["normalize"].inputs[0].dtype == torch.uint8


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), ("pad", "convolution")),
        (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), ("reflection_pad2d", "convolution")),
        (lambda: nn.LocalResponseNorm(3), ("local_response_norm",)),
    ],
)
def test_what_a_module_is_made_of_is_seen_in_whole_pieces(
    build: Callable[[], nn.Module], names: tuple[str, ...]
) -> None:
    assert record(nn.Sequential(build()), picture(1, 3, 6, 6))["0"].operations == names
