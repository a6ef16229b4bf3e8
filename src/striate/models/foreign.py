"""Networks of other libraries and of one's own, by name, behind the same three stations.

`torchvision:resnet18` and `timm:resnet18` are what those libraries list, `package.module:function` is a
function (or class) that gives a module. All start with fresh weights: nothing is downloaded. The module
takes normalised pictures (B, 3, H, W) and gives logits (B, K): alone, as `logits` of a mapping or an object,
and beside them the logits of auxiliary heads, by names that begin with "aux".

Only a caller names a function, never a file: what a model file says is looked up in the libraries' own lists.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import EnvironmentProblem, ModelError, StriateError, UnknownName, UsageError
from striate.models.network import Classifier, Feature, Network, NetworkConfig
from striate.ops.losses import soft_cross_entropy
from striate.structures import ClassTargets, Preprocess

__all__ = [
    "LIBRARIES",
    "NEEDS_COLOR",
    "VARIANTS",
    "Config",
    "ForeignNetwork",
    "Outputs",
    "build",
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
]

NEEDS_COLOR = True  # gray pictures come as three channels, unless one asks for another

LIBRARIES = {"torchvision": "pip install 'striate[train]'", "timm": "pip install timm"}
"""The libraries whose lists are believed, each with the way to get it."""

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_COLOR_CHANNELS = 3

# Set here, or a way to weights or code from elsewhere.
_NO_OPTIONS = {
    *("cache_dir", "checkpoint_path", "in_chans", "num_classes", "pretrained", "pretrained_backbone"),
    *("pretrained_cfg", "pretrained_cfg_overlay", "weights", "weights_backbone"),
}

_TRIED_UP_TO = 500_000_000  # parameters; a larger network is tried out on the meta device alone

# torchvision warns until one says whether the paper's starting weights shall be drawn.
_STARTS_AS_PUBLISHED = ("googlenet", "inception_v3")


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of a foreign network."""

    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    name: str  # "torchvision:resnet18"; the public name
    # Arguments of what makes it, beside the number of classes.
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    auxiliary_weight: Annotated[float, Meta(ge=0)] = 0.3  # of each auxiliary loss; GoogLeNet's

    def __post_init__(self) -> None:
        super().__post_init__()
        refused = sorted(_NO_OPTIONS & self.options.keys())
        if refused:
            raise UsageError(
                f"network.options.{refused[0]}",
                "classes and channels follow from the data, and weights never come with a foreign network",
                "leave it out",
            )


class Outputs(NamedTuple):
    """What `forward` gives: logits (B, K), or (B, 1), and those of auxiliary heads where there are any."""

    logits: Tensor
    auxiliary: tuple[Tensor, ...]  # usually in training only


