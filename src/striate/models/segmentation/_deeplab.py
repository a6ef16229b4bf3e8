"""What DeepLab v3 and v3+ share: an encoder with dilated last stages, and rates that follow its stride."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.layers.aspp import ASPP
from striate.layers.initialise import he_normal
from striate.models.backbone import backbone, with_prefix
from striate.models.network import Classifier, SegmenterConfig
from striate.models.segmentation._photos import recipe_for_photos

__all__ = [
    "LOW_STRIDE",
    "Count",
    "DeepLabConfig",
    "Stations",
    "backbone_of",
    "draw_head",
    "encoder",
    "from_backbone",
    "pyramid",
    "recipe",
    "stations",
]

Count = Annotated[int, Meta(ge=1)]
Probability = Annotated[float, Meta(ge=0, lt=1)]


class Stations(NamedTuple):
    """Names of the encoder's features that the decoder reads."""

    low: str  # at LOW_STRIDE
    middle: str  # before the last stage, for an auxiliary head
    last: str


_STATIONS = {
    "resnet": Stations("layer1", "layer3", "layer4"),
    "mobilenet_v2": Stations("stage2", "stage5", "stage7"),
}
_BEHIND = ("fc.", "trunk.head.", "classifier.")  # tensors of those networks that no encoder has
LOW_STRIDE = 4  # of the early maps
_RATES = (6, 12, 18)  # at output stride 16
_OWN = ("classes", "preprocess", "output_stride", "multi_grid")


class DeepLabConfig(SegmenterConfig, frozen=True, kw_only=True):
    """What the settings of both hold."""

    backbone: str = "resnet50"  # a ResNet or a MobileNet v2, by its public name
    backbone_settings: dict[str, Any] = msgspec.field(default_factory=dict)  # its own: {"width": 32}
    output_stride: Literal[8, 16] = 16  # of the encoder's last maps; 8 is finer, at three times the work
    multi_grid: tuple[Count, ...] | None = None  # spread of each block of a ResNet's last stage; None: all 1
    aspp_maps: Count = 256
    dropout: Probability = 0.1  # behind the pyramid

    @property
    def rates(self) -> tuple[int, ...]:
        """Pixels between the taps of the pyramid's 3x3 kernels: the same distance in the picture."""
        return tuple(rate * 16 // self.output_stride for rate in _RATES)


def stations(config: DeepLabConfig) -> Stations:
    """The features that are read. Raises UsageError for a backbone that is neither of the two kinds."""
    family = models.variants().get(config.backbone, "")
    if family not in _STATIONS:
        raise UsageError(
            "network.backbone",
            f"{config.backbone!r} is no encoder for this network",
            "use a ResNet such as resnet50, or a MobileNet v2",
        )
    return _STATIONS[family]


def encoder(config: DeepLabConfig) -> Classifier:
    """The backbone up to its last stage, dilated as `output_stride` and `multi_grid` say.

    Raises UsageError for one whose stages are not those that this network reads.
    """
    for name in _OWN:
        if name in config.backbone_settings:
            raise UsageError(
                f"network.backbone_settings.{name}", "it is the network's own to set", "leave it out"
            )
    read = stations(config)
    settings = {**config.backbone_settings, "output_stride": config.output_stride}
    if config.multi_grid is not None:
        _refuse_multi_grid(config)
        settings["multi_grid"] = config.multi_grid
    try:
        found = backbone(config.backbone, read.last, config.preprocess, **settings)
    except ValueError as error:
        raise UsageError("network.backbone", str(error), "use one with all its stages") from None
    strides = {feature.name: feature.stride for feature in found.feature_info}
    if (strides[read.low], strides[read.last]) != (LOW_STRIDE, config.output_stride):
        raise UsageError(
            "network.backbone",
            f"{read.low} has stride {strides[read.low]} and {read.last} {strides[read.last]}; "
            f"this network reads maps at {LOW_STRIDE} and {config.output_stride}",
            "use a form for large pictures",
        )
    return found


def _refuse_multi_grid(config: DeepLabConfig) -> None:
    if models.variants()[config.backbone] != "resnet":
        raise UsageError(
            "network.multi_grid", f"{config.backbone} is no ResNet, which alone has it", "set it to none"
        )


def pyramid(config: DeepLabConfig, channels: int, separable: bool = False) -> ASPP:
    """Atrous spatial pyramid pooling of the `channels` maps that the encoder ends with."""
    return ASPP(channels, config.aspp_maps, config.rates, config.dropout, separable)


def draw_head(network: nn.Module, classifier: nn.Conv2d) -> None:
    """Draw starting weights for all but the backbone: He's, and N(0, 0.01) for the last layer."""
    for name, module in network.named_children():
        if name != "backbone":
            he_normal(module.modules())
    nn.init.normal_(classifier.weight, 0.0, 0.01)


def backbone_of(config: DeepLabConfig) -> str:
    """The classification network whose weights the encoder can take."""
    return config.backbone


def from_backbone(state_dict: Mapping[str, Tensor], config: DeepLabConfig) -> dict[str, Tensor]:
    """The weights of a whole classification network under the names that the encoder has here."""
    del config
    kept = {name: tensor for name, tensor in state_dict.items() if not name.startswith(_BEHIND)}
    return with_prefix(kept, "backbone.")


def recipe(config: DeepLabConfig) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for small sets.

    The papers' SGD with a rate that falls as (1 - t)^0.9 is made for ImageNet's weights, 30,000 steps and
    batches of 16 large crops; AdamW with a cosine learns faster from few pictures, and from drawn weights.
    With as many normalisations as these networks have it bears a high rate, and short runs need it.
    """
    del config
    shared = recipe_for_photos()
    return {**shared, "training": {**shared["training"], "learning_rate": 2e-3}}
