"""The search for the fastest batch size."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from striate.errors import EnvironmentProblem
from striate.training import batch_search
from striate.training.batch_search import BatchTrial, choose_batch, search, sizes
from striate.training.config import TrainingConfig

CONFIG = TrainingConfig(batch_size=32, workers=0, threads=1)


class FakeGauge:
    """A million bytes a picture, whatever is done."""

    size = 0

    def __init__(self, _: torch.device) -> None:
        pass

    def peak(self) -> int:
        return 1_000_000 * FakeGauge.size


def timed(monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float]) -> list[int]:
    """Steps run, but the clock says what gives these images/s; the sizes that were tried."""
    tried: list[int] = []

    def seconds(trial: Any, batch: Any, rate: float) -> float:
        tried.append(len(batch))
        trial.step(batch, rate)
        FakeGauge.size = len(batch)
        return len(batch) / speeds[len(batch)]

    monkeypatch.setattr(batch_search, "_seconds", seconds)
    return tried


@pytest.mark.parametrize(
    ("pictures", "usual", "found"),
    [
        (54_000, 64, [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]),  # 8192 would leave 6 steps an epoch
        (617, 64, [16, 32, 64]),  # 64 leaves 9, but is what the run would have anyway
        (617, 32, [16, 32]),
        (42, 64, [16, 32]),  # never more than there are
        (10, 64, [10]),
    ],
)
def test_sizes_leave_ten_steps_an_epoch_or_are_the_usual(pictures: int, usual: int, found: list[int]) -> None:
    assert sizes(pictures, usual) == found


def test_each_part_of_a_batch_has_two_pictures() -> None:
    assert sizes(1000, 64, accumulate=32) == [64]


def trials(**speeds: float) -> list[BatchTrial]:
    return [BatchTrial(int(size[1:]), speed, None) for size, speed in speeds.items()]


def test_the_smallest_within_three_percent_of_the_fastest_is_chosen() -> None:
    assert choose_batch(trials(b16=100, b32=971, b64=1000)).size == 32
    assert choose_batch(trials(b16=100, b32=969, b64=1000)).size == 64


def test_the_search_ends_after_two_sizes_that_are_no_faster(
    network: Callable[..., Any], loaders: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = timed(monkeypatch, {16: 500, 32: 900, 64: 910, 128: 905, 256: 2000})
    found = list(search(network(), loaders(CONFIG, train=3000).train, CONFIG))
    assert tried == [16, 32, 64, 128]
    assert [trial.images_per_second for trial in found] == pytest.approx([500, 900, 910, 905])


def test_one_slow_size_does_not_end_it(
    network: Callable[..., Any], loaders: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = timed(monkeypatch, {16: 500, 32: 300, 64: 900, 128: 950, 256: 960})
    list(search(network(), loaders(CONFIG, train=2600).train, CONFIG))
    assert tried == [16, 32, 64, 128, 256]


def test_a_size_that_would_take_four_fifths_of_the_memory_is_not_tried(
    network: Callable[..., Any], loaders: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = timed(monkeypatch, dict.fromkeys((16, 32, 64, 128), 100.0) | {32: 200, 64: 400, 128: 800})
    monkeypatch.setattr(batch_search, "MemoryGauge", FakeGauge)
    # 64 pictures take 64 MB; 128 would take 128 MB, more than 80 % of 150 MB.
    monkeypatch.setattr(batch_search, "available_memory", lambda: 150_000_000)
    found = list(search(network(), loaders(CONFIG, train=2000).train, CONFIG))
    assert tried == [16, 32, 64]
    assert [trial.memory for trial in found] == [16_000_000, 32_000_000, 64_000_000]


def too_large(pictures: int) -> Callable[[Any, Any], None]:
    def refuse(_: Any, arguments: Any) -> None:
        if len(arguments[0]) > pictures:
            raise torch.OutOfMemoryError("out of memory")

    return refuse


def test_a_size_that_does_not_fit_ends_the_search(
    network: Callable[..., Any], loaders: Callable[..., Any]
) -> None:
    made = network()
    made.register_forward_pre_hook(too_large(40))
    found = list(search(made, loaders(CONFIG, train=2000).train, CONFIG))
    assert [trial.size for trial in found] == [16, 32]


def test_where_no_size_fits_the_error_says_what_to_do(
    network: Callable[..., Any], loaders: Callable[..., Any]
) -> None:
    made = network()
    made.register_forward_pre_hook(too_large(10))
    with pytest.raises(EnvironmentProblem, match=r"a batch of 16 does not fit the memory.*smaller --size"):
        list(search(made, loaders(CONFIG, train=2000).train, CONFIG))


def test_each_size_has_its_own_threads(
    network: Callable[..., Any], loaders: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, int] = {}

    def seconds(_: Any, batch: Any, __: float) -> float:
        seen[len(batch)] = torch.get_num_threads()
        return 1.0

    monkeypatch.setattr(batch_search, "_seconds", seconds)
    monkeypatch.setattr(batch_search, "choose_threads", lambda *given: 1 if given[-1] < 32 else 2)
    list(search(network(), loaders(CONFIG, train=400).train, CONFIG))
    assert seen == {16: 1, 32: 2}


def test_the_search_really_measures_and_leaves_everything_as_it_is(
    network: Callable[..., Any], loaders: Callable[..., Any]
) -> None:
    made = network(dropout=0.5)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    found = list(search(made, loaders(CONFIG, train=400).train, CONFIG))
    assert [trial.size for trial in found] == [16, 32]
    assert all(0 < trial.images_per_second < 1e7 for trial in found)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_trial_is_told_in_a_phrase() -> None:
    assert BatchTrial(64, 5210.4, 140_000_000).describe() == "batch 64: 5,210 images/s, 140 MB"
    assert BatchTrial(16, 8.26, None).describe() == "batch 16: 8.3 images/s"
