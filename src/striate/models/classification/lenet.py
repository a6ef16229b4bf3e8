"""LeNet-5, as published and as taught today.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE
86(11), 1998, section II-B, Fig. 2. `lenet5_1998` is the paper's: sparse C3, trainable sub-sampling,
scaled tanh, Euclidean RBF outputs and the loss of equation 9; 60,000 trainable parameters and 340,908
connections. `lenet5` is the form of most textbooks: dense C3, average pooling, tanh, a linear output
layer and cross-entropy; 61,706 parameters.

    32x32 ──C1──> 28x28x6 ──S2──> 14x14x6 ──C3──> 10x10x16 ──S4──> 5x5x16 ──C5──> 120 ──F6──> 84 ──> classes
"""

from abc import abstractmethod
from itertools import count
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.layers.fixed_size import FixedSize
from striate.models.network import Classifier, Feature, Logits, NetworkConfig
from striate.structures import ClassTargets, Preprocess

__all__ = [
    "TINY",
    "VARIANTS",
    "Config",
    "Energies",
    "LeNet",
    "LeNet5",
    "LeNet5Of1998",
    "build",
    "digit_codes",
    "orthogonal_codes",
    "recipe",
]

SMALLEST = 16  # pixels a side that leave one pixel of S4: 16 -> 12 -> 6 -> 2 -> 1
CODE_BITS = 84  # units of F6: a bitmap of 7x12
REJECTION = 10.0  # learnt digits better than 1 and 40

# Table I: the maps of S2 that each map of C3 sees. It breaks the symmetry between the maps of C3 and
# keeps 60 of 96 connections.
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

# Stylised digits of 7x12 in the manner of Fig. 3, drawn for this file.
DIGITS = """
..###.. ...#... .#####. .#####. .....#. ####### ..####. ####### .#####. .#####.
.#...#. ..##... #.....# #.....# ....##. #...... .#....# #.....# #.....# #.....#
#.....# .#.#... ......# ......# ...#.#. #...... #...... ......# #.....# #.....#
#.....# ...#... ......# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... .....#. ......# .#...#. #.####. #...... .....#. #.....# #.....#
#.....# ...#... ....#.. ..####. #....#. ##....# #.####. ....#.. .#####. #....##
#.....# ...#... ...#... ......# #....#. ......# ##....# ....#.. #.....# .####.#
#.....# ...#... ..#.... ......# ####### ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... #...... ......# .....#. ......# #.....# ..#.... #.....# ......#
.#...#. ...#... #...... #.....# .....#. #.....# #.....# ..#.... #.....# #....#.
..###.. .#####. ####### .#####. .....#. .#####. .#####. ..#.... .#####. .####..
"""


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of LeNet-5; pictures of 28x28 sit in the middle of 32x32, as in section II-B.

    The paper maps background to -0.1 and ink to 1.175: `1.275 x / 255 - 0.1` for ink at 255.
    """

    classes: tuple[str, ...] | int = 10
    preprocess: Preprocess = Preprocess(
        size=(32, 32), border=2, fit="stretch", color="gray", mean=(0.1 / 1.275,), std=(1 / 1.275,)
    )
    form: Literal["modern", "1998"] = "modern"
    # 1998 only. j of equation 9: the energy of the answer "none of the classes". A picture whose own
    # class is well below it is learnt; the paper gives no value.
    rejection: Annotated[float, Meta(gt=0)] = REJECTION

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "modern" and self.rejection != REJECTION:
            raise UsageError(
                "rejection",
                f"{self.rejection} would have no effect: only the form of 1998 has a rejection energy",
                "leave it out, or use lenet5_1998",
            )


class Energies(NamedTuple):
    """What the 1998 form computes: the 84 units of F6, and the squared distance to each class's code."""

    f6: Tensor  # (B, 84), within +-1.7159
    energies: Tensor  # (B, K), at least 0; the smallest is the answer


