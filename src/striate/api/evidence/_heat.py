"""Where a classifier looked for the class that it named, drawn over the picture at its input."""

from collections.abc import Iterator

import numpy as np

from striate.api.evidence._overlays import as_large, hex_of
from striate.api.thumbnails import thumbnail
from striate.data.preprocess import apply
from striate.errors import UsageError
from striate.reports.evidence import Shown
from striate.runtime.predictor import Predictor
from striate.structures import Image

__all__ = ["Heat"]

_LEAST, _MOST = 0.2, 0.7  # share of the colours where the heat is 0 and 1


class Heat:
    """Grad-CAM of one predictor; `refusal` says why where its network has none."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.layer = ""  # whose maps were taken, once a picture was looked at
        self.refusal = "" if hasattr(predictor.engine, "network") else "an export has no gradients"

    def of(self, image: Image, label: int) -> Shown | None:
        """The heat for class `label` over `image` as the network is given it; None where there is none."""
        if self.refusal:
            return None
        import torch

        from striate.explain.colours import Scale
        from striate.explain.gradcam import gradcam
        from striate.runtime.pytorch import PyTorchEngine

        engine = self._predictor.engine
        assert isinstance(engine, PyTorchEngine)
        prepared, _ = apply(self._predictor.preprocess, image)
        pixels = torch.from_numpy(np.ascontiguousarray(prepared.transpose(2, 0, 1))).to(engine.device)
        try:
            found = gradcam(engine.network, pixels[None], label)
        except UsageError as error:
            self.refusal = error.what
            return None
        self.layer = found.layer
        opacity = (_LEAST + (_MOST - _LEAST) * found.heat)[:, :, None]
        gray = found.picture.mean(2, keepdims=True)
        mixed = np.rint((1 - opacity) * gray + opacity * Scale(0.0, 1.0)(found.heat)).astype(np.uint8)
        name = self._predictor.classes[label]
        return thumbnail(as_large(mixed), f"where it looked for {name}")

    def legend(self) -> Iterator[tuple[str, str]]:
        """What its colours mean."""
        from striate.explain.colours import Scale

        for share, name in ((0.0, "0"), (0.5, "0.5"), (1.0, "1, where it looked most")):
            yield name, hex_of(Scale(0.0, 1.0)(np.array([share]))[0].tolist())
