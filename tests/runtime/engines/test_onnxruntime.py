"""ONNX Runtime: the answers of the graph, from any thread, in silence, and its own errors as ours."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from striate import api
from striate.errors import EnvironmentProblem, ModelError, UsageError
from striate.modelfile import CARD_ENTRY, ModelCard
from striate.runtime._cores import usable_cores
from striate.runtime.engines import onnxruntime as engine
from striate.runtime.predictor import load
from striate.structures import Preprocess

WriteOnnx = Callable[..., Path]
Images = NDArray[np.uint8]


def plain(red: int, green: int, blue: int) -> Images:
    return np.full((8, 8, 3), (red, green, blue), np.uint8)


def batch(count: int, seed: int = 0) -> Images:
    """Pictures (B, C, H, W) as the predictor gives them: views of (B, H, W, C) memory."""
    shape = (count, 8, 8, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8).transpose(0, 3, 1, 2)


def test_an_onnx_file_predicts_what_its_graph_says(write_onnx: WriteOnnx) -> None:
    predictor = load(write_onnx())
    assert [row.label for row in predictor.predict([plain(9, 200, 9), plain(9, 9, 200)])] == ["green", "blue"]
    images = batch(3)
    dense = predictor.engine.dense({"images": images})
    np.testing.assert_allclose(dense["logits"], images.mean(axis=(2, 3)) / 16, rtol=1e-6)
    assert dense["logits"].dtype == np.float32


def test_four_threads_get_their_own_answers(write_onnx: WriteOnnx) -> None:
    dense = load(write_onnx()).engine.dense
    batches = [batch(1 + number % 3, number) for number in range(60)]
    alone = [dense({"images": images})["logits"] for images in batches]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda images: dense({"images": images})["logits"], batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_there_is_a_lane_for_each_core_on_the_cpu(write_onnx: WriteOnnx) -> None:
    assert load(write_onnx()).engine.lanes == usable_cores()


def test_one_graph_is_read_once_and_not_kept_as_bytes(
    write_onnx: WriteOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Any, ...]] = []
    real = onnxruntime.InferenceSession

    def session(*arguments: Any, **settings: Any) -> Any:
        given.append(arguments)
        return real(*arguments, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    path = write_onnx()
    predictor = load(path)
    ((content, options, providers),) = given
    assert content == path.read_bytes(), "what was looked through is what runs, whatever happens to the file"
    assert providers == [("CPUExecutionProvider", {})]
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.load_model_format") == "ONNX"
    assert predictor.engine._session._model_bytes is None  # type: ignore[attr-defined]


# files of other tools


def test_a_file_of_another_tool_says_what_is_missing(write_onnx: WriteOnnx) -> None:
    with pytest.raises(ModelError, match=r"does not say what it is for.*--card card\.toml.*task = "):
        load(write_onnx(card=None))


def test_a_file_of_another_tool_works_with_a_card_from_a_file(write_onnx: WriteOnnx, tmp_path: Path) -> None:
    path = write_onnx(card=None, names=("input.1", "495"))
    written = tmp_path / "card.toml"
    written.write_text('task = "classification"\nclasses = ["r", "g", "b"]\npreprocess = { size = [8, 8] }\n')
    assert api.load(path, card=written).predict(plain(9, 200, 9)).label == "g"
    picture = tmp_path / "picture.png"
    from PIL import Image

    Image.fromarray(plain(9, 9, 200)).save(picture)
    assert [row.label for row in api.predict(path, picture, card=written)] == ["b"]


def test_a_float_graph_gets_normalised_pictures(write_onnx: WriteOnnx, colors_card: ModelCard) -> None:
    spec = Preprocess(size=(8, 8), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    path = write_onnx(card=None, kind="FLOAT", names=("x", "y"))
    images = batch(2)
    found = load(path, card=replace(colors_card, preprocess=spec)).engine.dense({"images": images})
    means = images.mean(axis=(2, 3), dtype=np.float64) / 255
    expected = (means - [0.1, 0.2, 0.3]) / [0.5, 0.25, 1.0] / 16
    np.testing.assert_allclose(found["logits"], expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2])
def test_a_graph_of_a_fixed_batch_takes_any_number_of_pictures(size: int, write_onnx: WriteOnnx) -> None:
    images = batch(5)
    found = load(write_onnx(shape=(size, 3, 8, 8))).engine.dense({"images": images})
    free = load(write_onnx("free.onnx")).engine.dense({"images": images})
    np.testing.assert_array_equal(found["logits"], free["logits"])


def test_a_second_card_is_refused(write_onnx: WriteOnnx, colors_card: ModelCard) -> None:
    with pytest.raises(UsageError, match="has its own"):
        load(write_onnx(), card=colors_card)


def test_a_function_for_the_network_is_refused(write_onnx: WriteOnnx) -> None:
    with pytest.raises(UsageError, match="holds its network itself"):
        load(write_onnx(), made_by="package.module:function")


def test_a_card_of_other_classes_is_refused_before_a_picture(
    write_onnx: WriteOnnx, colors_card: ModelCard
) -> None:
    with pytest.raises(ModelError, match=r"logits float32 \(any, 3\) where its card needs .* \(any, 2\)"):
        load(write_onnx(card=replace(colors_card, classes=("a", "b"))))


def test_a_damaged_card_is_refused(write_onnx: WriteOnnx) -> None:
    def damage(model: Any) -> None:
        model.metadata_props[0].value = '{"task": 5}'

    with pytest.raises(ModelError, match=r"model\.onnx: its format is version None"):
        load(write_onnx(change=damage))
    assert CARD_ENTRY == "striate"


# what the runtime says


def test_an_operation_that_does_not_exist_is_an_error_of_the_file(
    write_onnx: WriteOnnx, capfd: pytest.CaptureFixture[str]
) -> None:
    def change(model: Any) -> None:
        model.graph.node[2].op_type = "Mull"

    with pytest.raises(ModelError, match=r"model\.onnx: ONNX Runtime cannot run it \(.*Mull"):
        load(write_onnx(change=change))
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_fails_on_pictures_is_an_error_of_the_file(
    write_onnx: WriteOnnx, capfd: pytest.CaptureFixture[str]
) -> None:
    dense = load(write_onnx(shape=("batch", "channels", 8, 8))).engine.dense
    with pytest.raises(ModelError, match=r"its graph fails on images \(1, 4, 8, 8\)"):
        dense({"images": np.zeros((1, 4, 8, 8), np.uint8)})
    assert capfd.readouterr() == ("", "")


# devices


def test_auto_and_cpu_are_the_cpu(write_onnx: WriteOnnx) -> None:
    for device in ("auto", "cpu"):
        assert load(write_onnx(), device).predict(plain(200, 9, 9)).label == "red"


@pytest.mark.parametrize("device", ["mps", "cpu:1", "cuda:x", "tpu"])
def test_other_devices_are_refused(device: str, write_onnx: WriteOnnx) -> None:
    with pytest.raises(UsageError, match=f"device {device!r}: ONNX Runtime computes on cpu, cuda"):
        load(write_onnx(), device)


def test_cuda_is_asked_for_in_full_precision_or_said_to_be_missing(
    write_onnx: WriteOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EnvironmentProblem, match=r"built without CUDA.*onnxruntime-gpu"):
        load(write_onnx(), "cuda")
    found = engine._provider("cuda:1", ["CUDAExecutionProvider"])
    assert found == ("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"})


def test_cuda_that_does_not_start_is_no_silent_cpu(
    write_onnx: WriteOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])

    def session(content: bytes, options: Any, providers: Any, **settings: Any) -> Any:
        return real(content, options, ["CPUExecutionProvider"], **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(EnvironmentProblem, match="CUDAExecutionProvider does not start here"):
        load(write_onnx(), "cuda")


def test_without_the_package_the_error_says_what_installs_it(
    write_onnx: WriteOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_onnx()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EnvironmentProblem, match="onnxruntime is not installed"):
        load(path, engine="onnxruntime")
