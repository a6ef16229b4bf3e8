"""COCO's twelve numbers, of all classes and of each, as its own evaluation gives them to the last digit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import EnvironmentProblem
from striate.metrics.boxes import Comparison

__all__ = ["CocoScores", "coco_scores"]

_NAMES = (
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CocoScores:
    """Average precision and recall, 0..1; what has no object is left out, or NaN."""

    values: dict[str, float]
    ap: NDArray[np.float64]  # (K,) of each class, mean over the IoUs 0.5, 0.55, ..., 0.95
    ap50: NDArray[np.float64]  # (K,) of each class at an IoU of 0.5


def coco_scores(pictures: Sequence[Comparison], classes: int) -> CocoScores:
    """The scores of `pictures`, by key in that order. Difficult objects count; crowds as COCO has them.

    small, medium and large are boxes of up to 32², up to 96² and more pixels: COCO itself takes the area
    of an object's outline, where it has one. Raises EnvironmentProblem where hotcoco is missing.
    """
    try:
        from hotcoco import COCO, COCOeval
    except ModuleNotFoundError:
        raise EnvironmentProblem(
            "hotcoco", "it is not installed, and it measures detection", "pip install 'striate[train]'"
        ) from None
    truths = COCO(_as_coco(pictures, classes))
    evaluation = COCOeval(truths, truths.load_res(_rows(pictures)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()  # fills `stats`; `summarize` would print
    values = zip(_NAMES, np.asarray(evaluation.stats).tolist(), strict=True)
    measured: Any = evaluation.eval
    # (10 IoUs, 101 recalls, K classes, 4 sizes, 3 limits); -1 where a class has no object.
    precision = np.asarray(measured["precision"])[:, :, :, 0, 2]
    precision = np.where(precision < 0, np.nan, precision)
    return CocoScores(
        {name: value for name, value in values if value >= 0},
        precision.mean(axis=(0, 1)),
        precision[0].mean(axis=0),
    )


def _as_coco(pictures: Sequence[Comparison], classes: int) -> dict[str, list[dict[str, Any]]]:
    """The truths as a COCO file holds them; all ids count from 1."""
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, 1):
        truths = picture.truths
        corners = truths.boxes.astype(np.float64)
        sides = corners[:, 2:] - corners[:, :2]
        boxes = np.concatenate((corners[:, :2], sides), 1).tolist()
        rows = zip(
            boxes, sides.prod(axis=1).tolist(), truths.labels.tolist(), truths.crowd.tolist(), strict=True
        )
        annotations += [
            {
                "id": len(annotations) + place,
                "image_id": number,
                "category_id": label + 1,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for place, (box, area, label, crowd) in enumerate(rows, 1)
        ]
    return {
        "images": [{"id": number, "width": 0, "height": 0} for number in range(1, len(pictures) + 1)],
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": str(label)} for label in range(classes)],
    }


def _rows(pictures: Sequence[Comparison]) -> NDArray[np.float64]:
    """What was found, (N, 7): picture's id, x, y, width, height, score, class's id."""
    parts = [np.empty((0, 7))]
    for number, picture in enumerate(pictures, 1):
        corners = picture.boxes.astype(np.float64)
        columns = (
            np.full(len(corners), number),
            corners[:, :2],
            corners[:, 2:] - corners[:, :2],
            picture.scores,
            picture.labels + 1,
        )
        parts.append(np.column_stack(columns))
    return np.concatenate(parts)
