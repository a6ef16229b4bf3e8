"""Counts against torch's own counter, and networks that are awkward to read."""

import csv
import io
import json
import warnings
from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

import striate
from striate.errors import ModelError, UnknownName, UsageError
from striate.explain.receptive_field import Status
from striate.explain.summary import Summary, summarise


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


@cache
def own(name: str) -> Summary:
    return striate.summary(name)


def zoo_network(name: str) -> nn.Module:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return on_meta(lambda: zoo.get_model(name, weights=None, **options))


def test_resnet50_has_the_counts_of_its_table() -> None:
    found = own("resnet50")
    assert (found.parameters, found.macs) == (25_557_032, 4_089_184_256)
    assert own("resnet50_v1").macs // 1_000_000 == 3_857
    assert own("lenet5").macs == 416_520


@pytest.mark.parametrize(
    "name",
    [
        "alexnet", "googlenet", "resnext50_32x4d", "densenet121", "squeezenet1_0", "mobilenet_v2",
        "mobilenet_v3_small", "shufflenet_v2_x1_0", "convnext_tiny", "vit_b_16", "swin_t",
    ],
)  # fmt: skip
def test_the_macs_are_half_of_torchs_flops_and_the_parameters_add_up(name: str) -> None:
    network = zoo_network(name)
    found = summarise(network, (3, 224, 224))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, 3, 224, 224, device="meta"))
    assert 2 * found.macs == counter.get_total_flops()
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    unused = [
        int(note.split(":")[1].split()[0].replace(",", "")) for note in found.notes if "does not use" in note
    ]
    assert found.root.parameters + sum(unused) == found.parameters
    assert sum(child.macs for child in found.root.children) == found.macs


@pytest.mark.parametrize("name", ["resnet18", "lenet5", "simple_cnn", "resnet20_cifar"])
def test_our_own_macs_are_half_of_torchs_flops(name: str) -> None:
    network = on_meta(lambda: striate.create(name))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval().dense(
            torch.empty(
                1,
                3 if "res" in name else network.preprocess.channels,
                *network.preprocess.size,
                device="meta",
            )
        )  # type: ignore[operator, union-attr, misc]
    assert 2 * own(name).macs == counter.get_total_flops()


def test_the_number_of_a_call_may_be_asked_for_without_its_space() -> None:
    found = own("resnet18")
    node = found.find("layer1.0.relu#2")
    assert node is found.find("layer1.0.relu #2")
    assert node.call == "layer1.0.relu #2"


def test_the_conv_of_a_block_by_hand() -> None:
    node = own("resnet18").find("layer2.0.conv1")
    assert (node.input_shape, node.output_shape) == ((64, 56, 56), (128, 28, 28))
    assert (node.parameters, node.macs) == (128 * 64 * 9, 128 * 28 * 28 * 64 * 9)
    assert node.window is not None
    assert node.window.describe() == "3x3 /2 p1"
    assert node.field is not None
    # 43 behind layer1, then 2 more taps, 4 pixels apart.
    assert (node.field.size, node.field.jump, node.field.status) == ((51, 51), (8, 8), Status.EXACT)


