"""From pictures of any kind to results, with any engine: decode, prepare, batch, run, read off.

The one road of prediction: a picture gives the same pixels whether it comes as a path, bytes, array or
PIL image, alone or among others.
"""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import islice
from operator import length_hint
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias, cast, get_args, overload

import numpy as np
from numpy.typing import NDArray

from striate import plugins, tasks
from striate.errors import DataError, EnvironmentProblem, ModelError, UsageError
from striate.modelfile import ModelCard, find_model_file
from striate.runtime import engines
from striate.runtime._batch_size import BatchSize, Bounded, Fixed, Searched
from striate.runtime._order import decoding_threads, in_order
from striate.runtime.card_file import card_from_file
from striate.runtime.engine import Engine
from striate.runtime.pictures import Job, Picture, Prepared, Source, is_picture, jobs, prepare
from striate.structures import Preprocess, Result, Sample, Task

__all__ = ["OnError", "Predictor", "engine_for", "load"]

OnError: TypeAlias = Callable[[str, DataError | ModelError], None]
"""Told of a picture that gave no result: what it is called, and why. What it raises ends the stream."""

STEADY = 64
"""Pictures that share a pass where the same bits are to come each time."""

BEST_THRESHOLD = "best_threshold"
"""Of a detector's measures: the score with the best F1 on the val part, from which on its boxes are told."""


def load(
    path: str | Path,
    device: str = "auto",
    made_by: str | None = None,
    *,
    engine: str = "auto",
    card: ModelCard | str | Path | None = None,
) -> "Predictor":
    """The predictor of a run folder, a folder with a model file, a model file, or an exported one.

    `made_by` is needed where a function makes the network: "package.module:function", which no file may say.
    engine: one of `runtime/engines`; "auto" takes the one whose kind of file it is, or else one that is
    installed and reads it too. card: of an export by another tool, which has none, or
    the file that spells it (see `card_from_file`). Raises ModelError for anything else, EnvironmentProblem
    where what runs it or the device is missing.
    """
    file = find_model_file(Path(path))
    chosen = engine_for(file, engine)
    given = card if card is None or isinstance(card, ModelCard) else card_from_file(card)
    try:
        ready, found = chosen.opened(file, device, made_by, given)
    except ModuleNotFoundError as error:
        if error.name != chosen.PACKAGE:
            raise
        raise EnvironmentProblem(file, f"{error.name} is not installed", chosen.INSTALL) from None
    return Predictor(found, ready, score=found.metrics.get(BEST_THRESHOLD))


def engine_for(file: Path, engine: str = "auto") -> ModuleType:
    """The module in `runtime/engines` that opens `file`. Raises UsageError if `engine` cannot read it."""
    suffix = file.suffix.lower()
    known = {name: plugins.load(engines, name) for name in plugins.names(engines)}
    if engine != "auto":
        chosen = plugins.load(engines, engine)
        others = sorted({end for module in known.values() for end in module.SUFFIXES} - set(_ends(chosen)))
        if suffix in others:
            raise UsageError(
                f"--engine {engine}", f"it reads {' and '.join(_ends(chosen))}, not {suffix}", "leave it out"
            )
        return chosen
    own = next((module for module in known.values() if suffix in module.SUFFIXES), known["pytorch"])
    also = (module for module in known.values() if suffix in module.READS and _is_installed(module))
    return own if _is_installed(own) else next(also, own)


def _ends(engine: ModuleType) -> tuple[str, ...]:
    return (*engine.SUFFIXES, *engine.READS)


def _is_installed(engine: ModuleType) -> bool:
    return find_spec(engine.PACKAGE) is not None


@dataclass(frozen=True, slots=True)
class Viewing:
    """How a picture is looked at several times."""

    options: Any  # the task's ViewOptions
    crf: bool


class Failure(NamedTuple):
    """A picture without a result."""

    key: str
    error: DataError | ModelError


