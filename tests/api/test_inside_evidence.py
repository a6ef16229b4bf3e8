"""What one picture becomes in small networks whose weights are set by hand."""

import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from striate import models
from striate.api.evidence import Example
from striate.api.inside_evidence import inside_evidence
from striate.api.reporting import summary_of
from striate.data.dataset import Dataset, Item
from striate.explain import recording
from striate.explain.colours import Scale
from striate.models import card_of
from striate.models.wrapped import Config, ForeignNetwork
from striate.reports.evidence import Inside, Shown
from striate.runtime.predictor import Predictor
from striate.runtime.pytorch import PyTorchEngine
from striate.structures import Preprocess

# The largest pixel lies in a corner, so that the window of the largest number hangs over the border.
PIXELS = np.array([[9, 1, 0, 0], [1, 0, 0, 2], [0, 0, 0, 0], [0, 3, 0, 4]], np.uint8)


def predictor_of(body: nn.Module, side: int = 4) -> Predictor:
    """Of `body`, which is given the pixels as they are: gray, 0..255."""
    preprocess = Preprocess((side, side), "stretch", color="gray", scale=1.0, mean=(0.0,), std=(1.0,))
    config = Config(name="here:body", classes=3, preprocess=preprocess)
    network = ForeignNetwork(config, body).eval().requires_grad_(False)
    return Predictor(card_of(network), PyTorchEngine(network))


def inside_of(predictor: Predictor, pixels: np.ndarray = PIXELS, layers: Any = None) -> Inside:
    storage = SimpleNamespace(content=lambda _: pixels[:, :, None])
    dataset = Dataset("drawn", "drawn", "classification", ("a", "b", "c"), (Item("a.png"),), storage)
    layers = summary_of(predictor) if layers is None else layers
    return inside_evidence(predictor, layers, dataset, Example(0, "The first."))


def convolutional() -> nn.Sequential:
    """The first convolution has 2 x the pixel + 1, and -1 x all pixels around it."""
    first = nn.Conv2d(1, 2, 3, padding=1)
    first.weight.data.zero_()
    first.weight.data[0, 0, 1, 1] = 2.0
    first.weight.data[1] = -1.0
    first.bias.data.copy_(torch.tensor([1.0, -1.0]))
    second = nn.Conv2d(2, 2, 1, bias=False)
    second.weight.data.copy_(torch.tensor([[1.0, 0.0], [-0.5, 0.0]])[:, :, None, None])
    rest = (nn.ReLU(), nn.MaxPool2d(2), second, nn.LeakyReLU(0.5), nn.Flatten(), nn.Linear(8, 3))
    return nn.Sequential(first, *rest)


@pytest.fixture
def found() -> Inside:
    return inside_of(predictor_of(convolutional()))


def pixels_of(image: Shown) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(image.uri.partition(",")[2]))))


def test_the_maps_are_those_behind_the_last_activation_of_each_size(found: Inside) -> None:
    assert [maps.title for maps in found.maps] == ["body.1", "body.4"]
    assert "the last activation before that" in found.maps_text
    # Of two maps of 4x4 one is 1 + 2 x the pixels, the other 0.
    assert found.maps[0].text == (
        "ReLU: 2 maps of 4x4, 50.0 % of the values 0. Maps that are 0 everywhere in this picture: 1. "
        "Each value sees 3 input pixels a side."
    )


def test_a_map_has_the_colours_of_its_values_and_says_how_far_they_go(found: Inside) -> None:
    strongest, dead = found.maps[0].pictures
    assert (strongest.key, strongest.lines) == ("channel 0", ("1 to 19",))
    assert (dead.key, dead.lines) == ("channel 1", ("0 to 0",))
    assert np.array_equal(pixels_of(strongest.images[0]), Scale(0.0, 19.0)(1.0 + 2.0 * PIXELS))
    assert strongest.images[0].alt == "channel 0 of body.1: 1 to 19"
    assert found.maps[0].legend[0] == ("0", "#440154")


def test_maps_too_large_to_be_shown_as_squares_have_the_size_of_a_picture() -> None:
    body = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.AvgPool2d(12), nn.Flatten(), nn.Linear(25, 3))
    (maps,) = inside_of(predictor_of(body, 60)).maps
    (image,) = maps.pictures[0].images
    assert (image.width, image.height) == (112, 112)


