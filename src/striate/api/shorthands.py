"""Short names of the settings that people change most: flags on the command line, keywords in Python."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal

from striate.errors import UnknownName

if TYPE_CHECKING:
    from striate.config import Layer

__all__ = ["SHORTHANDS", "Shorthand", "shorthand_layers"]


@dataclass(frozen=True, slots=True)
class Shorthand:
    """A short name for one setting: `--epochs` on the command line, `epochs=` in Python."""

    name: str
    path: str  # dotted, in RunConfig
    kind: Literal["int", "int or auto", "size", "float", "text", "flag", "names", "patterns"]
    help: str
    alias: str | None = None  # another name for the flag


SHORTHANDS = (
    Shorthand(
        "init",
        "init.weights",
        "text",
        "Begin with weights: torchvision (ImageNet), a run folder or a model file.",
    ),
    Shorthand(
        "freeze",
        "training.freeze",
        "patterns",
        "Do not train the parameters of these names: 'trunk.*'; several times for several patterns.",
    ),
    Shorthand("epochs", "training.epochs", "int", "Passes over the training pictures."),
    Shorthand(
        "batch_size",
        "training.batch_size",
        "int or auto",
        "Pictures in one step; auto: the fastest that fits, timed.",
        alias="batch",
    ),
    Shorthand("learning_rate", "training.learning_rate", "float", "Step size at its highest."),
    Shorthand(
        "size",
        "network.preprocess.size",
        "size",
        "Pixels of the network's input: 224, or 240x320 (height x width).",
    ),
    Shorthand("classes", "data.classes", "names", "Only these classes, in this order: ant,bee."),
    Shorthand(
        "val_fraction",
        "data.split.val_fraction",
        "float",
        "Share for validation where there is no such part.",
    ),
    Shorthand(
        "test_fraction",
        "data.split.test_fraction",
        "float",
        "Share for the test where there is no such part.",
    ),
    Shorthand("patience", "training.patience", "int", "Stop after so many epochs without a better one."),
    Shorthand("balance", "training.balance", "text", "Weigh rare classes up in the loss: inverse or median."),
    Shorthand("seed", "training.seed", "int", "Seed of weights, order and augmentation."),
    Shorthand("device", "training.device", "text", "auto, cpu, cuda, cuda:1 or mps."),
    Shorthand("precision", "training.precision", "text", "auto, fp32 or bf16."),
    Shorthand("sync_bn", "training.sync_bn", "flag", "Batch norm over all processes of torchrun."),
    Shorthand("workers", "training.workers", "int", "Threads that load pictures."),
    Shorthand(
        "deterministic", "training.deterministic", "flag", "The same bits at every run, a little slower."
    ),
)


def shorthand_layers(values: Mapping[str, Any], verb: str = "") -> "list[Layer]":
    """A layer for each of `values` that is not None, its origin the flag, or the keyword of `verb`.

    Raises UnknownName, with the nearest, for a name that is no shorthand.
    """
    from striate.config import Layer, nested  # msgspec is slow to import, and --help needs none of it

    known = {shorthand.name: shorthand for shorthand in SHORTHANDS}
    layers = []
    for name, value in values.items():
        if name not in known:
            raise UnknownName(verb or "striate train", name, known)
        if value is not None:
            origin = f"{verb}({name}=)" if verb else f"--{name.replace('_', '-')}"
            layers.append(Layer(origin, nested(known[name].path, _plain(known[name], value))))
    return layers


def _plain(shorthand: Shorthand, value: Any) -> Any:
    """`value` as a settings file has it, where Python has a shorter or richer way to write it."""
    if isinstance(value, PathLike):
        return fspath(value)
    return (value,) if shorthand.kind == "patterns" and isinstance(value, str) else value
