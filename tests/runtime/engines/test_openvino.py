"""OpenVINO: the same answers from .xml and .onnx, in float32, from any thread, and nothing sent anywhere."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.errors import EnvironmentProblem, ModelError, UsageError
from striate.modelfile import CARD_ENTRY, ModelCard, card_text
from striate.runtime._cores import usable_cores
from striate.runtime.predictor import load
from striate.runtime.unreported import openvino_core, unreported

pytest.importorskip("onnx")
if __import__("importlib.util").util.find_spec("openvino") is None:  # importing it would send a message
    pytest.skip("openvino is not installed", allow_module_level=True)

WriteOnnx = Callable[..., Path]
Images = NDArray[np.uint8]


def batch(count: int, seed: int = 0) -> Images:
    """Pictures (B, C, H, W) as the predictor gives them: views of (B, H, W, C) memory."""
    shape = (count, 8, 8, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8).transpose(0, 3, 1, 2)


@pytest.fixture
def xml(write_onnx: WriteOnnx, colors_card: ModelCard) -> Path:
    """The graph of `write_onnx` as OpenVINO's own files."""
    return saved(write_onnx(card=None), card_text(colors_card))


def saved(path: Path, card: str | None) -> Path:
    openvino = unreported("openvino")
    model = openvino_core().read_model(path)
    if card is not None:
        model.set_rt_info(card, [CARD_ENTRY])
    openvino.save_model(model, path.with_suffix(".xml"), compress_to_fp16=False)
    return path.with_suffix(".xml")


def logits_of(images: Images) -> NDArray[np.float64]:
    means: NDArray[np.float64] = images.mean(axis=(2, 3), dtype=np.float64) / 16
    return means


def test_both_forms_give_what_the_graph_says(xml: Path, write_onnx: WriteOnnx) -> None:
    images = batch(3)
    for path, engine in ((xml, "auto"), (write_onnx(), "openvino")):
        predictor = load(path, engine=engine)
        assert type(predictor.engine).__name__ == "OpenVinoEngine"
        dense = predictor.engine.dense({"images": images})
        np.testing.assert_allclose(dense["logits"], logits_of(images), rtol=1e-6)
        assert predictor.predict(np.full((8, 8, 3), (9, 200, 9), np.uint8)).label == "green"


def test_four_threads_get_their_own_answers(xml: Path) -> None:
    dense = load(xml).engine.dense
    batches = [batch(1 + number % 3, number) for number in range(60)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda images: dense({"images": images})["logits"], batches))
    for images, logits in zip(batches, found, strict=True):
        np.testing.assert_allclose(logits, logits_of(images), rtol=1e-5)


def test_an_answer_outlives_the_next_call(xml: Path) -> None:
    dense = load(xml).engine.dense
    first = dense({"images": batch(2)})["logits"]
    kept = first.copy()
    for seed in range(5):
        dense({"images": batch(2, seed)})
    np.testing.assert_array_equal(first, kept)


def test_there_is_a_lane_for_each_core(xml: Path) -> None:
    assert load(xml).engine.lanes == usable_cores()


