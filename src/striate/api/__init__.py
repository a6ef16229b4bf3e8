"""The verbs: what the command line and Python both call. Everything heavy is imported on use.

run = striate.train("photos/", model="resnet18", epochs=10)
run.model.predict("cat.jpg")
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from striate.api.shorthands import shorthand_layers
from striate.errors import UsageError

if TYPE_CHECKING:
    from typing import TypeAlias

    from torch import nn

    from striate.api.checking import Checked
    from striate.api.comparing import Compared
    from striate.api.conversion import ConversionReport
    from striate.api.dataset_conversion import DatasetConversion
    from striate.api.detection_files import DetectionWriter, Form
    from striate.api.evaluation import Evaluation
    from striate.api.explaining import ExplainRequest, Explanation
    from striate.api.explanation import ExplainedConfig
    from striate.api.exporting import Export, ExportPlan
    from striate.api.inputs import Pictures
    from striate.api.label_checking import LabelErrors
    from striate.api.listing import DatasetInfo, ModelInfo
    from striate.api.mask_files import MaskFolder
    from striate.api.packing import Packed
    from striate.api.sweep import RateSweep, SweepPlan
    from striate.api.training import Run, TrainingPlan
    from striate.config import Layer
    from striate.explain.summary import Summary
    from striate.modelfile import ModelCard
    from striate.models.network import Network
    from striate.ops.sizes import OutputSize
    from striate.runtime.predictor import Predictor
    from striate.structures import Result
    from striate.training.batch_search import BatchTrial
    from striate.training.events import CheckpointEvent, EvalEvent, NoteEvent, StepEvent, StopEvent
    from striate.training.rate_sweep import RatePoint

    # A network's name, or a function that gives one and can be found again by its own name.
    Maker: TypeAlias = str | Callable[..., nn.Module]

__all__ = [
    "BatchTrial",
    "Checked",
    "CheckpointEvent",
    "Compared",
    "ConversionReport",
    "DatasetConversion",
    "DatasetInfo",
    "EvalEvent",
    "Evaluation",
    "ExplainRequest",
    "ExplainedConfig",
    "Explanation",
    "Export",
    "ExportPlan",
    "LabelErrors",
    "ModelInfo",
    "NoteEvent",
    "Packed",
    "RateSweep",
    "Run",
    "StepEvent",
    "StopEvent",
    "Summary",
    "SweepPlan",
    "TrainingPlan",
    "calc",
    "check",
    "compare",
    "convert",
    "convert_dataset",
    "convert_state_dict",
    "create",
    "datasets",
    "detection_writer",
    "evaluate",
    "explain",
    "explain_config",
    "export",
    "find_rate",
    "hash_of",
    "label_errors",
    "load",
    "mask_folder",
    "models",
    "pack_dataset",
    "pictures",
    "predict",
    "prepare",
    "prepare_export",
    "prepare_resumption",
    "prepare_sweep",
    "report",
    "summary",
    "train",
]

# Names that live elsewhere and are offered here, imported when first asked for.
_ELSEWHERE = {
    "BatchTrial": "striate.training.batch_search",
    "CheckpointEvent": "striate.training.events",
    "Checked": "striate.api.checking",
    "Compared": "striate.api.comparing",
    "ConversionReport": "striate.api.conversion",
    "DatasetConversion": "striate.api.dataset_conversion",
    "DatasetInfo": "striate.api.listing",
    "EvalEvent": "striate.training.events",
    "Evaluation": "striate.api.evaluation",
    "ExplainRequest": "striate.api.explaining",
    "ExplainedConfig": "striate.api.explanation",
    "Explanation": "striate.api.explaining",
    "Export": "striate.api.exporting",
    "ExportPlan": "striate.api.exporting",
    "LabelErrors": "striate.api.label_checking",
    "ModelInfo": "striate.api.listing",
    "NoteEvent": "striate.training.events",
    "Packed": "striate.api.packing",
    "RateSweep": "striate.api.sweep",
    "Run": "striate.api.training",
    "StepEvent": "striate.training.events",
    "StopEvent": "striate.training.events",
    "Summary": "striate.explain.summary",
    "SweepPlan": "striate.api.sweep",
    "TrainingPlan": "striate.api.training",
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE[name]), name)


def train(
    data: str | Path | None = None,
    model: "Maker | None" = None,
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

    data: a folder, zip or CSV, or a name that `datasets()` lists. model: a name that `models()` lists, or
    a function that gives a torch module; chosen by the data if None. out: folder of the run. config: a TOML
    file; settings: nested values such as `{"augment": {"flip": 0.5}}`; shorthands: the command line's flags
    (epochs, batch_size, learning_rate, size, seed, device, ...). on_event: called with each event (`print`
    will do).

    `train(resume="runs/a")` goes on with a run that was stopped, and takes nothing else but `inexact` (go on
    even where the result cannot be the undisturbed run's, bit by bit) and `model`, where a function makes the
    network. Raises a StriateError that says what to do.
    """
    choices = {"out": out, "config": config, "settings": settings, **shorthands}
    if resume is not None or inexact:
        plan = _rest_of(resume, inexact, model, {"data": data, **choices})
    elif data is None:
        raise UsageError("train", "it needs pictures", "give data, or resume= the folder of a stopped run")
    else:
        plan = prepare(data, model, out=out, layers=_layers(config, settings, shorthands))
    for event in plan.events():
        if on_event is not None:
            on_event(event)
    return plan.finish()


