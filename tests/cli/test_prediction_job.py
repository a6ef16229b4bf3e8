"""`striate predict`: jobs that are gone on with, in parts, and what their flags refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from striate.api.prediction_job import PredictionJob, Watcher
from striate.errors import Interrupted
from striate.modelfile import write_model
from striate.models import card_of, create

Striate = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network = create("simple_cnn", ("ant", "bee"), widths=[4], convolutions=[1], preprocess={"size": [8, 8]})
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    write_model(tmp_path / "model.safetensors", tensors, card_of(network))
    return tmp_path / "model.safetensors"


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes jobs stop behind so many pictures, as a signal would."""

    def at(count: int) -> None:
        real = PredictionJob.run

        def run(self: PredictionJob, predictor: Any, watcher: Watcher, batch_size: int | None = None) -> Any:
            def advanced(done: int, _: int) -> None:
                if done == count:
                    raise Interrupted(self.out, "stopped", self.way_on)

            monkeypatch.setattr(watcher, "advanced", advanced)
            return real(self, predictor, watcher, batch_size)

        monkeypatch.setattr(PredictionJob, "run", run)

    return at


def test_a_stopped_job_says_what_to_type_and_that_ends_it(
    striate: Striate, model: Path, color_folder: Path, tmp_path: Path, stopped: Callable[[int], None]
) -> None:
    photos, flags = color_folder / "red", ("--batch-size", 2, "--top", 2)
    assert striate("predict", model, photos, *flags, "--out", tmp_path / "whole.csv").code == 0
    stopped(5)
    out = tmp_path / "found.csv"
    outcome = striate("predict", model, photos, *flags, "--out", out)
    assert outcome.code == 130
    assert f"striate predict {model} {photos} --out {out} --top 2 --batch-size 2 --resume" in outcome.err
    again = striate("predict", model, photos, *flags, "--out", out)
    assert (again.code, "--resume, or remove" in again.err) == (2, True)
    other = striate("predict", model, photos, "--top", 3, "--out", out, "--resume")
    assert (other.code, "--top was 2 and is 3" in other.err) == (2, True)
    ended = striate("predict", model, photos, *flags, "--out", out, "--resume")
    assert (ended.code, "14 pictures, 5 of them before" in ended.err) == (0, True)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    more = striate("predict", model, photos, *flags, "--out", out, "--resume")
    assert (more.code, "is complete" in more.err) == (0, True)


def test_parts_have_names_of_their_own_and_together_are_the_whole(
    striate: Striate, model: Path, color_folder: Path, tmp_path: Path
) -> None:
    asked = ("predict", model, color_folder, "--out", tmp_path / "found.csv")
    assert striate(*asked).code == 0
    whole = (tmp_path / "found.csv").read_text().splitlines()
    rows = []
    for number, count in ((1, 14), (2, 14), (3, 14)):
        outcome = striate(*asked, "--shard", f"{number}/3")
        assert f"shard {number}/3: {count} of 42 pictures" in outcome.err
        part = (tmp_path / f"found-{number}-of-3.csv").read_text().splitlines()
        assert part[0] == whole[0]
        rows += part[1:]
    named = [sorted(row.rpartition("/")[2].partition(",")[0] for row in found) for found in (rows, whole[1:])]
    assert named[0] == named[1]
    assert len({row.partition(",")[0] for row in rows}) == 42


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--resume",), "name a place: --out"),
        (("--resume", "--out", "new.csv"), "never begun"),
        (("--shard", "4/3"), "no such part"),
        (("--batch-size", "0"), "no number of pictures"),
        (("--batch-size", "many"), "no number of pictures"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    striate: Striate, model: Path, color_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...], told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    outcome = striate("predict", model, color_folder, *flags)
    assert outcome.code == 2
    assert told in outcome.err
    assert not list(tmp_path.glob("new.csv*"))
