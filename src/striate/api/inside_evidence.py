"""What a report shows of a network's inside: what one picture becomes in it, and how one number is made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.api.evidence import Example
from striate.api.evidence._overlays import Stroke, as_large, enlarged, hex_of, outlined
from striate.api.thumbnails import LARGE, thumbnail
from striate.api.worked_evidence import ENTRY, Number, one_number
from striate.data.dataset import Dataset
from striate.data.preprocess import apply
from striate.errors import StriateError
from striate.reports.evidence import Gallery, Inside, Picture
from striate.reports.tables import percent
from striate.runtime.predictor import Predictor
from striate.structures import Sample

if TYPE_CHECKING:
    from striate.explain.feature_maps import FeatureMaps
    from striate.explain.nodes import Node
    from striate.explain.recording import Recording
    from striate.explain.summary import Summary

__all__ = ["inside_evidence"]

_DEPTHS = 5  # layers whose maps are shown
_MAPS = 9  # of each
_STRETCHED = 2  # times a map may be wider or higher than the picture is; beyond, it holds something else
_WINDOW = (230, 159, 0)

# torch's names of what bends values: maps behind it are those that the next layer looks at.
_ACTIVATIONS = (
    *("_prelu_kernel", "elu", "gelu", "hardswish", "hardtanh", "leaky_relu", "mish", "relu", "sigmoid"),
    *("silu", "softplus", "tanh"),
)


def inside_evidence(
    predictor: Predictor, layers: "Summary | str", dataset: Dataset, example: Example
) -> Inside:
    """The maps of the picture `example`, and one number worked out.

    layers: those of the predictor's network, or why they are not known.
    """
    sample = Sample(dataset.items[example.index].key, dataset.image(example.index))
    if isinstance(layers, str):
        return _unseen(predictor, sample, example, f"Not shown: {layers}.")
    chosen = _Chosen.of(layers)
    try:
        recording = _recorded(predictor, sample, chosen)
        number = Number(chosen.sum_text)
        if chosen.summing is not None:
            number = one_number(recording, chosen.summing, chosen.sum_text)
        maps = tuple(_maps(recording, node) for node in chosen.depths)
    except StriateError as error:
        return _unseen(predictor, sample, example, f"Not shown: {error.where}: {error.what}.")
    picture = _at_input(predictor, sample, example, number.box)
    return Inside(picture, chosen.maps_text, maps, number.text, number.worked)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The calls that are shown."""

    depths: tuple["Node", ...]  # whose maps are
    maps_text: str
    summing: str | None  # the call of which one number is worked out
    sum_text: str  # what it is, or why there is none

    @classmethod
    def of(cls, layers: "Summary") -> "_Chosen":
        """By rule: the first that adds up, and at each size of its maps the last that bends them."""
        leaves = [node for node in layers.nodes if not node.children and node.operations and node.call]
        maps = [node for node in leaves if _is_map(node, layers.input_shape)]
        convolving = [node for node in maps if node.window is not None and node.macs]
        bending = [node for node in maps if any(each.name in _ACTIVATIONS for each in node.operations)]
        depths, text = _depths(bending or convolving, "activation" if bending else "convolution")
        return cls(depths, text, *_first_sum([node for node in leaves if node.macs]))


def _first_sum(nodes: Sequence["Node"]) -> tuple[str | None, str]:
    """The call of the first convolution of `nodes`, or of their first, with its name; or why of none."""
    convolutions = [node for node in nodes if node.window is not None]
    first = next(iter(convolutions or nodes), None)
    if first is None:
        return None, "No layer of it adds up products, so no number is worked out."
    name = "first convolution" if convolutions else "first layer that adds up products"
    if not _is_of_one(first):
        why = "is given cuttings or mirror images of this picture too, so no number is worked out."
        return None, f"Its {name}, {first.call}, {why}"
    return first.call, f"its {name}"


def _depths(nodes: Sequence["Node"], kind: str) -> tuple[tuple["Node", ...], str]:
    """The last of `nodes` at each size of their maps, some of them where they are many, and the rule."""
    runs: list[Node] = []
    for node in nodes:
        if runs and _size(runs[-1]) == _size(node):
            runs[-1] = node
        else:
            runs.append(node)
    if not runs:
        return (), "No layer of it gives maps of this picture alone, so there are none to show."
    places = np.linspace(0, len(runs) - 1, min(len(runs), _DEPTHS)).round().astype(int).tolist()
    some = f"; {len(places)} of its {len(runs)} such layers are shown" if len(places) < len(runs) else ""
    text = (
        f"Where its maps change their size, what the last {kind} before that gives{some}. Of each layer the "
        f"{_MAPS} maps with the most energy (root of the mean square), each coloured on its own scale."
    )
    return tuple(runs[place] for place in places), text


