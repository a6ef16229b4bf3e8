"""Every family as ONNX: what ONNX Runtime makes of it against torch, for any batch and any free size."""

import dataclasses
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import striate
from striate import models
from striate.data.decode import decode_image
from striate.errors import ModelError
from striate.export.graph import example_inputs
from striate.export.proof import Examination
from striate.export.targets.onnx import OPSET, opened, write
from striate.modelfile import CARD_ENTRY, ModelCard, card_from_text
from striate.models.network import DetectorConfig, Network, NetworkConfig
from striate.ops.roi import max_pooled
from striate.runtime.predictor import Predictor
from striate.runtime.pytorch import PyTorchEngine
from striate.structures import Preprocess, Sample

Arrays = Mapping[str, NDArray[Any]]

SCORE = 1e-3  # by which a score may differ, of itself
PIXELS = 1e-2  # by which a box may


def forms(name: str) -> dict[str, NetworkConfig]:
    family = models.families()[name]
    return {"tiny": family.TINY, **getattr(family, "TINIES", {})}


CASES = {f"{name}-{form}": (name, form) for name in models.families() for form in forms(name)}

# Networks of each way to take any size; of YOLO's the tracer takes a minute.
FREE = {
    **{f"{name}-{form}": 1 for name in ("fcn", "unet", "unet_backbone") for form in forms(name)},
    **dict.fromkeys(("resnet-tiny", "deeplab_v2-tiny", "deeplab_v3plus-tiny", "fcn_resnet-tiny"), 1),
    **dict.fromkeys(("faster_rcnn-paper", "fast_rcnn-compressed"), 16),
    "faster_rcnn-tiny": 32,
}


def network_of(case: str, **spec: Any) -> Network:
    """A network in evaluation mode whose weights are off their start, where zeros hide much.

    A detector gives all its candidates: of noise many have one score, and a limit would fall among those.
    """
    name, form = CASES[case]
    config = forms(name)[form]
    if name == "yolox":
        # Of pixels up to 255, weights of noise make log sides whose roundings move a box by pixels.
        spec = {"scale": 0.05, **spec}
    changed: dict[str, Any] = {"preprocess": dataclasses.replace(config.preprocess, **spec)}
    if isinstance(config, DetectorConfig):
        changed["per_class"] = 1000
    torch.manual_seed(0)
    network: Network = models.families()[name].build(msgspec.structs.replace(config, **changed))
    for parameter in network.requires_grad_(False).parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape))
    return network.eval()


def card_of(network: Network) -> ModelCard:
    # Of noise many boxes have one score: a limit, or what suppresses what, would be decided by rounding.
    config = {"detections": 10_000, "nms_threshold": 1.0} if network.task == "detection" else {}
    return ModelCard(network.task, "family", "variant", config, network.classes, network.preprocess)


