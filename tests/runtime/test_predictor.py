"""Prediction: the same picture gives the same pixels on every road, in order, whatever its neighbours."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from striate.data.decode import decode_image
from striate.data.preprocess import apply
from striate.errors import DataError, ModelError, NotFiniteError, UsageError
from striate.modelfile import ModelCard
from striate.models.network import Network
from striate.runtime.predictor import Predictor, load
from striate.runtime.pytorch import PyTorchEngine
from striate.structures import Classification, Preprocess, Sample
from striate.tasks.classification import ResultOptions, results


def in_memory(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures (B, C, H, W) as the engine gets them: a view of (B, H, W, C) memory."""
    return np.stack(images).transpose(0, 3, 1, 2)


Write = Callable[..., Path]


class Brightness:
    """An engine of three classes whose logits are the mean of each channel; it keeps what it was given."""

    lanes = 1

    def __init__(self) -> None:
        self.seen: list[NDArray[np.uint8]] = []

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.seen.append(inputs["images"])
        return {"logits": inputs["images"].mean(axis=(2, 3)).astype(np.float32) / 16}


def card(**changes: Any) -> ModelCard:
    fields: dict[str, Any] = {
        "task": "classification",
        "family": "none",
        "variant": "brightness",
        "config": {},
        "classes": ("red", "green", "blue"),
        "preprocess": Preprocess(size=(8, 8)),
    }
    return ModelCard(**{**fields, **changes})


def bright(**preprocess: Any) -> Predictor:
    spec = Preprocess(**{"size": (8, 8), **preprocess})
    return Predictor(card(preprocess=spec), Brightness())


def plain(red: int, green: int, blue: int, height: int = 9, width: int = 11) -> NDArray[np.uint8]:
    return np.full((height, width, 3), (red, green, blue), np.uint8)


RED, GREEN, BLUE = plain(200, 10, 10), plain(10, 200, 10), plain(10, 10, 200)


def photos(folder: Path) -> list[Path]:
    """Pictures of odd sizes in the formats and modes that go wrong elsewhere."""
    random = np.random.default_rng(5)

    def noise(height: int, width: int, *channels: int) -> NDArray[np.uint8]:
        return random.integers(0, 256, (height, width, *channels), dtype=np.uint8)

    rotated = PillowImage.Exif()
    rotated[0x0112] = 6
    deep = PillowImage.fromarray(noise(33, 91).astype(np.uint16) * 257)
    palette = PillowImage.fromarray(noise(53, 54, 3)).quantize(16)
    made: dict[str, tuple[PillowImage.Image, dict[str, Any]]] = {
        "gray.png": (PillowImage.fromarray(noise(37, 61)), {}),
        "rotated.jpg": (PillowImage.fromarray(noise(101, 67, 3)), {"exif": rotated}),
        "deep.png": (deep, {}),
        "palette.gif": (palette, {}),
        "transparent.png": (palette, {"transparency": 3}),
        "alpha.png": (PillowImage.fromarray(noise(71, 65, 4)), {}),
        "gray-alpha.png": (PillowImage.fromarray(noise(71, 65, 2), "LA"), {}),
        "cmyk.jpg": (PillowImage.fromarray(noise(64, 129, 4), "CMYK"), {}),
        "small.webp": (PillowImage.fromarray(noise(5, 7, 3)), {"lossless": True}),
        "one-bit.tif": (PillowImage.fromarray(noise(49, 50)).convert("1"), {}),
    }
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return [folder / name for name in made]


def test_a_picture_has_the_same_pixels_on_every_road(tmp_path: Path) -> None:
    paths = photos(tmp_path)
    predictor = bright(size=(32, 24), resize_to=36)
    engine = predictor.engine
    assert isinstance(engine, Brightness)
    for path in paths:
        decoded = decode_image(path)
        expected, _ = apply(predictor.preprocess, decoded)
        batch = in_memory([expected])
        with PillowImage.open(path) as opened:
            roads = [path, str(path), path.read_bytes(), decoded, opened, Sample("", decoded)]
            for source in roads:
                engine.seen.clear()
                list(predictor.stream([source]))
                assert engine.seen[0].tobytes() == batch.tobytes(), (path.name, type(source))
                assert engine.seen[0].strides == batch.strides
    engine.seen.clear()
    predictor.predict(paths, batch_size=len(paths))
    together = engine.seen[0]
    for row, path in zip(together, paths, strict=True):
        expected, _ = apply(predictor.preprocess, decode_image(path))
        np.testing.assert_array_equal(row.transpose(1, 2, 0), expected)