def _layers(
    config: str | Path | None,
    settings: Mapping[str, Any] | None,
    shorthands: Mapping[str, Any],
    verb: str = "train",
) -> "list[Layer]":
    from striate.config import Layer, read_toml

    layers = [read_toml(Path(config))] if config is not None else []
    layers += [Layer(f"{verb}(settings=)", settings)] if settings is not None else []
    return layers + shorthand_layers(shorthands, verb)


def _rest_of(
    resume: str | Path | None, inexact: bool, made_by: "Maker | None", others: Mapping[str, Any]
) -> "TrainingPlan":
    from striate.api.resumption import refuse_beside

    if resume is None:
        raise UsageError("train(inexact=)", "it has a meaning for a resumed run only", "leave it out")
    given = [name for name, value in others.items() if value is not None]
    refuse_beside(f"train(resume={str(resume)!r})", given)
    return prepare_resumption(resume, inexact=inexact, made_by=made_by)


def prepare(
    data: str | Path,
    model: "Maker | None" = None,
    *,
    out: str | Path | None = None,
    layers: "Sequence[Layer]" = (),
    progress: Callable[[int, int], None] | None = None,
    on_trial: "Callable[[BatchTrial], None] | None" = None,
) -> "TrainingPlan":
    """What `train` would do, before it does it: `plan.describe()`, `plan.events()`, `plan.finish()`.

    on_trial: called with what each batch size told, where the settings ask for the fastest one ("auto").
    """
    from striate.api.training import prepare as prepare_run

    name = _name_of(model)
    return prepare_run(str(data), name, out=out, layers=layers, progress=progress, on_trial=on_trial)


def find_rate(
    data: str | Path,
    model: "Maker | None" = None,
    *,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    on_point: "Callable[[RatePoint], None] | None" = None,
    **shorthands: Any,
) -> "RateSweep":
    """The learning rate that a run with the same arguments should have, and the curve that tells it.

    `find_rate("photos/", model="resnet18").proposal`; the arguments are those of `train`. A network is
    trained for 40 to 100 steps while the rate grows, and thrown away. on_point: called with each step's rate
    and loss.
    """
    from striate.api.stopping import stopped_by_sigterm

    plan = prepare_sweep(data, model, layers=_layers(config, settings, shorthands, "find_rate"))
    with stopped_by_sigterm("range test"), closing(plan.points()) as points:
        for point in points:
            if on_point is not None:
                on_point(point)
    return plan.outcome()


