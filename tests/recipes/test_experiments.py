"""recipes/experiments: networks that differ in what is compared, verdicts by rule, a page of JSON alone."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

import striate
from striate import api
from striate.config import Layer
from striate.data.augment import AugmentConfig

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes" / "experiments"
SHARED = ("experiment", "page", "picture")
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in SHARED)

# Arms that must have the same number of weights; alone in its group where it may have its own.
ALIKE = {
    "activation_and_depth": [
        ["sigmoid, 2 layers", "ReLU, 2 layers"],
        ["sigmoid, 4 layers", "ReLU, 4 layers"],
        ["sigmoid, 8 layers", "ReLU, 8 layers"],
    ],
    "batch_norm": [
        ["without, rate 0.02", "without, rate 0.2"],
        ["batch norm, rate 0.02", "batch norm, rate 0.2"],
    ],
    "colour": [["gray"], ["RGB", "HSV"]],
    "dilation": [["neither", "max pooling", "dilation 1, 3, 6"]],
    "kernel_and_stride": [[f"{k}x{k}, stride {stride}" for stride in (1, 2, 3)] for k in (3, 5, 7)],
    "mlp_and_cnn": [["mlp"], ["simple_cnn"]],
    "norm_and_activation": [["before the ReLU", "behind the ReLU"], ["none"]],
    "padding": [["zeros around (same)", "no padding (valid)"]],
    "pooling": [
        ["max pooling", "average pooling", "stride 2 in the convolution"],
        ["another convolution, stride 2"],
    ],
    "residual": [["plain20_cifar", "resnet20_cifar"], ["plain56_cifar", "resnet56_cifar"]],
}

# What differs between the arms, of all the settings of a run.
DIFFERS = {
    "batch_norm": {"network.options.normalises", "training.learning_rate"},
    "colour": {"network.preprocess.color", "network.preprocess.mean", "network.preprocess.std"},
    "mlp_and_cnn": {"network.widths", "network.dropout"},
    "residual": set(),
}


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A script finds what lies beside it; what was imported so is forgotten afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in (*SHARED, *NAMES):
            del sys.modules[name]


@pytest.fixture
def experiment() -> ModuleType:
    return import_module("experiment")


@pytest.fixture
def page() -> ModuleType:
    import_module("experiment")  # which knows where the benchmarks are
    return import_module("page")


def of(name: str) -> Any:
    return import_module(name).EXPERIMENT


def fresh(name: str, arm_name: str) -> Any:
    """The network of an arm with its starting weights."""
    shared, own = import_module("experiment"), of(name)
    arm = next(arm for arm in own.arms if arm.name == arm_name)
    return shared.start(own, arm, 10, 0)


def state(network: Any) -> Any:
    return SimpleNamespace(network=network, fresh=network)


def flat(values: Any, above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


@pytest.mark.parametrize(
    ("more", "less", "verdict"),
    [
        ([3, 4, 5], [0, 1, 2], "held"),
        ([0, 1, 2], [3, 4, 5], "the other way round"),
        ([2, 4, 5], [0, 1, 3], "not seen"),
        ([2, 3, 4], [0, 1, 2], "not seen"),  # ranges that touch
        ([7, 7, 7], [7, 7, 7], "not seen"),
        ([9], [1, 2, 3], "not measured"),  # one seed has no range
        ([], [1, 2, 3], "not measured"),
    ],
)
def test_the_verdict_follows_from_the_ranges(
    page: ModuleType, more: list[float], less: list[float], verdict: str
) -> None:
    assert page.verdict_of(more, less) == verdict


def test_there_are_the_ten_experiments() -> None:
    assert set(NAMES) == set(ALIKE)


@pytest.mark.parametrize("name", NAMES)
def test_what_an_experiment_claims_is_measured(name: str) -> None:
    own = of(name)
    arms, measures = {arm.name for arm in own.arms}, {measure.name for measure in own.all_measures}
    assert own.name == name
    assert len(arms) == len(own.arms) >= 2
    assert f"\nUsage: python recipes/experiments/{name}.py DATA\n" in own.about
    assert all({claim.more, claim.less} <= arms and claim.measure in measures for claim in own.claims)
    assert all(claim.more != claim.less for claim in own.claims)
    assert all(shown in measures for panel in own.shown for shown in panel)


@pytest.mark.parametrize("name", NAMES)
def test_arms_have_the_weights_that_they_should_share(name: str) -> None:
    assert sorted(arm for group in ALIKE[name] for arm in group) == sorted(arm.name for arm in of(name).arms)
    counts = []
    for group in ALIKE[name]:
        numbers = {sum(each.numel() for each in fresh(name, arm).parameters()) for arm in group}
        assert len(numbers) == 1, group
        counts += numbers
    assert len(set(counts)) == len(counts)


@pytest.mark.parametrize("name", NAMES)
def test_arms_differ_in_nothing_but_what_is_compared(experiment: ModuleType, name: str) -> None:
    own = of(name)
    every = [flat(experiment.settings_of(own, arm)) for arm in own.arms]
    paths = {path for settings in every for path in settings}
    differing = {path for path in paths if len({repr(settings.get(path)) for settings in every}) > 1}
    expected = DIFFERS.get(name)
    if expected is None:
        assert differing
        assert all(path.startswith("network.options.") for path in differing)
    else:
        assert differing == expected
    assert len({arm.network for arm in own.arms}) == (
        len(own.arms) if name in ("residual", "mlp_and_cnn") else 1
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_network_classifies_pictures_of_its_size(name: str) -> None:
    for arm in of(name).arms:
        network = fresh(name, arm.name).eval()
        spec = network.preprocess
        images = torch.randint(256, (2, spec.channels, *spec.size), dtype=torch.uint8)
        with torch.no_grad():
            assert network.dense(images)["logits"].shape == (2, 10), arm.name


def test_the_fields_that_are_called_equal_are_equal() -> None:
    dilation = import_module("dilation")
    # 3x3 three times: 3, 5, 7. With pools of 3, stride 2: 3, 5, 9, 13, 21. With dilations: 3, 3 + 6, 9 + 12.
    fields = {arm.name: dilation.field(state(fresh("dilation", arm.name))) for arm in of("dilation").arms}
    assert fields == {"neither": 7, "max pooling": 21, "dilation 1, 3, 6": 21}
    sides = [dilation.side(state(fresh("dilation", arm.name))) for arm in of("dilation").arms]
    assert sides == [28, 7, 28]


def test_the_corner_has_the_paths_that_one_counts() -> None:
    padding = import_module("padding")
    same, valid = (state(fresh("padding", arm.name)) for arm in of("padding").arms)
    # Along one side, from the middle: 3 x 3 / 2 x 3 x 3 = 40.5. From the corner without padding: 1/2. With it
    # 1 1 -> 2 2 1 -> 2 1/2 (mean of two) -> 5/2 5/2 1/2 -> 5 11/2 3 1/2, which is 14.
    assert padding.corner_say(valid) == pytest.approx((0.5 / 40.5) ** 2)
    assert padding.corner_say(same) == pytest.approx((14 / 40.5) ** 2)
    assert [padding.side(each) for each in (same, valid)] == [20, 14]


def test_a_relu_is_dead_that_is_0_for_every_picture() -> None:
    module = import_module("norm_and_activation")
    network = fresh("norm_and_activation", "none").eval()
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    for convolution in convolutions:
        nn.init.zeros_(convolution.weight)
        nn.init.ones_(convolution.bias)
        convolution.bias.data[:4] = -1  # 4 of 16, 16, 32 and 32 maps
    # The fifth map of the first lives at one pixel of the first picture alone.
    convolutions[0].weight.data[4, 0, 1, 1] = 1
    convolutions[0].bias.data[4] = 0
    pictures = torch.zeros(600, 1, 28, 28, dtype=torch.uint8)
    pictures[0, 0, 3, 3] = 255
    trained = SimpleNamespace(network=network, test=SimpleNamespace(images=pictures))
    assert module.dead_share(trained) == pytest.approx(16 / 96)


def test_a_picture_is_moved_four_ways(experiment: ModuleType) -> None:
    class Corner:
        """Says 1 where the pixel at (1, 1) is lit, or that to the right of it."""

        def dense(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            lit = images[:, 0, 1, 1:3].sum(1).float()
            return {"logits": torch.stack((torch.full_like(lit, 0.5), lit), 1)}

    images = torch.zeros(3, 1, 5, 5, dtype=torch.uint8)
    images[:, 0, 1, 1] = 1
    test = experiment.Part(images, torch.ones(3, dtype=torch.int64))
    trained = SimpleNamespace(network=Corner(), test=test)
    assert experiment.accuracy_moved(trained, 0) == 1
    assert experiment.accuracy_moved(trained, 1) == 0.25  # to the right alone


def test_less_of_the_gradient_reaches_the_first_of_eight_sigmoid_layers() -> None:
    module = import_module("activation_and_depth")
    chance = torch.Generator().manual_seed(0)
    train = SimpleNamespace(
        images=torch.randint(256, (50, 1, 28, 28), dtype=torch.uint8, generator=chance),
        labels=torch.randint(10, (50,), generator=chance),
    )
    flows = [
        module.first_over_last(SimpleNamespace(fresh=fresh("activation_and_depth", name), train=train))
        for name in ("sigmoid, 8 layers", "ReLU, 8 layers")
    ]
    assert 0 < flows[0] < 0.1 * flows[1]


def test_a_few_test_pictures_are_taken_evenly_by_class(
    experiment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "TESTED", 50)
    whole = experiment.parted("digits")
    few = experiment.with_few_tests(whole)
    counts = Counter(item.label for item in few.items if item.part == "test")
    assert counts == dict.fromkeys(range(10), 5)
    assert len(few.indices("train")) == len(whole.indices("train"))


def test_a_fresh_network_is_the_one_that_training_begins_with(experiment: ModuleType, tmp_path: Path) -> None:
    own = of("norm_and_activation")
    settings = experiment.settings_of(own, own.arms[1])
    settings["training"] |= {"seed": 3}
    plan = api.prepare("digits", own.arms[1].network, out=tmp_path, layers=[Layer("test", settings)])
    assert plan.config.augment == AugmentConfig()  # no recipe brings in its own
    expected = plan.network.state_dict()
    found = experiment.start(own, own.arms[1], 10, 3).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> None:
    place = ("--out", str(folder / "results" / "pooling.json"), "--page", str(folder / "docs" / "claims.md"))
    monkeypatch.setattr(sys, "argv", ["pooling.py", *options, *place])


def test_an_experiment_trains_what_is_missing_and_writes_its_page(
    experiment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooling = of("pooling")
    few = replace(pooling, arms=pooling.arms[:2], claims=pooling.claims[:1])
    runs: list[api.Run] = []
    train = striate.train
    monkeypatch.setattr(
        striate, "train", lambda *given, **named: runs.append(train(*given, **named)) or runs[-1]
    )
    monkeypatch.setattr(experiment, "TESTED", 60)
    monkeypatch.setattr(experiment, "ROUNDS", 2)
    budget = ("digits", "--epochs", "1", "--pictures", "100")
    file = tmp_path / "results" / "pooling.json"
    before: list[Any] = []
    for seeds in (("0",), ("0", "1")):
        command(monkeypatch, tmp_path, *budget, "--seeds", *seeds)
        experiment.main(few)
        rows = json.loads(file.read_text("utf-8"))["rows"]
        assert [(row["arm"], row["seed"]) for row in rows] == [
            (arm.name, int(seed)) for seed in seeds for arm in few.arms
        ]
        assert rows[: len(before)] == before  # not trained again
        before = rows
    assert len(runs) == len(rows)
    for row, run in zip(rows, runs, strict=True):
        figures = row["measures"]
        assert figures["test"] == pytest.approx(run.metrics["top1"], abs=1e-6)
        assert figures["gap"] == pytest.approx(figures["train"] - figures["test"], abs=2e-6)
        assert figures["parameters"] == 23_946
        assert figures["milliseconds"] > 0
        first = next(each for each in rows if (each["arm"], each["seed"]) == (few.arms[0].name, row["seed"]))
        ratio = figures["milliseconds"] / first["measures"]["milliseconds"]
        assert figures["time"] == pytest.approx(ratio, abs=2e-6)
    text = (tmp_path / "docs" / "claims.md").read_text("utf-8")
    assert "| 2 | `python recipes/experiments/pooling.py DATA` |" in text
    assert (tmp_path / "docs" / "claims" / "pooling.svg").exists()
    command(monkeypatch, tmp_path, "digits", "--epochs", "2", "--pictures", "100")
    with pytest.raises(SystemExit, match=r"its rows have .*--again"):
        experiment.main(few)


FOUND: dict[str, Any] = {
    "what": "Large against small & <odd>.",
    "name": "size",
    "how": ["A paragraph."],
    "arm_names": ["large", "small"],
    "measures": [
        {"name": "train", "title": "train accuracy", "form": "percent", "is_log": False},
        {"name": "test", "title": "test accuracy", "form": "percent", "is_log": False},
        {"name": "flow", "title": "flow", "form": "number", "is_log": True},
    ],
    "claims": [
        {"text": "large is better", "measure": "test", "more": "large", "less": "small"},
        {"text": "large lets more flow", "measure": "flow", "more": "large", "less": "small"},
    ],
    "shown": [["train", "test"], ["flow"]],
    "settings": {"data": "toys", "pictures": 1200, "epochs": 4, "tested": 500},
    "machine": {"cpu": "a machine", "cores": 2, "python": "3", "versions": {"torch": "2"}},
    "rows": [
        {
            "arm": arm,
            "seed": seed,
            "device": "1 CPU thread",
            "seconds": 30,
            "measures": dict(zip(("train", "test", "flow"), own, strict=True)),
        }
        for arm, every in {
            "large": [(0.9, 0.8, 0.02), (0.92, 0.84, 0.03), (0.91, 0.82, 0.5)],
            "small": [(0.7, 0.7, 0.1), (0.72, 0.75, 0.2), (0.71, 0.71, 0.3)],
        }.items()
        for seed, own in enumerate(every)
    ],
}


def written(page: ModuleType, folder: Path, found: dict[str, Any]) -> tuple[str, str]:
    """The page and the picture of one result file."""
    (folder / "results").mkdir(exist_ok=True)
    (folder / "results" / "size.json").write_text(json.dumps(found))
    page.write_page(folder / "results", folder / "page.md")
    return (folder / "page.md").read_text("utf-8"), (folder / "page" / "size.svg").read_text("utf-8")


def test_the_page_is_made_of_the_json_alone(page: ModuleType, tmp_path: Path) -> None:
    text, _ = written(page, tmp_path, FOUND)
    assert "- **held**: large is better: 82.0 % (80.0–84.0) against 71.0 % (70.0–75.0)" in text
    assert "- **not seen**: large lets more flow: 0.03 (0.02–0.5) against 0.2 (0.1–0.3)" in text
    assert "<br>**held**: large is better" in text
    assert "| 1 of 2 | 3 | `python recipes/experiments/size.py DATA` |" in text
    assert "1,200 training pictures seen 4 times, at most 500 test pictures; 3.0 minutes of training" in text
    assert "(#large-against-small--odd)" in text
    assert "in 10% of the cases" in text  # 2 of the 20 orders of three and three


def test_an_arm_without_rows_is_told_of(page: ModuleType, tmp_path: Path) -> None:
    rows = [row for row in FOUND["rows"] if row["arm"] == "large"]
    text, drawn = written(page, tmp_path, {**FOUND, "rows": rows})
    assert "- **not measured**: large is better: 82.0 % (80.0–84.0) against no figure" in text
    assert len(marks(drawn)) == 3 * 3 + 3


def marks(drawn: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(drawn).findall("{http://www.w3.org/2000/svg}circle")


def test_the_picture_has_a_dot_for_every_seed_where_its_value_is(page: ModuleType, tmp_path: Path) -> None:
    _, drawn = written(page, tmp_path, FOUND)
    circles = marks(drawn)
    assert len(circles) == 2 * 3 * 3 + 3  # and one in front of each name
    rings = [circle for circle in circles if circle.get("class") == "ring"]
    places = [float(ring.get("cx", "")) for ring in rings[1:]]
    assert sorted(range(6), key=places.__getitem__) == [3, 5, 4, 0, 2, 1]  # .70 .71 .72 .90 .91 .92
    assert ElementTree.fromstring(drawn)[0].text == "Large against small & <odd>"
    assert "prefers-color-scheme: dark" in drawn


def test_the_page_in_the_docs_is_that_of_the_results(page: ModuleType, tmp_path: Path) -> None:
    page.write_page(FOLDER / "results", tmp_path / "experiments.md")
    assert (tmp_path / "experiments.md").read_text("utf-8") == (ROOT / "docs" / "experiments.md").read_text(
        "utf-8"
    )
    made = sorted(path.name for path in (tmp_path / "experiments").iterdir())
    assert made == [f"{name}.svg" for name in NAMES]
    for name in made:
        there = (ROOT / "docs" / "experiments" / name).read_text("utf-8")
        assert (tmp_path / "experiments" / name).read_text("utf-8") == there
