"""The networks of the runtime benchmark: equal seeded weights as a model file, as exports and for the peers.

Fresh weights alone would give every photo the same answer. Batch normalisation has the statistics of some of
the photos, and of a classifier the mean answer is taken away, so that answers differ from photo to photo.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import striate
from striate import models
from striate.data.decode import decode_image
from striate.data.preprocess import apply
from striate.errors import ModelError
from striate.export import targets
from striate.layers.frozen_norm import FrozenNorm
from striate.modelfile import read_card
from striate.models.network import Network
from striate.plugins import load
from striate.runtime.pytorch import PyTorchEngine
from striate.structures import Detections, Preprocess
from striate.training.saving import save

__all__ = ["CASES", "Case", "Files", "batch_of", "made", "quantised", "with_onnx"]

FEW = 32  # photos that statistics are taken from
CALIBRATION, BATCH = 64, 16  # photos that int8 is calibrated on, and how many of them at once
SPREAD = 2.0  # of the logits of a class, from photo to photo
BOXES = 10  # of a photo, on average: what detectors are asked to tell


@dataclass(frozen=True)
class Case:
    """A network and what other libraries call the same layers."""

    network: str
    size: tuple[int, int] | None = None  # height, width; None: the network's own
    torchvision: str | None = None
    timm: str | None = None

    @property
    def is_detector(self) -> bool:
        """Whether it tells of boxes."""
        return models.task_of(self.network) == "detection"


CASES = {
    case.network: case
    for case in (
        Case("mobilenet_v2", None, "mobilenet_v2", "mobilenetv2_100.ra_in1k"),
        # The tags name timm's preprocessing: `tv_in1k` is torchvision's.
        Case("resnet18", None, "resnet18", "resnet18.tv_in1k"),
        Case("resnet50", None, "resnet50", "resnet50.tv_in1k"),
        Case("deeplab_v3plus_mobilenet_v2", (240, 320)),
        Case("ssdlite320_mobilenet_v3", None, "ssdlite320_mobilenet_v3_large"),
        Case("yolox_nano"),
    )
}


@dataclass(frozen=True)
class Files:
    """Where a case's files are; None where it has no such peer."""

    model: Path  # the model file
    classes: int
    onnx: Path | None = None
    winograd: Path | None = None  # ONNX as well; of networks that gain by it
    torchvision: Path | None = None  # a state dict
    timm: Path | None = None
    plain_onnx: Path | None = None  # torchvision's network as torch.onnx.export writes it
    score: float | None = None  # from which on boxes are told


def made(case: Case, photos: Sequence[Path], folder: Path) -> Files:
    """The model file of `case` and its peers' files, in `folder`."""
    torch.manual_seed(0)
    few = photos[:FEW]
    if case.torchvision is None:
        size: dict[str, Any] = {} if case.size is None else {"preprocess": {"size": list(case.size)}}
        network = models.create(case.network, **size)
        images = torch.from_numpy(batch_of(network.preprocess, few))
        settle(network, lambda: network.eval().dense(images))
        return with_score(case, written(network, folder), few)
    peer = (detector if case.is_detector else classifier)(case.torchvision, few)
    network = models.create(case.network)
    network.load_state_dict(striate.convert_state_dict(peer.state_dict(), case.network, "torchvision"))
    files = with_score(case, written(network, folder), few)
    torch.save(peer.state_dict(), folder / "torchvision.pt")
    files = replace(files, torchvision=folder / "torchvision.pt")
    if case.timm is not None:
        files = replace(files, timm=write_for_timm(case.timm, peer, folder / "timm.pt"))
    if not case.is_detector:
        files = replace(files, plain_onnx=write_plain_onnx(peer, folder / "plain.onnx"))
    return files


def with_onnx(files: Files) -> Files:
    """The same files and the network's ONNX beside them, as it is and by Winograd."""
    try:
        quick = exported("winograd", files).rename(files.model.with_name("winograd.onnx"))
    except ModelError:  # it has nothing that gains
        quick = None
    return replace(files, onnx=exported("onnx", files), winograd=quick)


def exported(name: str, files: Files) -> Path:
    """The network of `files` as the target `name` writes it, beside the model file."""
    target = load(targets, name)
    path = files.model.with_name(f"model{target.SUFFIX}")
    network = PyTorchEngine.from_file(files.model, "cpu").network
    target.write(network, path, read_card(files.model))
    return path


