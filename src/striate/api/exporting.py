"""Exports: written to a temporary place, proven beside their model, and only then put where they belong."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from striate import plugins, tasks
from striate.api.export_pictures import ExportPictures, pictures_for
from striate.api.export_proof import OnError, Progress, Proof, Watch, proven, signature, speeds
from striate.errors import DataError, EnvironmentProblem, StriateError, UnknownName, UsageError
from striate.files import staged
from striate.modelfile import find_model_file
from striate.runtime.predictor import Predictor, engine_for, load

__all__ = ["Export", "ExportPlan", "ExportRequest", "prepare_export"]

_MOST_PICTURES = 256  # that a proof looks at; fewer say as much of an error in the graph
_MOST_INT8_PICTURES = 1000  # a point of accuracy is ten of them
_MOST_CALIBRATION = 256
_USUAL_DROP = 1.0  # points


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What shall be exported, and how."""

    model: Path
    to: str
    out: Path | None = None  # None: beside the model file
    data: str | None = None  # pictures for the proof; None: those the model was trained beside
    int8: bool = False
    calibrate: str | None = None  # pictures for int8; None: the train part of what the proof is of
    max_drop: float | None = None  # points that int8 may lose; None: 1
    made_by: str | None = None  # the function that makes the network, where one does

    def __post_init__(self) -> None:
        for flag, value in (("--calibrate", self.calibrate), ("--max-drop", self.max_drop)):
            if value is not None and not self.int8:
                raise UsageError(f"{flag} {value}", "it is for --int8", "give --int8 too, or leave it out")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise UsageError(
                f"--max-drop {self.max_drop:g}", "it is out of range", "give points, such as 0.5, of 0 to 100"
            )

    @property
    def allowed_drop(self) -> float:
        """The fraction of the measure that int8 may lose."""
        return (_USUAL_DROP if self.max_drop is None else self.max_drop) / 100


@dataclass(frozen=True, slots=True)
class Export:
    """An export that was written and proven."""

    path: Path
    target: str
    int8: bool
    size: int  # bytes of all its files
    model_size: int  # bytes of the model file
    inputs: tuple[str, ...]  # "images uint8 (batch, 3, 224, 224)"
    outputs: tuple[str, ...]
    proof: Proof
    speed: dict[str, float]  # pictures a second of "model" and "export", one at a time: a rough measure

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `export --json`."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("path", "proof")}
        return plain | {
            "path": str(self.path),
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "proof": self.proof.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """An export that can be written, before it is."""

    request: ExportRequest
    target: ModuleType
    model_file: Path
    out: Path
    predictor: Predictor
    proof_pictures: ExportPictures
    calibration: ExportPictures | None  # None: no int8

    def describe(self) -> Iterator[tuple[str, list[str]]]:
        """What will be done, as headings with lines."""
        classes = len(self.predictor.classes)
        yield "model", [f"{self.model_file}: {self.predictor.card.variant}, {classes:,} classes"]
        replaced = "; replaces the file there once it is proven" if self.out.exists() else ""
        yield "export", [f"{self.out}: {self.target.DESCRIPTION}{replaced}"]
        yield "proof", [self.proof_pictures.source, *self.proof_pictures.notes, self.tolerance]
        if self.calibration is not None:
            yield "int8", [f"calibrated on {self.calibration.source}", *self.calibration.notes]

    @property
    def tolerance(self) -> str:
        """What the proof allows, in a line."""
        from striate.export.box_agreement import BOX, SCORE
        from striate.export.proof import METRIC, PIXELS, PROBABILITY

        if self.request.int8:
            return f"refused if {self._measure} falls by more than {_points(self.request.allowed_drop)}"
        allowed = {
            "classification": f"probabilities differ by more than {PROBABILITY:g}",
            "detection": f"boxes differ by more than {BOX:g} pixels, scores by more than {SCORE:g}",
            "segmentation": f"fewer than {100 * PIXELS:g} % of the pixels are the same",
        }[self.predictor.task]
        return f"refused if {allowed}, or {self._measure} by more than {_points(METRIC)}"

    @property
    def _measure(self) -> str:
        """What the score of the task is called in the field, such as "top-1"."""
        task = plugins.load(tasks, self.predictor.task)
        measure: str = dict(task.HEADLINE)[task.SCORE]
        return measure

    def finish(self, progress: Progress | None = None, on_error: OnError | None = None) -> Export:
        """Write the export, prove it, put it in its place. `progress` gets "calibrating" or "comparing".

        Raises StriateError where the export is not what the model is; then nothing of it stays, and a file
        that was there before does.
        """
        watch = Watch(progress, on_error)
        with staged(self.out) as path:
            self._write(path, watch)
            size = sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())
            export = self._opened(path)
            proof = proven(self.predictor, export, self.proof_pictures, not self.request.int8, watch)
            self._refuse_disagreement(proof)
            sample = self.proof_pictures.first()
            inputs, outputs = signature(export, sample)
            speed = speeds(self.predictor, export, sample)
        return Export(
            self.out,
            self.request.to,
            self.request.int8,
            size,
            self.model_file.stat().st_size,
            inputs,
            outputs,
            proof,
            speed,
        )

    def _write(self, path: Path, watch: Watch) -> None:
        network, card = self.predictor.engine.network, self.predictor.card  # type: ignore[attr-defined]
        if self.calibration is None:
            self.target.write(network, path, card)
            return
        scratch = path.parent / "float"
        scratch.mkdir()
        self.target.write(network, scratch / path.name, card)
        self.target.quantise(scratch / path.name, path, self._batches(self.calibration, watch))

    def _batches(self, pictures: ExportPictures, watch: Watch) -> Iterator[dict[str, Any]]:
        """What the network is given for each of `pictures`."""
        samples = pictures.samples(pictures.indices, watch.bad_picture)
        for done, (_, sample) in enumerate(samples, 1):
            yield self.predictor.inputs(sample)
            watch.progress("calibrating", done, len(pictures))

    def _opened(self, path: Path) -> Predictor:
        """The written file as everybody will open it, with the card that is in it."""
        from striate.export.proof import card_problems

        if path.suffix not in engine_for(path).SUFFIXES:
            return Predictor(self.predictor.card, self.target.opened(path))
        export = load(path, "cpu")
        problems = card_problems(self.predictor.card, export.card)
        if problems:
            raise self._refusal("; ".join(problems))
        return export

    def _refuse_disagreement(self, proof: Proof) -> None:
        """Raise StriateError where the proof fails; of int8 the measure alone counts."""
        problems = list(proof.agreement.problems)
        change, name = proof.change, proof.measure
        if change is not None and proof.before is not None and proof.after is not None:
            after, before = (100 * report.values[name] for report in (proof.after, proof.before))
            values = f"{self._measure} is {after:.2f} %, the model's {before:.2f} %"
            if self.request.int8 and change < -self.request.allowed_drop:
                raise self._lost_too_much(values)
            if not self.request.int8 and abs(change) > proof.allowed_change:
                problems.append(values)
        if problems:
            raise self._refusal("; ".join(problems))

    def _refusal(self, what: str) -> StriateError:
        fix = "report it with the network's name, and try another --to"
        return StriateError(self.out, f"nothing was written, for the export is not the model: {what}", fix)

    def _lost_too_much(self, values: str) -> StriateError:
        return StriateError(
            self.out,
            f"nothing was written, for int8 loses more than {_points(self.request.allowed_drop)}: {values}",
            "calibrate on other or more pictures, allow it with --max-drop, or leave --int8 out",
        )


