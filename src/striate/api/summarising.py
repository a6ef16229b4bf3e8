"""The summary of a network by name, of a model file, or of any module."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from striate.explain.summary import Summary

__all__ = ["parse_input", "summarise_model"]


def summarise_model(model: "nn.Module | str | Path", input_shape: Sequence[int] | None) -> "Summary":
    """The summary of `model` over an input of `input_shape`, by default that of its preprocessing.

    Of a name or a file only the shapes are read: no weight is allocated.
    """
    from striate.explain.summary import summarise
    from striate.models.network import Network

    module, name = _module_of(model)
    if input_shape is None:
        if not isinstance(module, Network):
            raise UsageError(
                f"summary of {name}",
                "it does not say what input it takes",
                "give channels, height and width: (3, 224, 224)",
            )
        input_shape = (module.preprocess.channels, *module.preprocess.size)
    return summarise(module, input_shape, name)


def parse_input(text: str) -> tuple[int, ...]:
    """The shape that `text` spells: "3x224x224" is (3, 224, 224)."""
    parts = text.lower().split("x")
    if not all(part.isdecimal() and 0 < int(part) <= 1_000_000 for part in parts):
        raise UsageError(f"--input {text}", "this is no shape", "channels x height x width: 3x224x224")
    return tuple(map(int, parts))


def _module_of(model: Any) -> "tuple[nn.Module, str]":
    from torch import nn

    if isinstance(model, nn.Module):
        return model, getattr(model, "name", "") or type(model).__name__
    if not isinstance(model, str | Path):
        raise UsageError(
            "summary", f"a {type(model).__name__} is no network", "give a torch module, a name or a path"
        )
    from striate import models
    from striate.models.unweighted import unweighted

    place = Path(model)
    # A width stands in a name as mobilenet_v2_0.5, which is no file's ending.
    is_path = place.exists() or place.name != str(model) or place.suffix[1:].isalpha()
    if isinstance(model, str) and not is_path:
        with unweighted():
            return models.create(model), model
    return _network_in(place)


def _network_in(place: Path) -> "tuple[nn.Module, str]":
    """The network that a model file describes, on the meta device."""
    from striate.modelfile import find_model_file, read_card, read_shapes
    from striate.models import network_of

    file = find_model_file(place)
    card = read_card(file)
    return network_of(card, read_shapes(file), file), card.variant
