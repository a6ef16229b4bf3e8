"""Run by torchrun in two processes, by `test_processes.py`: what they find together goes to a JSON file.

python -m torch.distributed.run --standalone --nproc_per_node=2 together.py JOB OUT
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import striate
from striate import api, tasks
from striate.api.shorthands import shorthand_layers
from striate.api.training import TrainingPlan
from striate.config import Layer
from striate.data.loader import Shard
from striate.layers.sync_batch_norm import synchronised
from striate.tasks import classification
from striate.training.evaluate import Place, evaluate
from striate.training.interruption import Stop
from striate.training.processes import Team, join, team

RUN = {"precision": "fp32", "deterministic": True, "epochs": 1}
SGD = {"optimiser": "sgd", "threads": 1}


def settings(network: dict[str, Any] | None = None, rate: float = 0.01, **training: Any) -> dict[str, Any]:
    return {"network": network or {}, "training": {**SGD, "learning_rate": rate, **training}}


RUNS: dict[str, dict[str, Any]] = {
    "simple_cnn": {"model": "simple_cnn", "settings": settings({"dropout": 0.0}, sync_bn=True)},
    "vgg11": {
        "model": "vgg11",
        "size": 32,
        "settings": settings({"width": 8, "hidden": 64, "grid": 1, "dropout": 0.0}),
    },
    "tutorial_cnn": {"model": "tutorial_cnn", "settings": settings()},
    "resnet20_cifar": {
        "model": "resnet20_cifar",
        "size": 16,
        "batch_size": 64,
        "settings": settings(sync_bn=True),
    },
    # A batch of 239 leaves three pictures for the last: too few to share out.
    "short tail": {"model": "tutorial_cnn", "batch_size": 239, "settings": settings()},
    "accumulated": {
        "model": "tutorial_cnn",
        "settings": settings(accumulate=3, clip_norm=0.5, ema=0.9),
    },
    # What a zoomed out picture does not fill counts nothing, so that the processes' shares are uneven.
    "masks": {
        "data": "shapes_masks",
        "model": "unet_same",
        "size": 32,
        "batch_size": 64,
        "settings": {
            **settings({"width": 4, "depth": 2, "norm": "none", "dropout": 0.0}),
            "augment": {"zoom": [0.5, 1.5], "flip": 0.5},
        },
    },
}

RUNS["boxes"] = {
    "data": "shapes_boxes",
    "model": "yolo_v2_mobilenet_v2",
    "size": 64,
    "batch_size": 64,
    "settings": {
        **settings({"backbone_settings": {"width": 0.25}, "head": [16]}, 1e-3, sync_bn=True),
        "augment": {"jitter": 0.2, "flip": 0.5, "sizes": None},
    },
}
"""A loss that is a mean over pictures, so that shares of a batch add up."""

DROPOUT = {
    "model": "simple_cnn",
    "settings": settings(rate=0.05, checkpoint_minutes=1e-9, ema=0.9, sync_bn=True),
    "epochs": 2,
}
"""With everything that has a state: what is killed."""


def run_in_double(out: Path, name: str) -> None:
    """The run of that name. In single precision a rounding may choose another maximum of a pool."""
    given = {"data": "digits", **RUN, **RUNS[name]}
    data, model, chosen = (given.pop(key) for key in ("data", "model", "settings"))
    plan = api.prepare(
        data, model, out=out / name, layers=[Layer("here", chosen), *shorthand_layers(given, "prepare")]
    )
    plan.network.double()
    for _ in plan.events():
        pass


def run(out: Path, name: str, **changes: Any) -> None:
    striate.train("digits", out=out / name, **{**RUN, **DROPOUT, **changes})


def killed(out: Path) -> None:
    """Train until both processes are killed in the middle of an epoch."""

    def kill(event: Any) -> None:
        if getattr(event, "step", 0) == 17 + team().rank:
            os.kill(os.getpid(), signal.SIGKILL)

    run(out, "killed", on_event=kill)


def merged(plan: TrainingPlan) -> dict[str, Any]:
    """The scores of two processes, and those of one, on the same weights."""
    val, device, task = plan.loaders.val, torch.device("cpu"), classification
    alone = type(val)(val.source, val.indices, val.targets, val.batch_size, 0, Shard())
    both = [
        evaluate(plan.network, task, loader, Place(device, team=members), Stop(), "here")
        for loader, members in ((val, team()), (alone, Team()))
    ]
    return {"scores": [(found.metrics, found.loss) for found in both if found is not None]}


def normalised() -> dict[str, float]:
    """How far batch norm over two processes, of 5 and 3 pictures, is from one process's."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(8, 4, 3, 5, generator=generator, dtype=torch.float64) * 3 + 100
    weights = torch.randn(8, 4, 3, 5, generator=generator, dtype=torch.float64)
    rows = slice(0, 5) if team().is_first else slice(5, 8)
    one, two = (nn.BatchNorm2d(4).double() for _ in range(2))
    with torch.no_grad():
        for norm in (one, two):
            norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))
    expected, own = passed(one, whole, weights), passed(synchronised(two), whole[rows], weights[rows])
    pairs = {
        "output": (expected[0][rows], own[0]),
        "gradient": (expected[1][rows], own[1]),
        "weight": (one.weight.grad, team().total(two.weight.grad)),  # type: ignore[arg-type]
        "bias": (one.bias.grad, team().total(two.bias.grad)),  # type: ignore[arg-type]
        "mean": (one.running_mean, two.running_mean),
        "variance": (one.running_var, two.running_var),
    }
    return {name: float((a - b).abs().max()) for name, (a, b) in pairs.items()}  # type: ignore[operator]


def passed(norm: nn.Module, maps: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    maps = maps.clone().requires_grad_()
    output = norm(maps)
    (output * weights).sum().backward()
    assert maps.grad is not None
    return output.detach(), maps.grad


def main(job: str, out: Path) -> None:
    join()
    if job == "killed":
        killed(out)
    elif job == "resumed":
        striate.train(resume=out / "killed")
        run(out, "undisturbed")
    else:
        for name in RUNS:
            run_in_double(out, name)
        plan = api.prepare("digits", "simple_cnn", out=out / "planned")
        assert plan.task is tasks.classification
        found = team().gather({"norm": normalised(), **merged(plan)})
        if team().is_first:
            (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