def _is_map(node: "Node", input_shape: Sequence[int]) -> bool:
    """Whether it gives maps of the whole picture: more than one place, and about as wide for its height."""
    if not _is_of_one(node) or len(node.output_shape or ()) != 3 or prod(_size(node)) < 2:
        return False
    height, width = _size(node)
    stretched = height * input_shape[2] / (width * input_shape[1])
    return 1 / _STRETCHED <= stretched <= _STRETCHED


def _is_of_one(node: "Node") -> bool:
    """Whether it is given the picture, and not cuttings or mirror images of it too."""
    return node.operations[-1].output_shape[:1] == (1,)


def _size(node: "Node") -> tuple[int, ...]:
    return (node.output_shape or ())[1:]


def _recorded(predictor: Predictor, sample: Sample, chosen: _Chosen) -> "Recording":
    """One pass over the picture that keeps the values of what is shown, and of no more."""
    import torch

    from striate.explain.recording import among, record
    from striate.ops.device import exact_float32
    from striate.runtime.pytorch import PyTorchEngine

    engine = predictor.engine
    assert isinstance(engine, PyTorchEngine)  # nothing else has layers
    kept = among((ENTRY, chosen.summing or "", *(node.call for node in chosen.depths)))
    given: dict[str, Any] = {
        name: torch.from_numpy(array).to(engine.device) for name, array in predictor.inputs(sample).items()
    }
    with exact_float32(engine.device):
        return record(engine.network, given.pop("images"), wanted=kept, **given).whole()


def _unseen(predictor: Predictor, sample: Sample, example: Example, why: str) -> Inside:
    """The picture alone."""
    return Inside(_at_input(predictor, sample, example, None), why, (), why, None)


def _at_input(predictor: Predictor, sample: Sample, example: Example, box: Sequence[float] | None) -> Gallery:
    """The picture as the network is given it, with the window `box` (x0 y0 x1 y1) drawn in it."""
    from striate.explain.colours import as_seen

    pixels, _ = apply(predictor.preprocess, sample.image)
    height, width, channels = pixels.shape
    seen = as_seen(predictor.preprocess, pixels)
    shown = np.asarray(enlarged(seen, LARGE))
    legend: tuple[tuple[str, str], ...] = ()
    if box is not None:
        shown = outlined(seen, [Stroke(np.array(box, np.float32), _WINDOW)])
        legend = (("the window of the number that is worked out below", hex_of(_WINDOW)),)
    size = f"{height}x{width} pixels, {'gray' if channels == 1 else 'colour'}"
    image = thumbnail(shown, "the picture at the network's input", LARGE)
    picture = Picture(sample.key, (image,), (size,))
    return Gallery("The picture", f"{example.text} Below, what it becomes.", (picture,), legend)


def _maps(recording: "Recording", node: "Node") -> Gallery:
    """The strongest maps that `node` gave."""
    from striate.explain.colours import Scale
    from striate.explain.feature_maps import feature_maps

    found = feature_maps(recording, node.call, "energy", most=1)
    is_signed = any(channel.least < 0 for channel in found.channels)
    values = recording[node.call].output
    assert values is not None  # the recording was asked to keep it
    pictures = []
    for channel in islice(found.channels, _MAPS):
        reach = max(-channel.least, channel.largest)
        colors = Scale(-reach if is_signed else 0.0, reach)(values[0, channel.index].double().cpu().numpy())
        told = f"{channel.least:.3g} to {channel.largest:.3g}"
        image = thumbnail(as_large(colors), f"channel {channel.index} of {node.call}: {told}")
        pictures.append(Picture(f"channel {channel.index}", (image,), (told,)))
    left_out = len(found.channels) - len(pictures)
    text = " ".join(_described(found, node))
    return Gallery(node.call, text, tuple(pictures), tuple(_legend(is_signed)), left_out)


def _described(found: "FeatureMaps", node: "Node") -> Iterator[str]:
    """What a layer's maps are, in sentences."""
    count, height, width = found.shape
    zeros = sum(channel.zeros for channel in found.channels) / count
    dead = f" Maps that are 0 everywhere in this picture: {len(found.dead)}." if found.dead else ""
    kind = "function" if node.call.endswith(")") else found.kind
    yield f"{kind}: {count} maps of {height}x{width}, {percent(zeros)} of the values 0.{dead}"
    if node.field is not None and "?" not in node.field.size_text:
        size = node.field.size_text.replace("≤", "at most ")
        yield (
            "Each value sees the whole input."
            if size == "all"
            else f"Each value sees {size} input pixels a side."
        )


def _legend(is_signed: bool) -> Iterator[tuple[str, str]]:
    """What the colours of a map on its own scale mean."""
    from striate.explain.colours import Scale

    scale = Scale(-1.0 if is_signed else 0.0, 1.0)
    names = {0.0: "0", 0.5: "half of the map's largest", 1.0: "its largest"}
    if is_signed:
        names = {-1.0: "its largest in size, below 0", 0.0: "0", 1.0: "its largest in size, above 0"}
    for share, name in names.items():
        yield name, hex_of(scale(np.array([share]))[0].tolist())
