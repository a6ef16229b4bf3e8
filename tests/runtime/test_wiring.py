"""The ports of an exported graph against its card: each mismatch is told before the first picture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.errors import ModelError, UsageError
from striate.modelfile import ModelCard, card_text
from striate.runtime.wiring import Port, chosen_card, wired
from striate.structures import Preprocess

PATH = Path("model.onnx")
IMAGES = Port("images", "uint8", (None, 3, 8, 6))
LOGITS = Port("logits", "float32", (None, 2))
BOXES = (
    Port("boxes", "float32", (None, 20, 4)),
    Port("scores", "float32", (None, 20)),
    Port("labels", "int64", (None, 20)),
)


def card(task: str = "classification", **preprocess: Any) -> ModelCard:
    return ModelCard(task, "f", "v", {}, ("cat", "dog"), Preprocess(**{"size": (8, 6), **preprocess}))


def test_ports_that_fit_are_known_by_name() -> None:
    wiring = wired(card("detection"), [IMAGES], BOXES[::-1], PATH)
    assert dict(wiring.inputs) == {"images": IMAGES}
    assert dict(wiring.outputs) == {port.name: port for port in BOXES}


def test_a_single_input_and_output_may_bear_any_name() -> None:
    wiring = wired(card(), [Port("x", *IMAGES[1:])], [Port("y", *LOGITS[1:])], PATH)
    assert (wiring.inputs["images"].name, wiring.outputs["logits"].name) == ("x", "y")


def test_outputs_that_nobody_needs_are_left_alone() -> None:
    wiring = wired(card(), [IMAGES], [Port("features", "float32", (None, 512)), LOGITS], PATH)
    assert list(wiring.outputs) == ["logits"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (Port("images", "uint8", (None, 1, 8, 6)), r"\(any, 1, 8, 6\) where .* \(any, 3, 8, 6\)"),
        (Port("images", "uint8", (None, 3, 6, 8)), r"\(any, 3, 6, 8\) where its card needs"),
        (Port("images", "uint8", (None, 3, 8)), r"\(any, 3, 8\) where"),
        (Port("images", "int64", (None, 3, 8, 6)), "int64 .* needs images uint8 or float16 or float32"),
        (Port("images", "uint8", (None, 8, 6, 3)), "where its card needs"),
    ],
)
def test_an_input_that_pictures_do_not_fit_is_refused(images: Port, message: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.onnx: it .*{message}"):
        wired(card(), [images], [LOGITS], PATH)


@pytest.mark.parametrize("free", [(None, 3, None, None), None, (None, None, None, None), (4, 3, 8, 6)])
def test_free_lengths_fit_everything(free: tuple[int | None, ...] | None) -> None:
    assert wired(card(), [Port("images", "uint8", free)], [Port("logits", "float32", None)], PATH)


def test_a_graph_of_one_size_is_refused_for_pictures_of_any_size() -> None:
    with pytest.raises(ModelError, match="pictures of fit 'none' come in any size"):
        wired(card(fit="none"), [IMAGES], [LOGITS], PATH)
    assert wired(card(fit="none"), [Port("images", "uint8", (None, 3, None, None))], [LOGITS], PATH)


@pytest.mark.parametrize(
    ("task", "outputs", "message"),
    [
        ("classification", [Port("logits", "float32", (None, 3))], r"float32 \(any, 3\) .* \(any, 2\)"),
        ("classification", [Port("logits", "int64", (None, 2))], "logits int64"),
        ("classification", [], "no output logits; its outputs are: none"),
        ("classification", [Port("a", *LOGITS[1:]), Port("b", *LOGITS[1:])], "no output logits; .* float32"),
        ("segmentation", [LOGITS], r"where its card needs .* \(any, 2, any, any\)"),
        ("detection", [LOGITS], "no output boxes and scores and labels"),
        ("detection", [BOXES[0], BOXES[1], Port("labels", "float32", (None, 20))], "labels float32"),
        ("detection", [Port("boxes", "float32", (None, 20, 5)), *BOXES[1:]], r"boxes float32 \(any, 20, 5\)"),
    ],
)
def test_outputs_of_another_task_or_other_classes_are_refused(
    task: str, outputs: list[Port], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        wired(card(task), [IMAGES], outputs, PATH)


def test_an_input_that_nobody_feeds_is_refused() -> None:
    with pytest.raises(ModelError, match=r"further input, mask float32 \(any\)"):
        wired(card(), [IMAGES, Port("mask", "float32", (None,))], [LOGITS], PATH)


def test_proposals_are_needed_where_the_card_says_so() -> None:
    proposals = Port("proposals", "float32", (None, 50, 4))
    assert set(wired(card("detection", proposals=50), [IMAGES, proposals], BOXES, PATH).inputs) == {
        "images",
        "proposals",
    }
    with pytest.raises(ModelError, match="no input proposals"):
        wired(card("detection", proposals=50), [IMAGES], BOXES, PATH)
    with pytest.raises(ModelError, match=r"proposals float32 \(any, 50, 4\) .* \(any, 60, 4\)"):
        wired(card("detection", proposals=60), [IMAGES, proposals], BOXES, PATH)
    with pytest.raises(ModelError, match="further input, proposals"):
        wired(card("detection"), [IMAGES, proposals], BOXES, PATH)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ModelError, match=r"its task '\.\./evil' is unknown"):
        wired(card("../evil"), [IMAGES], [LOGITS], PATH)


# running


class Graph:
    """A graph of the mean of each of two channels; it keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[NDArray[Any]] = []

    def __call__(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        (images,) = arrays.values()
        self.given.append(images)
        return {"y": images.mean(axis=(2, 3), dtype=np.float64)[:, :2].astype(np.float16)}


def pictures(count: int) -> NDArray[np.uint8]:
    """Pictures as the predictor gives them: views of (B, H, W, C) memory."""
    chance = np.random.default_rng(1)
    return chance.integers(0, 256, (count, 8, 6, 3), dtype=np.uint8).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("bound", [None, 1, 2, 3, 4, 7])
def test_a_graph_bound_to_a_number_of_pictures_takes_any_number(bound: int | None) -> None:
    graph, images = Graph(), pictures(5)
    wiring = wired(card(), [Port("x", "uint8", (bound, 3, 8, 6))], [Port("y", "float16", None)], PATH)
    found = wiring.run({"images": images}, graph)
    np.testing.assert_array_equal(found["logits"], Graph()({"x": images})["y"].astype(np.float32))
    assert found["logits"].dtype == np.float32
    assert {len(given) for given in graph.given} == {bound or 5}
    assert all(given.flags.c_contiguous and given.dtype == np.uint8 for given in graph.given)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_float_graph_gets_pictures_normalised_as_the_first_layer_does(order: str) -> None:
    torch = pytest.importorskip("torch")
    from striate.layers.normalize import Normalize

    own = card(channel_order=order, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    graph, images = Graph(), pictures(2)
    wiring = wired(own, [Port("x", "float32", None)], [Port("y", "float16", None)], PATH)
    wiring.run({"images": images}, graph)
    expected = Normalize(own.preprocess)(torch.from_numpy(images.copy())).numpy()
    np.testing.assert_allclose(graph.given[0], expected, rtol=0, atol=1e-6)
    assert graph.given[0].dtype == np.float32


def test_inputs_by_other_names_are_refused() -> None:
    wiring = wired(card(), [IMAGES], [LOGITS], PATH)
    with pytest.raises(UsageError, match="there are pixels, it takes images"):
        wiring.run({"pixels": pictures(1)}, Graph())


# the card


def test_a_card_comes_from_the_file_or_else_from_the_caller() -> None:
    given = card()
    assert chosen_card(PATH, card_text(given), None) == given
    assert chosen_card(PATH, None, given) is given
    with pytest.raises(UsageError, match=r"model\.onnx has its own"):
        chosen_card(PATH, card_text(given), replace(given, classes=("a", "b")))
    with pytest.raises(ModelError, match=r"model\.onnx: it does not say .* fix: .*--card card\.toml"):
        chosen_card(PATH, None, None)
    with pytest.raises(ModelError, match=r"model\.onnx: its card is damaged"):
        chosen_card(PATH, "{", None)
