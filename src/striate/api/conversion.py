"""Weights from elsewhere, written as a model file."""

import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from striate.errors import EnvironmentProblem, ModelError, UsageError
from striate.files import sha256_of
from striate.modelfile import MODEL_FILE

__all__ = ["ConversionReport", "convert_file"]


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What became of each tensor of a file."""

    path: str  # of the model file
    source: str  # whose names they had
    matched: int
    names: dict[str, str]  # of the tensors: there -> here
    filled: tuple[str, ...]  # counters that old files lack, started at 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `convert --json`."""
        return asdict(self)


def convert_file(
    file: Path, model: str, out: Path, source: str | None, classes: tuple[str, ...] | None
) -> ConversionReport:
    """Write the weights in `file` to `out`/model.safetensors as the network `model`.

    Raises ModelError where the file is no state dict or a tensor does not fit, UsageError where `out`
    holds a model already.
    """
    from striate import models
    from striate.models.convert import convert
    from striate.training.saving import save

    models.family_of(model)  # a misspelt name is said before the file is read
    if (out / MODEL_FILE).exists():
        raise UsageError(
            f"--out {out}", "there is a model in that folder already", "choose another, or delete it"
        )
    conversion = convert(_state_dict(file), model, source, None if classes is None else len(classes))
    report = conversion.report
    if not report.fits:
        raise ModelError(file, f"these weights are not those of {model}: {report.summary}", "check --model")
    network = models.create(model, classes or conversion.classes)
    network.load_state_dict(conversion.state_dict)
    origin = {"converted_from": file.name, "sha256": sha256_of(file), "names": report.source}
    save(out / MODEL_FILE, network, models.card_of(network, data=origin))
    return ConversionReport(
        str(out / MODEL_FILE), report.source, len(report.matched), dict(report.renamed), report.filled
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
