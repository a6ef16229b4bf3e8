"""The verbs: what the command line and Python both call. Everything heavy is imported on use.

run = striate.train("photos/", model="resnet18", epochs=10)
run.model.predict("cat.jpg")
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.api.shorthands import shorthand_layers
from striate.errors import UsageError

if TYPE_CHECKING:
    from striate.api.checking import Checked
    from striate.api.conversion import ConversionReport
    from striate.api.evaluation import Evaluation
    from striate.api.explanation import ExplainedConfig
    from striate.api.inputs import Pictures
    from striate.api.listing import DatasetInfo, ModelInfo
    from striate.api.training import Run, TrainingPlan
    from striate.config import Layer
    from striate.models.network import Network
    from striate.ops.sizes import OutputSize
    from striate.runtime.predictor import Predictor
    from striate.structures import Classification
    from striate.training.events import CheckpointEvent, EvalEvent, NoteEvent, StepEvent, StopEvent

__all__ = [
    "Checked",
    "CheckpointEvent",
    "ConversionReport",
    "DatasetInfo",
    "EvalEvent",
    "Evaluation",
    "ExplainedConfig",
    "ModelInfo",
    "NoteEvent",
    "Run",
    "StepEvent",
    "StopEvent",
    "TrainingPlan",
    "calc",
    "check",
    "convert",
    "convert_state_dict",
    "create",
    "datasets",
    "evaluate",
    "explain_config",
    "hash_of",
    "load",
    "models",
    "pictures",
    "predict",
    "prepare",
    "prepare_resumption",
    "train",
]

# Names that live elsewhere and are offered here, imported when first asked for.
_ELSEWHERE = {
    "CheckpointEvent": "striate.training.events",
    "Checked": "striate.api.checking",
    "ConversionReport": "striate.api.conversion",
    "DatasetInfo": "striate.api.listing",
    "EvalEvent": "striate.training.events",
    "Evaluation": "striate.api.evaluation",
    "ExplainedConfig": "striate.api.explanation",
    "ModelInfo": "striate.api.listing",
    "NoteEvent": "striate.training.events",
    "Run": "striate.api.training",
    "StepEvent": "striate.training.events",
    "StopEvent": "striate.training.events",
    "TrainingPlan": "striate.api.training",
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE[name]), name)


def train(
    data: str | Path | None = None,
    model: str | None = None,
    *,
    out: str | Path | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    inexact: bool = False,
    on_event: Callable[[Any], None] | None = None,
    **shorthands: Any,
) -> "Run":
    """Train on `data` and measure the result: `train("photos/", model="resnet18", epochs=10)`.

    data: a folder, zip or CSV, or a name that `datasets()` lists. model: a name that `models()` lists;
    chosen by the data if None. out: folder of the run. config: a TOML file; settings: nested values such as
    `{"augment": {"flip": 0.5}}`; shorthands: the command line's flags (epochs, batch_size,
    learning_rate, size, seed, device, ...). on_event: called with each event (`print` will do).

    `train(resume="runs/a")` goes on with a run that was stopped, and takes nothing else but `inexact`:
    go on even where the result cannot be the undisturbed run's, bit by bit. Raises a StriateError that
    says what to do.
    """
    choices = {"out": out, "config": config, "settings": settings, **shorthands}
    if resume is not None or inexact:
        plan = _rest_of(resume, inexact, {"data": data, "model": model, **choices})
    elif data is None:
        raise UsageError("train", "it needs pictures", "give data, or resume= the folder of a stopped run")
    else:
        plan = prepare(data, model, out=out, layers=_layers(config, settings, shorthands))
    for event in plan.events():
        if on_event is not None:
            on_event(event)
    return plan.finish()


def _layers(
    config: str | Path | None, settings: Mapping[str, Any] | None, shorthands: Mapping[str, Any]
) -> "list[Layer]":
    from striate.config import Layer, read_toml

    layers = [read_toml(Path(config))] if config is not None else []
    layers += [Layer("train(settings=)", settings)] if settings is not None else []
    return layers + shorthand_layers(shorthands, "train")


def _rest_of(resume: str | Path | None, inexact: bool, others: Mapping[str, Any]) -> "TrainingPlan":
    from striate.api.resumption import refuse_beside

    if resume is None:
        raise UsageError("train(inexact=)", "it has a meaning for a resumed run only", "leave it out")
    given = [name for name, value in others.items() if value is not None]
    refuse_beside(f"train(resume={str(resume)!r})", given)
    return prepare_resumption(resume, inexact=inexact)


def prepare(
    data: str | Path,
    model: str | None = None,
    *,
    out: str | Path | None = None,
    layers: "Sequence[Layer]" = (),
    progress: Callable[[int, int], None] | None = None,
) -> "TrainingPlan":
    """What `train` would do, before it does it: `plan.describe()`, `plan.events()`, `plan.finish()`."""
    from striate.api.training import prepare as prepare_run

    return prepare_run(str(data), model, out=out, layers=layers, progress=progress)


def prepare_resumption(
    run: str | Path, *, inexact: bool = False, progress: Callable[[int, int], None] | None = None
) -> "TrainingPlan":
    """The rest of the stopped run in the folder `run`, as a plan like `prepare`'s."""
    from striate.api.resumption import prepare_resumption as prepare_rest

    return prepare_rest(Path(run), inexact, progress)


