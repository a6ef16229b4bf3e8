"""The vocabulary that crosses packages: frozen, validated, numpy only.

Boxes are float32 `x0 y0 x1 y1` in pixels, x1 and y1 exclusive. Class ids run 0..K-1. Pictures are
uint8 (H, W, C) with C = 1 or 3. In masks, IGNORE (255) is "no class known here".
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, UnknownName, UsageError

__all__ = [
    "IGNORE",
    "Batch",
    "BoxTargets",
    "ClassTargets",
    "Classification",
    "Detections",
    "Geometry",
    "MaskTargets",
    "Objects",
    "Preprocess",
    "Result",
    "Sample",
    "Segmentation",
    "Targets",
    "check_same_size",
]

IGNORE = 255

Image = NDArray[np.uint8]
"""A picture: uint8 (H, W, C), C = 1 (gray) or 3 (RGB or HSV)."""

Task = Literal["classification", "detection", "segmentation"]
Fit = Literal["crop", "stretch", "letterbox", "shorter", "none"]
Color = Literal["gray", "rgb", "hsv"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

# Larger sides than this are a slip of the keyboard or a hostile model file.
MAX_SIDE = 16_384
MAX_PROPOSALS = 10_000


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a picture becomes a network's input; travels with the model and runs everywhere alike.

    `apply` (in `striate.data.preprocess`) does colour, resizing and padding and gives uint8;
    `scale`, `mean` and `std` are the network's first layer: `(x * scale - mean) / std`.

    fit: `crop` shrinks the shorter side to `resize_to` and cuts the centre; `stretch` ignores the
    aspect; `letterbox` fits all of it inside and pads evenly; `shorter` shrinks the shorter side to
    `size[0]` (the longer to `max_size` at most) and `none` keeps the size: those two differ in size
    from picture to picture and are padded at the right and bottom to a multiple of `pad_to`.
    """

    size: tuple[int, int] = (224, 224)  # height, width of the network's input, border included
    fit: Fit = "crop"
    resize_to: int | None = None  # shorter side before `crop`; None: the size itself, border excluded
    max_size: int | None = None  # longest side that `shorter` may give
    pad_to: int = 1  # `shorter` and `none`: multiple that both sides are padded to
    pad_value: int = 0  # 0..255, every channel
    border: int = 0  # pixels of pad_value around the picture (LeNet-5 puts 28x28 in 32x32)
    interpolation: Interpolation = "bilinear"
    antialias: bool = True  # low-pass filter when shrinking
    color: Color = "rgb"
    channel_order: Literal["rgb", "bgr"] = "rgb"  # order that the network's first convolution expects
    scale: float = 1 / 255  # 0..255 to 0..1
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    proposals: int = 0  # boxes that may hold an object, found beforehand and given beside the picture

    @property
    def channels(self) -> int:
        """Channels of the input: 1 for gray, else 3."""
        return 1 if self.color == "gray" else 3

    @property
    def inner_size(self) -> tuple[int, int]:
        """Height and width inside the border."""
        return self.size[0] - 2 * self.border, self.size[1] - 2 * self.border

    @property
    def is_fixed(self) -> bool:
        """Whether every picture comes out at `size`."""
        return self.fit in ("crop", "stretch", "letterbox")

    def __post_init__(self) -> None:
        for name in ("size", "mean", "std"):  # JSON and TOML give lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_choices()
        self._check_numbers()
        self._check_that_all_is_read()

    def _check_choices(self) -> None:
        choices = {
            "fit": ("crop", "stretch", "letterbox", "shorter", "none"),
            "interpolation": ("nearest", "bilinear", "bicubic", "lanczos"),
            "color": ("gray", "rgb", "hsv"),
            "channel_order": ("rgb", "bgr"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f"preprocess.{name}",
                    f"{getattr(self, name)!r} is unknown",
                    f"use one of {', '.join(allowed)}",
                )

    def _check_that_all_is_read(self) -> None:
        needs = {
            "resize_to": self.resize_to is None or self.fit == "crop",
            "max_size": self.max_size is None or self.fit == "shorter",
            "pad_to": self.pad_to == 1 or self.fit in ("shorter", "none"),
        }
        for name, read in needs.items():
            if not read:
                raise UsageError(
                    f"preprocess.{name}",
                    f"{getattr(self, name)!r} has no meaning with fit {self.fit!r}",
                    "resize_to goes with crop, max_size with shorter, pad_to with shorter and none",
                )

    def _check_numbers(self) -> None:
        sides = [*self.size, *(side for side in (self.resize_to, self.max_size) if side is not None)]
        problems = {
            "size": len(self.size) != 2 or not all(0 < side <= MAX_SIDE for side in sides),
            "border": self.border < 0 or min(self.inner_size) <= 0,
            "resize_to": self.resize_to is not None and self.resize_to < max(self.inner_size),
            "max_size": self.max_size is not None and self.max_size <= 2 * self.border,
            "pad_to": not 0 < self.pad_to <= MAX_SIDE,
            "pad_value": not 0 <= self.pad_value <= 255,
            "mean": len(self.mean) != self.channels or not np.isfinite(self.mean).all(),
            "std": len(self.std) != self.channels
            or not all(0 < deviation < np.inf for deviation in self.std),
            "scale": not 0 < self.scale < np.inf,
            "proposals": not 0 <= self.proposals <= MAX_PROPOSALS,
        }
        for name, wrong in problems.items():
            if wrong:
                raise UsageError(
                    f"preprocess.{name}",
                    f"{getattr(self, name)!r} is out of range for color {self.color!r}, size {self.size}",
                    f"sides are 1..{MAX_SIDE}, resize_to at least the size, mean and std have one finite "
                    f"value per channel ({self.channels}), std and scale above 0, proposals up to "
                    f"{MAX_PROPOSALS}",
                )


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a picture's pixels went on the way to the input, and the way back.

    A point (x, y) of the source lies at `x * scale_x + left, y * scale_y + top` of the input.
    """

    source: tuple[int, int]  # height, width of the decoded picture
    input: tuple[int, int]  # height, width of the input without a batch's padding
    scale_x: float = 1.0
    scale_y: float = 1.0
    left: float = 0.0  # where the source's left edge lies in the input, in pixels; negative: cropped away
    top: float = 0.0

    def boxes_to_input(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4) of the source in input pixels, not clipped."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float64)
        offset = np.array([self.left, self.top] * 2, np.float64)
        return (boxes * scale + offset).astype(np.float32)

    def boxes_to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4) of the input in source pixels, clipped to the picture."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float64)
        offset = np.array([self.left, self.top] * 2, np.float64)
        height, width = self.source
        limits = np.array([width, height] * 2, np.float64)
        return np.clip((boxes - offset) / scale, 0, limits).astype(np.float32)

    def mask_to_input(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask (H, W) of the source at the input's size, nearest pixel, IGNORE outside the picture."""
        rows = _nearest(self.input[0], self.source[0], -self.top, self.scale_y)
        columns = _nearest(self.input[1], self.source[1], -self.left, self.scale_x)
        return _picked(mask, rows, columns)

    def mask_to_source(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask (h, w) of the input at the source's size, nearest pixel, IGNORE where cropped away."""
        rows = _nearest(self.source[0], self.input[0], self.top / self.scale_y, 1 / self.scale_y)
        columns = _nearest(self.source[1], self.input[1], self.left / self.scale_x, 1 / self.scale_x)
        return _picked(mask, rows, columns)


_Side: TypeAlias = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Along one side: the pixel hit by each centre, and whether there is one."""


def _picked(mask: NDArray[np.uint8], rows: _Side, columns: _Side) -> NDArray[np.uint8]:
    """The pixels of `mask` at `rows` and `columns`, IGNORE where it has none."""
    # One indexing by both takes four times as long.
    picked = mask.take(rows[0], axis=0).take(columns[0], axis=1)
    picked[~rows[1]] = IGNORE
    picked[:, ~columns[1]] = IGNORE
    return picked


def _nearest(count: int, available: int, offset: float, divisor: float) -> _Side:
    """For each of `count` pixel centres, the pixel hit on the other side and whether there is one.

    The centre c lies at `(c + offset) / divisor` there.
    """
    # Where a centre falls between two pixels, rounding errors must not choose: the later one is taken.
    positions = np.floor((np.arange(count) + 0.5 + offset) / divisor + 1e-9).astype(np.int64)
    return np.clip(positions, 0, available - 1), (positions >= 0) & (positions < available)


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects in one picture, a row each; boxes are in its pixels.

    A crowd's box is drawn around several that were not told apart; a difficult object is hard to see. Either
    is neither a hit nor a miss where metrics say so.
    """

    boxes: NDArray[np.float32]  # (N, 4)
    labels: NDArray[np.int64]  # (N,) class ids
    crowd: NDArray[np.bool_]  # (N,)
    difficult: NDArray[np.bool_] = field(
        default_factory=lambda: np.zeros(0, np.bool_)
    )  # (N,); left out: none

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if not self.difficult.size:
            object.__setattr__(self, "difficult", np.zeros(count, np.bool_))
        rows = {name: getattr(self, name).shape for name in ("labels", "crowd", "difficult")}
        if self.boxes.shape != (count, 4) or any(shape != (count,) for shape in rows.values()):
            shapes = ", ".join(f"{name} {shape}" for name, shape in rows.items())
            raise DataError(
                "objects",
                f"the columns disagree: boxes {self.boxes.shape}, {shapes}",
                "give boxes (N, 4), labels, crowd and difficult (N,)",
            )
        if not np.isfinite(self.boxes).all():
            raise DataError(
                "objects", "a box has a coordinate that is not finite", "correct or remove that box"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: slice | NDArray[np.bool_] | NDArray[np.int64]) -> "Objects":
        return Objects(self.boxes[index], self.labels[index], self.crowd[index], self.difficult[index])


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and what is known of it: a class id, its objects, a mask (H, W) uint8, or nothing."""

    key: str  # what messages and result files call it
    image: Image
    label: int | None = None
    objects: Objects | None = None
    mask: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        image = self.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
            raise DataError(
                self.key,
                f"a picture is uint8 (H, W, 1 or 3), got {image.dtype} {image.shape}",
                "use decode_image",
            )
        if self.mask is not None:
            check_same_size(self.key, self.mask, image)


def check_same_size(key: str, mask: NDArray[Any], picture: NDArray[Any]) -> None:
    """Raise DataError naming `key` where its mask has not the height and width of the picture."""
    if mask.shape[:2] != picture.shape[:2]:
        (height, width), (own_height, own_width) = mask.shape[:2], picture.shape[:2]
        raise DataError(
            key,
            f"its mask has {width}x{height} pixels, the picture {own_width}x{own_height}",
            "give the mask of this very picture, at its size",
        )


ArrayT = TypeVar("ArrayT")
OtherT = TypeVar("OtherT")


@dataclass(frozen=True, slots=True)
class ClassTargets(Generic[ArrayT]):
    """What a batch of pictures should be: smoothing, mixup and class balance are already in it."""

    probabilities: ArrayT  # (B, K) float32, each row sums to 1
    weight: ArrayT  # (B,) float32, the sample's weight in the loss

    def map(self, change: Callable[[ArrayT], OtherT]) -> "ClassTargets[OtherT]":
        """The same targets with `change` done to each array."""
        return ClassTargets(change(self.probabilities), change(self.weight))


@dataclass(frozen=True, slots=True)
class MaskTargets(Generic[ArrayT]):
    """What each pixel of a batch should be: class balance and borders are already in the weight."""

    labels: ArrayT  # (B, H, W) uint8 class ids, IGNORE where none is known
    weight: ArrayT  # (B, H, W) float32, the pixel's weight in the loss; 0 where the label is IGNORE

    def map(self, change: Callable[[ArrayT], OtherT]) -> "MaskTargets[OtherT]":
        """The same targets with `change` done to each array."""
        return MaskTargets(change(self.labels), change(self.weight))


@dataclass(frozen=True, slots=True)
class BoxTargets(Generic[ArrayT]):
    """The objects in each picture of a batch, N rows a picture (the most of any, at least 1)."""

    boxes: ArrayT  # (B, N, 4) float32 in input pixels; 0 in rows without an object
    labels: ArrayT  # (B, N) int64 class ids; 0 in rows without an object
    valid: ArrayT  # (B, N) bool: rows that hold an object
    crowd: ArrayT  # (B, N) bool: several objects in one box, neither right nor wrong to find
    weight: ArrayT  # (B,) float32, the picture's weight in the loss

    def map(self, change: Callable[[ArrayT], OtherT]) -> "BoxTargets[OtherT]":
        """The same targets with `change` done to each array."""
        return BoxTargets(*(change(getattr(self, name)) for name in self.__slots__))


Targets: TypeAlias = BoxTargets[ArrayT] | ClassTargets[ArrayT] | MaskTargets[ArrayT]
"""Of any task. `weight` says how much each picture or pixel counts; a loss is the mean by that weight."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[ArrayT]):
    """Pictures of one step, as numpy from `collate` and as tensors from the loader."""

    images: ArrayT  # (B, C, H, W) uint8
    targets: Targets[ArrayT]
    keys: tuple[str, ...]
    geometry: tuple[Geometry, ...]
    extras: dict[str, ArrayT] = field(default_factory=dict)  # further graph inputs by name

    def __len__(self) -> int:
        return len(self.keys)

    def map(self, change: Callable[[ArrayT], OtherT]) -> "Batch[OtherT]":
        """The same batch with `change` done to each array: numpy to tensor, host to device."""
        extras = {name: change(array) for name, array in self.extras.items()}
        return Batch(change(self.images), self.targets.map(change), self.keys, self.geometry, extras)


@dataclass(frozen=True, slots=True)
class Classification:
    """The probability of each class for one picture, most likely first where it is listed."""

    key: str
    probabilities: NDArray[np.float32]  # (K,), sums to 1
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.probabilities.shape != (len(self.classes),):
            raise DataError(
                self.key,
                f"{len(self.classes)} classes and probabilities of shape {self.probabilities.shape}",
                "give one probability per class",
            )

    @property
    def index(self) -> int:
        """Id of the most likely class; the lowest where several are equal."""
        return int(self.probabilities.argmax())

    @property
    def label(self) -> str:
        """Name of the most likely class."""
        return self.classes[self.index]

    @property
    def confidence(self) -> float:
        """Probability of the most likely class, 0..1."""
        return float(self.probabilities[self.index])

    def top(self, count: int = 5) -> tuple[tuple[str, float], ...]:
        """The `count` most likely classes with their probabilities, best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return tuple((self.classes[i], float(self.probabilities[i])) for i in order)

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(self.top(len(self)))

    def __getitem__(self, ranks: int | slice) -> Any:
        """`result[0]` is the best (class, probability), `result[:3]` the best three."""
        return self.top(len(self))[ranks]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` gives the same result back."""
        return {
            "key": self.key,
            "label": self.label,
            "confidence": self.confidence,
            "probabilities": dict(zip(self.classes, map(float, self.probabilities), strict=True)),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Classification":
        """The result that `to_dict` wrote."""
        probabilities = data["probabilities"]
        return cls(data["key"], np.array(list(probabilities.values()), np.float32), tuple(probabilities))

    def __str__(self) -> str:
        return f"{self.key}: " + ", ".join(f"{name} {p:.1%}" for name, p in self.top(3))

    def __rich__(self) -> str:
        """One bar a class for the terminal (rich's protocol)."""
        return _bars(self.key, dict(self.top()))

    def _repr_html_(self) -> str:
        """A small table for a notebook: no script, every name escaped."""
        return _html_table(self.key, dict(self.top()))


@dataclass(frozen=True, slots=True, repr=False)
class Detections:
    """The objects that a network found in one picture, the surest first."""

    key: str
    boxes: NDArray[np.float32]  # (N, 4) in pixels of the picture
    scores: NDArray[np.float32]  # (N,) in 0..1, not increasing
    labels: NDArray[np.int64]  # (N,) class ids
    classes: tuple[str, ...]
    size: tuple[int, int]  # height, width of the picture
    candidate: NDArray[np.int64]  # (N,) which row of the network's output each one is

    def __post_init__(self) -> None:
        count = len(self.boxes)
        rows = {name: getattr(self, name).shape for name in ("scores", "labels", "candidate")}
        if self.boxes.shape != (count, 4) or any(shape != (count,) for shape in rows.values()):
            raise DataError(
                self.key,
                f"the columns disagree: boxes {self.boxes.shape}, {rows}",
                "give boxes (N, 4), scores, labels and candidate (N,)",
            )
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise DataError(
                self.key, "a label is no class id", f"give class ids of 0..{len(self.classes) - 1}"
            )

    @property
    def counts(self) -> dict[str, int]:
        """How many of each class there are, most first; only those that are there."""
        found = np.bincount(self.labels, minlength=len(self.classes))
        order = np.argsort(-found, kind="stable").tolist()
        return {self.classes[index]: int(found[index]) for index in order if found[index]}

    def above(self, score: float) -> "Detections":
        """Those of at least this score."""
        return self[self.scores >= score]

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> "Detections":
        return Detections(
            self.key,
            self.boxes[rows],
            self.scores[rows],
            self.labels[rows],
            self.classes,
            self.size,
            self.candidate[rows],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` gives the same result back."""
        return {
            "key": self.key,
            "size": list(self.size),
            "classes": list(self.classes),
            "detections": [
                {"label": self.classes[label], "score": score, "box": box, "candidate": candidate}
                for box, score, label, candidate in zip(
                    self.boxes.tolist(),
                    self.scores.tolist(),
                    self.labels.tolist(),
                    self.candidate.tolist(),
                    strict=True,
                )
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Detections":
        """The result that `to_dict` wrote."""
        classes, rows = tuple(data["classes"]), data["detections"]
        return cls(
            data["key"],
            np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
            np.array([row["score"] for row in rows], np.float32),
            np.array([classes.index(row["label"]) for row in rows], np.int64),
            classes,
            (int(data["size"][0]), int(data["size"][1])),
            np.array([row["candidate"] for row in rows], np.int64),
        )

    def __str__(self) -> str:
        found = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return f"{self.key}: {found or 'nothing'}"

    def __repr__(self) -> str:
        height, width = self.size
        return f"Detections({self.key}: {width}x{height} pixels, {len(self)} objects)"

    def __rich__(self) -> str:
        """One bar an object for the terminal (rich's protocol)."""
        return _bars(self.key, self._named()) if len(self) else str(self).replace("[", "\\[")

    def _repr_html_(self) -> str:
        """A small table for a notebook: no script, every name escaped."""
        return _html_table(self.key, self._named())

    def _named(self) -> dict[str, float]:
        """Each object, numbered, with its score."""
        rows = zip(self.labels.tolist(), self.scores.tolist(), strict=True)
        return {f"{number} {self.classes[label]}": score for number, (label, score) in enumerate(rows, 1)}


@dataclass(frozen=True, slots=True, repr=False)
class Segmentation:
    """The class of each pixel of one picture."""

    key: str
    mask: NDArray[np.uint8]  # (H, W) of the picture: class ids, IGNORE where the network saw nothing
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        mask = self.mask
        if mask.dtype != np.uint8 or mask.ndim != 2:
            raise DataError(
                self.key, f"a mask is uint8 (H, W), got {mask.dtype} {mask.shape}", "give one id per pixel"
            )
        outside = mask[(mask >= len(self.classes)) & (mask != IGNORE)]
        if outside.size:
            raise DataError(
                self.key,
                f"its mask has class id {outside[0]}, and there are {len(self.classes)} classes",
                f"give ids of 0..{len(self.classes) - 1}, or {IGNORE}",
            )

    @property
    def shares(self) -> dict[str, float]:
        """Share of each class in the pixels that have one, 0..1, largest first; only those that are there."""
        counts = np.bincount(self.mask[self.mask != IGNORE], minlength=len(self.classes))
        order = np.argsort(-counts, kind="stable")
        total = int(counts.sum())
        return {self.classes[index]: int(counts[index]) / total for index in order.tolist() if counts[index]}

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        """Where the class `name` is, (H, W)."""
        if name not in self.classes:
            raise UnknownName("class", name, self.classes)
        where: NDArray[np.bool_] = self.mask == self.classes.index(name)
        return where

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` gives the same result back. `runs`: [id, pixels], row by row."""
        flat = self.mask.reshape(-1)
        starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] ^ 1)) if flat.size else np.empty(0, np.int64)
        lengths = np.diff(starts, append=flat.size)
        return {
            "key": self.key,
            "size": list(self.mask.shape),
            "classes": list(self.classes),
            "shares": self.shares,
            "runs": np.stack((flat[starts].astype(np.int64), lengths), 1).tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Segmentation":
        """The result that `to_dict` wrote."""
        ids, lengths = np.array(data["runs"], np.int64).reshape(-1, 2).T
        mask = np.repeat(ids.astype(np.uint8), lengths).reshape(data["size"])
        return cls(data["key"], mask, tuple(data["classes"]))

    def __str__(self) -> str:
        return f"{self.key}: " + ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items())

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return f"Segmentation({self.key}: {width}x{height} pixels, {len(self.shares)} of {len(self)} classes)"

    def __rich__(self) -> str:
        """One bar a class for the terminal (rich's protocol)."""
        return _bars(self.key, self.shares)

    def _repr_html_(self) -> str:
        """A small table for a notebook: no script, every name escaped."""
        return _html_table(self.key, self.shares)


def _bars(title: str, shares: Mapping[str, float]) -> str:
    width = max(map(len, shares), default=0)
    bars = (f"{name:<{width}} {'█' * round(20 * p):<20} {p:6.1%}" for name, p in shares.items())
    return "\n".join((title, *bars)).replace("[", "\\[")


def _html_table(title: str, shares: Mapping[str, float]) -> str:
    from html import escape

    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><meter max='1' value='{p:.4f}'></meter> {p:.1%}</td></tr>"
        for name, p in shares.items()
    )
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"


Result: TypeAlias = Classification | Detections | Segmentation
"""What a network of any task says of one picture."""
