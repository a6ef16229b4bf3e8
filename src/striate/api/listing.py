"""What there is by name: networks, datasets, formats."""

from dataclasses import asdict, dataclass
from typing import Any

from striate.errors import UnknownName

__all__ = ["DatasetInfo", "ModelInfo", "list_datasets", "list_models"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A network as a list shows it."""

    name: str
    task: str
    family: str
    parameters: int | None  # trainable, with its default classes and input; None: not counted
    input: tuple[int, int]  # height, width
    color: str
    summary: str  # first line of the family's page

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `models --json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A dataset or format as a list shows it."""

    name: str
    kind: str  # built in, public, format
    description: str


def list_models(prefix: str | None) -> tuple[ModelInfo, ...]:
    """The networks whose name begins with `prefix`. Raises UnknownName where there is none.

    Those of other libraries are listed where the prefix says so, as in "timm:", and are not built for it.
    """
    from striate import models

    if prefix is not None and ":" in prefix:
        return _foreign_models(prefix)
    names = [name for name in models.variants() if name.startswith(prefix or "")]
    if not names:
        raise UnknownName("model", prefix or "", models.variants())
    return tuple(map(_model_info, names))


def _foreign_models(prefix: str) -> tuple[ModelInfo, ...]:
    from striate import models
    from striate.models import foreign

    library = foreign.library_of(prefix)
    if library is None:
        raise UnknownName("models", prefix, [f"{library}:" for library in foreign.LIBRARIES])
    names = [name for name in foreign.listed(library) if name.startswith(prefix)]
    if not names:
        raise UnknownName("model", prefix, foreign.listed(library))
    specs = ((name, foreign.VARIANTS[name].preprocess) for name in names)
    summary = f"A network of {library}"
    return tuple(
        ModelInfo(name, models.task_of(name), library, None, spec.size, spec.color, summary)
        for name, spec in specs
    )


def _model_info(name: str) -> ModelInfo:
    from striate import models
    from striate.models.unweighted import unweighted

    with unweighted():
        network = models.create(name)
    family = models.family_of(name)
    spec = network.preprocess
    count = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    summary = (family.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return ModelInfo(name, network.task, models.variants()[name], count, spec.size, spec.color, summary)


def list_datasets() -> tuple[DatasetInfo, ...]:
    """Built-in datasets, public ones, and the formats of a folder of one's own."""
    from striate import plugins
    from striate.data import builtin, formats, public

    own = [(name, plugins.load(builtin, name).DESCRIPTION) for name in plugins.names(builtin)]
    layouts = [
        (name.replace("_", " "), plugins.load(formats, name).ACCEPTS) for name in plugins.names(formats)
    ]
    return (
        *(DatasetInfo(name, "built in", text) for name, text in own),
        *(DatasetInfo(name, "public", found.description) for name, found in public.SETS.items()),
        *(DatasetInfo(name, "your own", text) for name, text in layouts),
    )