def test_maps_with_values_below_0_are_all_coloured_around_it(found: Inside) -> None:
    largest = np.array([[19.0, 5.0], [7.0, 9.0]])  # of each 2x2
    first, second = found.maps[1].pictures
    assert (first.lines, second.lines) == (("5 to 19",), ("-4.75 to -1.25",))
    assert np.array_equal(pixels_of(first.images[0]), Scale(-19.0, 19.0)(largest))
    assert np.array_equal(pixels_of(second.images[0]), Scale(-4.75, 4.75)(-0.25 * largest))
    assert found.maps[1].legend[1] == ("0", "#f7f7f7")


def test_the_largest_number_of_the_first_convolution_is_worked_out(found: Inside) -> None:
    assert found.worked_text == (
        "The largest number that its first convolution gives for this picture: "
        "body.0, channel 0, row 0, column 0 of 2x4x4 (Conv2d)."
    )
    assert found.worked is not None
    (channel,) = found.worked.channels
    entered, kernel, products = channel.grids
    assert (entered.rows, entered.columns) == ((-1, 0, 1), (-1, 0, 1))
    assert entered.values == ((0, 0, 0), (0, 9, 1), (0, 1, 0))
    assert entered.padded == products.padded == ((True,) * 3, (True, False, False), (True, False, False))
    assert (kernel.rows, kernel.columns) == ((0, 1, 2), (0, 1, 2))
    assert kernel.values == ((0, 0, 0), (0, 2, 0), (0, 0, 0))
    assert not any(map(any, kernel.padded))
    assert products.values[1] == (0, 18, 0)
    assert channel.sum == 18
    assert found.worked.sums is None  # one channel alone
    assert "padded: zeros" in found.worked.window_text


def test_each_step_stands_beside_what_torch_says(found: Inside) -> None:
    assert found.worked is not None
    assert [(step.title, step.torch, step.agrees) for step in found.worked.steps] == [
        ("body.0: convolution", 19.0, True),
        ("body.1: ReLU", 19.0, True),
    ]
    assert found.worked.steps[0].worked == "sum 18 + bias 1 = 19"


def test_the_pixel_of_the_largest_product_is_followed_from_the_picture(found: Inside) -> None:
    assert found.worked is not None
    assert "largest product in size: channel 0, row 0, column 0" in found.worked.entering_text
    assert found.worked.entering[0].worked == "the value at (0, 0, 0) = 9"
    assert found.worked.entering[-1].torch == 9.0


def test_the_picture_is_the_one_at_the_input_with_the_window_in_it(found: Inside) -> None:
    (picture,) = found.picture.pictures
    assert (picture.key, picture.lines) == ("a.png", ("4x4 pixels, gray",))
    drawn = pixels_of(picture.images[0]).astype(int)
    assert drawn.shape == (216, 216, 3)  # 54 for each pixel
    orange = np.abs(drawn - (230, 159, 0)).sum(2) < 150
    rows, columns = np.nonzero(orange)
    assert max(abs(rows.max() - 107), abs(columns.max() - 107)) <= 3  # rows and columns 0 and 1
    assert found.picture.legend == (("the window of the number that is worked out below", "#e69f00"),)


def test_a_picture_that_enters_as_hue_saturation_and_value_is_shown_in_its_colours() -> None:
    preprocess = Preprocess((4, 4), "stretch", color="hsv")
    body = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    network = ForeignNetwork(Config(name="here:body", classes=3, preprocess=preprocess), body).eval()
    red = np.full((4, 4, 3), (200, 0, 0), np.uint8)
    storage = SimpleNamespace(content=lambda _: red)
    dataset = Dataset("drawn", "drawn", "classification", ("a", "b", "c"), (Item("a.png"),), storage)
    predictor = Predictor(card_of(network), PyTorchEngine(network))
    found = inside_evidence(predictor, summary_of(predictor), dataset, Example(0, "The first."))
    shown = pixels_of(found.picture.pictures[0].images[0])
    assert np.abs(shown[-1, -1].astype(int) - (200, 0, 0)).max() <= 8  # as JPEG has it; no frame there