class ScaledTanh(nn.Module):
    """`1.7159 tanh(2x / 3)`: f(1) = 1 and f(-1) = -1, where its curvature is largest (appendix A)."""

    def forward(self, sums: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(sums * (2 / 3))


class SubSampling(nn.Module):
    """Each 2x2 window's sum, times its map's coefficient, plus its map's bias, squashed (S2 and S4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.squash = ScaledTanh()

    def forward(self, maps: Tensor) -> Tensor:
        sums = 4 * F.avg_pool2d(maps, 2)
        squashed: Tensor = self.squash(sums * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1))
        return squashed


class TableConvolution(nn.Module):
    """A 5x5 convolution in which each output map sees only the input maps that `table` lists for it."""

    kernel_of: Tensor

    def __init__(self, table: tuple[tuple[int, ...], ...], channels: int) -> None:
        super().__init__()
        self.table = table
        kernels = sum(map(len, table))
        self.weight = nn.Parameter(torch.empty(kernels, 5, 5))
        self.bias = nn.Parameter(torch.empty(len(table)))
        number = count()
        lookup = [[next(number) if i in seen else kernels for i in range(channels)] for seen in table]
        # (16, 6): which kernel joins two maps; the one past the last is all zero. Saved with the weights,
        # because a network loaded without allocation has no other constants.
        self.register_buffer("kernel_of", torch.tensor(lookup))

    def forward(self, maps: Tensor) -> Tensor:
        kernels = torch.cat((self.weight, self.weight.new_zeros(1, 5, 5)))
        return F.conv2d(maps, kernels[self.kernel_of], self.bias)


class RadialBasis(nn.Module):
    """Squared Euclidean distance of x (B, 84) to the fixed code of each class: (B, K) float32."""

    codes: Tensor

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__()
        digits = classes == tuple("0123456789")
        codes = digit_codes() if digits else orthogonal_codes(len(classes))
        self.register_buffer("codes", torch.tensor(codes, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        # In full precision, without the usual |x|^2 - 2xc + |c|^2: it cancels where a class is near.
        return (x.float()[:, None] - self.codes).square().sum(2)


class LeNet(Classifier):
    """What both forms share: C1 to F6."""

    feature_info = (Feature("c1", 6, 1), Feature("s2", 6, 2), Feature("c3", 16, 2), Feature("s4", 16, 4))

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.fixed_size = FixedSize(config.preprocess, at_least=SMALLEST)
        height, width = (((side - 4) // 2 - 4) // 2 for side in config.preprocess.size)
        self.c1 = nn.Conv2d(config.preprocess.channels, 6, kernel_size=5)
        self.squash, self.s2, self.c3, self.s4 = self.parts()
        self.c5 = nn.Conv2d(16, 120, kernel_size=(height, width))
        self.f6 = nn.Linear(120, CODE_BITS)

    @abstractmethod
    def parts(self) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        """The form's own squashing function, S2, C3 and S4."""

    def features(self, images: Tensor) -> dict[str, Tensor]:
        pixels = self.normalize(self.fixed_size(images))  # (B, 1, 32, 32)
        c1 = self.squash(self.c1(pixels))  # (B, 6, 28, 28)
        s2 = self.s2(c1)  # (B, 6, 14, 14)
        c3 = self.squash(self.c3(s2))  # (B, 16, 10, 10)
        s4 = self.s4(c3)  # (B, 16, 5, 5)
        return {"c1": c1, "s2": s2, "c3": c3, "s4": s4}

    def code(self, images: Tensor) -> Tensor:
        """The units of F6: (B, 84)."""
        c5 = self.squash(self.c5(self.features(images)["s4"]))  # (B, 120, 1, 1)
        code: Tensor = self.squash(self.f6(c5.flatten(1)))
        return code


class LeNet5(LeNet):
    """The textbook form."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.output = nn.Linear(CODE_BITS, len(self.classes))

    def parts(self) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        return nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, kernel_size=5), nn.AvgPool2d(2)

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        return Logits(self.output(self.code(images)))


class LeNet5Of1998(LeNet):
    """The paper's form. Its answer is the class whose code is nearest.

    Codes: for the classes "0" to "9" bitmaps of the digits, so that similar digits have similar codes;
    for any other set of classes the rows of a Hadamard matrix, all 42 of 84 bits apart (not the paper's).
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.rejection = config.rejection
        self.output = RadialBasis(self.classes)

    def parts(self) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        return ScaledTanh(), SubSampling(6), TableConvolution(C3_TABLE, channels=6), SubSampling(16)

    def forward(self, images: Tensor) -> Energies:  # type: ignore[override]
        code = self.code(images)
        return Energies(code, self.output(code))

    def loss(self, raw: Energies, targets: ClassTargets[Tensor]) -> dict[str, Tensor]:
        """Equation 9, the target's energy averaged where the target is spread over several classes.

        Its second term competes: without it, and with trainable codes, all could collapse to one point.
        """
        own = (targets.probabilities * raw.energies).sum(1)
        rejected = raw.energies.new_full((len(raw.energies), 1), self.rejection)
        each = own + torch.logsumexp(-torch.cat((raw.energies, rejected), 1), 1)
        return {"map_criterion": (each * targets.weight).sum() / targets.weight.sum()}

    def decode(self, raw: Energies) -> dict[str, Tensor]:
        # Equation 9 is a cross-entropy in which class k has probability proportional to exp(-energy).
        return {"logits": -raw.energies}


def digit_codes() -> list[list[float]]:
    """The ten bitmaps as rows of 84 numbers, ink +1 and paper -1."""
    rows = [line.split() for line in DIGITS.split("\n") if line]
    bitmaps = ["".join(row[digit] for row in rows) for digit in range(10)]
    return [[1.0 if pixel == "#" else -1.0 for pixel in bitmap] for bitmap in bitmaps]


def orthogonal_codes(classes: int) -> list[list[float]]:
    """`classes` codes of 84 bits, +-1, any two 42 bits apart (84 between a code and its negative).

    Rows of Paley's Hadamard matrix of order 83 + 1, then their negatives. Raises UsageError above 168.
    """
    if classes > 2 * CODE_BITS:
        raise UsageError(
            "classes",
            f"the 84 units of F6 code at most {2 * CODE_BITS} classes, got {classes}",
            "use lenet5 or a larger network",
        )
    prime = CODE_BITS - 1
    squares = {number * number % prime for number in range(1, prime)}
    character = [0, *(1 if number in squares else -1 for number in range(1, prime))]
    rows = [[1.0] * CODE_BITS]
    for i in range(prime):
        rows.append([-1.0, *(float(character[(i - j) % prime] + (i == j)) for j in range(prime))])
    return (rows + [[-bit for bit in row] for row in rows])[:classes]


VARIANTS = {"lenet5": Config(), "lenet5_1998": Config(form="1998")}

TINY = Config(form="1998")


def build(config: Config) -> LeNet:
    """LeNet-5 with Glorot's starting weights (modern) or uniform within +-2.4 / fan-in (appendix A)."""
    network: LeNet = LeNet5(config) if config.form == "modern" else LeNet5Of1998(config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if config.form == "modern":
                nn.init.xavier_uniform_(module.weight)
            else:
                _uniform(module.weight, fan_in=module.weight[0].numel())
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all of these have one
        elif isinstance(module, SubSampling | TableConvolution):
            _initialise(module)
    return network


def _initialise(module: SubSampling | TableConvolution) -> None:
    if isinstance(module, SubSampling):
        _uniform(module.weight, fan_in=4)
    else:
        fans = [25 * len(seen) for seen in module.table for _ in seen]
        for kernel, fan_in in zip(module.weight, fans, strict=True):
            _uniform(kernel, fan_in)
    nn.init.zeros_(module.bias)


def _uniform(weight: Tensor, fan_in: int) -> None:
    nn.init.uniform_(weight, -2.4 / fan_in, 2.4 / fan_in)


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings that train it well; no flips, digits have a handedness."""
    del config
    return {
        "training": {
            "optimiser": "adamw",
            "learning_rate": 3e-3,
            "weight_decay": 1e-2,
            "schedule": "cosine",
            "warmup_epochs": 1.0,
            "batch_size": 64,
            "epochs": 15,
        },
        "augment": {},
    }