def test_probabilities_are_equal_bit_by_bit_at_equal_batch_size(
    network: Network, write: Write, tmp_path: Path
) -> None:
    paths = photos(tmp_path)[:5]
    predictor = load(write(network), "cpu")
    decoded = [decode_image(path) for path in paths]
    prepared = [apply(predictor.preprocess, image) for image in decoded]
    geometry = [place for _, place in prepared]
    keys = [str(number) for number in range(len(prepared))]
    dense = predictor.engine.dense({"images": in_memory([image for image, _ in prepared])})
    roads: list[list[Classification]] = [
        results(dense, keys, geometry, ResultOptions(predictor.classes)),
        predictor.predict(paths, 5),
        predictor.predict([path.read_bytes() for path in paths], 5),
        predictor.predict(decoded, 5),
        list(predictor.results(Sample("", image) for image in decoded)),
        predictor.predict(paths[::-1], 5)[::-1],
    ]
    for road in roads[1:]:
        assert [row.probabilities.tobytes() for row in road] == [
            row.probabilities.tobytes() for row in roads[0]
        ]
    spread = [row.probabilities for row in roads[0]]
    assert max(np.ptp(column) for column in np.array(spread).T) > 1e-3, "the network tells pictures apart"


def test_probabilities_alone_are_within_a_millionth_of_those_in_a_batch(
    network: Network, tmp_path: Path, write: Write
) -> None:
    paths = photos(tmp_path)
    predictor = load(write(network), "cpu")
    for together, path in zip(predictor.predict(paths, batch_size=4), paths, strict=True):
        alone = predictor.predict(path)
        np.testing.assert_allclose(together.probabilities, alone.probabilities, rtol=0, atol=1e-6)
        assert alone.key == together.key == str(path)


# one picture, several pictures


def test_one_picture_gives_one_result_and_a_list_gives_a_list() -> None:
    predictor = bright()
    assert predictor.predict(GREEN).label == "green"
    assert [row.label for row in predictor.predict([BLUE, RED])] == ["blue", "red"]
    assert [row.label for row in predictor.predict(np.stack([RED, GREEN]))] == ["red", "green"]
    assert [row.label for row in predictor.predict(iter((GREEN, BLUE)))] == ["green", "blue"]
    assert predictor.predict([]) == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("workers", [0, 3])
def test_order_is_kept_at_every_batch_size(batch_size: int, workers: int) -> None:
    pictures = [RED, GREEN, BLUE, BLUE, RED]
    found = bright().stream(pictures, batch_size, workers)
    assert [row.label for row in found] == ["red", "green", "blue", "blue", "red"]


def test_results_are_named_after_their_sources(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    PillowImage.fromarray(RED).save(path)
    predictor = bright()
    sources = [path, str(path), path.read_bytes(), RED, PillowImage.fromarray(RED), PillowImage.open(path)]
    keys = [row.key for row in predictor.predict(sources)]
    assert keys == [str(path), str(path), "<bytes 2>", "<array 3>", "<image 4>", str(path)]
    assert predictor.predict(RED).key == "<array>"
    assert predictor.predict(path.read_bytes()).key == "<bytes>"
    assert [row.key for row in predictor.stream([("mine", path), Sample("yours", RED)])] == ["mine", "yours"]


def test_pictures_of_several_sizes_keep_their_order_and_share_passes_by_size() -> None:
    predictor = bright(fit="none")
    wide = plain(10, 200, 10, 6, 20)
    found = predictor.predict([RED, wide, BLUE, wide, GREEN], batch_size=5)
    assert [row.label for row in found] == ["red", "green", "blue", "green", "green"]
    assert isinstance(predictor.engine, Brightness)
    assert [images.shape for images in predictor.engine.seen] == [(3, 3, 9, 11), (2, 3, 6, 20)]


def test_the_same_pil_image_may_come_many_times(tmp_path: Path) -> None:
    # Large enough that threads reading it at once would break each other's file position.
    path = tmp_path / "noise.png"
    PillowImage.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)).save(path)
    expected = bright().predict(path).probabilities
    rows = bright().predict([PillowImage.open(path)] * 16)
    assert {row.probabilities.tobytes() for row in rows} == {expected.tobytes()}


@pytest.mark.parametrize("thing", [7, None, [7], [None]])
def test_what_is_no_picture_is_refused(thing: Any) -> None:
    with pytest.raises(UsageError, match="is no picture"):
        bright().predict(thing)


@pytest.mark.parametrize(("batch_size", "workers"), [(0, None), (-1, 0), (4, -1)])
def test_impossible_numbers_are_refused(batch_size: int, workers: int | None) -> None:
    with pytest.raises(UsageError, match=f"batch_size={batch_size}"):
        bright().stream([RED], batch_size, workers)
    with pytest.raises(UsageError, match="batch_size=0"):
        bright().predict([RED], batch_size=0)