def quantised(name: str, files: Files, photos: Sequence[Path]) -> Path:
    """The network of `files` in int8 as the target `name` writes it, calibrated on some photos."""
    target = load(targets, name)
    source = exported(name, files)
    preprocess, few = read_card(files.model).preprocess, photos[:CALIBRATION]
    batches = [
        {"images": batch_of(preprocess, few[start : start + BATCH])} for start in range(0, len(few), BATCH)
    ]
    path = source.with_name(f"model-int8{target.SUFFIX}")
    target.quantise(source, path, batches)
    return path


def batch_of(preprocess: Preprocess, photos: Sequence[Path]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The pictures at the network's input, (B, C, H, W) uint8 as the predictor hands them over."""
    pixels = [apply(preprocess, decode_image(path, name=str(path)))[0] for path in photos]
    return np.stack(pixels).transpose(0, 3, 1, 2)


def written(network: Network, folder: Path) -> Files:
    """`network` as the model file in `folder`."""
    save(folder / "model.safetensors", network, models.card_of(network))
    return Files(folder / "model.safetensors", len(network.classes))


def with_score(case: Case, files: Files, photos: Sequence[Path]) -> Files:
    """The same files, and the score from which on a photo has some BOXES of them."""
    if not case.is_detector:
        return files
    found = striate.load(files.model, "cpu").at(0.0).predict(photos)
    each = [result.scores for result in found if isinstance(result, Detections)]
    scores = np.sort(np.concatenate(each))[::-1]
    count = BOXES * len(photos)
    # In the middle of the widest gap near it: rounding does not carry a box over the line.
    near = scores[count - len(photos) : count + len(photos)].astype(np.float64)
    gap = int(np.argmax(near[:-1] - near[1:]))
    return replace(files, score=float((near[gap] + near[gap + 1]) / 2))


def settle(module: nn.Module, run: Callable[[], Any]) -> None:
    """Give every batch normalisation of `module` the statistics of what it sees in `run`.

    A frozen one gets those of what it sees last.
    """
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    module.eval()
    frozen = [part for part in module.modules() if isinstance(part, FrozenNorm)]
    hooks = [norm.register_forward_pre_hook(_in_training_mode) for norm in norms]
    hooks += [norm.register_forward_pre_hook(_take_statistics) for norm in frozen]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all passes
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
        norm.eval()


def _in_training_mode(norm: nn.Module, _: Any) -> None:
    norm.training = True


def _take_statistics(norm: FrozenNorm, inputs: tuple[Tensor]) -> None:
    variance, mean = torch.var_mean(inputs[0], (0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def classifier(name: str, photos: Sequence[Path]) -> nn.Module:
    """torchvision's network; its answers to `photos` have a mean of none and a spread of SPREAD."""
    from PIL import Image
    from torchvision.models import get_model, get_model_weights

    model: nn.Module = get_model(name)
    transform = get_model_weights(name)["IMAGENET1K_V1"].transforms()
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in photos])
    settle(model, lambda: model(images))
    *_, last = (part for part in model.modules() if isinstance(part, nn.Linear))
    with torch.no_grad():
        logits = model(images)
        factor = SPREAD / (logits - logits.mean(0)).std()
        last.bias.sub_(logits.mean(0)).mul_(factor)
        last.weight.mul_(factor)
    return model


def detector(name: str, photos: Sequence[Path]) -> nn.Module:
    """torchvision's detector of 90 classes."""
    from PIL import Image
    from torchvision.models import get_model
    from torchvision.transforms.functional import to_tensor

    model: nn.Module = get_model(name, num_classes=91, weights_backbone=None)
    images: list[Tensor] = [to_tensor(Image.open(path).convert("RGB")) for path in photos]
    settle(model, lambda: model(images))
    return model


def write_for_timm(name: str, peer: nn.Module, path: Path) -> Path:
    """The weights of `peer` under the names that timm has, which lists the same tensors in the same order."""
    import timm

    state = timm.create_model(name).state_dict()
    ours = list(peer.state_dict().values())
    assert [tensor.shape for tensor in state.values()] == [tensor.shape for tensor in ours], name
    torch.save(dict(zip(state, ours, strict=True)), path)
    return path


def write_plain_onnx(peer: nn.Module, path: Path) -> Path:
    """`peer` as torch.onnx.export writes it, for normalised pictures and any batch."""
    example = torch.rand(2, 3, 224, 224)
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        peer.eval(), (example,), path, dynamic_shapes=({0: batch},), external_data=False, verbose=False
    )
    return path
