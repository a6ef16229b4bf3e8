"""ImageNet weights that torchvision publishes: where they lie, and what belongs to them.

A file is fetched once, into the folder of torch's hub (`TORCH_HOME`), and its name holds the first digits of
its SHA-256, which are compared at each use.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import torch

from striate.errors import EnvironmentProblem, ModelError, UnknownName
from striate.files import sha256_of
from striate.models.convert import StateDict, convert
from striate.structures import Preprocess

__all__ = ["SOURCE", "Published", "find_published", "published_models"]

SOURCE = "torchvision"

# Networks that torchvision has under another name. Its `googlenet` is not the paper's, which is ours.
_THERE = {
    "googlenet_bn": "googlenet",
    "shufflenet_v2": "shufflenet_v2_x1_0",
    "shufflenet_v2_0.5": "shufflenet_v2_x0_5",
    "shufflenet_v2_1.5": "shufflenet_v2_x1_5",
    "shufflenet_v2_2": "shufflenet_v2_x2_0",
}
_FAMILIES = ("alexnet", "googlenet", "mobilenet_v2", "mobilenet_v3", "resnet", "shufflenet_v2", "vgg")
_HASH = re.compile(r"-([0-9a-f]{8,})\.")  # in a file's name: torch's own convention


@dataclass(frozen=True, slots=True)
class Published:
    """The weights of one network, as torchvision lists them."""

    model: str  # public name here
    version: str  # name there: "IMAGENET1K_V1"
    url: str
    classes: tuple[str, ...]
    preprocess: Preprocess

    @property
    def sha256(self) -> str:
        """The first digits of the file's SHA-256, in hexadecimal."""
        found = _HASH.search(self.url)
        if found is None:
            raise ModelError(self.url, "its name holds no hash to check it by", "convert a copy you trust")
        return found[1]

    @property
    def path(self) -> Path:
        """Where torch's hub keeps the file."""
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(self.url).path).name

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights under the names used here; fetched where torch's hub does not have them yet.

        Raises EnvironmentProblem where they cannot be fetched, ModelError where the file is not what its
        name says.
        """
        if not self.path.is_file():
            self._fetch()
        if not sha256_of(self.path).startswith(self.sha256):
            raise ModelError(
                self.path,
                f"its SHA-256 does not begin with {self.sha256}, so it is not what {self.url} holds",
                "delete it: it is then fetched again",
            )
        conversion = convert(_read(self.path), self.model, SOURCE)
        if not conversion.report.fits:
            raise ModelError(
                self.path,
                f"these weights are not those of {self.model}: {conversion.report.summary}",
                "use the torchvision that striate asks for",
            )
        return conversion.state_dict

    def _fetch(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.url, str(self.path), self.sha256, progress=False)
        except OSError as error:  # URLError is one
            reason = getattr(error, "reason", None) or error.strerror or error
            raise EnvironmentProblem(
                self.url,
                f"cannot be fetched ({reason})",
                f"connect to the network, or put a copy at {self.path}",
            ) from None
        except RuntimeError as error:  # what arrived has another hash
            raise EnvironmentProblem(
                self.url, f"what was fetched is damaged ({error})", f"try again, or put a copy at {self.path}"
            ) from None


def published_models() -> tuple[str, ...]:
    """The networks here that torchvision publishes weights for."""
    from striate.models import variants

    there = set(_torchvision().list_models(module=_torchvision()))
    return tuple(
        name for name, family in variants().items() if family in _FAMILIES and _name_there(name) in there
    )


def find_published(model: str, version: str | None = None) -> Published:
    """The published weights of the network `model`: those that torchvision calls `version`, or its newest.

    Nothing is fetched. Raises ModelError for a network without any, UnknownName for a version there is not.
    """
    if model not in published_models():
        raise ModelError(
            f"weights {SOURCE}",
            f"torchvision publishes none for {model}",
            f"choose one of {', '.join(published_models())}",
        )
    versions = _versions(model)
    if version is not None and version not in versions:
        raise UnknownName(f"weights {SOURCE}:{version}", version, versions)
    found = versions[version or list(versions)[-1]]
    preprocess = _preprocess(model, found.transforms())
    return Published(model, found.name, found.url, tuple(found.meta["categories"]), preprocess)


def _versions(model: str) -> dict[str, Any]:
    """Torchvision's weights for `model` by their name, the newest last; not those without a classifier."""
    listed = _torchvision().get_model_weights(_name_there(model))
    return {weights.name: weights for weights in listed if weights.meta["categories"]}


def _torchvision() -> ModuleType:
    try:
        import torchvision
    except ModuleNotFoundError:
        raise EnvironmentProblem(
            f"weights {SOURCE}", "torchvision is not installed", "pip install 'striate[train]'"
        ) from None
    models: ModuleType = torchvision.models
    return models


def _name_there(model: str) -> str | None:
    """Torchvision's name of the network `model`; None where a network of that name there is another one."""
    return _THERE.get(model, None if model in _THERE.values() else model)


def _preprocess(model: str, transforms: Any) -> Preprocess:
    """What torchvision's preset for classification does, as our spec."""
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if model == "googlenet_bn":
        # These weights came from elsewhere: torchvision turns pictures back into (x - 0.5) / 0.5 inside the
        # network (`transform_input`).
        mean = std = (0.5, 0.5, 0.5)
    (side,), (shorter,) = transforms.crop_size, transforms.resize_size
    return Preprocess(
        size=(side, side),
        fit="crop",
        resize_to=shorter,
        interpolation=transforms.interpolation.value,
        antialias=bool(transforms.antialias),
        mean=mean,
        std=std,
    )


def _read(path: Path) -> StateDict:
    try:
        found: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(
            path, f"its tensors cannot be read ({error})", "delete it: it is then fetched again"
        ) from None
    return found