def prepare_sweep(
    data: str | Path,
    model: "Maker | None" = None,
    *,
    layers: "Sequence[Layer]" = (),
    progress: Callable[[int, int], None] | None = None,
    on_trial: "Callable[[BatchTrial], None] | None" = None,
) -> "SweepPlan":
    """What `find_rate` would do, before it does it: `plan.points()`, `plan.outcome()`."""
    from striate.api.sweep import prepare_sweep as prepare_points

    return prepare_points(str(data), _name_of(model), layers, progress, on_trial)


def prepare_resumption(
    run: str | Path,
    *,
    inexact: bool = False,
    progress: Callable[[int, int], None] | None = None,
    made_by: "Maker | None" = None,
) -> "TrainingPlan":
    """The rest of the stopped run in the folder `run`, as a plan like `prepare`'s. made_by: as for `load`."""
    from striate.api.resumption import prepare_resumption as prepare_rest

    return prepare_rest(Path(run), inexact, progress, _name_of(made_by))


def evaluate(
    model: str | Path,
    data: str | Path | None = None,
    *,
    part: str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    made_by: "Maker | None" = None,
    engine: str = "auto",
    card: "ModelCard | str | Path | None" = None,
    progress: Callable[[int, int], None] | None = None,
    on_error: Callable[[str, Any], None] | None = None,
) -> "Evaluation":
    """The scores of `model` on `data`; without `data`, on the test part that it was trained beside.

    part: "train", "val", "test" or "all"; None takes the first there is of test, val, all. A picture
    that cannot be read is counted and told to `on_error(key, error)`. batch_size: pictures at once; None: 64,
    or fewer large ones. made_by, engine, card: as for `load`.
    """
    from striate.api.evaluation import evaluate_model

    predictor = load(model, device, made_by, engine=engine, card=card)
    source = None if data is None else str(data)
    return evaluate_model(predictor, Path(model), source, part, batch_size, progress, on_error)


def load(
    path: str | Path,
    device: str = "auto",
    made_by: "Maker | None" = None,
    *,
    engine: str = "auto",
    card: "ModelCard | str | Path | None" = None,
) -> "Predictor":
    """A model ready for pictures, from a run folder, a model file or an export of one.

    `load("runs/a").predict("cat.jpg")`, `load("model.onnx").predict(["a.jpg", "b.jpg"])`.

    made_by: the function, or its name "package.module:function", that makes the network; no file may say it.
    engine: what runs it: "pytorch", "onnxruntime", "openvino", or "auto", the one that the file is for. card:
    for an export by another tool, which does not say what it is for: a TOML or JSON file with `task`,
    `classes` and `preprocess`.
    """
    from striate.runtime.predictor import load as load_predictor

    return load_predictor(path, device, _name_of(made_by), engine=engine, card=card)


@overload
def _name_of(model: "Maker") -> str: ...
@overload
def _name_of(model: None) -> None: ...
def _name_of(model: "Maker | None") -> str | None:
    if model is None or isinstance(model, str):
        return model
    from striate.models.foreign import name_of

    return name_of(model)


def predict(
    model: str | Path,
    inputs: str | Path | Iterable[str | Path],
    *,
    batch_size: int | None = None,
    device: str = "auto",
    made_by: "Maker | None" = None,
    engine: str = "auto",
    card: "ModelCard | str | Path | None" = None,
    shard: str | None = None,
) -> "list[Result]":
    """What is on pictures: one result for each, in order. `inputs`: files, folders (all below), zips.

    Raises DataError for the first picture that cannot be read; `load(model).stream` goes on without it.
    batch_size: pictures at once; None: the fastest, timed. shard: as for `pictures`. made_by, engine, card:
    as for `load`.
    """
    given = pictures([inputs] if isinstance(inputs, str | Path) else inputs, shard)
    return list(load(model, device, made_by, engine=engine, card=card).stream(given, batch_size))