# streams


def test_a_long_source_is_read_no_further_than_two_batches_ahead() -> None:
    taken = []

    def long() -> Iterator[NDArray[np.uint8]]:
        for _ in range(1000):
            taken.append(1)
            yield RED

    before = set(threading.enumerate())
    stream = bright().stream(long(), batch_size=4, workers=2)
    assert len(list(islice(stream, 9))) == 9
    assert len(taken) <= 3 * 4 + 2 * 4
    stream.close()
    assert set(threading.enumerate()) <= before


def test_nothing_is_read_before_the_first_result_is_asked_for() -> None:
    sources = iter([RED])
    stream = bright().stream(sources)
    assert next(sources) is RED
    assert list(stream) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_picture_fails_alone(tmp_path: Path, workers: int) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    failed: list[tuple[str, str]] = []
    found = bright().stream(
        [RED, bad, GREEN, b"", BLUE],
        batch_size=2,
        workers=workers,
        on_error=lambda key, error: failed.append((key, str(error))),
    )
    assert [(row.key, row.label) for row in found] == [
        ("<array 0>", "red"),
        ("<array 2>", "green"),
        ("<array 4>", "blue"),
    ]
    assert [key for key, _ in failed] == [str(bad), "<bytes 3>"]
    assert all(key in message for key, message in failed)


def test_a_truncated_picture_behind_a_pil_image_fails_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PillowImage.fromarray(random).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"cut\.png: "), PillowImage.open(path) as image:
        bright().predict(image)


@pytest.mark.parametrize("workers", [0, 2])
def test_without_on_error_the_first_bad_picture_is_raised_and_no_thread_stays(workers: int) -> None:
    before = set(threading.enumerate())
    with pytest.raises(DataError, match="<bytes 1>"):
        list(bright().stream([RED, b"junk", GREEN] * 5, workers=workers))
    assert set(threading.enumerate()) <= before


def test_a_picture_too_thin_to_resize_is_named() -> None:
    with pytest.raises(DataError, match=r"^thin: .*fix: "):
        list(bright(size=(224, 224)).stream([("thin", np.zeros((30_000, 1, 3), np.uint8))]))


def test_an_error_of_the_source_itself_is_raised() -> None:
    def failing() -> Iterator[NDArray[np.uint8]]:
        yield RED
        raise OSError("the list ended badly")

    with pytest.raises(OSError, match="ended badly"):
        list(bright().stream(failing(), workers=2))


def test_a_network_that_gives_nan_names_the_picture() -> None:
    class Broken:
        def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            return {"logits": np.full((len(inputs["images"]), 3), np.nan, np.float32)}

    with pytest.raises(NotFiniteError, match="<array>"):
        Predictor(card(), Broken()).predict(RED)


# the model


def test_load_takes_a_run_folder_or_the_file(network: Network, write: Write) -> None:
    path = write(network, metrics={"top1": 0.9134})
    for place in (path, str(path), path.parent):
        predictor = load(place, "cpu")
        assert predictor.classes == network.classes
        assert predictor.preprocess == network.preprocess
        assert predictor.task == "classification"
    assert repr(predictor) == "Predictor(resnet18, 5 classes, 64x64, top1 0.913)"


def test_repr_without_metrics_or_fixed_size() -> None:
    assert repr(bright()) == "Predictor(brightness, 3 classes, 8x8)"
    assert repr(bright(fit="none")) == "Predictor(brightness, 3 classes, any size)"


def test_a_loaded_model_equals_the_live_one(network: Network, write: Write) -> None:
    live = Predictor(load(write(network), "cpu").card, PyTorchEngine(network))
    np.testing.assert_allclose(
        live.predict(RED).probabilities, load(write(network), "cpu").predict(RED).probabilities, atol=1e-6
    )


def test_load_refuses_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no model"):
        load(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "absent")
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(ModelError, match="striate convert"):
        load(tmp_path / "weights.pth")


def test_a_task_that_is_not_known_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'\.\./evil' is unknown"):
        Predictor(card(task="../evil"), Brightness())


