"""What is on every photo of a folder, by a loop over Pillow, numpy and ONNX Runtime.

Usage: python onnxruntime_classify.py MODEL.onnx PHOTOS OUT [--batch N]
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def prepared(path: Path) -> NDArray[np.float32]:
    """The photo (3, 224, 224): its shorter side at 256, the centre of it, normalised."""
    image = Image.open(path).convert("RGB")
    shorter = min(image.size)
    size = 256 * image.width // shorter, 256 * image.height // shorter
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)


def main() -> None:
    """Predict and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()

    session = onnxruntime.InferenceSession(options.model)
    name = session.get_inputs()[0].name
    paths = sorted(options.photos.iterdir())
    with options.out.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label", "confidence"))
        for start in range(0, len(paths), options.batch):
            batch = paths[start : start + options.batch]
            (logits,) = session.run(None, {name: np.stack([prepared(path) for path in batch])})
            exponents = np.exp(logits - logits.max(1, keepdims=True))
            probabilities = exponents / exponents.sum(1, keepdims=True)
            for path, row in zip(batch, probabilities, strict=True):
                rows.writerow((path.name, row.argmax(), row.max()))


if __name__ == "__main__":
    main()