def mask_folder(folder: str | Path, inputs: "Pictures") -> "MaskFolder":
    """A folder, which must be new or empty, that gets a mask and an overlay for each result over `inputs`."""
    from striate.api.mask_files import MaskFolder

    return MaskFolder(Path(folder), inputs)


def detection_writer(
    form: "Form", out: str | Path, inputs: "Pictures"
) -> "AbstractContextManager[DetectionWriter]":
    """What writes found boxes, for a `with` block: `write(result)` for each result over `inputs`.

    form: "coco", "csv" and "jsonl" are files; "yolo" and "pictures" (with the boxes drawn) are folders, which
    must be new or empty.
    """
    from striate.api.detection_files import detection_writer

    return detection_writer(form, Path(out), inputs)


def pictures(inputs: Iterable[str | Path], shard: str | None = None) -> "Pictures":
    """The pictures that `inputs` name, as (key, content): files, and all those in folders and zips.

    shard: "2/8" is every eighth of them by name, from the second; the eight parts together are the whole.
    """
    from striate.api.inputs import find_pictures
    from striate.api.shards import Shard

    found = find_pictures(inputs)
    return found if shard is None else found.shard(Shard.parse(shard))


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


def create(
    name: "Maker",
    /,
    classes: tuple[str, ...] | int | None = None,
    *,
    weights: str | Path | None = None,
    **config: Any,
) -> "Network":
    """A network by its public name: `create("resnet50", classes=10)`.

    "torchvision:resnet50" and "timm:resnet50" are those libraries' networks; a function that gives a torch
    module is taken too, or "package.module:function".
    weights: None draws fresh ones; "torchvision" takes those that torchvision publishes for ImageNet
    ("torchvision:IMAGENET1K_V1" a certain version), a run folder or model file its own. Preprocessing and
    classes come along unless given; for other classes the last layer is drawn.
    """
    if weights is not None:
        from striate.api.starting_weights import create_with

        return create_with(str(weights), _name_of(name), classes, config)
    from striate import models

    return models.create(_name_of(name), classes, **config)


def models(prefix: str | None = None) -> "tuple[ModelInfo, ...]":
    """The networks there are, or those whose name begins with `prefix`."""
    from striate.api.listing import list_models

    return list_models(prefix)


def datasets() -> "tuple[DatasetInfo, ...]":
    """The datasets that go by name, and the formats that a folder may have."""
    from striate.api.listing import list_datasets

    return list_datasets()


