"""What `striate.explain` puts together, in Python."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import striate
from striate import models
from striate.errors import DataError, ModelError, UnknownName, UsageError
from striate.models.network import Network


def network_of(name: str) -> Network:
    family = models.families()[name]
    torch.manual_seed(0)
    network: Network = family.build(family.TINY)
    network.name = next(iter(family.VARIANTS))
    return network.eval()


def photo() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


PARTS = [
    *("prediction", "layers", "gradcam", "receptive-field", "filters", "maps", "maps", "arithmetic"),
]


@pytest.mark.parametrize("name", ["simple_cnn", "unet_backbone", "ssd"])
def test_the_page_has_all_parts_for_every_task(name: str, tmp_path: Path) -> None:
    found = striate.explain(network_of(name), photo())
    assert [section.name for section in found.sections] == PARTS
    assert not any("refused" in section.told.to_dict() for section in found.sections)
    text = repr(found)
    for title in ("What it says", "Where it looked", "Why is this number here?"):
        assert title in text
    assert "agrees" in text
    written = found.save(tmp_path / "out")
    assert {path.name for path in written} >= {"prediction.png", "gradcam.png", "receptive-field.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_network_without_maps_says_so_and_shows_the_rest() -> None:
    found = striate.explain(network_of("mlp"), photo())
    refused = [section.name for section in found.sections if "refused" in section.told.to_dict()]
    assert refused == ["gradcam", "receptive-field", "maps", "arithmetic"]
    assert repr(found).count("not for this network: ") == 4


def test_one_number_is_explained_where_it_was_asked_for() -> None:
    found = striate.explain(
        network_of("simple_cnn"), photo(), layer="stages.stage1.0", pixel=(3, 7), channel=5
    )
    (section,) = found.sections
    assert section.name == "arithmetic"
    told = section.told.to_dict()
    assert told["position"] == [5, 3, 7]
    assert told["ok"]
    assert found.files == {}


def test_what_is_left_open_is_the_largest_number() -> None:
    network = network_of("simple_cnn")
    one = striate.explain(network, photo(), "arithmetic", channel=2)["arithmetic"].told.to_dict()
    channel, row, column = one["position"]
    others = [
        striate.explain(network, photo(), "arithmetic", channel=2, pixel=place)["arithmetic"].told.to_dict()
        for place in ((0, 0), (row, (column + 1) % one["shape"][2]))
    ]
    assert channel == 2
    assert all(abs(one["torch"]) >= abs(other["torch"]) for other in others)


def test_a_place_outside_is_refused_with_the_ranges() -> None:
    with pytest.raises(UsageError, match="row 0 to 15, column 0 to 15"):
        striate.explain(network_of("simple_cnn"), photo(), pixel=(99, 0))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"what": "filters", "channel": 3}, "--channel: filters does not read it"),
        ({"what": "maps", "target": "cat"}, "--target: maps does not read it"),
        ({"axis": "y", "sort": "energy"}, "--sort: shift does not read it"),
        ({"kernel": "blur", "layer": "conv1"}, "--layer: kernel does not read it"),
    ],
)
def test_what_a_part_does_not_read_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        striate.explain(network_of("simple_cnn"), photo(), **asked)


def test_an_unknown_part_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean gradcam"):
        striate.explain(network_of("simple_cnn"), photo(), "gradcan")


def test_shift_takes_further_models_and_names_them_apart() -> None:
    network = network_of("simple_cnn")
    found = striate.explain(network, photo(), against=(network_of("mlp"), network_of("simple_cnn")), axis="y")
    curves = found["shift"].told.to_dict()["curves"]
    assert len({curve["name"] for curve in curves}) == len(curves) == 3
    # The MLP's input has 8 pixels a side: half of that is as far as all of them go.
    assert found["shift"].told.to_dict()["shifts"] == list(range(-4, 5))
    assert found.files["shift.svg"].startswith(b"<svg")


def test_a_kernel_needs_no_model_and_reads_numbers_names_and_files(tmp_path: Path) -> None:
    (tmp_path / "k.txt").write_text("0 0 0\n0 1 0\n0 0 0\n")
    picture = photo()
    by_file = striate.explain(None, picture, kernel=str(tmp_path / "k.txt"))
    by_numbers = striate.explain(None, picture, kernel=[[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    ranges = [found["kernel"].told.to_dict()["map"] for found in (by_file, by_numbers)]
    assert ranges[0] == ranges[1]
    assert ranges[0]["size"] == [38, 46]
    own = striate.explain(network_of("simple_cnn"), picture, kernel="blur")["kernel"].told.to_dict()
    assert own["map"]["size"] == [14, 14]  # of the network's input, 16x16
    with pytest.raises(UsageError, match="there is no such file"):
        striate.explain(None, picture, kernel=str(tmp_path / "none.txt"))
    with pytest.raises(UnknownName, match="did you mean blur"):
        striate.explain(None, picture, kernel="blurr")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="it is no text file"):
        striate.explain(None, picture, kernel=str(tmp_path / "bytes.txt"))
    with pytest.raises(UsageError, match="gradcam is about a model"):
        striate.explain(None, picture, "gradcam")


def test_an_export_and_a_plain_module_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="give the run folder or the model file that it was made from"):
        striate.explain(tmp_path / "model.onnx", photo())
    with pytest.raises(UsageError, match="does not say how pictures are prepared"):
        striate.explain(torch.nn.Linear(2, 2), photo())


def test_a_filled_folder_and_a_bad_picture_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "there.txt").touch()
    with pytest.raises(UsageError, match="there is something there already"):
        striate.explain(tmp_path / "no-model", photo(), out=tmp_path)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        striate.explain(tmp_path / "no-model", tmp_path / "bad.jpg")


def test_names_with_html_in_them_stay_text() -> None:
    network = striate.create("simple_cnn", classes=("<script>alert(1)</script>", "b"))
    html = striate.explain(network, photo(), "gradcam", target=0)._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_the_verb_stays_a_verb_whatever_was_imported() -> None:
    import striate.explain.gradcam
    import striate.export.graph

    assert callable(striate.explain)
    assert callable(striate.export)


def test_a_class_that_is_a_number_goes_by_its_name() -> None:
    network = striate.create("simple_cnn", classes=("7", "3", "1"))
    assert (
        striate.explain(network, photo(), "gradcam", target="1")["gradcam"].told.to_dict()["target"]["label"]
        == 2
    )
    assert (
        striate.explain(network, photo(), "gradcam", target="2")["gradcam"].told.to_dict()["target"]["label"]
        == 2
    )
