"""Networks of other libraries and of one's own, by name, behind the same three stations.

`torchvision:resnet18` and `timm:resnet18` are what those libraries list, `package.module:function` is a
function (or class) that gives a module. All start with fresh weights: nothing is downloaded. The module
takes normalised pictures (B, 3, H, W) and gives logits, (B, K) or for segmentation (B, K, h, w): alone, as
`logits` or `out` of a mapping or an object, and beside them those of auxiliary heads, by names that begin
with "aux".

Only a caller names a function, never a file: what a model file says is looked up in the libraries' own lists.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from striate.errors import (
    EnvironmentProblem,
    ModelError,
    StriateError,
    UnknownName,
    UsageError,
    first_line,
)
from striate.models.network import Network, SegmenterConfig
from striate.models.wrapped import Config, ForeignNetwork, ForeignSegmenter
from striate.structures import Preprocess, Task

__all__ = [
    "LIBRARIES",
    "NEEDS_COLOR",
    "VARIANTS",
    "Config",
    "build",
    "defaults",
    "drawn",
    "from_module",
    "function_of",
    "is_code",
    "library_of",
    "listed",
    "name_of",
    "permitted",
    "recipe",
    "refuse_code",
    "task_of",
]

NEEDS_COLOR = True  # gray pictures come as three channels, unless one asks for another

LIBRARIES = {"torchvision": "pip install 'striate[train]'", "timm": "pip install timm"}
"""The libraries whose lists are believed, each with the way to get it."""

Foreign: TypeAlias = ForeignNetwork | ForeignSegmenter

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_COLOR_CHANNELS = 3

_TRIED_UP_TO = 500_000_000  # parameters; a larger network is tried out on the meta device alone

# torchvision warns until one says whether the paper's starting weights shall be drawn.
_STARTS_AS_PUBLISHED = ("googlenet", "inception_v3")

_NO_AUXILIARY_HEAD = ("lraspp_mobilenet_v3_large",)  # torchvision's other segmentation networks offer one

_SEGMENTATION_INPUT = Preprocess(size=(512, 512), fit="letterbox")
_SEGMENTATION_AUXILIARY = 0.5  # weight of the auxiliary loss in torchvision's own training


def is_code(name: str) -> bool:
    """Whether `name` names a function to be imported, which no file may do."""
    return ":" in name and library_of(name) is None


def library_of(name: str) -> str | None:
    """The library of `name`: "timm" of "timm:resnet18"; None for a function."""
    library, colon, _ = name.partition(":")
    return library if colon and library in LIBRARIES else None


@cache
def listed(library: str) -> tuple[str, ...]:
    """The public names of all networks of `library` that fit here. Raises EnvironmentProblem without it."""
    found = _library(library)
    if library == "timm":
        return tuple(f"timm:{name}" for name in found.list_models())
    modules = (found.models, found.models.segmentation)
    return tuple(
        f"torchvision:{name}" for module in modules for name in found.models.list_models(module=module)
    )


def task_of(name: str, given: Task) -> Task:
    """What the network `name` is for, as its library lists it; of a function, which may do any, `given`."""
    library, bare = library_of(name), name.partition(":")[2]
    if library is None:
        return given
    if library == "timm":
        return "classification"
    found = _library(library).models
    return "segmentation" if bare in found.list_models(module=found.segmentation) else "classification"


def defaults(name: str, task: Task) -> Config:
    """The default settings of the network `name`; of a function as one for `task`.

    Raises UnknownName for a name that its library does not list.
    """
    found = VARIANTS[name]
    return _for_segmentation(name) if is_code(name) and task == "segmentation" else found


def _for_segmentation(name: str) -> Config:
    return Config(
        name=name,
        task="segmentation",
        classes=SegmenterConfig().classes,
        preprocess=_SEGMENTATION_INPUT,
        auxiliary_weight=_SEGMENTATION_AUXILIARY,
    )


def name_of(model: str | Callable[..., nn.Module]) -> str:
    """The public name that `model` is or has: "package.module:function" of a function.

    Raises UsageError for what cannot be found again by its name: a module, a lambda, a local function.
    """
    if isinstance(model, str):
        return model
    if isinstance(model, nn.Module):
        raise UsageError(
            "model",
            f"this {type(model).__name__} is made already, and a run has to make it anew",
            "give the function that makes it",
        )
    name = f"{getattr(model, '__module__', None)}:{getattr(model, '__qualname__', None)}"
    if not _FUNCTION.fullmatch(name) or function_of(name) is not model:
        raise UsageError(
            "model",
            f"{name} cannot be found again by its name",
            "define it at the top of a module, under that name",
        )
    return name


def function_of(name: str) -> Callable[..., object]:
    """What `name` ("package.module:function") names, imported. Raises UsageError where there is nothing.

    Only for a name that came from the caller, never from a file.
    """
    module_name, _, path = name.partition(":")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise EnvironmentProblem(
                name, f"it needs {error.name}, which is not installed", "install it"
            ) from None
        raise UsageError(
            name,
            f"there is no module {error.name}",
            "correct the name, or put its folder on PYTHONPATH: PYTHONPATH=. striate train DATA",
        ) from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise UnknownName(name, part, [other for other in vars(found) if not other.startswith("_")])
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(name, f"it is a {type(found).__name__}", "name a function that gives a module")
    function: Callable[..., object] = found
    return function


def refuse_code(name: str, where: object) -> None:
    """Raise ModelError where the file `where` names a function: no file may say what code to run."""
    if is_code(name):
        raise ModelError(
            where,
            f"its network is made by the function {name}, and no file may say what code to run",
            f"if that is your own function, say so: --model {name}",
        )


def permitted(variant: str, made_by: str | None, where: object) -> str:
    """The network to build for a file `where` whose card says `variant`; `made_by` is what the caller said.

    Raises ModelError where the card names what no library lists, or a function that the caller did not name.
    Imports nothing that a file names.
    """
    library = library_of(variant)
    if library is None and _FUNCTION.fullmatch(variant):
        if made_by is not None and is_code(made_by):
            return made_by  # the function may have moved since
        refuse_code(variant, where)
    if library is None or variant not in listed(library):
        raise ModelError(
            where,
            f"it needs the network {variant!r}, unknown here",
            "use an intact copy, or the version of the library that it was trained with",
        )
    if made_by not in (None, variant):
        raise ModelError(where, f"its network is {variant}, not {made_by}", "leave --model out")
    return variant


class _Variants(Mapping[str, Config]):
    """Public name -> default settings of every foreign network; a function is not imported for them."""

    def __getitem__(self, name: str) -> Config:
        library = library_of(name)
        if library is None:
            if not _FUNCTION.fullmatch(name):
                known = [f"{library}:NAME" for library in LIBRARIES]
                raise UsageError(
                    f"model {name}",
                    "this names no foreign network",
                    f"write {', '.join(known)} or package.module:function",
                )
            return Config(name=name)
        if name not in listed(library):
            raise UnknownName("model", name, listed(library))
        if task_of(name, "classification") == "segmentation":
            return _for_segmentation(name)
        return Config(name=name, preprocess=_published_preprocess(name))

    def __iter__(self) -> Iterator[str]:
        return (name for library in LIBRARIES for name in listed(library))

    def __len__(self) -> int:
        return sum(len(listed(library)) for library in LIBRARIES)


VARIANTS = _Variants()


def build(config: Config) -> Foreign:
    """The network with the starting weights that its maker gives it.

    On the meta device it is tried out on two pictures as well, so that what does not fit is said before
    any memory is asked for; a module that cannot be made there is made on the CPU instead.
    Raises UsageError where it cannot be made, or takes no such pictures, or gives no such outputs.
    """
    if torch.empty(0).device.type != "meta":
        return _made(config)
    with torch.random.fork_rng(devices=[]):  # trying out leaves no trace in what is drawn later
        return _tried(config)


def drawn(network: Network) -> Foreign:
    """The same network with memory and its own starting values, on the CPU.

    A foreign module may keep values outside of its state dict, which no file can give back. Torch's random
    state stays as it is.
    """
    assert isinstance(network.config, Config)
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        return build(network.config)


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings that suit convolutions and attention alike, from fresh weights."""
    if config.task == "segmentation":
        return _segmentation_recipe()
    training: dict[str, object] = {
        "optimiser": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 5e-2,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "epochs": 30,
        "batch_size": 64,
        "label_smoothing": 0.1,
    }
    return {"training": training, "augment": {"flip": 0.5, "scale": [0.25, 1.0]}}