def test_without_torch_the_predictor_runs_and_load_says_what_to_install(
    network: Network, write: Write
) -> None:
    program = f"""
import sys
sys.modules["torch"] = None
import numpy as np
from striate.errors import EnvironmentProblem
from striate.modelfile import ModelCard
from striate.runtime.predictor import Predictor, load
from striate.structures import Preprocess
class Engine:
    def dense(self, inputs):
        return {{"logits": inputs["images"].mean(axis=(2, 3))}}
card = ModelCard("classification", "f", "v", {{}}, ("r", "g", "b"), Preprocess(size=(8, 8)))
print(Predictor(card, Engine()).predict(np.full((9, 9, 3), (0, 9, 0), np.uint8)).label)
try:
    load({str(write(network))!r})
except EnvironmentProblem as error:
    print(error.fix)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split("\n")[:2] == ["g", "pip install 'striate[train]'"]


def test_a_photo_of_real_data_is_predicted_alike_from_path_and_bytes(
    network: Network, write: Write, shared_data: Callable[[str], Path]
) -> None:
    path = next(iter(sorted(shared_data("hymenoptera").rglob("*.jpg"))))
    predictor = load(write(network), "cpu")
    from_file, from_bytes = (
        predictor.predict(path),
        predictor.predict(path.read_bytes()),
    )
    assert from_file.probabilities.tobytes() == from_bytes.probabilities.tobytes()


def test_a_steady_stream_takes_fewer_large_pictures_at_once() -> None:
    sizes = {}
    for side in (8, 896):
        engine = Brightness()
        predictor = Predictor(card(preprocess=Preprocess(size=(side, side))), engine)
        assert len(list(predictor.steady_stream([RED] * 70))) == 70
        sizes[side] = [len(batch) for batch in engine.seen]
    assert sizes[8] == [64, 6]
    assert max(sizes[896]) == 4  # the pixels of 64 pictures of 224 x 224
    assert sum(sizes[896]) == 70


# lanes: engines whose calls run side by side


class Lanes(Brightness):
    """Two lanes; a call with an even picture of the value 66 fails for all its pictures."""

    lanes = 2

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.threads.add(threading.current_thread().name)
        if (inputs["images"] == 66).all(axis=(1, 2, 3)).any():
            raise ModelError("graph", "it fails on a picture", "export it again")
        return super().dense(inputs)


def test_an_engine_of_lanes_gives_the_results_of_one_without(tmp_path: Path) -> None:
    paths = photos(tmp_path)
    alone = bright().predict(paths, batch_size=3)
    engine = Lanes()
    beside = list(Predictor(card(), engine).stream(paths, batch_size=3))
    assert [row.to_dict() for row in beside] == [row.to_dict() for row in alone]
    assert engine.threads <= {"striate-predict_0", "striate-predict_1"}


def test_lanes_are_at_work_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=20)

    class Meeting(Lanes):
        def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            together.wait()
            return super().dense(inputs)

    found = Predictor(card(), Meeting()).stream([RED, GREEN, BLUE, RED], batch_size=1)
    assert [row.label for row in found] == ["red", "green", "blue", "red"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_the_engine_fails_on_does_not_take_its_neighbours(workers: int) -> None:
    failed: list[str] = []
    pictures = [RED, plain(66, 66, 66), GREEN, b"", BLUE]
    found = Predictor(card(), Lanes()).stream(
        pictures, batch_size=5, workers=workers, on_error=lambda key, _: failed.append(key)
    )
    assert [row.label for row in found] == ["red", "green", "blue"]
    assert failed == ["<array 1>", "<bytes 3>"]


def test_without_on_error_the_failing_picture_is_named_by_the_model() -> None:
    with pytest.raises(ModelError, match="fails on a picture"):
        Predictor(card(), Lanes()).predict([RED, plain(66, 66, 66)])


def test_a_long_source_is_read_no_further_than_the_lanes_need() -> None:
    taken = []

    def long() -> Iterator[NDArray[np.uint8]]:
        for _ in range(1000):
            taken.append(1)
            yield RED

    before = set(threading.enumerate())
    stream = Predictor(card(), Lanes()).stream(long(), batch_size=4)
    assert len(list(islice(stream, 9))) == 9
    assert len(taken) <= 4 * (3 + 2 * 2)
    stream.close()
    assert set(threading.enumerate()) <= before


def test_without_a_batch_size_no_picture_is_computed_twice_and_batches_grow() -> None:
    class Patient(Brightness):
        """A call takes the same time however many pictures it has."""

        def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            time.sleep(0.002)
            return super().dense(inputs)

    engine = Patient()
    found = list(Predictor(card(), engine).stream([RED, GREEN, BLUE] * 100))
    assert [row.label for row in found] == ["red", "green", "blue"] * 100
    sizes = [len(images) for images in engine.seen]
    assert sum(sizes) == 300
    assert sizes[0] == 1
    assert max(sizes) >= 32


def test_many_large_pictures_of_one_batch_are_passed_on_in_parts() -> None:
    predictor = bright(fit="none")
    assert isinstance(predictor.engine, Brightness)
    large = plain(200, 10, 10, 1000, 1200)
    rows = list(predictor.stream([large] * 12))
    assert [row.label for row in rows] == ["red"] * 12
    assert max(len(images) for images in predictor.engine.seen) <= 2
