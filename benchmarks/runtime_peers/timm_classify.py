"""What is on every photo of a folder, by timm as its documentation uses it.

Usage: python timm_classify.py MODEL WEIGHTS PHOTOS OUT [--workers N] [--batch N]
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import timm
import timm.data
import torch

data: Any = timm.data  # which does not declare what it exports


def main() -> None:
    """Predict and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("weights", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()

    model: Any = timm.create_model(options.model)
    model.load_state_dict(torch.load(options.weights))
    model.eval()
    # The photos of MobileNet v2 are enlarged bicubically there, of the others as here.
    config = data.resolve_data_config({"interpolation": "bilinear"}, model=model)
    photos = data.create_dataset("", root=str(options.photos))
    loader = data.create_loader(
        photos,
        batch_size=options.batch,
        use_prefetcher=False,
        num_workers=options.workers,
        input_size=config["input_size"],
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=config["crop_pct"],
    )
    names = iter(photos.filenames(basename=True))
    with options.out.open("w", newline="") as file, torch.inference_mode():
        rows = csv.writer(file)
        rows.writerow(("file", "label", "confidence"))
        for images, _ in loader:
            confidences, labels = model(images).softmax(1).max(1)
            rows.writerows(
                (next(names), label, confidence)
                for label, confidence in zip(labels.tolist(), confidences.tolist(), strict=True)
            )


if __name__ == "__main__":
    main()
