"""The report of one run: measures its best model, looks its data over, and writes what was found."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate import plugins
from striate.api import evidence
from striate.api.data_evidence import data_evidence, has_own_data, whole_data
from striate.api.evaluation import Evaluation, choose_part, data_of_model, evaluate_indices
from striate.api.evidence import Gathered, TaskGatherer
from striate.api.evidence.classification import DOUBTED
from striate.api.inside_evidence import inside_evidence
from striate.api.label_checking import LabelErrors, label_errors_of_run
from striate.api.run_record import RunRecord, environment_of, read_record
from striate.api.runfiles import write_text
from striate.api.thumbnails import thumbnail
from striate.data.dataset import Dataset
from striate.errors import StriateError, UsageError
from striate.reports.evidence import (
    Column,
    Evidence,
    Gallery,
    Layer,
    Network,
    Picture,
    Provenance,
    Table,
)
from striate.reports.run import run_report
from striate.reports.tables import percent
from striate.runtime.predictor import Predictor, load

if TYPE_CHECKING:
    from striate.explain.summary import Summary

__all__ = ["REPORT_FILE", "OnStage", "ReportRequest", "gather", "summary_of", "write_report"]

REPORT_FILE = "report.html"
"""What it is called in a run folder where nobody names it."""

_DOUBTED = 48  # pictures with a doubtful label that are shown

OnStage = Callable[[str, int, int], None]
"""Called with what is being done, and how many pictures of how many are."""


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """What to report on, and where to."""

    model: Path  # a run folder, or a model file
    out: Path
    data: str | None = None  # None: what it was trained beside
    device: str = "auto"
    made_by: str | None = None  # the function that makes its network
    folds: int | None = (
        None  # in which labels are checked by networks that never saw them; None: they are not
    )
    progress: OnStage | None = None

    def stage(self, name: str) -> Callable[[int, int], None] | None:
        """What to tell of the stage `name`."""
        told = self.progress
        return None if told is None else lambda done, total: told(name, done, total)


def write_report(request: ReportRequest) -> Path:
    """The file that was written. Raises a StriateError where the model or its data cannot be read."""
    if request.out.is_dir():
        raise UsageError(request.out, "this is a folder", "name a file: --out report.html")
    found = gather(request)
    write_text(request.out, run_report(found))
    return request.out


def gather(request: ReportRequest) -> Evidence:
    """All that the report shows."""
    predictor = load(request.model, request.device, request.made_by)
    _refuse_folds(request, predictor.task)
    dataset, notes = data_of_model(request.model, request.data)
    measured = _measured(request, predictor, dataset)
    folder = request.model if request.model.is_dir() else request.model.parent
    is_own = request.data is None and has_own_data(folder)
    record = read_record(folder)
    layers = summary_of(predictor)
    return Evidence(
        title=f"{predictor.card.variant} on {Path(dataset.name).name}",
        subject=tuple(_subject(request, predictor, measured)),
        headline=measured.gathered.headline,
        notes=(
            *notes,
            *measured.evaluation.notes,
            *([f"the model: {layers}"] if isinstance(layers, str) else ()),
        ),
        data=data_evidence(whole_data(folder) if is_own else dataset, request.stage("checking")),
        curves=tuple(record.curves()),
        classes=_classes(measured.evaluation),
        confusion=measured.gathered.confusion,
        precision_recall=measured.gathered.precision_recall,
        galleries=tuple(_galleries(request, dataset, measured.gathered.galleries)),
        calibration=measured.gathered.calibration,
        network=_network(layers),
        inside=inside_evidence(predictor, layers, dataset, measured.gathered.example),
        provenance=_provenance(predictor, record, measured),
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    evaluation: Evaluation
    part: str  # "part test"
    gathered: Gathered
    seconds: float


def _measured(request: ReportRequest, predictor: Predictor, dataset: Dataset) -> _Measured:
    """The model on the part that it is measured on, and a look at others that it was not trained on."""
    indices, part = choose_part(dataset, None)
    gatherer: TaskGatherer = plugins.load(evidence, predictor.task).Gatherer(dataset, predictor)
    begun = time.perf_counter()
    found = evaluate_indices(
        predictor, dataset, indices, progress=request.stage("measuring"), on_measured=gatherer.add
    )
    seconds = time.perf_counter() - begun
    further = dataset.indices("val") if part == "part test" else indices[:0]
    if gatherer.takes_unmeasured and len(further):
        gatherer.end_of_measured()
        evaluate_indices(
            predictor, dataset, further, progress=request.stage("looking"), on_measured=gatherer.add
        )
    return _Measured(found, part, gatherer.gathered(found.scores), seconds)


def _subject(request: ReportRequest, predictor: Predictor, measured: _Measured) -> Iterator[str]:
    evaluation = measured.evaluation
    unreadable = f" and {evaluation.unreadable:,} unreadable ones" if evaluation.unreadable else ""
    unseen = ", which it never saw" if measured.part == "part test" else ""
    yield f"The best model of {request.model}, for {predictor.task}."
    yield (
        f"Measured on {evaluation.pictures:,} pictures{unreadable} of {evaluation.source}, "
        f"{measured.part}{unseen}."
    )


def _classes(evaluation: Evaluation) -> Table:
    scores = evaluation.scores
    columns = (Column("class", is_number=False), *(Column(heading) for _, heading in scores.columns))
    rows = tuple((row["name"], *(row[key] for key, _ in scores.columns)) for row in scores.classes)
    return Table("Scores of each class", columns, rows)


def _refuse_folds(request: ReportRequest, task: str) -> None:
    """Raise UsageError where labels are to be checked that there are none of."""
    if request.folds is None:
        return
    if task != "classification" or request.data is not None or not has_own_data(request.model):
        what = "labels are checked of the pictures that a classifier was trained on"
        raise UsageError("folds", what, "leave it out, or give the folder of such a run and no data")


def _galleries(request: ReportRequest, dataset: Dataset, usual: tuple[Gallery, ...]) -> Iterator[Gallery]:
    """The galleries; that of doubtful labels by folds where that is asked for."""
    yield from (each for each in usual if request.folds is None or each.title != DOUBTED)
    if request.folds is not None:
        found = label_errors_of_run(request.model, request.folds, request.stage("checking labels"))
        yield _doubted(found, dataset)


def _doubted(found: LabelErrors, dataset: Dataset) -> Gallery:
    index_of = {item.key: index for index, item in enumerate(dataset.items)}
    shown = []
    for each in found.suspects[:_DOUBTED]:
        lines = (
            f"labelled {each.label}, {percent(each.probability)}",
            f"rather {each.likelier}, {percent(each.likelier_probability)}?",
        )
        image = thumbnail(dataset.image(index_of[each.key]), f"labelled {each.label}")
        shown.append(Picture(each.key, (image,), lines))
    text = (
        f"Of all {found.pictures:,} pictures, by confident learning (Northcutt et al. 2021). The "
        f"probabilities are out of fold: {found.folds} networks were trained as this one, each without the "
        f"pictures that it was asked about; they agree with {percent(found.accuracy)} of the labels. Look "
        "before you change a label: a hard picture looks like this too."
    )
    return Gallery(DOUBTED, text, tuple(shown), left_out=max(0, len(found.suspects) - len(shown)))


def summary_of(predictor: Predictor) -> "Summary | str":
    """The layers of the predictor's network and what they cost, or why that is not known."""
    from striate.explain.summary import summarise
    from striate.runtime.pytorch import PyTorchEngine

    engine, card = predictor.engine, predictor.card
    if not isinstance(engine, PyTorchEngine):
        return "it is an export, of which the layers are not read"
    shape = (card.preprocess.channels, *card.preprocess.size)
    try:
        found = summarise(engine.network, shape, card.variant)
    except StriateError as error:
        return f"its layers cannot be shown ({error.what})"
    # What was loaded only to be measured is not trained; what the run trained, nobody wrote down.
    return replace(found, trainable=found.parameters)


