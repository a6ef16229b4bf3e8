"""Random changes of a training picture and the boxes in it together.

A picture is resized once: zooming out, cutting and jittering are one window on it, and colours are changed
after that. Everything depends on (seed, epoch, sample index) alone, partners of mosaics and mixtures too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from striate.config import Settings
from striate.data.box_canvas import BoxCanvas, Source, Varied
from striate.data.box_windows import Windows
from striate.data.colours import Recolouring, photometric, yolo_colours
from striate.data.draws import Draws
from striate.data.mixing import partners
from striate.data.mosaic import LARGEST_SCALE, Mosaic
from striate.data.pixels import rounded
from striate.data.rois import RoiRule, filled, rois_of
from striate.errors import UsageError
from striate.structures import Preprocess

__all__ = ["BoxAugmentConfig", "BoxAugmentation"]

_STRIDE = 32  # multiple that both sides are of where they vary
_MOST_TIMES = 4.0
_LARGEST_EXPAND = 10.0
_LARGEST_FACTOR = 10.0

_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("flip", "distort", "mosaic", "mixup"), lambda x: 0 <= x <= 1, "a probability, 0..1"),
    (("jitter",), lambda x: 0 <= x < 0.5, "a share of the side, at least 0 and below 0.5"),
    (("hue",), lambda x: 0 <= x <= 0.5, "a share of the colour circle, 0..0.5"),
    (("expand",), lambda x: 1 <= x <= _LARGEST_EXPAND, f"a ratio of 1 (none) to {_LARGEST_EXPAND:g}"),
    (("saturation", "exposure"), lambda x: 1 <= x <= _LARGEST_FACTOR, f"1 (none) to {_LARGEST_FACTOR:g}"),
    (("rois_foreground", "rois_overlap"), lambda x: 0 < x <= 1, "a share above 0, at most 1"),
    (("rois",), lambda n: n >= 0, "how many for each picture, or 0 for all"),
)


class BoxAugmentConfig(Settings, frozen=True):
    """How training pictures and the boxes in them are varied; everything off by default."""

    flip: float = 0.0  # probability of a horizontal mirror image
    distort: float = 0.0  # probability of each of SSD's four changes of colour (arXiv:1512.02325; there 0.5)
    expand: float = 1.0  # half of the pictures are zoomed out, to one over this at most (there 4); 1: none
    crop: bool = False  # cut a part that overlaps some object enough (there, section 2.2)
    jitter: float = 0.0  # each border moves by this share of the side at most (arXiv:1506.02640; there 0.2)
    hue: float = 0.0  # moves by this share of the colour circle at most (arXiv:1612.08242; there 0.1)
    saturation: float = 1.0  # times or divided by this at most; 1: as it is (there 1.5)
    exposure: float = 1.0  # brightness likewise
    mosaic: float = 0.0  # probability that four pictures become one (arXiv:2004.10934)
    mixup: float = 0.0  # probability that another picture shines through (arXiv:2107.08430)
    # Sides of the input between these times the size, another for each batch, all multiples of 32
    # (arXiv:1612.08242, section 2).
    sizes: tuple[float, float] | None = None
    # Where a network takes proposals: how many a picture are drawn to train on, its true boxes among them.
    rois: int = 0  # 0: all
    rois_foreground: float = 0.25  # largest share of those that hold an object
    rois_overlap: float = 0.5  # intersection over union from which one does
    rois_background: tuple[float, float] = (0.0, 0.5)  # that of background, the second excluded

    def __post_init__(self) -> None:
        for names, allowed, fix in _RANGES:
            for name in names:
                _require(allowed(getattr(self, name)), name, getattr(self, name), f"give {fix}")
        cuts = self.crop or self.expand > 1
        _require(not (self.jitter and cuts), "jitter", self.jitter, "crop and expand cut already: unset it")
        low, high = self.rois_background
        fix = "give two overlaps, 0 <= first < second <= 1"
        _require(0 <= low < high <= 1, "rois_background", self.rois_background, fix)
        if self.sizes is not None:
            least, largest = self.sizes
            fix = f"give two factors, 0 < least <= largest <= {_MOST_TIMES:g}"
            _require(0 < least <= largest <= _MOST_TIMES, "sizes", self.sizes, fix)
        if not self.rois:
            for name, default in (("foreground", 0.25), ("overlap", 0.5), ("background", (0.0, 0.5))):
                value = getattr(self, f"rois_{name}")
                _require(value == default, f"rois_{name}", value, "it needs augment.rois: set that too")

    @property
    def recolours(self) -> bool:
        """Whether any colour is changed."""
        return bool(self.distort or self.hue) or self.saturation > 1 or self.exposure > 1

    @property
    def windows(self) -> Windows:
        """How the part that is shown is drawn."""
        return Windows(self.expand, self.crop, self.jitter)

    @property
    def zoom(self) -> float | None:
        """The largest size that a picture is shown at, times that of its fit; None: always at just that."""
        if not (self.windows or self.mosaic or self.sizes):
            return None
        closest = 1 / self.windows.least_side
        return max(closest, LARGEST_SCALE if self.mosaic else 1) * (self.sizes[1] if self.sizes else 1)


def _require(allowed: bool, name: str, value: object, fix: str) -> None:
    if not allowed:
        raise UsageError(f"augment.{name}", f"{value!r} makes no sense here", fix)


@dataclass(frozen=True, slots=True)
class BoxAugmentation:
    """`config` at work on pictures that `preprocess` prepares. Raises UsageError where they do not fit."""

    config: BoxAugmentConfig
    preprocess: Preprocess
    pool: NDArray[np.int64]  # the items that partners come from
    blocks: NDArray[np.int64] | None = None  # which items are best read together
    _sizes: tuple[tuple[int, int], ...] = field(init=False, repr=False)  # that an input may have

    def __post_init__(self) -> None:
        config, spec = self.config, self.preprocess
        fix = f"preprocess.fit {spec.fit!r} gives pictures of several sizes: unset it"
        for name in ("mosaic", "mixup"):
            value = getattr(config, name)
            _require(not value or spec.is_fixed, name, value, fix)
            alone = not value or not spec.proposals
            _require(alone, name, value, "proposals belong to one picture: unset it")
        scalable = config.sizes is None or spec.fit in ("stretch", "letterbox")
        _require(scalable, "sizes", config.sizes, "it needs a preprocess.fit of stretch or letterbox")
        coloured = spec.color != "hsv" or not config.recolours
        names = "distort, hue, saturation and exposure cannot work on hsv pictures: unset them"
        _require(coloured, "distort", config.distort, names)
        takes = spec.proposals or not config.rois
        _require(bool(takes), "rois", config.rois, "this network takes no proposals: unset it")
        object.__setattr__(self, "_sizes", _sizes_of(config.sizes, spec.size))

    def vary(self, drawn: Draws, indices: NDArray[np.int64], source: Callable[[int], Source]) -> list[Varied]:
        """The samples `indices`, each changed at random by its own index; `source` gives that of an item.

        They have the size that preprocessing gives the part that is shown, without what it pads to; all the
        same one where that is fixed. Without a window, a mosaic or `sizes` a picture lies where
        `preprocess.apply` puts it and has its pixels, but for colours and mirroring.
        """
        canvas = self._canvas(self._size(drawn, indices))
        uniform = drawn.uniform(indices, "boxes", 7)
        others = self._partners(drawn, indices)
        rows = zip(indices.tolist(), uniform, others, self._recolourings(drawn, indices), strict=True)
        found = []
        for index, chance, near, colours in rows:
            if chance[0] < self.config.mosaic:
                sources = [source(item) for item in (index, *near[:3])]
                varied = canvas.mosaic(sources, Mosaic(*chance[1:4].tolist()), colours)
            else:
                varied = self._single(drawn, index, source(index), canvas, colours)
            if chance[4] < self.config.mixup:
                other = self._single(drawn, index, source(near[3]), canvas, colours, "window behind")
                varied = varied.blended(other.mirrored() if chance[5] < self.config.flip else other)
            found.append(varied.mirrored() if chance[6] < self.config.flip else varied)
        return found

    def rois(self, drawn: Draws, indices: NDArray[np.int64], varied: list[Varied]) -> NDArray[np.float32]:
        """The proposals of each sample that a network is trained on, (B, N, 4) in input pixels, zeros unused.

        True boxes are among them: `augment.rois` drawn by lots, or else the first `preprocess.proposals`.
        """
        config = self.config
        if not config.rois:
            every = [(one.objects.boxes[~one.objects.crowd], one.proposals) for one in varied]
            count = self.preprocess.proposals
            return np.stack([filled(np.concatenate(boxes), count) for boxes in every])
        rule = RoiRule(config.rois, config.rois_foreground, config.rois_overlap, config.rois_background)
        most = max(len(one.objects) + len(one.proposals) for one in varied)
        lots = drawn.uniform(indices, "rois", most)
        return np.stack(
            [rois_of(one.objects, one.proposals, rule, row) for one, row in zip(varied, lots, strict=True)]
        )

    def _single(
        self,
        drawn: Draws,
        index: int,
        source: Source,
        canvas: BoxCanvas,
        colours: Recolouring,
        purpose: str = "window",
    ) -> Varied:
        size = source.geometry.source
        window = self.config.windows.draw(drawn, index, size, source.objects, purpose)
        return canvas.single(source, window, colours)

    def _canvas(self, size: tuple[int, int]) -> BoxCanvas:
        # Only training varies pictures, so that everything else does without torch.
        from striate.data.resample import resampler

        spec = self.preprocess if size == self.preprocess.size else replace(self.preprocess, size=size)
        mean = rounded(np.divide(spec.mean, spec.scale))
        return BoxCanvas(
            spec=spec,
            resize=None if self.config.zoom is None else resampler(spec),
            around=mean if self.config.expand > 1 else spec.pad_value,
            by_centre=self.config.crop,
        )

    def _size(self, drawn: Draws, indices: NDArray[np.int64]) -> tuple[int, int]:
        """The input's size of a batch, by the first of its samples."""
        chance = float(drawn.uniform(indices[:1], "size", 1)[0, 0])
        return self._sizes[int(chance * len(self._sizes))]

    def _partners(self, drawn: Draws, indices: NDArray[np.int64]) -> list[list[int]]:
        """For each sample three items for a mosaic, and one to shine through; none where neither is on."""
        if not (self.config.mosaic or self.config.mixup):
            return [[] for _ in indices]
        purposes = ("mosaic 1", "mosaic 2", "mosaic 3", "behind")
        columns = [partners(drawn, indices, self.pool, self.blocks, purpose) for purpose in purposes]
        every: list[list[int]] = np.stack(columns, 1).tolist()
        return every

    def _recolourings(self, drawn: Draws, indices: NDArray[np.int64]) -> list[Recolouring]:
        config = self.config
        result: list[Recolouring] = [() for _ in indices]
        if config.distort:
            result = photometric(drawn, indices, config.distort)
        if config.hue or config.saturation > 1 or config.exposure > 1:
            more = yolo_colours(drawn, indices, config.hue, config.saturation, config.exposure)
            result = [one + other for one, other in zip(result, more, strict=True)]
        return result


def _sizes_of(times: tuple[float, float] | None, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Sizes (h, w) of about the shape of `size`, multiples of 32, with heights between `times` its height."""
    if times is None:
        return (size,)
    height, width = size
    first, last = math.ceil(times[0] * height / _STRIDE), math.floor(times[1] * height / _STRIDE)
    fix = f"no multiple of {_STRIDE} lies between these times {height} pixels: give a wider range"
    _require(max(first, 1) <= last, "sizes", times, fix)
    heights = [_STRIDE * count for count in range(max(first, 1), last + 1)]
    return tuple((new, _STRIDE * max(1, round(new * width / height / _STRIDE))) for new in heights)