class ForeignNetwork(Classifier):
    """Normalize -> the module, as it is. It has no named features, so no decoder can be built on it."""

    feature_info: tuple[Feature, ...] = ()

    def __init__(self, config: Config, body: nn.Module) -> None:
        super().__init__(config)
        self.name = config.name
        self.auxiliary_weight = config.auxiliary_weight
        self.body = body

    def forward(self, images: Tensor) -> Outputs:  # type: ignore[override]
        found = self.body(self.normalize(images))
        outputs = Outputs(_logits(self.name, found), tuple(_auxiliary(found)))
        for logits in (outputs.logits, *outputs.auxiliary):
            self._refuse_other_shape(logits)
        return outputs

    def features(self, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002 - the contract's signature
        """Raises UsageError: the maps of a foreign module have no names."""
        raise UsageError(self.name, "a foreign network has no named features", "use a network of striate's")

    def loss(self, raw: Outputs, targets: ClassTargets[Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, and that of each auxiliary head times `auxiliary_weight`."""
        terms = super().loss(raw, targets)
        for number, logits in enumerate(raw.auxiliary, 1):
            cross_entropy = soft_cross_entropy(logits, targets.probabilities, targets.weight)
            terms[f"auxiliary_{number}"] = self.auxiliary_weight * cross_entropy
        return terms

    def _refuse_other_shape(self, logits: Tensor) -> None:
        classes = len(self.classes)
        fitting = (classes, 1) if classes == 2 else (classes,)
        if logits.ndim != 2 or logits.shape[1] not in fitting:
            raise UsageError(
                self.name,
                f"it gives outputs {tuple(logits.shape)} for {classes} classes, needed is (B, {classes})",
                "let what makes it take classes= or num_classes= and give so many outputs",
            )


def is_code(name: str) -> bool:
    """Whether `name` names a function to be imported, which no file may do."""
    return ":" in name and library_of(name) is None


def library_of(name: str) -> str | None:
    """The library of `name`: "timm" of "timm:resnet18"; None for a function."""
    library, colon, _ = name.partition(":")
    return library if colon and library in LIBRARIES else None


@cache
def listed(library: str) -> tuple[str, ...]:
    """The public names of all classifiers that `library` lists. Raises EnvironmentProblem without it."""
    found = _library(library)
    names = found.models.list_models(module=found.models) if library == "torchvision" else found.list_models()
    return tuple(f"{library}:{name}" for name in names)


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
        return Config(name=name, preprocess=_published_preprocess(name))

    def __iter__(self) -> Iterator[str]:
        return (name for library in LIBRARIES for name in listed(library))

    def __len__(self) -> int:
        return sum(len(listed(library)) for library in LIBRARIES)


VARIANTS = _Variants()


def build(config: Config) -> ForeignNetwork:
    """The network with the starting weights that its maker gives it.

    On the meta device it is tried out on two pictures as well, so that what does not fit is said before
    any memory is asked for; a module that cannot be made there is made on the CPU instead.
    Raises UsageError where it cannot be made, or takes no such pictures, or gives no such outputs.
    """
    if torch.empty(0).device.type != "meta":
        return _made(config)
    with torch.random.fork_rng(devices=[]):  # trying out leaves no trace in what is drawn later
        return _tried(config)


def drawn(network: Network) -> ForeignNetwork:
    """The same network with memory and its own starting values, on the CPU.

    A foreign module may keep values outside of its state dict, which no file can give back. Torch's random
    state stays as it is.
    """
    assert isinstance(network.config, Config)
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        return build(network.config)


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings that suit convolutions and attention alike, from fresh weights."""
    del config
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


def from_module(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the module itself under the names used here."""
    return {f"body.{name}": tensor for name, tensor in state_dict.items()}


def _tried(config: Config) -> ForeignNetwork:
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


def _made(config: Config) -> ForeignNetwork:
    try:
        body = _maker(config)()
    except StriateError:
        raise
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in config.options.items()) or "none"
        raise UsageError(
            config.name, f"it cannot be made ({_first_line(error)})", f"correct network.options (now {given})"
        ) from error
    if not isinstance(body, nn.Module):
        raise UsageError(
            config.name,
            f"it gives a {type(body).__name__}, not a torch.nn.Module",
            "name a function that gives one",
        )
    if next(body.parameters(), None) is None:
        raise UsageError(config.name, "it has no weights", "name a network that can be trained")
    return ForeignNetwork(config, body)


def _maker(config: Config) -> Callable[[], object]:
    """What makes the module of `config`, all arguments given."""
    library, options = library_of(config.name), config.options
    name = config.name.partition(":")[2]
    classes = {"num_classes": len(config.classes) if isinstance(config.classes, tuple) else config.classes}
    if library == "torchvision":
        start = {"init_weights": True} if name in _STARTS_AS_PUBLISHED else {}
        found = _library(library)
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


def _try_out(network: ForeignNetwork) -> None:
    """Run `network` as in training and as in use; two pictures, or batch norm would refuse in training."""
    spec = network.preprocess
    images = torch.zeros(2, spec.channels, *spec.size)
    with torch.no_grad():
        network.train()(images)
        network.eval()(images)
    network.train()


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _unfit(network: ForeignNetwork, error: Exception) -> UsageError:
    height, width = network.preprocess.size
    shape = f"{network.preprocess.channels}x{height}x{width}"
    return UsageError(
        network.name,
        f"it fails on pictures of {shape} ({_first_line(error)})",
        "set the size that it takes (--size, network.preprocess.size), or correct network.options",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def _logits(name: str, found: Any) -> Tensor:
    if isinstance(found, Tensor):
        return found
    logits = found.get("logits") if isinstance(found, Mapping) else getattr(found, "logits", None)
    if not isinstance(logits, Tensor):
        raise UsageError(
            name,
            f"it gives a {type(found).__name__} without logits",
            "let it give the logits (B, K), or a dict that holds them as 'logits'",
        )
    return logits


def _auxiliary(found: Any) -> Iterator[Tensor]:
    """The logits of the auxiliary heads in `found`, in its order."""
    table = found if isinstance(found, Mapping) else found._asdict() if hasattr(found, "_asdict") else {}
    for name, value in table.items():
        if name.startswith("aux") and isinstance(value, Tensor):
            yield value
