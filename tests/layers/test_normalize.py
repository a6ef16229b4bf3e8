import pytest
import torch

from striate.errors import UsageError
from striate.layers.normalize import Normalize
from striate.structures import Preprocess


def test_pixels_become_normalised_values() -> None:
    spec = Preprocess(size=(1, 1), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    # (1 - 0) / 1, (0 - 0.5) / 0.5, (0.2 - 1) / 0.25
    torch.testing.assert_close(Normalize(spec)(pixels).flatten(), torch.tensor([1.0, -1.0, -3.2]))


def test_bgr_turns_the_channels_after_normalising_each_by_its_own() -> None:
    spec = Preprocess(
        size=(1, 1), channel_order="bgr", scale=1.0, mean=(1.0, 10.0, 100.0), std=(1.0, 1.0, 1.0)
    )
    pixels = torch.tensor([2, 20, 200], dtype=torch.uint8).view(1, 3, 1, 1)
    assert Normalize(spec)(pixels).flatten().tolist() == [100.0, 10.0, 1.0]


def test_uint8_and_float_pixels_give_the_same_bits() -> None:
    normalize = Normalize(Preprocess())
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(normalize(pixels), normalize(pixels.float()))


def test_constants_are_no_weights() -> None:
    normalize = Normalize(Preprocess())
    assert normalize.state_dict() == {}
    assert list(normalize.parameters()) == []


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (3, 4, 4), (1, 4, 4, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"takes \(B, 3, H, W\)"):
        Normalize(Preprocess())(torch.zeros(shape))


def test_half_precision_follows_the_module() -> None:
    normalize = Normalize(Preprocess()).to(torch.bfloat16)
    assert normalize(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).dtype == torch.bfloat16