class Exported:
    """`network` and its ONNX file, run side by side."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network, self.path = network, folder / "model.onnx"
        write(network, self.path, card_of(network))
        self.session = onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])

    @property
    def proposes(self) -> bool:
        """Whether boxes suppress each other inside the graph, where of noise many hang on a rounding."""
        return any("rpn" in name for name, _ in self.network.named_children())

    @property
    def least(self) -> float:
        """The share of candidates that must be the same."""
        return 0.8 if self.proposes else 1.0

    def compare(self, batch: int, size: tuple[int, int] | None = None) -> None:
        inputs = example_inputs(self.network, batch, size or self.network.preprocess.size, seed=batch)
        expected = {name: tensor.numpy() for name, tensor in self.network.dense(**inputs).items()}
        found = self.run({name: tensor.numpy() for name, tensor in inputs.items()})
        assert list(found) == list(expected)
        if self.network.task == "detection":
            assert share_of_same_candidates(found, expected) >= self.least
            assert share_of_same_candidates(expected, found) >= self.least
        else:
            largest = np.abs(expected["logits"]).max()
            np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-4 * largest, rtol=0)

    def compare_results(self, photos: list[Sample]) -> None:
        """What both say of real pictures, in a batch and one by one."""
        card = card_of(self.network)
        model = Predictor(card, PyTorchEngine(self.network))
        examination = Examination(model, Predictor(card, opened(self.path)))
        ours, _ = examination.compare(photos)
        examination.compare_alone(photos, ours)
        agreement = examination.agreement()
        assert agreement.same >= self.least
        assert self.proposes or agreement.problems == ()

    def run(self, inputs: Arrays) -> Arrays:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, dict(inputs)), strict=True))


def share_of_same_candidates(found: Arrays, expected: Arrays) -> float:
    """Of the candidates of each class, as a set, the share that has its like in `found`."""
    same = count = 0
    for picture, labels in enumerate(expected["labels"]):
        for label in np.unique(labels):
            rows, others = labels == label, found["labels"][picture] == label
            scores, their_scores = expected["scores"][picture, rows], found["scores"][picture, others]
            boxes, their_boxes = expected["boxes"][picture, rows], found["boxes"][picture, others]
            near = np.abs(scores[:, None] - their_scores) <= SCORE * scores[:, None] + 1e-6
            allowed = PIXELS + 1e-4 * np.abs(boxes).max(1, keepdims=True)
            near &= np.abs(boxes[:, None] - their_boxes).max(2) <= allowed
            used = scores > 0
            same += near.any(1)[used].sum()
            count += used.sum()
    assert count >= 5
    return float(same / count)


@pytest.fixture
def photos(shared_data: Callable[[str], Path]) -> list[Sample]:
    """The upper left of three photographs, of odd sizes."""
    files = sorted(shared_data("coco128").rglob("*.jpg"))[:3]
    sizes = ((121, 151), (97, 135), (133, 129))
    cuts = zip(files, sizes, strict=True)
    return [Sample(file.name, decode_image(file)[:height, :width]) for file, (height, width) in cuts]


@pytest.mark.parametrize("case", [case for case in CASES if case not in FREE])
def test_export_agrees_with_torch_in_batches_of_any_size(
    case: str, tmp_path: Path, photos: list[Sample]
) -> None:
    exported = Exported(network_of(case), tmp_path)
    exported.compare(1)
    exported.compare(3)
    exported.compare_results(photos)


@pytest.mark.parametrize("case", FREE)
def test_export_agrees_with_torch_for_pictures_of_any_size(
    case: str, tmp_path: Path, photos: list[Sample]
) -> None:
    step = FREE[case]
    network = network_of(case, fit="none", pad_to=step, resize_to=None)
    height, width = (-(-side // step) * step for side in network.preprocess.size)
    exported = Exported(network, tmp_path)
    exported.compare(1, (height, width))
    exported.compare(3, (height + 3 * step, width + 5 * step))
    exported.compare_results(photos)


@pytest.mark.parametrize("case", ["faster_rcnn-tiny", "unet-tiny"])
def test_fixed_size_of_a_network_that_takes_any_is_exported_too(case: str, tmp_path: Path) -> None:
    exported = Exported(network_of(case), tmp_path)
    exported.compare(3)
    images = exported.session.get_inputs()[0]
    assert images.shape == ["batch", exported.network.preprocess.channels, *exported.network.preprocess.size]


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "timm:test_efficientnet"])
def test_networks_of_other_libraries_are_exported(name: str, tmp_path: Path) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    preprocess = {"size": (64, 64), "fit": "stretch", "resize_to": None}
    network = models.create(name, classes=5, preprocess=preprocess).eval().requires_grad_(False)
    exported = Exported(network, tmp_path)
    exported.compare(1)
    exported.compare(3)


def test_boxes_of_a_picture_suppress_none_of_another(tmp_path: Path) -> None:
    exported = Exported(network_of("faster_rcnn-tiny"), tmp_path)
    image = example_inputs(exported.network, 1)["images"].numpy()
    alone, thrice = exported.run({"images": image}), exported.run({"images": np.repeat(image, 3, 0)})
    assert (alone["scores"] > 0).sum() >= 20
    for picture in range(3):
        for name, values in thrice.items():
            np.testing.assert_allclose(values[picture], alone[name][0], rtol=1e-5, atol=1e-4)


class Pooling(nn.Module):
    """The pooled cells of a few boxes as logits: 7 boxes of 2 x 2 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, values: Tensor) -> Tensor:
        boxes = values.new_tensor(
            [
                [0.0, 0.0, 32.0, 24.0],
                [2.0, 6.0, 10.0, 14.0],  # corners halfway between cells
                [5.0, 5.0, 5.0, 5.0],
                [9.9, 3.1, 10.1, 3.2],
                [20.0, 15.0, 60.0, 50.0],  # across the border
                [40.0, 40.0, 50.0, 50.0],  # beyond it
                [0.0, 0.0, 0.0, 0.0],
            ]
        )
        batch = values.shape[0]  # `len` would be a number
        cells = max_pooled(values * self.weight, boxes.expand(batch, -1, -1), 2, 4)
        return cells.view(batch, -1)


