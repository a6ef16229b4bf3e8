"""Networks of other libraries and of one's own, from the command line."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate import api
from striate.modelfile import read_card

pytest.importorskip("timm")

Striate = Callable[..., Any]

MY_NETS = """
from torch import nn

def small(classes, width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes),
    )
"""

OWN = "striate_test_nets:small"
NETWORKS = {
    "torchvision": ("torchvision:mobilenet_v3_small", "width_mult=0.25"),
    "timm": ("timm:test_resnet", "stem_width=8"),
    "own": (OWN, "width=6"),
}

EVIL = "striate_test_evil:run"  # its import leaves a mark


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of photos, beside a module of one's own on the path and one that must never be imported."""
    root = tmp_path_factory.mktemp("foreign")
    chance = np.random.default_rng(3)
    for name, level in (("dark", 60), ("light", 190)):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(20):
            noise = chance.integers(-40, 40, (20, 24))
            Image.fromarray((level + noise).astype(np.uint8)).save(root / "photos" / name / f"{number}.png")
    (root / "striate_test_nets.py").write_text(MY_NETS)
    mark = f"open({str(root / 'mark')!r}, 'w').close()\n"
    (root / "striate_test_evil.py").write_text(mark)
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))
    for name in ("striate_test_nets", "striate_test_evil"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def runs(place: Path) -> Path:
    """A finished run of each kind of network, trained once for this file."""
    for kind, (model, option) in NETWORKS.items():
        name, value = option.split("=")
        settings = {"network": {"options": {name: float(value) if "." in value else int(value)}}}
        out = place / "runs" / kind
        run = api.train(
            place / "photos", model, out=out, epochs=1, size=32, batch_size=8, workers=0, settings=settings
        )
        assert run.model.classes == ("dark", "light")
    return place / "runs"


def maker(kind: str) -> tuple[str, ...]:
    return ("--model", OWN) if kind == "own" else ()


@pytest.mark.parametrize("kind", NETWORKS)
def test_eval_gives_the_scores_of_the_run(striate: Striate, runs: Path, kind: str) -> None:
    outcome = striate("eval", runs / kind, "--json", *maker(kind))
    assert outcome.code == 0, outcome.err
    recorded = json.loads((runs / kind / "metrics.json").read_text())
    assert json.loads(outcome.out)["metrics"] == recorded["metrics"]


def test_a_fresh_process_predicts_the_same(striate: Striate, runs: Path) -> None:
    here = {}
    for kind in NETWORKS:
        of_eight = ("--batch-size", "8")  # bits are the same at equal batch size
        outcome = striate("predict", runs / kind, runs.parent / "photos", "--json", *of_eight, *maker(kind))
        assert outcome.code == 0, outcome.err
        here[kind] = [json.loads(line)["probabilities"] for line in outcome.out.splitlines()]
        assert len(here[kind]) == 40
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from striate import api\n"
        f"makers = {{'own': {OWN!r}}}\n"
        "runs, photos = sys.argv[1] + '/runs/', sys.argv[1] + '/photos'\n"
        f"for kind in {list(NETWORKS)!r}:\n"
        "    found = api.predict(runs + kind, photos, batch_size=8, made_by=makers.get(kind))\n"
        "    print(json.dumps([result.to_dict()['probabilities'] for result in found]))\n"
    )
    fresh = subprocess.run([sys.executable, "-c", code, runs.parent], capture_output=True, text=True)
    assert fresh.returncode == 0, fresh.stderr
    there = dict(zip(NETWORKS, map(json.loads, fresh.stdout.splitlines()), strict=True))
    assert there == here


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_card_names_the_network_its_options_and_the_library(runs: Path, kind: str) -> None:
    card = read_card(runs / kind / "model.safetensors")
    model, option = NETWORKS[kind]
    name, value = option.split("=")
    assert (card.family, card.variant) == ("foreign", model)
    assert card.config["options"] == {name: float(value)}
    assert "name" not in card.config
    assert ({"timm", "torchvision"} & card.versions.keys()) == {kind} - {"own"}


def test_gray_pictures_come_as_three_channels(runs: Path) -> None:
    for kind in NETWORKS:
        assert read_card(runs / kind / "model.safetensors").preprocess.color == "rgb"


