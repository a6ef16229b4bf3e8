"""Why a network says what it says of a picture: the parts of `explain` put together, and written as files."""

import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from html import escape
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from striate import plugins, tasks
from striate.api.result_files import refuse_filled
from striate.errors import ModelError, UnknownName, UsageError
from striate.files import new_folder
from striate.modelfile import MODEL_FILE, find_model_file
from striate.structures import Classification, Detections, Sample

if TYPE_CHECKING:
    from torch import Tensor, nn

    from striate.explain.gradcam import Cam
    from striate.explain.recording import Recording
    from striate.explain.summary import Summary
    from striate.models.network import Network
    from striate.runtime.pictures import Picture
    from striate.runtime.predictor import Predictor
    from striate.structures import Image, Result

__all__ = ["WHATS", "ExplainRequest", "Explanation", "Section", "Told", "explain_picture"]

# What each part reads of a request; `page` is all of them together.
_READS = {
    "page": ("target", "sort", "scale", "plus_plus"),
    "arithmetic": ("layer", "pixel", "channel"),
    "maps": ("layer", "sort", "scale"),
    "receptive-field": ("layer", "pixel", "target"),
    "filters": ("layer",),
    "gradcam": ("layer", "target", "plus_plus"),
    "shift": ("against", "axis"),
    "kernel": ("kernel",),
}

WHATS = tuple(name for name in _READS if name != "page")
"""The parts that can be asked for alone."""

_MOST_TOLD = 10  # boxes or classes of a prediction
_PAGE_WIDTH = 80