def _network(found: "Summary | str") -> Network | None:
    if isinstance(found, str):
        return None
    table = found.table(width=10_000)
    columns = tuple(Column(each.name, each.is_number) for each in table.columns)
    layers = tuple(_layer(row) for row in table.rows)
    return Network(found.title, columns, layers, tuple(found.legend(table)))


def _layer(row: tuple[str, ...]) -> Layer:
    name = row[0].lstrip(" ")
    return Layer((len(row[0]) - len(name)) // 2, (name, *row[1:]))


def _provenance(predictor: Predictor, record: RunRecord, measured: _Measured) -> Provenance:
    evaluation = measured.evaluation
    rate = evaluation.pictures / measured.seconds
    speed = [
        (
            "measuring",
            f"{rate:,.0f} pictures/s on {_device(predictor)}, decoding included "
            f"({evaluation.pictures:,} in {measured.seconds:.1f} s)",
        )
    ]
    if record.images_per_second is not None:
        speed.append(("training", f"{record.images_per_second:,.0f} pictures/s, median over its steps"))
    environment = tuple(environment_of(predictor.card))
    return Provenance(tuple(speed), environment, record.command, record.settings)


def _device(predictor: Predictor) -> str:
    """Where the predictor computes, for people."""
    device: Any = getattr(predictor.engine, "device", "cpu")
    return str(device).upper() if str(device) == "cpu" else str(device)