def test_values_of_what_is_shown_are_kept_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[recording.Recording] = []
    plain = recording.record

    def noted(*given: Any, **more: Any) -> recording.Recording:
        made.append(plain(*given, **more))
        return made[-1]

    monkeypatch.setattr(recording, "record", noted)
    inside_of(predictor_of(convolutional()))
    kept = {call.name for call in made[0].calls if call.output is not None}
    assert kept == {"normalize", "body.0", "body.1", "body.4"}
    assert len(made) == 1


def test_of_many_sizes_some_are_shown_with_the_first_and_the_last() -> None:
    layers = [part for _ in range(7) for part in (nn.Conv2d(1, 1, 2), nn.ReLU())]
    found = inside_of(predictor_of(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3)), 9))
    assert [maps.title for maps in found.maps] == ["body.1", "body.5", "body.7", "body.9", "body.13"]
    assert "5 of its 7 such layers are shown" in found.maps_text


class Permuted(nn.Module):
    """Its input with the axes in another order."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, values: Tensor) -> Tensor:
        return values.permute(self.order)


def test_of_several_activations_of_a_size_the_last_has_the_maps() -> None:
    layers = (nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.Sigmoid())
    (maps,) = inside_of(predictor_of(nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 3)))).maps
    assert maps.title == "body.3"


def test_without_activations_the_last_convolution_of_each_size_has_the_maps() -> None:
    layers = (nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.MaxPool2d(2), nn.Conv2d(2, 1, 1))
    found = inside_of(predictor_of(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3))))
    assert [maps.title for maps in found.maps] == ["body.1", "body.3"]
    assert "the last convolution before that" in found.maps_text


def test_channels_that_come_last_are_not_taken_for_columns() -> None:
    last, first = Permuted(0, 2, 3, 1), Permuted(0, 3, 1, 2)
    layers = (nn.Conv2d(1, 9, 1), nn.ReLU(), last, nn.ReLU(), first, nn.Flatten())
    (maps,) = inside_of(predictor_of(nn.Sequential(*layers, nn.Linear(144, 3)))).maps
    assert maps.title == "body.1"


def test_nine_maps_of_a_layer_are_shown_and_the_others_counted() -> None:
    body = nn.Sequential(nn.Conv2d(1, 12, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 16, 3))
    body[0].weight.data.copy_(torch.arange(12.0).view(12, 1, 1, 1))
    (maps,) = inside_of(predictor_of(body)).maps
    assert [picture.key for picture in maps.pictures] == [f"channel {place}" for place in range(11, 2, -1)]
    assert maps.left_out == 3


def test_a_network_without_convolutions_has_a_linear_unit_worked_out() -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.ReLU())
    body[1].weight.data.zero_()
    body[1].bias.data.zero_()
    body[1].weight.data[2, 7] = 5.0  # of the pixel at row 1, column 3, which is 2
    body[1].weight.data[2, 0] = -0.5
    found = inside_of(predictor_of(body))
    assert found.maps == ()
    assert found.maps_text == "No layer of it gives maps of this picture alone, so there are none to show."
    assert "its first layer that adds up products gives" in found.worked_text
    assert "body.1, channel 2 of 3 (Linear)" in found.worked_text
    assert found.worked is not None
    assert found.worked.channels == ()
    assert found.worked.sums is not None
    assert found.worked.sums.rows[:2] == (("7", "2", "5", "+10"), ("0", "9", "-0.5", "-4.5"))
    assert "channel 0, row 1, column 3" in found.worked.entering_text
    assert found.worked.entering[-1].torch == 2.0
    assert found.worked.steps[-1].torch == 5.5
    assert found.picture.legend == ()


def test_what_many_channels_add_is_a_table_and_the_largest_show_their_cells() -> None:
    body = nn.Sequential(
        nn.PixelUnshuffle(2), nn.Conv2d(4, 1, 2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(1, 3)
    )
    body[1].weight.data.copy_(torch.tensor([1.0, 2.0, -1.0, 5.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2))
    worked = inside_of(predictor_of(body)).worked
    assert worked is not None
    assert worked.sums is not None
    # The pixels at odd rows and columns are 0, 2, 3 and 4, five times each.
    assert worked.sums.rows == (("3", "+45"), ("0", "+9"), ("1", "+2"), ("2", "-1"))
    assert [channel.name for channel in worked.channels] == ["channel 3", "channel 0", "channel 1"]
    assert "Of 4 channels the 3 with the largest sums in size" in worked.window_text
    assert worked.entering == ()  # its window lies on no pixels
    assert worked.steps[-1].torch == 55.0


def test_a_window_of_very_many_cells_is_summed_and_not_shown() -> None:
    body = nn.Sequential(nn.Conv2d(1, 2, 17), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    pixels = np.arange(400).reshape(20, 20).astype(np.uint8)
    worked = inside_of(predictor_of(body, 20), pixels).worked
    assert worked is not None
    assert worked.channels == ()
    assert [step.agrees for step in worked.steps] == [True, True]


class Mirrored(nn.Module):
    """Looks at the picture and its mirror image at once."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convolutional()

    def forward(self, values: Tensor) -> Tensor:
        both: Tensor = self.body(torch.cat((values, values.flip(3))))
        return both[:1] + both[1:]