class Predictor:
    """A model ready for pictures: `predictor.predict("cat.jpg").label`."""

    def __init__(
        self,
        card: ModelCard,
        engine: Engine,
        viewing: "Viewing | None" = None,
        score: float | None = None,
    ) -> None:
        if card.task not in get_args(Task) or card.task not in plugins.names(tasks):
            raise ModelError(card.variant, f"its task {card.task!r} is unknown here", "upgrade striate")
        self.card = card
        self.engine = engine
        self._task = plugins.load(tasks, card.task)
        self._viewing = viewing  # None: each picture once, as its preprocessing says
        self._score = score  # below which a box is nothing; None: as the network says

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

    def viewing(
        self,
        *,
        tile: int | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        crf: bool = False,
    ) -> "Predictor":
        """The same model, which looks at each picture several times; for masks only.

        tile: side in pixels of the tiles that a picture is cut into, at its own size, which bounds the memory
        that a large one takes. scales, flip: average over enlarged, shrunk and mirrored pictures. crf: let
        a conditional random field move the borders to those of the picture (`tasks.crf`). Raises UsageError
        where the model has no masks, or values do not fit.
        """
        if not hasattr(self._task, "ViewOptions"):
            raise UsageError(
                "views", f"{self.card.variant} is for {self.task}, which has none", "use a model for masks"
            )
        options = self._task.ViewOptions(tile, self.card.context, tuple(scales), flip)
        return Predictor(self.card, self.engine, Viewing(options, crf))

    def at(self, score: float | None = None) -> "Predictor":
        """The same model, which tells of boxes of at least this score, in [0, 1); for boxes only.

        None: of all that are measured. Raises UsageError where the model has no boxes, or the score is none.
        """
        if self.task != "detection":
            raise UsageError(
                "score", f"{self.card.variant} is for {self.task}, not for boxes", "use a model for detection"
            )
        if score is not None and not 0 <= score < 1:
            raise UsageError("score", f"{score} is out of range", "give a number of at least 0 and below 1")
        return Predictor(self.card, self.engine, score=score)

    # A str is an iterable too, but of no use as one: the first overload wins.
    @overload
    def predict(self, source: Picture, batch_size: int | None = None) -> Result: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, source: Iterable[Source], batch_size: int | None = None) -> list[Result]: ...
    def predict(
        self, source: Picture | Iterable[Source], batch_size: int | None = None
    ) -> Result | list[Result]:
        """The result of one picture, or the list of results of several in their order.

        An array of four axes is several pictures. Raises DataError naming the first picture that cannot be
        read; `stream` goes on without it. batch_size: as for `stream`.
        """
        if is_picture(source):
            return self._pass([prepare(self._prepared_by, cast(Picture, source))])[0]
        return list(self.stream(cast(Iterable[Source], source), batch_size))

    def inputs(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """What its engine is given for one picture, by name: `images` (1, C, H, W) uint8, and more."""
        return _inputs([prepare(self.preprocess, sample)])

    def results(self, samples: Iterable[Sample], batch_size: int = 32) -> Iterator[Result]:
        """The result of each decoded sample in order, computed in the caller's thread when asked for."""
        return self.stream(samples, batch_size, workers=0)

    def stream(
        self,
        sources: Iterable[Source],
        batch_size: int | None = None,
        workers: int | None = None,
        on_error: OnError | None = None,
    ) -> Generator[Result]:
        """Results in the order of `sources`, as they are asked for; memory does not grow with their number.

        batch_size: how many pictures share a pass; None: the fastest, found out on the first of these. A
        picture's result depends on its neighbours by rounding alone (1e-6), so that a number also gives the
        same bits each time. workers: threads that decode (default: one per core, at most 8; 0: all is done in
        the caller's thread); an engine of several lanes decodes in those. A picture that cannot be read, or
        that the network has no answer for, is left out after `on_error(key, error)`, which is called in the
        caller's thread and in order; without `on_error` its error is raised.
        """
        if (batch_size is not None and batch_size < 1) or (workers is not None and workers < 0):
            raise UsageError(
                "stream", f"batch_size={batch_size}, workers={workers}", "use at least 1 and at least 0"
            )
        return self._begun(sources, self._batch_size(batch_size, sources), workers, on_error)

    def steady_stream(self, sources: Iterable[Source], on_error: OnError | None = None) -> Generator[Result]:
        """As `stream`, in batches of a size that time has no say in: the same bits each time.

        STEADY pictures, or fewer where they are large, so that memory stays bounded.
        """
        return self._begun(sources, Bounded(STEADY, self.engine.lanes), None, on_error)

    def _begun(
        self, sources: Iterable[Source], size: BatchSize, workers: int | None, on_error: OnError | None
    ) -> Generator[Result]:
        if not isinstance(sources, Iterable):
            raise UsageError(
                "picture",
                f"a {type(sources).__name__} is no picture",
                "give a path, bytes, an array, a PIL image or a list of them",
            )
        workers = min(os.cpu_count() or 1, 8) if workers is None else workers
        if self._viewing is not None:
            size = Fixed(1)  # nothing is shared: each picture has its own views
        return self._stream(jobs(self._prepared_by, sources), size, workers, on_error)

    def _batch_size(self, given: int | None, sources: Iterable[Source]) -> BatchSize:
        if given is not None:
            return Fixed(given)
        shape = self.preprocess.size if self.preprocess.is_fixed else None
        return Searched(self.engine.lanes, shape, length_hint(sources))

    def _stream(
        self, pictures: Iterator[Job], size: BatchSize, workers: int, on_error: OnError | None
    ) -> Generator[Result]:
        """The road of every stream: batches in order, `lanes` at a time, each decoded, run and read off."""
        lanes = self.engine.lanes if workers else 0
        with ExitStack() as threads:
            if lanes == 1:  # the lane computes on all cores, and others decode for it meanwhile
                pool = threads.enter_context(decoding_threads(workers))
                pictures = ((key, pool.submit(job).result) for key, job in pictures)
            batches = (partial(self._outcomes, batch, size) for batch in _batches(pictures, size))
            # One at work in each lane, one that waits for it, and one to be handed out.
            for outcomes in threads.enter_context(closing(in_order(batches, lanes, 2 * lanes + 1))):
                for outcome in outcomes:
                    if not isinstance(outcome, Failure):
                        yield outcome
                    elif on_error is None:
                        raise outcome.error
                    else:
                        on_error(outcome.key, outcome.error)

    def _outcomes(self, batch: Sequence[Job], size: BatchSize) -> list["Result | Failure"]:
        """What came of each picture in `batch`, in order."""
        found: dict[int, Result | Failure] = {}
        ready: dict[int, Prepared] = {}
        for place, (key, job) in enumerate(batch):
            try:
                ready[place] = job()
            except DataError as error:
                found[place] = Failure(key, error)
        for places in _passes(ready, size):
            found |= zip(places, self._told([ready[place] for place in places], size), strict=True)
        return [found[place] for place in range(len(batch))]

    def _told(self, pictures: Sequence[Prepared], size: BatchSize) -> "Sequence[Result | Failure]":
        """The results of pictures that share a pass; where that fails, each is tried by itself."""
        begin = time.perf_counter()
        try:
            results = self._pass(pictures)
        except (DataError, ModelError) as error:
            if len(pictures) == 1:
                return [Failure(pictures[0].key, error)]
            return [outcome for picture in pictures for outcome in self._told([picture], size)]
        size.tell(len(pictures), time.perf_counter() - begin)
        return results

    @property
    def _prepared_by(self) -> Preprocess | None:
        """What pictures go through first; views are prepared one by one."""
        return self.preprocess if self._viewing is None else None

    def _viewed(self, picture: Prepared, viewing: "Viewing") -> Result:
        """The result of a picture that is only decoded, from all its views."""
        image, options, refine = picture.image, viewing.options, None
        if viewing.crf:
            from striate.tasks import crf

            refine = partial(crf.refine, image=image, config=crf.CrfConfig(), key=picture.key)
        merger = self._task.Merger(picture.key, image.shape[:2], self.classes, options, refine)
        for view in self._task.views(image, self.preprocess, options):
            batch = np.ascontiguousarray(view.image)[None].transpose(0, 3, 1, 2)
            merger.add(view, self.engine.dense({"images": batch})["logits"][0])
        return cast(Result, merger.result())

    def _pass(self, pictures: Sequence[Prepared]) -> list[Result]:
        """The results of pictures of equal size, from one call of the engine or those of their views."""
        if self._viewing is not None:
            return [self._viewed(picture, self._viewing) for picture in pictures]
        dense = self.engine.dense(_inputs(pictures))
        keys, geometry = [picture.key for picture in pictures], [picture.geometry for picture in pictures]
        settings = self.card.config
        if self._score is not None:
            settings = {**settings, "score_threshold": self._score}
        options = self._task.result_options(self.classes, settings)
        return cast(list[Result], self._task.results(dense, keys, geometry, options))


def _inputs(pictures: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
    """What an engine is given for `pictures`, which have one size."""
    images = np.stack([picture.image for picture in pictures]).transpose(0, 3, 1, 2)
    extras = {name: np.stack([picture.extras[name] for picture in pictures]) for name in pictures[0].extras}
    return {"images": images, **extras}


def _batches(pictures: Iterator[Job], size: BatchSize) -> Iterator[list[Job]]:
    """`pictures` in lists that are as long as `size` says at the time."""
    while batch := list(islice(pictures, size.next())):
        yield batch


def _passes(pictures: Mapping[int, Prepared], size: BatchSize) -> Iterator[list[int]]:
    """The places of pictures that go through the network together: of equal size, and not too many."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for place, picture in pictures.items():
        alike.setdefault(picture.image.shape, []).append(place)
    for shape, places in alike.items():
        parts = -(-len(places) // size.most(shape))
        for part in range(parts):
            yield places[part::parts]