def test_a_worked_layer_shows_every_number() -> None:
    lines = own("resnet18").why("layer2.0.conv1").splitlines()
    assert lines == [
        "layer2.0.conv1: Conv2d, 64x56x56 -> 128x28x28",
        "output      out = floor((in + 2·padding - dilation·(kernel - 1) - 1) / stride) + 1",
        "            floor((56 + 2·1 - 1·(3 - 1) - 1) / 2) + 1 = floor(27.5) + 1 = 28 (each side)",
        "parameters  weight 128·64·3·3 = 73,728",
        "MACs        outputs 128·28·28 x kernel 64·3·3 = 57,802,752",
        "field       size = size_in + dilation·(kernel - 1)·jump_in;  jump = jump_in·stride",
        "            size = 43 + 1·(3 - 1)·4 = 51;  jump = 4·2 = 8",
        "sees        51x51 pixels, 8 apart: EXACT",
    ]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("fc", "parameters  weight 1000·512 + bias 1000 = 513,000"),
        ("fc", "MACs        1·1000 values x 512 products each = 512,000"),
        ("fc", "sees        the whole input: EXACT"),
        ("layer1.0.(add)", "field       the union of what its inputs see, 27 and 11: 27"),
        ("(mean)", "field       all positions of its input, each 435, 32 apart: 627"),
        ("bn1", "parameters  weight 64 + bias 64 = 128"),
        ("bn1", "MACs        0: it multiplies no matrices"),
        (
            "layer2.0",
            "MACs        6,422,528 (downsample) + 57,802,752 (conv1) + 115,605,504 (conv2) = 179,830,784",
        ),
    ],
)
def test_each_kind_of_layer_is_worked_out(call: str, line: str) -> None:
    assert line in own("resnet18").why(call).splitlines()


def test_a_transposed_convolution_is_worked_out_by_its_inputs() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(3, 5, 4, 2, 1, output_padding=1, groups=1))
    text = summarise(network, (3, 6, 6)).why("0")
    assert "(6 - 1)·2 - 2·1 + 1·(4 - 1) + 1 + 1 = 13 (each side)" in text
    assert f"inputs 3·6·6 x kernel 5·4·4 = {3 * 36 * 80:,}" in text


def test_an_unknown_layer_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"did you mean layer1\.0\.conv1"):
        own("resnet18").why("layer1.0.conv11")


def test_repeated_blocks_are_folded_and_their_numbers_added() -> None:
    found = own("resnet152")
    lines = repr(found).splitlines()
    (row,) = (line for line in lines if "x35" in line)
    assert row.split() == [
        "1-35",
        "x35",
        "Bottleneck",
        "1024x14x14",
        "1291",
        "16",
        "39,101,440",
        "7.643",
        "G",
        "66.4%",
    ]
    assert len(found.nodes) > 500


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("name", ["resnet152", "resnet18"])
def test_the_table_fits_the_width_and_says_what_it_leaves_out(name: str, width: int) -> None:
    found = own(name)
    table = found.table(width)
    assert max(map(len, table.lines())) <= width
    assert len(table.rows) <= 61
    assert [column.name for column in table.columns][:1] == ["call"]
    assert {"parameters", "MACs"} <= {column.name for column in table.columns}
    said = dict(found.legend(table)).get("left out", "")
    assert all(name in said for name in table.left_out)
    assert bool(table.left_out) == (width < 100)


def test_different_functions_in_a_row_are_not_folded() -> None:
    class Same(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return maps.relu().sigmoid().sigmoid()

    assert [row[0] for row in summarise(Same(), (3, 4, 4)).table().rows] == [
        "input",
        "(relu)",
        "(sigmoid) .. (sigmoid) #2 x2",
    ]


def test_depth_opens_levels_and_zero_is_refused() -> None:
    found = own("resnet18")
    assert len(found.table(200, 1).rows) < len(found.table(200, 2).rows) < len(found.table(200, 3).rows)
    assert any("(add)" in row[0] for row in found.table(200, 3).rows)
    with pytest.raises(UsageError, match="0 levels show nothing"):
        found.table(100, 0)


def test_json_and_csv_hold_every_call_once() -> None:
    found = own("resnet18")
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(plain["calls"]) == len(rows) == len(found.nodes)
    assert rows[2]["call"] == "conv1"
    assert (rows[2]["kernel"], rows[2]["field_status"], rows[2]["macs"]) == ("7x7", "EXACT", "118013952")
    assert sum(int(row["macs"]) for row in rows if row["depth"] == "1") == plain["macs"]


def test_the_notebook_page_is_one_element_without_script_and_escapes_names() -> None:
    class Odd(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return maps.relu()

    network = nn.Sequential(Odd())
    Odd.__name__ = "<b>Odd"
    page = summarise(network, (3, 4, 4))._repr_html_()
    assert page.startswith("<div>")
    assert page.endswith("</div>")
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;Odd" in page


# Awkward networks


def test_a_module_called_twice_is_shown_twice_and_counted_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)

        def forward(self, maps: Tensor) -> Tensor:
            return self.conv(self.conv(maps))  # type: ignore[no-any-return]

    found = summarise(Twice(), (3, 8, 8))
    first, second = found.root.children
    assert [(node.call, node.parameters, node.macs) for node in (first, second)] == [
        ("conv", 81, 81 * 64),
        ("conv #2", 0, 81 * 64),
    ]
    assert second.is_shared
    assert (found.parameters, found.macs) == (81, 2 * 81 * 64)
    assert second.field is not None
    assert second.field.size == (5, 5)
    assert any(row[-3] == "shared" for row in found.table(100).rows)


def test_a_path_that_depends_on_values_is_run_and_said() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small, self.large = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, maps: Tensor) -> Tensor:
            return self.small(maps) if maps.mean() > 100 else self.large(maps)  # type: ignore[no-any-return]

    found = summarise(Chooses(), (3, 8, 8))
    assert [node.call for node in found.root.children if node.macs] == ["large"]
    assert any("a random picture was run" in note for note in found.notes)
    assert any(note.startswith("small: 16 parameters") for note in found.notes)