def _points(share: float) -> str:
    """A difference of two shares of 0 to 1, in words."""
    points = f"{100 * share:g}"
    return f"{points} percentage point" if points == "1" else f"{points} percentage points"


def prepare_export(request: ExportRequest) -> ExportPlan:
    """What an export will be, with everything refused that can be known before it is made."""
    target = _target(request)
    _refuse_exported(request.model)
    file = find_model_file(request.model)
    out = _place(request, file, target)
    predictor = load(file, "cpu", request.made_by)
    most = _MOST_INT8_PICTURES if request.int8 else _MOST_PICTURES
    chosen = pictures_for(request.model, predictor, request.data, ("val", "test"), most)
    if request.int8 and not chosen.labelled:
        raise DataError(
            chosen.dataset.name,
            f"int8 is proven by {plugins.load(tasks, predictor.task).SCORE}, and there are "
            + "; ".join(chosen.notes or ("no labels",)),
            "give pictures with the model's classes: --data DATA",
        )
    calibration = None
    if request.int8:
        source = request.data if request.calibrate is None else request.calibrate
        calibration = pictures_for(request.model, predictor, source, ("train",), _MOST_CALIBRATION)
    return ExportPlan(request, target, file, out, predictor, chosen, calibration)


def _target(request: ExportRequest) -> ModuleType:
    """The module in `export/targets`, with what it imports. Raises UnknownName, EnvironmentProblem."""
    from striate.export import targets

    if request.to not in plugins.names(targets):
        raise UnknownName("export to", request.to, plugins.names(targets))
    target = plugins.load(targets, request.to)
    if request.int8 and not hasattr(target, "quantise"):
        able = [name for name in plugins.names(targets) if hasattr(plugins.load(targets, name), "quantise")]
        raise UsageError("--int8", f"{request.to} has none", f"use --to {' or '.join(able)}")
    for package in target.PACKAGES:
        if find_spec(package) is None:
            raise EnvironmentProblem(f"export to {request.to}", f"{package} is not installed", target.INSTALL)
    return target


def _refuse_exported(model: Path) -> None:
    from striate.export import targets

    if model.suffix.lower() in {plugins.load(targets, name).SUFFIX for name in plugins.names(targets)}:
        raise UsageError(
            model, "it is an export already", "give the run folder or the model file that it was made of"
        )


def _place(request: ExportRequest, file: Path, target: ModuleType) -> Path:
    """Where the export shall be. Raises UsageError for a name that says something else."""
    suffix = target.SUFFIX
    if request.out is None:
        return file.with_name(f"{file.stem}{'-int8' if request.int8 else ''}{suffix}")
    if request.out.is_dir():
        fix = f"name a file in it: --out {request.out / f'model{suffix}'}"
        raise UsageError(f"--out {request.out}", "this is a folder", fix)
    if request.out.suffix.lower() != suffix:
        raise UsageError(
            f"--out {request.out}",
            f"a file for {request.to} ends in {suffix}",
            f"--out {request.out.with_suffix(suffix)}",
        )
    return request.out