def test_of_a_network_that_looks_at_several_pictures_at_once_nothing_is_guessed() -> None:
    found = inside_of(predictor_of(Mirrored()))
    assert (found.maps, found.worked) == ((), None)
    assert found.worked_text == (
        "Its first convolution, body.body.0, is given cuttings or mirror images of this picture too, so no "
        "number is worked out."
    )
    assert len(found.picture.pictures) == 1


def test_a_network_that_adds_up_nothing_says_so() -> None:
    found = inside_of(
        predictor_of(nn.Sequential(nn.BatchNorm2d(1), nn.AdaptiveMaxPool2d((1, 3)), nn.Flatten()))
    )
    assert found.worked_text == "No layer of it adds up products, so no number is worked out."


class Rows(nn.Module):
    """Reads the rows one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 3, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        states, _ = self.gru(values[:, 0])
        return states[:, -1]


def test_what_has_no_rule_is_said_to_have_none() -> None:
    found = inside_of(predictor_of(Rows()))
    assert found.worked is None
    assert found.worked_text.endswith("(GRU). It is not worked out: no rule for gru.")


class Forked(nn.Module):
    """Bright pictures go through other layers than dark ones."""

    def __init__(self) -> None:
        super().__init__()
        self.dark, self.bright = convolutional(), convolutional()

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.bright(values) if values.mean() > 1.5 else self.dark(values)
        return found


def test_a_path_that_this_picture_does_not_take_is_not_shown() -> None:
    # The summary of a network whose path hangs on values is that of a picture by chance, of 0..1: a dark one.
    found = inside_of(predictor_of(Forked()), PIXELS + 100)
    assert (found.maps, found.worked) == ((), None)
    assert "there is no 'body.dark.0'" in found.worked_text


def test_an_export_shows_the_picture_and_says_why_nothing_else() -> None:
    why = "it is an export, of which the layers are not read"
    found = inside_of(predictor_of(convolutional()), layers=why)
    assert found.maps_text == found.worked_text == f"Not shown: {why}."
    assert len(found.picture.pictures) == 1


@pytest.mark.parametrize("name", sorted(models.families()))
def test_every_family_has_a_number_worked_out_that_agrees_or_says_why_not(name: str) -> None:
    family = models.families()[name]
    torch.manual_seed(0)
    network = family.build(family.TINY).eval().requires_grad_(False)
    network.name = next(iter(family.VARIANTS))
    if network.preprocess.proposals:
        pytest.importorskip("cv2")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 56), np.uint8)
    found = inside_of(Predictor(card_of(network), PyTorchEngine(network)), pixels)
    assert "Not shown" not in found.worked_text
    if found.worked is None:
        assert name in ("rcnn", "speedrun")
        assert found.worked_text.endswith("so no number is worked out.")
        return
    assert all(step.agrees for step in (*found.worked.entering, *found.worked.steps))
    assert len(found.maps) >= (0 if name == "mlp" else 2)
