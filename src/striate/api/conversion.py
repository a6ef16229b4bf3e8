"""Weights from elsewhere, written as a model file."""

import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from striate.errors import EnvironmentProblem, ModelError, UsageError
from striate.files import sha256_of
from striate.modelfile import MODEL_FILE

__all__ = ["ConversionReport", "ConversionRequest", "convert_file"]

_NAMED = 3  # networks that are named where none fits
_DARKNET = "darknet"  # the source of files of its own kind
_NEAR = 0.5  # share of the tensors that must fit for a network to be named


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What became of each tensor of a file."""

    path: str  # of the model file
    model: str  # the network
    recognised: bool  # the network was not named but told by the shapes of the tensors
    source: str  # whose names they had; "order", "darknet": they were matched by their order
    matched: int
    names: dict[str, str]  # of the tensors: there -> here
    filled: tuple[str, ...]  # counters that old files lack, started at 0
    untrained: tuple[str, ...]  # the last layer where the file ends before it, started at 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `convert --json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ConversionRequest:
    """What is asked of `convert_file` besides where to read and write."""

    model: str | None = None  # the network; None: told by the shapes of the tensors
    source: str | None = None  # whose names the tensors have; None: all are tried
    classes: tuple[str, ...] | None = None  # their names; None: numbers, as many as the last layer has
    match: Literal["name", "order"] = "name"  # what tells which tensor goes where


def convert_file(file: Path, out: Path, request: ConversionRequest) -> ConversionReport:
    """Write the weights in `file` to `out`/model.safetensors.

    They are a state dict, or a `.weights` file that darknet wrote. Raises ModelError where they are neither,
    are of no one network here, or a tensor does not fit; UsageError where `out` holds a model already.
    """
    from striate import models
    from striate.models.convert import convert
    from striate.models.darknet import SUFFIX

    if request.model is not None:
        models.family_of(request.model)  # a misspelt name is said before the file is read
    if (out / MODEL_FILE).exists():
        raise UsageError(
            f"--out {out}", "there is a model in that folder already", "choose another, or delete it"
        )
    if file.suffix == SUFFIX:
        return _convert_darknet(file, out, request)
    weights, classes = _state_dict(file), request.classes
    model = request.model or _recognised(file, weights)
    count = None if classes is None else len(classes)
    conversion = convert(weights, model, request.source, count, match=request.match)
    report = conversion.report
    if not report.fits:
        raise _unfit(file, model, report.summary, fits_in_order=_fits_in_order(weights, model, count))
    network = models.create(model, classes or conversion.classes)
    _write(file, out, network, conversion.state_dict, report.source)
    return ConversionReport(
        path=str(out / MODEL_FILE),
        model=model,
        recognised=request.model is None,
        source=report.source,
        matched=len(report.matched),
        names=dict(report.renamed),
        filled=report.filled,
        untrained=report.untrained,
    )


def _convert_darknet(file: Path, out: Path, request: ConversionRequest) -> ConversionReport:
    """As `convert_file`, of a file without names and shapes: the network has to be named."""
    from striate import models
    from striate.models.darknet import read_darknet

    if request.model is None:
        raise UsageError(
            str(file), "it holds no names and no shapes", "name the network that it was made for with --model"
        )
    if request.source not in (None, _DARKNET):
        raise UsageError(
            f"--source {request.source}", f"{file.name} is {_DARKNET}'s and has no names", "leave it out"
        )
    count = None if request.classes is None else len(request.classes)
    weights = read_darknet(file, request.model, count)
    network = models.create(request.model, request.classes or weights.classes)
    _write(file, out, network, weights.state_dict, _DARKNET)
    return ConversionReport(
        path=str(out / MODEL_FILE),
        model=request.model,
        recognised=False,
        source=_DARKNET,
        matched=len(weights.names),
        names=weights.names,
        filled=tuple(name for name in weights.state_dict if name not in weights.names.values()),
        untrained=(),
    )


def _write(file: Path, out: Path, network: Any, state_dict: Any, source: str) -> None:
    """Write `network` with the weights `state_dict`, which came from `file`, as the model file in `out`."""
    from striate import models
    from striate.training.saving import save

    network.load_state_dict(state_dict)
    origin = {"converted_from": file.name, "sha256": sha256_of(file), "names": source}
    save(out / MODEL_FILE, network, models.card_of(network, data=origin))


def _unfit(file: Path, model: str, problem: str, fits_in_order: bool) -> ModelError:
    what = f"these weights are not those of {model}: {problem}"
    if fits_in_order:
        return ModelError(file, what, f"in order they fit: --model {model} --match order")
    return ModelError(file, what, "check --model")


def _fits_in_order(weights: Any, model: str, classes: int | None) -> bool:
    from striate.models.convert import convert

    try:
        convert(weights, model, classes=classes, match="order")
    except ModelError:
        return False
    return True


def _recognised(file: Path, weights: Any) -> str:
    """The only network here that tensors of these shapes can be of. Raises ModelError naming the nearest."""
    from striate.models.convert import tensors_of
    from striate.models.recognise import candidates

    found = candidates(tensors_of(weights, file))
    exact = [candidate.model for candidate in found if candidate.exact]
    if len(exact) == 1:
        return exact[0]
    if exact:
        raise ModelError(
            file, f"its tensors have the shapes of {' and of '.join(exact)}", f"say which: --model {exact[0]}"
        )
    near = [f"{c.model} ({c.share:.0%} of the tensors)" for c in found[:_NAMED] if c.share >= _NEAR]
    raise ModelError(
        file,
        "its tensors have the shapes of no network here" + (f"; nearest: {', '.join(near)}" if near else ""),
        "name the network that they were made for with --model",
    )


def _state_dict(file: Path) -> Any:
    """What torch finds in `file` when it may build tensors and plain containers only."""
    try:
        import torch
    except ModuleNotFoundError:
        raise EnvironmentProblem(
            "convert", "torch is not installed", "pip install 'striate[train]'"
        ) from None
    if not file.is_file():
        raise ModelError(file, "there is no such file", "give a .pt, .pth or .th file")
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0][:200]
        raise ModelError(
            file,
            f"it holds more than tensors, and reading that could run code ({reason})",
            "save the weights alone where it was made: torch.save(net.state_dict(), 'weights.pt')",
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(
            file, f"torch cannot read it ({str(error)[:200]})", "give an intact state dict"
        ) from None
    if not isinstance(found, dict):
        raise ModelError(file, f"it holds a {type(found).__name__}, no state dict", "save net.state_dict()")
    return found