def test_a_path_that_depends_on_shapes_needs_no_values() -> None:
    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, 2, 1)

        def forward(self, maps: Tensor) -> Tensor:
            while maps.shape[-1] > 4:
                maps = self.conv(maps)
            return maps

    found = summarise(on_meta(Grows), (3, 32, 32))
    assert [node.name for node in found.root.children] == ["conv", "conv #2", "conv #3"]
    assert not found.notes


def test_weights_in_memory_are_neither_read_nor_changed() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    network[0].weight.data.fill_(float("nan"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network[2].eval()
    summarise(network, (3, 8, 8))
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], equal_nan=True)
    assert [module.training for module in network] == [True, True, False]
    assert not network[0]._forward_hooks


def test_a_norm_in_training_mode_by_its_own_choice_keeps_the_field_of_its_input() -> None:
    class Always(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return F.batch_norm(maps, torch.zeros(3), torch.ones(3), training=True) + maps

    found = summarise(Always(), (3, 8, 8))
    norm, add = found.root.children
    assert [node.field.size_text for node in (norm, add) if node.field] == ["all", "all"]


def test_constants_made_in_the_forward_pass_meet_the_empty_input() -> None:
    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = torch.arange(8.0)  # no buffer: stays in memory

        def forward(self, maps: Tensor) -> Tensor:
            grid = torch.linspace(0, 1, 8).view(1, 1, 8, 1)
            return maps + grid + self.steps

    found = summarise(Placed(), (3, 8, 8))
    assert not any("random picture" in note for note in found.notes)
    assert found.root.output_shape == (3, 8, 8)


def test_parametrised_weights_are_met_once() -> None:
    network = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    found = summarise(network, (3, 8, 8))
    assert found.root.parameters == found.parameters == 4 + 4 * 27 + 4
    assert found.macs == 4 * 36 * 27


def test_attention_and_recurrence_are_counted() -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.read = nn.GRU(8, 4, bidirectional=True, batch_first=True)

        def forward(self, maps: Tensor) -> Tensor:
            return self.read(self.mix(maps.flatten(2).transpose(1, 2)))[0]  # type: ignore[no-any-return]

    network = on_meta(Sequence)
    found = summarise(network, (8, 4, 4))
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque operation, of which torch counts nothing
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.eval()(torch.empty(1, 8, 4, 4, device="meta"))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert 2 * found.macs == counter.get_total_flops() > 0
    assert found.root.parameters == found.parameters


def test_outputs_of_any_structure_are_read() -> None:
    class Many(nn.Module):
        def forward(self, maps: Tensor) -> dict[str, list[Tensor]]:
            return {"maps": [F.max_pool2d(maps, 2), maps]}

    assert summarise(nn.Sequential(Many()), (3, 8, 8)).root.output_shape == (3, 4, 4)


def test_functions_between_modules_are_rows_of_their_own() -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.scale = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, maps: Tensor) -> Tensor:
            return F.conv2d(maps, self.conv.weight) + self.conv(maps)[:, :, 1:-1, 1:-1] * self.scale

    found = summarise(Loose(), (3, 8, 8))
    assert [(node.name, node.parameters) for node in found.root.children] == [
        ("(conv)", 81),
        ("conv", 3),
        ("(mul)", 3),
        ("(add)", 0),
    ]
    assert found.root.children[0].macs == 3 * 36 * 27


