"""The quicker resize of training pictures."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.data.decode import decode_image
from striate.data.preprocess import apply
from striate.data.resample import resampler
from striate.structures import Image, Preprocess

SPEC = Preprocess(size=(24, 30), fit="stretch")

needs_vectors = pytest.mark.skipif(resampler(SPEC) is None, reason="this processor has no AVX2")


def extreme(height: int, width: int) -> Image:
    """Black and white at random in each channel: the hardest for a filter."""
    return np.random.default_rng(height).integers(0, 2, (height, width, 3), np.uint8) * np.uint8(255)


@pytest.mark.parametrize(
    "changed", [{"interpolation": "bicubic"}, {"antialias": False}, {"color": "hsv"}], ids=str
)
def test_another_filter_or_colour_is_left_to_preprocessing(changed: dict[str, object]) -> None:
    assert resampler(replace(SPEC, **changed)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("capability", ["DEFAULT", "NO AVX", "SVE256"])
def test_a_processor_without_the_vector_instructions_is_left_to_preprocessing(
    capability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert resampler(SPEC) is None


@needs_vectors
@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 300), (250, 1), (3, 2), (24, 30), (24, 31), (23, 30), (257, 342), (900, 1201)],
)
@pytest.mark.parametrize("size", [(24, 30), (1, 7), (50, 1), (224, 224)])
def test_it_is_within_one_level_of_apply(height: int, width: int, size: tuple[int, int]) -> None:
    spec, image = Preprocess(size=size, fit="stretch"), extreme(height, width)
    quick, where = apply(spec, image, resampler(spec))
    exact, there = apply(spec, image)
    assert quick.shape == exact.shape
    assert where == there
    assert np.abs(quick.astype(int) - exact).max() <= 1


@needs_vectors
def test_most_values_of_a_photo_are_those_of_apply(shared_data: Callable[[str], Path]) -> None:
    photos = sorted(shared_data("hymenoptera").rglob("*.jpg"))
    photo = decode_image(photos[0])
    spec = Preprocess(size=(112, 112), fit="crop", resize_to=128)
    quick, exact = apply(spec, photo, resampler(spec))[0], apply(spec, photo)[0]
    assert np.abs(quick.astype(int) - exact).max() <= 1
    assert (quick != exact).mean() < 0.05


@needs_vectors
@pytest.mark.parametrize("kind", ["a part", "mirrored", "not to be written to"])
def test_any_array_can_be_resized_and_stays_as_it_is(kind: str) -> None:
    image = extreme(60, 80)
    view = {"a part": image[10:40, 5:70], "mirrored": image[:, ::-1], "not to be written to": image}[kind]
    image.flags.writeable = kind != "not to be written to"
    before = image.copy()
    resize = resampler(SPEC)
    assert resize is not None
    result = resize(view, (24, 30))
    np.testing.assert_array_equal(result, resize(np.array(view), (24, 30)))
    result[:] = 0
    np.testing.assert_array_equal(image, before)


@needs_vectors
def test_the_result_lies_in_memory_row_by_row() -> None:
    resize = resampler(SPEC)
    assert resize is not None
    assert resize(extreme(60, 80), (24, 30)).flags.c_contiguous


@needs_vectors
def test_torch_starts_no_threads_of_its_own_in_a_worker() -> None:
    # They would compete with the training step, one set for each worker.
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("threads are counted in /proc")
    resize = resampler(SPEC)
    assert resize is not None
    found: list[int] = []

    def work() -> None:
        before = len(list(tasks.iterdir()))
        resize(extreme(400, 500)[3:, 5:], (300, 300))
        found.append(len(list(tasks.iterdir())) - before)

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    finally:
        torch.set_num_threads(threads)
    assert found == [0]
