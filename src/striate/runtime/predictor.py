"""From pictures of any kind to results, with any engine: decode, prepare, batch, run, read off.

The one road of prediction: a picture gives the same pixels whether it comes as a path, bytes, array or
PIL image, alone or among others.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast, overload

import numpy as np
from numpy.typing import NDArray

from striate import plugins, tasks
from striate.errors import EnvironmentProblem, ModelError, UsageError
from striate.modelfile import ModelCard, find_model_file, read_card
from striate.runtime._pictures import OnError, Picture, Prepared, Source, is_picture, prepare, readable
from striate.structures import Classification, Preprocess, Sample

__all__ = ["Engine", "Predictor", "load"]


class Engine(Protocol):
    """Anything that runs a network."""

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The dense outputs by name, for `images` (B, C, H, W) uint8 and further inputs by name."""
        ...


def load(path: str | Path, device: str = "auto", made_by: str | None = None) -> "Predictor":
    """The predictor of a run folder, a folder with a model file, or a model file.

    `made_by` is needed where a function makes the network: "package.module:function", which no file may say.
    Raises ModelError for anything else, EnvironmentProblem where torch or the device is missing.
    """
    file = find_model_file(Path(path))
    try:
        from striate.runtime.pytorch import PyTorchEngine
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise EnvironmentProblem(file, "torch is not installed", "pip install 'striate[train]'") from None
    engine = PyTorchEngine.from_file(file, device, made_by)
    return Predictor(read_card(file), engine)


class Predictor:
    """A model ready for pictures: `predictor.predict("cat.jpg").label`."""

    def __init__(self, card: ModelCard, engine: Engine) -> None:
        if card.task not in plugins.names(tasks):
            raise ModelError(card.variant, f"its task {card.task!r} is unknown here", "upgrade striate")
        self.card = card
        self.engine = engine
        self._task = plugins.load(tasks, card.task)

    @property
    def task(self) -> str:
        """What it does: "classification"."""
        return self.card.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it knows."""
        return self.card.classes

    @property
    def preprocess(self) -> Preprocess:
        """How pictures are prepared for it."""
        return self.card.preprocess

    def __repr__(self) -> str:
        height, width = self.preprocess.size
        size = f"{height}x{width}" if self.preprocess.is_fixed else "any size"
        score = self.card.metrics.get(self._task.SCORE)
        measured = "" if score is None else f", {self._task.SCORE} {score:.3f}"
        return f"Predictor({self.card.variant}, {len(self.classes)} classes, {size}{measured})"

    # A str is an iterable too, but of no use as one: the first overload wins.
    @overload
    def predict(self, source: Picture, batch_size: int = 32) -> Classification: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, source: Iterable[Source], batch_size: int = 32) -> list[Classification]: ...
    def predict(
        self, source: Picture | Iterable[Source], batch_size: int = 32
    ) -> Classification | list[Classification]:
        """The result of one picture, or the list of results of several in their order.

        An array of four axes is several pictures. Raises DataError naming the first picture that cannot be
        read; `stream` goes on without it.
        """
        if is_picture(source):
            return self._pass([prepare(self.preprocess, cast(Picture, source))])[0]
        return list(self.stream(cast(Iterable[Source], source), batch_size))

    def results(self, samples: Iterable[Sample], batch_size: int = 32) -> Iterator[Classification]:
        """The result of each decoded sample in order, as they are asked for."""
        return self.stream(samples, batch_size, workers=0)

    def stream(
        self,
        sources: Iterable[Source],
        batch_size: int = 32,
        workers: int | None = None,
        on_error: OnError | None = None,
    ) -> Iterator[Classification]:
        """Results in the order of `sources`, as they are asked for; memory does not grow with their number.

        Decoding runs in `workers` threads (default: one per core, at most 8; 0: in the caller's). A picture
        that cannot be read is left out after `on_error(key, error)`; without `on_error` its error is raised.
        """
        workers = min(os.cpu_count() or 1, 8) if workers is None else workers
        if batch_size < 1 or workers < 0:
            raise UsageError(
                "stream", f"batch_size={batch_size}, workers={workers}", "use at least 1 and at least 0"
            )
        if not isinstance(sources, Iterable):
            raise UsageError(
                "picture",
                f"a {type(sources).__name__} is no picture",
                "give a path, bytes, an array, a PIL image or a list of them",
            )
        # One batch to hand out, and one made ready while the network computes.
        return self._run(readable(self.preprocess, sources, workers, 2 * batch_size, on_error), batch_size)

    def _run(self, pictures: Iterator[Prepared], batch_size: int) -> Iterator[Classification]:
        while chunk := list(islice(pictures, batch_size)):
            yield from self._chunk(chunk)

    def _chunk(self, chunk: Sequence[Prepared]) -> list[Classification]:
        """Results in the order of `chunk`; pictures of equal size share a pass."""
        places: dict[tuple[int, ...], list[int]] = {}
        for place, picture in enumerate(chunk):
            places.setdefault(picture.image.shape, []).append(place)
        found: dict[int, Classification] = {}
        for group in places.values():
            found |= zip(group, self._pass([chunk[place] for place in group]), strict=True)
        return [found[place] for place in range(len(chunk))]

    def _pass(self, pictures: Sequence[Prepared]) -> list[Classification]:
        images = np.stack([picture.image for picture in pictures]).transpose(0, 3, 1, 2)
        dense = self.engine.dense({"images": images})
        keys, geometry = [picture.key for picture in pictures], [picture.geometry for picture in pictures]
        options = self._task.ResultOptions(self.classes)
        return cast(list[Classification], self._task.results(dense, keys, geometry, options))