def test_arithmetic_is_float32(xml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openvino, asked = unreported("openvino"), []
    real = openvino.Core.compile_model

    def compile_model(core: Any, model: Any, device: str, settings: dict[str, Any]) -> Any:
        compiled = real(core, model, device, settings)
        asked.append(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        return compiled

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    load(xml)
    assert asked == ["f32"]


def test_the_card_of_an_onnx_survives_a_conversion_by_others(
    write_onnx: WriteOnnx, colors_card: ModelCard
) -> None:
    # OpenVINO keeps the metadata of an ONNX under `framework`.
    assert load(saved(write_onnx(), None)).card == colors_card


def test_a_file_of_another_tool_needs_a_card(write_onnx: WriteOnnx, colors_card: ModelCard) -> None:
    path = saved(write_onnx(card=None, names=("x", "y")), None)
    with pytest.raises(ModelError, match="does not say what it is for"):
        load(path)
    images = batch(2)
    found = load(path, card=colors_card).engine.dense({"images": images})["logits"]
    np.testing.assert_allclose(found, logits_of(images), rtol=1e-6)


# hostile and damaged files


def test_every_cut_of_the_xml_is_refused_by_its_name(xml: Path) -> None:
    whole = xml.read_bytes()
    for length in range(0, len(whole.rstrip()), 7):
        xml.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"model\.xml"):
            load(xml)


def test_weights_of_another_length_are_refused(xml: Path) -> None:
    weights = xml.with_suffix(".bin")
    whole = weights.read_bytes()
    for content in (whole[:-1], whole + b"\0", b""):
        weights.write_bytes(content)
        with pytest.raises(ModelError, match=rf"{len(whole)} bytes of weights, model.bin has {len(content)}"):
            load(xml)
    weights.unlink()
    with pytest.raises(ModelError, match=r"its weights, model\.bin, are not beside it"):
        load(xml)


def test_weights_behind_a_link_out_of_the_folder_are_not_opened(xml: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    xml.with_suffix(".bin").rename(away / "secret.bin")
    xml.with_suffix(".bin").symlink_to(away / "secret.bin")
    with pytest.raises(ModelError, match="are not beside it"):
        load(xml)


def test_both_files_may_be_links_into_one_folder(xml: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for suffix in (".xml", ".bin"):
        (links / f"model{suffix}").symlink_to(xml.with_suffix(suffix))
    assert load(links / "model.xml").classes == ("red", "green", "blue")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("<net ", '<!DOCTYPE net [<!ENTITY a "b">]><net ', 1), "has a <!DOCTYPE"),
        (lambda text: text.replace('offset="0"', 'offset="-8"', 1), "a constant lies at '-8'"),
        (lambda text: text.replace('offset="0"', 'offset="99999999999999999999"', 1), "bytes of weights"),
        (lambda _: "<html></html>", "XML of another kind, <html>"),
        (lambda _: "<net></net>", "bytes of weights"),
        (lambda text: text.replace('type="Multiply"', 'type="Multiplied"', 1), "OpenVINO cannot run it"),
        (lambda text: text.replace('shape="3"', 'shape="1099511627776"', 1), "OpenVINO cannot run it"),
    ],
)
def test_xml_that_asks_for_more_than_it_has_is_refused(
    change: Callable[[str], str], message: str, xml: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = xml.read_text()
    xml.write_text(change(before))
    assert xml.read_text() != before
    with pytest.raises(ModelError, match=rf"model\.xml: .*{message}"):
        load(xml)
    assert capfd.readouterr() == ("", "")


def test_an_onnx_with_a_tensor_elsewhere_is_refused_here_too(write_onnx: WriteOnnx) -> None:
    def change(model: Any) -> None:
        model.graph.initializer[1].data_location = 1
        model.graph.initializer[1].external_data.add(key="location", value="../secret.bin")

    with pytest.raises(ModelError, match="lies in another file"):
        load(write_onnx(change=change), engine="openvino")


# the rest


def test_pictures_that_the_graph_cannot_take_are_its_error(write_onnx: WriteOnnx) -> None:
    dense = load(write_onnx(), engine="openvino").engine.dense
    with pytest.raises(ModelError, match=r"its graph fails on images \(1, 4, 8, 8\)"):
        dense({"images": np.zeros((1, 4, 8, 8), np.uint8)})
    assert dense({"images": batch(2)})["logits"].shape == (2, 3)


@pytest.mark.parametrize("device", ["cuda", "mps", "GPU"])
def test_other_devices_are_refused(device: str, xml: Path) -> None:
    with pytest.raises(UsageError, match="OpenVINO computes on the CPU here"):
        load(xml, device)


def test_without_the_package_the_error_says_what_installs_it(
    xml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EnvironmentProblem, match=r"not installed\. fix: pip install 'striate\[openvino"):
        load(xml)


def test_nothing_is_reported_to_anybody(xml: Path, tmp_path: Path) -> None:
    # The reporter counts each use in the home folder, and sends from a process of its own.
    program = f"""
import sys, socket, subprocess, multiprocessing.process
def refuse(*a, **k): raise SystemExit("something was sent")
socket.socket.connect = socket.create_connection = refuse
multiprocessing.process.BaseProcess.start = refuse
from striate.runtime.predictor import load
load({str(xml)!r})
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry.")))
"""
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"HOME": str(home), **path_of()}
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert list(home.iterdir()) == []


def path_of() -> dict[str, str]:
    import striate

    return {"PYTHONPATH": str(Path(striate.__file__).parents[1])}


def test_ctrl_c_is_heard_after_several_models_have_gone(xml: Path) -> None:
    # Each core of OpenVINO would leave the thread with the memory of one that is gone to handle signals in.
    program = f"""
import os, signal
from striate.runtime.predictor import load
first = load({str(xml)!r})
second = load({str(xml)!r})
del first
del second
signal.signal(signal.SIGINT, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=path_of())
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_the_first_calls_of_two_threads_do_not_wait_for_each_other(write_onnx: WriteOnnx) -> None:
    # The first thread computes for longer than a turn and goes on without a pause to what OpenVINO does in a
    # first call, so the second, which waits for its turn by then, gets it in the middle of that.
    program = f"""
import sys, threading, time
from collections import deque
from functools import partial
from operator import call
import numpy as np
from striate.runtime.predictor import load
from striate.runtime.unreported import unreported
engine = load({str(write_onnx())!r}, engine="openvino").engine
table = unreported("openvino").Type.f32.to_dtype
images = np.zeros((1, 3, 8, 8), np.uint8)
sys.setswitchinterval(0.02)
def second():
    time.sleep(0.05)
    engine.dense(dict(images=images))
def first():
    deque(map(call, [partial(sum, range(2 * 10**7)), table]))
threads = [threading.Thread(target=target) for target in (second, first)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=path_of(), timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_threads_that_ask_at_once_share_a_core() -> None:
    program = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from striate.runtime.unreported import openvino_core, unreported
unreported("openvino")
barrier = Barrier(8)
sys.setswitchinterval(1e-6)
with ThreadPoolExecutor(8) as threads:
    cores = list(threads.map(lambda _: barrier.wait() * 0 or openvino_core(), range(8)))
print(len(set(map(id, cores))))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=path_of(), timeout=60)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_reporter_that_others_imported_is_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Telemetry:
        def send_event(self, *_: object) -> None:
            pytest.fail("something was reported")

        start_session = end_session = send_error = send_stack_trace = send_event

    reporter = type(sys)("openvino_telemetry")
    reporter.Telemetry = Telemetry  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openvino_telemetry", reporter)
    unreported("json")
    Telemetry().send_event("a", "b")
    Telemetry().start_session("a")
