"""What is on every photo of a folder, by torchvision as its documentation uses it.

Usage: python torchvision_classify.py MODEL WEIGHTS PHOTOS OUT [--workers N] [--batch N] [--channels-last]
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.models import get_model, get_model_weights


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


def main() -> None:
    """Predict and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("weights", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    layout = torch.channels_last if options.channels_last else torch.contiguous_format

    model: Any = get_model(options.model)
    model.load_state_dict(torch.load(options.weights))
    model.eval().to(memory_format=layout)
    transform = get_model_weights(options.model)["IMAGENET1K_V1"].transforms()
    loader = DataLoader(Photos(options.photos, transform), options.batch, num_workers=options.workers)
    with options.out.open("w", newline="") as file, torch.inference_mode():
        rows = csv.writer(file)
        rows.writerow(("file", "label", "confidence"))
        for names, images in loader:
            probabilities = model(images.contiguous(memory_format=layout)).softmax(1)
            confidences, labels = probabilities.max(1)
            rows.writerows(zip(names, labels.tolist(), confidences.tolist(), strict=True))


if __name__ == "__main__":
    main()