class Bessel(Pooling):
    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = torch.special.bessel_j0(values * self.weight)
        return found.flatten(1)[:, :28]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which modules of this file are found."""
    monkeypatch.setitem(sys.modules, "own_modules", sys.modules[__name__])
    return "own_modules"


def of_pixels(name: str) -> Network:
    """A network on pixels as they are."""
    spec = Preprocess(
        size=(6, 8), fit="stretch", resize_to=None, color="gray", scale=1.0, mean=(0.0,), std=(1.0,)
    )
    return models.create(name, classes=28, preprocess=spec).eval().requires_grad_(False)


def test_roi_max_pool_gives_the_very_values(own: str, tmp_path: Path) -> None:
    exported = Exported(of_pixels(f"{own}:Pooling"), tmp_path)
    images = example_inputs(exported.network, 3)["images"]
    found = exported.run({"images": images.numpy()})["logits"]
    expected = exported.network.dense(images)["logits"].numpy()
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 20
    operations = Counter(node.op_type for node in onnx.load(exported.path).graph.node)
    assert operations["MaxRoiPool"] == 1


def test_operation_that_onnx_has_not_is_named(
    own: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = of_pixels(f"{own}:Bessel")
    with pytest.raises(ModelError, match=r"ONNX has no operation for .*bessel_j0"):
        write(network, tmp_path / "model.onnx", card_of(network))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_network_that_no_protobuf_holds_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = models.create("mlp", classes=2, preprocess={"size": (1000, 1000)}, hidden=(600,))
    with pytest.raises(
        ModelError, match=r"its weights take 2\.2 GiB, and an ONNX file holds less than 2 GiB"
    ):
        write(network, tmp_path / "model.onnx", card_of(network))
    assert list(tmp_path.iterdir()) == []


def test_pixels_enter_as_bytes_and_the_card_is_beside_the_graph(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = network_of("faster_rcnn-tiny", fit="none", pad_to=32)
    write(network, tmp_path / "model.onnx", card_of(network))
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model)
    (images,) = model.graph.input
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [length.dim_param for length in images.type.tensor_type.shape.dim] == [
        "batch",
        "",
        "height",
        "width",
    ]
    assert {node.op_type for node in model.graph.node if "images" in node.input} <= {"Cast", "Shape"}
    assert [entry.version for entry in model.opset_import if not entry.domain] == [OPSET]
    (entry,) = model.metadata_props
    assert entry.key == CARD_ENTRY
    assert card_from_text(entry.value, tmp_path) == card_of(network)


def test_file_tells_nothing_of_the_code_and_its_place(tmp_path: Path) -> None:
    network = network_of("faster_rcnn-paper")
    write(network, tmp_path / "model.onnx", card_of(network))
    model = onnx.load(tmp_path / "model.onnx")
    del model.metadata_props[:]
    for tensor in model.graph.initializer:  # whose bytes may spell anything
        tensor.raw_data = b""
    content = model.SerializeToString()
    assert str(Path(striate.__file__).parent).encode() not in content
    assert not re.search(rb"\.py\b|forward|\bs\d\d\b", content)


def test_batch_norm_is_part_of_the_convolutions_that_run(tmp_path: Path) -> None:
    exported = Exported(network_of("resnet-tiny"), tmp_path)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(exported.path, options, providers=["CPUExecutionProvider"])
    operations = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in exported.network.modules())
    assert operations["Conv"] + operations["FusedConv"] == norms == 20
    assert operations["BatchNormalization"] == 0


def test_half_precision_is_written_in_full(tmp_path: Path) -> None:
    network = network_of("resnet-tiny")
    images = example_inputs(network, 2)["images"]
    exported = Exported(network.half(), tmp_path)
    found = exported.run({"images": images.numpy()})["logits"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, network.float().dense(images)["logits"].numpy(), atol=1e-4)


def test_engine_that_proves_runs_what_was_written(tmp_path: Path) -> None:
    exported = Exported(network_of("lenet-tiny"), tmp_path)
    images = example_inputs(exported.network, 2)["images"].numpy()
    found, expected = opened(exported.path).dense({"images": images}), exported.run({"images": images})
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-5)
