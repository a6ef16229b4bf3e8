"""What the small networks share: stages of convolutions, as many of which pool as the input's size allows."""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.models.network import Feature, NetworkConfig

__all__ = ["Count", "Stages", "StagesConfig", "stage_info"]

SMALLEST_MAP = 2  # pixels a side: a pool that would leave less is left out

Count = Annotated[int, Meta(ge=1)]


class StagesConfig(NetworkConfig, frozen=True, kw_only=True):
    """Settings of a network in stages."""

    classes: tuple[str, ...] | int = 10
    widths: Annotated[tuple[Count, ...], Meta(min_length=1)] = (32, 64, 128)  # maps of each stage
    convolutions: tuple[Count, ...] = (1, 1, 1)  # in each stage

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) != len(self.convolutions):
            raise UsageError(
                "widths and convolutions",
                f"{len(self.widths)} widths and {len(self.convolutions)} numbers of convolutions",
                "give one of each for every stage",
            )


def stage_info(side: int, config: StagesConfig) -> tuple[Feature, ...]:
    """The stages over maps of `side` pixels: each halves them while SMALLEST_MAP pixels a side remain."""
    stride, found = 1, []
    for number, width in enumerate(config.widths, start=1):
        if side // (2 * stride) >= SMALLEST_MAP:
            stride *= 2
        found.append(Feature(f"stage{number}", width, stride))
    return tuple(found)


class Stages(nn.ModuleDict):
    """The stages of `info` by name, each made by `make(channels, width, convolutions, pool)`."""

    def __init__(
        self,
        channels: int,
        config: StagesConfig,
        info: tuple[Feature, ...],
        make: Callable[[int, int, int, bool], nn.Module],
    ) -> None:
        super().__init__()
        stride = 1
        for (name, width, next_stride), convolutions in zip(info, config.convolutions, strict=True):
            self[name] = make(channels, width, convolutions, next_stride > stride)
            channels, stride = width, next_stride

    def maps(self, values: Tensor) -> dict[str, Tensor]:
        """What comes out of each stage, by name, in order."""
        found = {}
        for name, stage in self.items():
            found[name] = values = stage(values)
        return found

    def forward(self, values: Tensor) -> Tensor:
        """What comes out of the last stage: (B, width, H / stride, W / stride)."""
        for stage in self.values():
            values = stage(values)
        return values
