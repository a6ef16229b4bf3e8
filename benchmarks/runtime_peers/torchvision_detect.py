"""The boxes on every photo of a folder, by one of torchvision's detectors as its documentation uses it.

Usage: python torchvision_detect.py MODEL WEIGHTS CLASSES PHOTOS OUT [--score S] [--workers N] [--batch N]
       [--channels-last]
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.models import get_model
from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights


class Photos(Dataset[tuple[str, torch.Tensor]]):
    """Every photo of a folder with its name, transformed."""

    def __init__(self, folder: Path, transform: Any) -> None:
        self.paths = sorted(folder.iterdir())
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, torch.Tensor]:
        path = self.paths[index]
        return path.name, self.transform(Image.open(path).convert("RGB"))


def unzipped(batch: list[tuple[str, torch.Tensor]]) -> tuple[list[str], list[torch.Tensor]]:
    """Photos of several sizes are a list, as the detector takes them."""
    return [name for name, _ in batch], [image for _, image in batch]


def main() -> None:
    """Predict and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("weights", type=Path)
    parser.add_argument("classes", type=int, help="with the background")
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--score", type=float, default=0.5)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()

    model: Any = get_model(
        options.model, num_classes=options.classes, weights_backbone=None, score_thresh=options.score
    )
    model.load_state_dict(torch.load(options.weights))
    model.eval().to(memory_format=torch.channels_last if options.channels_last else torch.contiguous_format)
    transform = SSDLite320_MobileNet_V3_Large_Weights.DEFAULT.transforms()
    loader = DataLoader(
        Photos(options.photos, transform), options.batch, num_workers=options.workers, collate_fn=unzipped
    )
    with options.out.open("w", newline="") as file, torch.inference_mode():
        rows = csv.writer(file)
        rows.writerow(("file", "class", "score", "x0", "y0", "x1", "y1"))
        for names, images in loader:
            for name, found in zip(names, model(images), strict=True):
                for box, label, score in zip(
                    found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
                ):
                    rows.writerow((name, label - 1, score, *box))  # 0 is the background


if __name__ == "__main__":
    main()