def test_an_operation_without_a_rule_is_named_and_taken_as_an_upper_bound() -> None:
    class Strange(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return torch.linalg.qr(maps).Q

    found = summarise(nn.Sequential(Strange()), (3, 8, 8))
    assert any("linalg_qr (1 x): no rule" in note for note in found.notes)
    assert found.root.field is not None
    assert found.root.field.size_text == "≤all"


def test_a_compiled_module_shows_its_modules_and_a_scripted_one_its_functions() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert summarise(torch.compile(network), (3, 8, 8)).find("_orig_mod.0").macs == 4 * 36 * 27  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has deprecated it, people have not
        scripted = torch.jit.script(network)
    for found in (summarise(scripted, (3, 8, 8)), summarise(nn.Sequential(scripted), (3, 8, 8))):
        assert (found.macs, found.root.parameters) == (4 * 36 * 27, 112)


@pytest.mark.parametrize(
    ("network", "shape", "told"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(8, 4, 3)),
            (3, 9, 9),
            r"1 \(Conv2d\): it cannot take 4x7x7 \(",
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), (1, 9, 9), r"0 \(Conv2d\): it cannot take 1x9x9 \("),
        (
            nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 5)),
            (3, 8, 8),
            r"1 \(Conv2d\): it cannot take 3x4x4 \(",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (3, 4, 4), r"1 \(Linear\): it cannot take 48 \("),
        (nn.Sequential(nn.BatchNorm2d(4)), (3, 4, 4), r"0 \(BatchNorm2d\): it cannot take 3x4x4 \("),
    ],
)
def test_the_call_that_refuses_its_input_is_named_with_its_shape(
    network: nn.Module, shape: tuple[int, ...], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        summarise(network, shape)
    assert not network[0]._forward_hooks  # type: ignore[index, union-attr]


def test_our_networks_refuse_wrong_inputs_in_their_own_words() -> None:
    with pytest.raises(UsageError, match=r"takes \(B, 3, H, W\), got \(1, 1, 224, 224\)"):
        striate.summary("resnet18", (1, 224, 224))
    with pytest.raises(UsageError, match="takes pictures of 32x32, got 64x64"):
        striate.summary("lenet5", (1, 64, 64))


def test_parameters_without_a_shape_are_refused() -> None:
    with pytest.raises(ModelError, match=r"its parameter 0\.weight has no shape yet"):
        summarise(nn.Sequential(nn.LazyConv2d(4, 3)), (3, 8, 8))


def test_a_name_with_a_width_in_it_is_no_path() -> None:
    assert striate.summary("mobilenet_v2_0.5").parameters < striate.summary("mobilenet_v2").parameters
    with pytest.raises(UnknownName):
        striate.summary("mobilenet_v2_0.51")


def test_a_foreign_module_needs_its_input_said() -> None:
    with pytest.raises(UsageError, match="does not say what input it takes"):
        striate.summary(nn.Conv2d(3, 4, 3))
    with pytest.raises(UsageError, match="is no shape"):
        striate.summary(nn.Conv2d(3, 4, 3), (3, 0, 4))


def test_a_name_that_is_none_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean resnet50"):
        striate.summary("resnet5O")