class Told(Protocol):
    """What every explanation offers."""

    def lines(self) -> Iterator[str]:
        """As plain text."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        ...


@dataclass(frozen=True, slots=True)
class _Text:
    """Lines with the data behind them."""

    text: tuple[str, ...]
    data: Mapping[str, Any]

    def lines(self) -> Iterator[str]:
        yield from self.text

    def to_dict(self) -> dict[str, Any]:
        return dict(self.data)


@dataclass(frozen=True, slots=True)
class Section:
    """One part of an explanation."""

    name: str  # one of WHATS, "prediction" or "layers"
    title: str
    told: Told
    files: Mapping[str, bytes] = field(default_factory=dict)  # pictures by the names of their files

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"section": self.name, "title": self.title, **self.told.to_dict()}


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What `striate.explain` gives: prints as text, shows itself in a notebook."""

    model: str
    picture: str
    sections: tuple[Section, ...]
    written: tuple[Path, ...] = ()  # pictures, where a folder was named

    @property
    def files(self) -> dict[str, bytes]:
        """The pictures of all parts by the names of their files."""
        return {name: content for section in self.sections for name, content in section.files.items()}

    def __getitem__(self, name: str) -> Section:
        """The first part `name`: "gradcam". Raises UnknownName."""
        for section in self.sections:
            if section.name == name:
                return section
        raise UnknownName("part", name, [section.name for section in self.sections])

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the pictures into `folder`, which must be new or empty: their paths.

        Raises UsageError where there is something, DiskFull, EnvironmentProblem.
        """
        refuse_filled(Path(folder))
        with new_folder(Path(folder)) as place:
            for name, content in self.files.items():
                (place / name).write_bytes(content)
        return tuple(Path(folder) / name for name in self.files)

    def lines(self) -> Iterator[str]:
        """All parts as plain text."""
        yield f"{self.model} on {self.picture}"
        for section in self.sections:
            yield from ("", section.title, *section.told.lines())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `explain --json`."""
        return {
            "model": self.model,
            "picture": self.picture,
            "sections": [section.to_dict() for section in self.sections],
            "files": [str(path) for path in self.written],
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        parts = (f"<h4>{escape(section.title)}</h4>{_html(section.told)}" for section in self.sections)
        return f"<div><strong>{escape(self.model)} on {escape(self.picture)}</strong>{''.join(parts)}</div>"


def _html(told: Told) -> str:
    own = getattr(told, "_repr_html_", None)
    text = escape("\n".join(told.lines()))
    return own() if own is not None else f"<pre>{text}</pre>"


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """What shall be explained."""

    what: str | None = None  # one of WHATS; None: the page, or what the other fields ask for
    layer: str | None = None
    pixel: tuple[int, int] | None = None  # row, column of the layer's map
    channel: int | None = None
    target: int | str | None = None  # class, or candidate of boxes
    kernel: str | NDArray[Any] | None = None
    against: tuple["str | Path | nn.Module", ...] = ()  # further models for `shift`
    axis: str | None = None  # of `shift`: "x" (the default) or "y"
    sort: str | None = None  # of `maps`: "index" (the default), "energy" or "sparsity"
    scale: str | None = None  # of `maps`: "map" (the default) or "layer"
    plus_plus: bool = False

    def __post_init__(self) -> None:
        if self.what is not None and self.what not in WHATS:
            raise UnknownName("--what", self.what, WHATS)
        for given in self._given():
            if given not in _READS[self.asked]:
                readers = " or ".join(what for what, reads in _READS.items() if given in reads)
                raise UsageError(
                    f"--{given.replace('_', '-')}",
                    f"{self.asked} does not read it",
                    f"leave it out, or ask for {readers}",
                )

    @property
    def asked(self) -> str:
        """The part that is meant."""
        if self.what is not None:
            return self.what
        if self.kernel is not None:
            return "kernel"
        if self.against or self.axis is not None:
            return "shift"
        pointed = (self.layer, self.pixel, self.channel)
        return "page" if all(value is None for value in pointed) else "arithmetic"

    def _given(self) -> Iterator[str]:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "what" and value is not None and value is not False and value != ():
                yield each.name


def explain_picture(
    model: "str | Path | nn.Module | Predictor | None",
    picture: "Picture",
    request: ExplainRequest,
    out: str | Path | None = None,
    device: str = "auto",
    made_by: str | None = None,
) -> Explanation:
    """What `request` asks of `model` and `picture`, its pictures in the folder `out` if that is given.

    A kernel by hand needs no model: None has it read the picture at its own size. On the page of everything,
    a part that there cannot be (the maps of a network without any) says why. Raises a StriateError that says
    what to do, before anything is computed where `out` is there already with something in it.
    """
    if out is not None:
        refuse_filled(Path(out))
    sample = _decoded(picture)
    if model is None:
        found = _without_model(sample, request)
    else:
        found = _with_model(_predictor(model, device, made_by), sample, request, device)
    if out is None or not found.files:
        return found
    return replace(found, written=found.save(out))


def _decoded(picture: "Picture") -> Sample:
    from striate.runtime.pictures import prepare

    prepared = prepare(None, picture)
    return Sample(prepared.key, prepared.image)


def _without_model(sample: Sample, request: ExplainRequest) -> Explanation:
    if request.asked != "kernel":
        raise UsageError("explain", f"{request.asked} is about a model", "name a model and a picture")
    return Explanation("a kernel by hand", sample.key, (_kernel(sample.image, request.kernel),))


def _with_model(predictor: "Predictor", sample: Sample, request: ExplainRequest, device: str) -> Explanation:
    from striate.ops.device import exact_float32

    others = [(_name(other), _predictor(other, device, None)) for other in request.against]
    subject = _Subject.of(predictor, sample)
    with exact_float32(subject.images.device):
        sections = tuple(_Parts(subject, request, others).sections())
    return Explanation(subject.name, sample.key, sections)


def _name(model: Any) -> str:
    return str(model) if isinstance(model, str | Path) else getattr(model, "name", "") or type(model).__name__


def _predictor(model: Any, device: str, made_by: str | None) -> "Predictor":
    """The model in PyTorch. Raises ModelError for an export, whose layers cannot be asked."""
    from striate.runtime.predictor import Predictor, load

    if isinstance(model, str | Path):
        file = find_model_file(Path(model))
        if file.suffix != Path(MODEL_FILE).suffix:
            raise _no_layers(file)
        return load(file, device, made_by)
    if isinstance(model, Predictor):
        return model
    from striate.models import card_of
    from striate.models.network import Network
    from striate.runtime.pytorch import PyTorchEngine

    if not isinstance(model, Network):
        raise UsageError(
            "explain",
            f"a {type(model).__name__} does not say how pictures are prepared for it",
            "wrap it: striate.create(the function that makes it), or give a run folder",
        )
    return Predictor(card_of(model), PyTorchEngine(model))


def _no_layers(where: object) -> ModelError:
    return ModelError(
        where,
        "an export has no layers that can be asked",
        "give the run folder or the model file that it was made from",
    )


@dataclass(frozen=True, slots=True)
class _Subject:
    """A network with a picture at its input."""

    predictor: "Predictor"
    network: "Network"
    sample: Sample  # the picture as it was decoded
    pixels: "Image"  # at the network's input
    images: "Tensor"  # (1, C, H, W) uint8
    extras: dict[str, Any]  # its further inputs, tensors by name

    @property
    def name(self) -> str:
        """The network's."""
        return self.predictor.card.variant

    @classmethod
    def of(cls, predictor: "Predictor", sample: Sample) -> "_Subject":
        """`sample` prepared for `predictor`."""
        import torch

        from striate.runtime.pictures import prepare
        from striate.runtime.pytorch import PyTorchEngine

        engine = predictor.engine
        if not isinstance(engine, PyTorchEngine):
            raise _no_layers(predictor.card.variant)
        prepared = prepare(predictor.preprocess, sample)
        images = torch.from_numpy(prepared.image).permute(2, 0, 1)[None].contiguous().to(engine.device)
        extras = {
            name: torch.from_numpy(array)[None].to(engine.device) for name, array in prepared.extras.items()
        }
        return cls(predictor, engine.network, sample, prepared.image, images, extras)


class _Parts:
    """Makes the parts that a request asks for; what several of them need is made once."""

    def __init__(
        self, subject: _Subject, request: ExplainRequest, others: Sequence[tuple[str, "Predictor"]]
    ) -> None:
        self.subject, self.request, self.others = subject, request, others
        self.network, self.images, self.extras = subject.network, subject.images, subject.extras

    def sections(self) -> Iterator[Section]:
        """Those that are asked for."""
        asked = self.request.asked
        if asked != "page":
            yield from getattr(self, asked.replace("-", "_"))()
            return
        yield self.prediction()
        yield self.layers()
        for name in ("gradcam", "receptive-field", "filters", "maps", "arithmetic"):
            try:
                yield from getattr(self, name.replace("-", "_"))()
            except UsageError as refusal:
                told = _Text((f"not for this network: {refusal.what}",), {"refused": refusal.to_dict()})
                yield Section(name, _TITLES[name], told)

    def prediction(self) -> Section:
        """What the network says."""
        subject = self.subject
        (result,) = subject.predictor.results([subject.sample])
        drawn: Image = plugins.load(tasks, subject.network.task).draw(subject.sample.image, result)
        told = _Text(tuple(_said(result)), result.to_dict())
        return Section("prediction", "What it says", told, {"prediction.png": _png(drawn)})

    @cached_property
    def summary(self) -> "Summary":
        """The network's calls over this input."""
        from striate.explain.summary import summarise

        return summarise(self.network, self.images.shape[1:], self.subject.name)

    def layers(self) -> Section:
        """The network's parts, one row each."""
        found = self.summary
        depth = 1 if len(found.root.children) > _FEW_LAYERS else 2
        table = found.table(_PAGE_WIDTH, depth)
        # What a network's own code does between its modules is no part of it, unless it weighs something.
        rows = [row for row in table.rows if not row[0].lstrip().startswith("(") or row[-1]]
        table = replace(table, rows=tuple(rows))
        total = f"{found.parameters:,} parameters, {found.macs:,} MACs"
        data = {"parameters": found.parameters, "macs": found.macs, "rows": [list(row) for row in table.rows]}
        return Section("layers", "What it is made of", _Text((*table.lines(), total), data))

    @cached_property
    def cam(self) -> "Cam":
        """Where it looked for the target, at the layer that is chosen for that."""
        from striate.explain.gradcam import gradcam

        asked, target = self.request, self.request.target
        layer = asked.layer if asked.asked == "gradcam" else None
        if isinstance(target, str) and target.isdecimal() and target not in self.network.classes:
            target = int(target)
        return gradcam(self.network, self.images, target, layer, asked.plus_plus, **self.extras)

    def gradcam(self) -> Iterator[Section]:
        """Where it looked, and whether that hangs on its weights."""
        from striate.explain.gradcam import sanity

        checked = sanity(self.network, self.images, self.cam, **self.extras)
        told = _Text(
            (*self.cam.lines(), *checked.lines()), {**self.cam.to_dict(), "sanity": checked.to_dict()}
        )
        yield Section("gradcam", _TITLES["gradcam"], told, {"gradcam.png": _png(checked.sheet)})

    def receptive_field(self) -> Iterator[Section]:
        """What a place of a layer sees: the one asked for, or the strongest of Grad-CAM."""
        from striate.explain.field_on_picture import field_on_picture

        asked = self.request
        layer = asked.layer or self.cam.layer
        if asked.pixel is not None:
            y, x = asked.pixel
        elif asked.layer is None:
            y, x = self.cam.strongest
        else:
            height, width = self._map_size(layer)
            y, x = height // 2, width // 2
        found = field_on_picture(self.network, self.images, layer, y, x, **self.extras)
        yield Section(
            "receptive-field",
            _TITLES["receptive-field"],
            found,
            {"receptive-field.png": _png(found.sheet)},
        )

    def _map_size(self, layer: str) -> tuple[int, int]:
        node = self.summary.find(layer)
        shape = node.output_shape or ()
        if len(shape) != 3:
            raise UsageError(layer, f"its output is {shape}, no map", "choose a layer with maps")
        return shape[1], shape[2]

    def filters(self) -> Iterator[Section]:
        """The weights of the first layer, or of the one asked for."""
        from striate.explain.filters import filters

        found = filters(self.network, self.request.layer)
        yield Section("filters", _TITLES["filters"], found, {"filters.png": _png(found.sheet)})

    @cached_property
    def convolutions(self) -> tuple[str, ...]:
        """The calls that convolve a map of more than one place, in order."""
        return tuple(
            node.call
            for node in self.summary.nodes
            if not node.children
            and node.window is not None
            and node.macs
            and len(node.output_shape or ()) == 3
            and node.output_shape[1:] != (1, 1)  # type: ignore[index]
        )

    @cached_property
    def ends(self) -> tuple[str, ...]:
        """The first and the last convolution. Raises UsageError where there is none."""
        if not self.convolutions:
            raise UsageError(self.subject.name, "it has no convolution", "name a layer: --layer")
        return tuple(dict.fromkeys((self.convolutions[0], self.convolutions[-1])))

    @cached_property
    def recording(self) -> "Recording":
        """One pass with the values of the layers that are shown."""
        from striate.explain.recording import among, record

        kept = (self.request.layer,) if self.request.layer is not None else self.ends
        return record(self.network, self.images, wanted=among(kept), **self.extras).whole()

    def maps(self) -> Iterator[Section]:
        """The maps of the first and last convolution, or of the layer asked for."""
        from striate.explain.feature_maps import feature_maps

        asked = self.request
        sort: Any = asked.sort or "index"
        scale: Any = asked.scale or "map"
        for call in self.ends if asked.layer is None else (asked.layer,):
            found = feature_maps(self.recording, call, sort, scale)
            file = f"maps-{re.sub('[^A-Za-z0-9.]+', '-', found.call).strip('-')}.png"
            yield Section("maps", f"{_TITLES['maps']}: {found.call}", found, {file: _png(found.sheet)})

    def arithmetic(self) -> Iterator[Section]:
        """One number worked out: the one asked for, or the largest of the first convolution."""
        from striate.explain.arithmetic import arithmetic

        asked = self.request
        call = self.ends[0] if asked.layer is None else asked.layer
        found = self.recording[call]
        position = _position(call, found.output, asked.channel, asked.pixel)
        told = arithmetic(self.recording, call, *position)
        yield Section("arithmetic", _TITLES["arithmetic"], told)

    def shift(self) -> Iterator[Section]:
        """How the answer bears a moved picture, of this network and of others."""
        from striate.explain.shift import Subject, shift

        subjects = {self.subject.name: Subject(self.network, self.images, self.extras)}
        for name, predictor in self.others:
            other = _Subject.of(predictor, self.subject.sample)
            label = _free_name(other.name if other.name not in subjects else name, subjects)
            subjects[label] = Subject(other.network, other.images, other.extras)
        axis: Any = self.request.axis or "x"
        sides = [subject.images.shape[3 if axis == "x" else 2] for subject in subjects.values()]
        # Of a picture of 8 pixels, a shift by 8 would leave nothing.
        reach = min(_LARGEST_SHIFT, *(side // 2 for side in sides))
        found = shift(subjects, range(-reach, reach + 1), axis)
        yield Section("shift", _TITLES["shift"], found, {"shift.svg": found.svg().encode()})

    def kernel(self) -> Iterator[Section]:
        """The answers of a kernel by hand to the network's input."""
        yield _kernel(self.subject.pixels, self.request.kernel)


_LARGEST_SHIFT = 8  # pixels of a network's input
_FEW_LAYERS = 6  # parts of a network below which those inside them are shown too

_TITLES = {
    "gradcam": "Where it looked",
    "receptive-field": "What the strongest place sees",
    "filters": "What its first layer looks for",
    "maps": "What a layer makes of the picture",
    "arithmetic": "Why is this number here?",
    "shift": "If the picture moves",
    "kernel": "A kernel by hand",
}


def _free_name(name: str, taken: Collection[str]) -> str:
    """`name`, with a number where it is among those `taken`."""
    numbered = (f"{name} #{number}" for number in count(2))
    return name if name not in taken else next(each for each in numbered if each not in taken)


def _position(
    call: str, output: "Tensor | None", channel: int | None, pixel: tuple[int, int] | None
) -> tuple[int, ...]:
    """Where in `output` of one picture: as asked, and where nothing is, at the largest number by size."""
    assert output is not None  # the recording was asked to keep it
    places = output.ndim - 2
    if pixel is not None and places != len(pixel):
        raise UsageError(
            call, f"its output is {tuple(output.shape)}: it has no rows and columns", "leave --pixel out"
        )
    asked = (channel, *(pixel or (None,) * places))
    within = zip(asked, output.shape[1:], strict=True)
    if any(place is not None and not 0 <= place < length for place, length in within):
        return tuple(place or 0 for place in asked)  # `arithmetic` says what there is
    free = output[0].detach().abs()
    for axis, place in enumerate(asked):
        free = free if place is None else free.narrow(axis, place, 1)
    largest = [int(each) for each in np.unravel_index(int(free.argmax()), tuple(free.shape))]
    return tuple(own if place is None else place for place, own in zip(asked, largest, strict=True))


def _kernel(image: "Image", kernel: Any) -> Section:
    from striate.explain.hand_kernel import KERNELS, hand_kernel, parse_kernel

    if kernel is None:
        raise UsageError(
            "--what kernel", "it needs a kernel", f"give --kernel {', '.join(KERNELS)} or a file"
        )
    name = kernel if isinstance(kernel, str) else ""
    if isinstance(kernel, str) and kernel not in KERNELS:
        kernel = parse_kernel(_kernel_text(kernel, KERNELS), kernel)
    found = hand_kernel(image, kernel, name=name)
    return Section("kernel", _TITLES["kernel"], found, {"kernel.png": _png(found.sheet)})


def _kernel_text(name: str, known: Any) -> str:
    """What stands in the file `name`."""
    path = Path(name)
    if not path.is_file():
        if path.suffix or path.name != name:
            raise UsageError(
                f"--kernel {name}", "there is no such file", f"give a text file or {', '.join(known)}"
            )
        raise UnknownName("--kernel", name, known)
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_KERNEL_FILE).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--kernel {name}", f"it is no text file ({type(error).__name__})", "give rows of numbers as text"
        ) from None


_LARGEST_KERNEL_FILE = 65_536  # bytes


def _said(result: "Result") -> Iterator[str]:
    """A prediction in lines."""
    if isinstance(result, Classification):
        rows = list(result.top(5))
    elif isinstance(result, Detections):
        rows = [
            (f"{result.classes[label]} (candidate {candidate})", score)
            for label, score, candidate in zip(
                result.labels.tolist(), result.scores.tolist(), result.candidate.tolist(), strict=True
            )
        ]
    else:
        rows = list(result.shares.items())
    if not rows:
        yield "it finds nothing"
    width = max((len(name) for name, _ in rows[:_MOST_TOLD]), default=0)
    for name, share in rows[:_MOST_TOLD]:
        yield f"{name:<{width}}  {share:6.1%}"
    if len(rows) > _MOST_TOLD:
        yield f"and {len(rows) - _MOST_TOLD} more"


def _png(pixels: "Image") -> bytes:
    from PIL import Image as PillowImage

    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