def test_a_default_run_folder_has_no_colon(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    plan = api.prepare(place / "photos", OWN)
    assert plan.folder == Path("runs/striate_test_nets_small-photos")


@pytest.mark.parametrize("verb", ["eval", "predict"])
def test_the_file_alone_does_not_make_code_run(striate: Striate, runs: Path, verb: str) -> None:
    outcome = striate(verb, runs / "own", *([runs.parent / "photos"] if verb == "predict" else []))
    assert outcome.code == 4
    assert f"made by the function {OWN}" in outcome.err
    assert f"--model {OWN}" in outcome.err


def test_a_maker_that_is_not_there_is_not_blamed_on_the_file(striate: Striate, runs: Path) -> None:
    outcome = striate("eval", runs / "own", "--model", "striate_test_nets:smal")
    assert outcome.code == 2
    assert "did you mean small?" in outcome.err


def test_a_maker_of_other_weights_is_refused(striate: Striate, runs: Path, place: Path) -> None:
    (place / "striate_test_other.py").write_text(MY_NETS.replace("Conv2d(3, width, 3", "Conv2d(3, width, 5"))
    outcome = striate("eval", runs / "own", "--model", "striate_test_other:small")
    assert outcome.code == 4
    assert "tensor body.0.weight: shape (6, 3, 3, 3) in the file, shape (6, 3, 5, 5)" in outcome.err


def test_another_network_than_the_files_is_refused(striate: Striate, runs: Path) -> None:
    outcome = striate("eval", runs / "timm", "--model", "timm:resnet18")
    assert outcome.code == 4
    assert "its network is timm:test_resnet, not timm:resnet18" in outcome.err


def forged(run: Path, out: Path, variant: str, **config: Any) -> Path:
    """A copy of a run's model file whose card says `variant`."""
    from dataclasses import replace

    from striate.modelfile import read_tensors, write_model

    file = run / "model.safetensors"
    card = read_card(file)
    forged = replace(card, variant=variant, config={**card.config, **config})
    write_model(out, read_tensors(file), forged)
    return out


@pytest.mark.parametrize(
    "variant",
    [EVIL, "os:system", "torchvision:../../striate_test_evil", "timm:hf_hub:some/one", "torchvision:", ":"],
)
@pytest.mark.parametrize("verb", ["eval", "predict", "summary"])
def test_a_hostile_card_runs_nothing(
    striate: Striate, runs: Path, tmp_path: Path, variant: str, verb: str
) -> None:
    file = forged(runs / "own", tmp_path / "hostile.safetensors", variant)
    outcome = striate(verb, file, *([] if verb == "summary" else [runs.parent / "photos"]))
    assert outcome.code == 4, outcome.err
    assert not (runs.parent / "mark").exists()
    assert "striate_test_evil" not in sys.modules


@pytest.mark.parametrize(
    "config",
    [
        {"options": {"weights": "DEFAULT"}},
        {"options": {"checkpoint_path": "/tmp/evil.pt"}},
        {"name": EVIL},
        {"options": {"norm_layer": EVIL}},
    ],
)
def test_hostile_settings_of_a_card_are_refused(
    striate: Striate, runs: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    kind = "timm" if "checkpoint_path" in str(config) else "torchvision"
    file = forged(runs / kind, tmp_path / "hostile.safetensors", NETWORKS[kind][0], **config)
    outcome = striate("eval", file, runs.parent / "photos")
    assert outcome.code == 4, outcome.err
    assert not (runs.parent / "mark").exists()


def test_a_settings_file_and_starting_weights_name_no_code(
    striate: Striate, runs: Path, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text(f'model = "{EVIL}"\n')
    by_file = striate("train", place / "photos", "--config", tmp_path / "run.toml", "--out", tmp_path / "a")
    weights = forged(runs / "own", tmp_path / "hostile.safetensors", EVIL)
    by_weights = striate(
        "train", place / "photos", "--set", f"init.weights={weights}", "--out", tmp_path / "b"
    )
    for outcome in (by_file, by_weights):
        assert outcome.code == 4, outcome.err
        assert "no file may say what code to run" in outcome.err
    assert not (place / "mark").exists()


def test_a_stopped_run_goes_on_only_when_its_function_is_named(
    striate: Striate, runs: Path, tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(runs / "own", stopped)
    (stopped / "metrics.json").unlink()
    refused = striate("train", "--resume", stopped)
    assert (refused.code, f"--model {OWN}" in refused.err) == (4, True)
    other = striate("train", "--resume", stopped, "--model", "resnet18")
    assert (other.code, "so --model cannot be given" in other.err) == (2, True)
    another = striate("train", "--resume", stopped, "--model", "torchvision:resnet18")
    assert (another.code, f"the network of this run is {OWN}" in another.err) == (2, True)
    assert striate("train", "--resume", stopped, "--model", OWN).code == 0
    before, after = (json.loads((run / "metrics.json").read_text()) for run in (runs / "own", stopped))
    assert before["metrics"] == after["metrics"]


def test_summary_shows_a_foreign_network_without_weights(striate: Striate) -> None:
    outcome = striate("summary", "torchvision:resnet18", "--json")
    assert outcome.code == 0, outcome.err
    assert "11689512" in outcome.out


def test_the_networks_of_a_library_are_listed_by_its_prefix(striate: Striate) -> None:
    rows = [json.loads(line) for line in striate("models", "torchvision:resnet", "--json").out.splitlines()]
    assert [row["name"] for row in rows] == [f"torchvision:resnet{n}" for n in (101, 152, 18, 34, 50)]
    assert rows[2]["input"] == [224, 224]
    table = striate("models", "timm:test_")
    assert (table.code, "timm:test_resnet" in table.out) == (0, True)
    unknown = striate("models", "tim:")
    assert (unknown.code, "timm:" in unknown.err) == (2, True)