def _segmentation_recipe() -> dict[str, dict[str, object]]:
    training: dict[str, object] = {
        "optimiser": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 1e-2,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "epochs": 60,
        "batch_size": 8,
    }
    return {"training": training, "augment": {"flip": 0.5, "zoom": [0.5, 2.0], "jitter": 0.2}}


def from_module(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the module itself under the names used here."""
    return {f"body.{name}": tensor for name, tensor in state_dict.items()}


def _tried(config: Config) -> Foreign:
    network = None
    try:
        network = _made(config)
        _try_out(network)
    except Exception:
        if network is not None and _parameters(network) > _TRIED_UP_TO:
            return network
        # Which of the two it was, the meta device or the settings, is told by doing it for real.
        with torch.device("cpu"):
            network = _made(config)
            try:
                _try_out(network)
            except StriateError:
                raise
            except Exception as error:
                raise _unfit(network, error) from error
    return network


def _made(config: Config) -> Foreign:
    known = task_of(config.name, config.task)
    if config.task != known:
        raise UsageError(
            "network.task",
            f"it is {config.task}, and {config.name} is for {known}",
            f"choose a network for {config.task}",
        )
    try:
        body = _maker(config)()
    except StriateError:
        raise
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in config.options.items()) or "none"
        raise UsageError(
            config.name, f"it cannot be made ({first_line(error)})", f"correct network.options (now {given})"
        ) from error
    if not isinstance(body, nn.Module):
        raise UsageError(
            config.name,
            f"it gives a {type(body).__name__}, not a torch.nn.Module",
            "name a function that gives one",
        )
    if next(body.parameters(), None) is None:
        raise UsageError(config.name, "it has no weights", "name a network that can be trained")
    return ForeignSegmenter(config, body) if config.task == "segmentation" else ForeignNetwork(config, body)


def _maker(config: Config) -> Callable[[], object]:
    """What makes the module of `config`, all arguments given."""
    library, options = library_of(config.name), config.options
    name = config.name.partition(":")[2]
    classes = {"num_classes": len(config.classes) if isinstance(config.classes, tuple) else config.classes}
    if library == "torchvision":
        start, found = _torchvision_start(config), _library(library)
        return lambda: found.models.get_model(name, **{**start, **options, **classes, "weights": None})
    if library == "timm":
        channels = config.preprocess.channels
        gray = {} if channels == _COLOR_CHANNELS else {"in_chans": channels}
        found = _library(library)
        return lambda: found.create_model(name, pretrained=False, **{**options, **classes, **gray})
    function = function_of(config.name)
    classes = {_classes_argument(function): classes["num_classes"]}
    known = {argument: value for argument, value in classes.items() if argument}
    return lambda: function(**{**options, **known})


def _torchvision_start(config: Config) -> dict[str, object]:
    """Arguments beside those that all take; `options` may have others, where they are not for weights."""
    name = config.name.partition(":")[2]
    if config.task == "segmentation":
        head = {} if name in _NO_AUXILIARY_HEAD else {"aux_loss": True}
        return {"weights_backbone": None, **head}
    return {"init_weights": True} if name in _STARTS_AS_PUBLISHED else {}


def _classes_argument(function: Callable[..., object]) -> str:
    """By which name `function` takes the number of classes; empty if by none."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # written in C
        return ""
    named = [name for name in ("classes", "num_classes") if name in parameters]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return named[0] if named else "num_classes" if takes_any else ""


def _library(library: str) -> Any:
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise EnvironmentProblem(
            f"{library} networks", f"{library} is not installed", LIBRARIES[library]
        ) from None


def _published_preprocess(name: str) -> Preprocess:
    """How the pictures of the published weights were prepared; where there are none, as our families do."""
    library, bare = name.split(":")
    if library == "timm":
        return _of_timm(_library(library), bare)
    weights = list(_library(library).models.get_model_weights(bare))
    if not weights:
        return Config(name=name).preprocess
    spec = _library(library).models.get_model_weights(bare).DEFAULT.transforms()
    side = spec.crop_size[0]
    return Preprocess(
        size=(side, side),
        fit="crop",
        resize_to=max(side, spec.resize_size[0]),
        interpolation=spec.interpolation.value,
        mean=tuple(spec.mean),
        std=tuple(spec.std),
    )


def _of_timm(timm: Any, name: str) -> Preprocess:
    published = timm.get_pretrained_cfg(name)
    found = timm.data.resolve_data_config(pretrained_cfg=published.to_dict() if published else {})
    height, width = found["input_size"][1:]
    fit: Any = "stretch" if found["crop_mode"] == "squash" else "crop"
    known = ("nearest", "bilinear", "bicubic", "lanczos")
    return Preprocess(
        size=(height, width),
        fit=fit,
        resize_to=round(min(height, width) / found["crop_pct"]) if fit == "crop" else None,
        interpolation=found["interpolation"] if found["interpolation"] in known else "bilinear",
        mean=tuple(found["mean"]) if len(found["mean"]) == _COLOR_CHANNELS else Preprocess().mean,
        std=tuple(found["std"]) if len(found["std"]) == _COLOR_CHANNELS else Preprocess().std,
    )


def _try_out(network: Foreign) -> None:
    """Run `network` as in training and as in use; two pictures, or batch norm would refuse in training."""
    spec = network.preprocess
    images = torch.zeros(2, spec.channels, *spec.size)
    with torch.no_grad():
        network.train()(images)
        network.eval()(images)
    network.train()


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _unfit(network: Foreign, error: Exception) -> UsageError:
    height, width = network.preprocess.size
    shape = f"{network.preprocess.channels}x{height}x{width}"
    return UsageError(
        network.name,
        f"it fails on pictures of {shape} ({first_line(error)})",
        "set the size that it takes (--size, network.preprocess.size), or correct network.options",
    )