def evaluate(
    model: str | Path,
    data: str | Path | None = None,
    *,
    part: str | None = None,
    batch_size: int = 64,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    on_error: Callable[[str, Any], None] | None = None,
) -> "Evaluation":
    """The scores of `model` on `data`; without `data`, on the test part that it was trained beside.

    part: "train", "val", "test" or "all"; None takes the first there is of test, val, all. A picture
    that cannot be read is counted and told to `on_error(key, error)`.
    """
    from striate.api.evaluation import evaluate_model

    source = None if data is None else str(data)
    return evaluate_model(model, source, part, batch_size, device, progress, on_error)


def load(path: str | Path, device: str = "auto") -> "Predictor":
    """A model ready for pictures, from a run folder or a model file: `load("runs/a").predict("cat.jpg")`."""
    from striate.runtime.predictor import load as load_predictor

    return load_predictor(path, device)


def predict(
    model: str | Path,
    inputs: str | Path | Iterable[str | Path],
    *,
    batch_size: int = 32,
    device: str = "auto",
) -> "list[Classification]":
    """What is on pictures: one result for each, in order. `inputs`: files, folders (all below), zips.

    Raises DataError for the first picture that cannot be read; `load(model).stream` goes on without it.
    """
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    return list(load(model, device).stream(pictures(given), batch_size))


def pictures(inputs: Iterable[str | Path]) -> "Pictures":
    """The pictures that `inputs` name, as (key, content): files, and all those in folders and zips."""
    from striate.api.inputs import find_pictures

    return find_pictures(inputs)


def check(
    data: str | Path,
    *,
    form: str | None = None,
    near: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> "Checked":
    """What `data` holds and what is wrong with it: every picture decoded once, nothing changed."""
    from striate.api.checking import check_data

    return check_data(str(data), form, near, workers, progress)


def create(name: str, classes: tuple[str, ...] | int | None = None, **config: Any) -> "Network":
    """A network with fresh weights by its public name: `create("resnet50", classes=10)`."""
    from striate import models

    return models.create(name, classes, **config)


def models(prefix: str | None = None) -> "tuple[ModelInfo, ...]":
    """The networks there are, or those whose name begins with `prefix`."""
    from striate.api.listing import list_models

    return list_models(prefix)


def datasets() -> "tuple[DatasetInfo, ...]":
    """The datasets that go by name, and the formats that a folder may have."""
    from striate.api.listing import list_datasets

    return list_datasets()


def explain_config(
    data: str | Path, model: str | None = None, *, layers: "Sequence[Layer]" = ()
) -> "ExplainedConfig":
    """Every setting that a run on `data` would have, or the run folder `data` had, with its origin."""
    from striate.api.explanation import explain

    return explain(str(data), model, layers)


def hash_of(model: str | Path) -> str:
    """SHA-256 over the names, types, shapes and values of a model's tensors, in hexadecimal."""
    from striate.modelfile import find_model_file, weights_hash

    return weights_hash(find_model_file(Path(model)))


def convert(
    file: str | Path,
    *,
    model: str,
    out: str | Path,
    source: str | None = None,
    classes: tuple[str, ...] | None = None,
) -> "ConversionReport":
    """Write the state dict in `file` (.pt, .pth, .th) as a model file in the folder `out`."""
    from striate.api.conversion import convert_file

    return convert_file(Path(file), model, Path(out), source, classes)


def convert_state_dict(
    state_dict: Mapping[str, Any], model: str, source: str | None = None
) -> dict[str, Any]:
    """The weights of `state_dict` named as in the network `model`. Raises ModelError if any is unfit."""
    from striate.models.convert import convert_state_dict as convert_weights

    return convert_weights(state_dict, model, source)


def calc(kind: Any, size: int, kernel: int, *, stride: int | None = None, **rest: Any) -> "OutputSize":
    """The output size of a "conv" or "pool" over `size` pixels, worked out; a pool steps by its kernel."""
    from striate.ops.sizes import output_size

    steps = (kernel if kind == "pool" else 1) if stride is None else stride
    return output_size(size, kernel, stride=steps, kind=kind, **rest)