def pack_dataset(
    data: str | Path,
    out: str | Path,
    *,
    form: str | None = None,
    shard_megabytes: float = 256.0,
    split: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> "Packed":
    """Write `data` as tar shards in the folder `out`, for data too large for many small files.

    A shard has `shard_megabytes` (10**6 bytes) at most. Pictures that no training takes are left out, and
    parts that the data lacks are made as `train` makes them, by `split` (val_fraction, test_fraction, seed).
    Interrupted, the same call goes on. `progress` is called with "checking" or "packing" and two counts.
    """
    from striate.api.packing import pack_data
    from striate.config import Layer, resolve
    from striate.data.manifest import PackConfig
    from striate.data.open import DataConfig

    values = {"shard_megabytes": float(shard_megabytes), "split": dict(split or {})}
    config = resolve(PackConfig, [Layer("pack_dataset", values)]).value
    return pack_data(DataConfig(source=str(data), format=form), Path(out), config, progress)


def explain(
    model: "str | Path | nn.Module | Predictor | None",
    picture: Any,
    what: str | None = None,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    made_by: "Maker | None" = None,
    **asked: Any,
) -> "Explanation":
    """Why `model` says what it says of `picture`: `explain("runs/a", "cat.jpg")` prints as a page.

    model: a run folder, a model file, a predictor or a network. picture: a path, bytes, an array or a PIL
    image. what: "arithmetic", "maps", "receptive-field", "filters", "gradcam", "shift" or "kernel"; None is a
    page of all but the last two, or what `asked` is about: `layer`, `pixel` (row, column) and `channel` a
    number, `target` a class or a candidate box, `against` further models for shift, `kernel` a name, numbers
    or a file, for which `model` may be None. out: a new folder for the pictures; `.save(folder)` writes them
    later. made_by: as for `load`. Raises UsageError for what the asked part does not read.
    """
    from striate.api.explaining import ExplainRequest, explain_picture

    request = ExplainRequest(what=what, **asked)
    return explain_picture(model, picture, request, out, device, _name_of(made_by))


def explain_config(
    data: str | Path, model: "Maker | None" = None, *, layers: "Sequence[Layer]" = ()
) -> "ExplainedConfig":
    """Every setting that a run on `data` would have, or the run folder `data` had, with its origin."""
    from striate.api.explanation import explain

    return explain(str(data), _name_of(model), layers)


def hash_of(model: str | Path) -> str:
    """SHA-256 over the names, types, shapes and values of a model's tensors, in hexadecimal."""
    from striate.modelfile import find_model_file, weights_hash

    return weights_hash(find_model_file(Path(model)))


def export(
    model: str | Path,
    to: str = "onnx",
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    int8: bool = False,
    calibrate: str | Path | None = None,
    max_drop: float | None = None,
    made_by: "Maker | None" = None,
) -> "Export":
    """Write `model` as a file that runs without torch, proven: `export("runs/a").path` is runs/a/model.onnx.

    to: "onnx", "openvino" or "torch". out: the file; beside the model file if None. The export and the model
    are run on up to 256 pictures of `data`, by default the val part of what the model was trained beside, and
    one that says anything else is not written: StriateError says what differs. int8: weights and activations
    of 8 bits, which are faster and lose a little; ranges are those of up to 256 pictures of `calibrate` (its
    train part), and one that loses more than `max_drop` points of the measure (1 if None) is not written.
    made_by: as for `load`.
    """
    choices = {"int8": int8, "calibrate": calibrate, "max_drop": max_drop, "made_by": made_by}
    return prepare_export(model, to, out=out, data=data, **choices).finish()


def prepare_export(
    model: str | Path,
    to: str = "onnx",
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    **choices: Any,
) -> "ExportPlan":
    """What `export` would do, before it does it: `plan.describe()`, `plan.finish()`. `choices`: as there."""
    from striate.api.exporting import ExportRequest
    from striate.api.exporting import prepare_export as prepare_file

    choices["made_by"] = _name_of(choices.get("made_by"))
    if choices.get("calibrate") is not None:
        choices["calibrate"] = str(choices["calibrate"])
    place, source = None if out is None else Path(out), None if data is None else str(data)
    return prepare_file(ExportRequest(Path(model), to, place, source, **choices))


def convert(
    file: str | Path,
    *,
    out: str | Path,
    model: str | None = None,
    source: str | None = None,
    classes: tuple[str, ...] | None = None,
    match: Literal["name", "order"] = "name",
) -> "ConversionReport":
    """Write the state dict in `file` (.pt, .pth, .th) as a model file in the folder `out`.

    model: a name that `models()` lists; None takes the only one whose tensors have the shapes of those in
    the file. match: what tells which tensor goes where, its name or its place in the file; by "order", the
    last layer may be absent and starts at 0.
    """
    from striate.api.conversion import ConversionRequest, convert_file

    return convert_file(Path(file), Path(out), ConversionRequest(model, source, classes, match))


def convert_dataset(
    source: str | Path,
    to: str,
    out: str | Path,
    *,
    form: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> "DatasetConversion":
    """Write a dataset with boxes in another format: `convert_dataset("photos/", "coco", "photos-coco")`.

    to: "coco", "pascal", "voc" or "yolo". out: a new folder, which gets the pictures too. form: read `source`
    as this format instead of recognising it. `.lost` of what comes back says what the format has no place
    for. `progress` is called with two counts of pictures.
    """
    from striate.api.dataset_conversion import convert_data

    return convert_data(str(source), to, Path(out), form, progress)


def convert_state_dict(
    state_dict: Mapping[str, Any], model: str, source: str | None = None
) -> dict[str, Any]:
    """The weights of `state_dict` named as in the network `model`. Raises ModelError if any is unfit."""
    from striate.models.convert import convert_state_dict as convert_weights

    return convert_weights(state_dict, model, source)


def label_errors(
    data: str | Path,
    model: "Maker | None" = None,
    *,
    folds: int = 5,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **shorthands: Any,
) -> "LabelErrors":
    """The pictures of `data` whose label is likely wrong: `label_errors("photos/", epochs=5).suspects`.

    A network is trained for each fold on the pictures of all others, and what it says of those that it never
    saw is held against their labels (confident learning, arXiv:1911.00068). The other arguments are those of
    `train`; a few epochs of a small network will do. `progress` is called with folds done and folds in all.
    """
    from striate.api.label_checking import find_label_errors

    layers = _layers(config, settings, shorthands, "label_errors")
    return find_label_errors(str(data), _name_of(model), folds, layers, progress)


def compare(
    runs: Iterable[str | Path],
    out: str | Path = "compare.html",
    *,
    data: str | Path | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> "Compared":
    """Measure models on the same pictures and write what was found: `compare(["runs/a", "runs/b"]).path`.

    runs: two or more run folders or model files. data: measure on these pictures instead of those beside
    which they were trained. Raises DataError where they were measured on different pictures. `progress` is
    called with the name of a model and two counts of pictures.
    """
    from striate.api.comparing import CompareRequest, compare_models

    source = None if data is None else str(data)
    return compare_models(CompareRequest(tuple(map(Path, runs)), Path(out), source, device, progress))


def report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    folds: int | None = None,
    device: str = "auto",
    made_by: "Maker | None" = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Write all that is known of a run as one HTML file: `report("runs/a", "report.html")`.

    run: a run folder or a model file. out: the file; report.html beside the model if None. data: measure on
    these pictures instead of those beside which it was trained. folds: also train so many networks like it to
    look for wrong labels among all its pictures. `progress` is called with the name of what is done and two
    counts. made_by: as for `load`. What comes back is the file's path.
    """
    from striate.api.reporting import REPORT_FILE, ReportRequest, write_report

    place = Path(run)
    folder = place if place.is_dir() else place.parent
    target = folder / REPORT_FILE if out is None else Path(out)
    source = None if data is None else str(data)
    return write_report(ReportRequest(place, target, source, device, _name_of(made_by), folds, progress))


def summary(model: "nn.Module | str | Path", input: Sequence[int] | None = None) -> "Summary":  # noqa: A002
    """The layers of a network: shapes, windows, receptive fields, parameters and multiply-adds.

    model: any torch module, a name, a run folder or a model file. input: shape of one input, channels first:
    `summary(module, (3, 224, 224))`; a network of striate's knows its own. `print` it for the table;
    `.why("layer1.0.conv2")` works out the numbers of one layer.
    """
    from striate.api.summarising import summarise_model

    return summarise_model(model, input)


def calc(kind: Any, size: int, kernel: int, *, stride: int | None = None, **rest: Any) -> "OutputSize":
    """The output size of a "conv" or "pool" over `size` pixels, worked out; a pool steps by its kernel."""
    from striate.ops.sizes import output_size

    steps = (kernel if kind == "pool" else 1) if stride is None else stride
    return output_size(size, kernel, stride=steps, kind=kind, **rest)
