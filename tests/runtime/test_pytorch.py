"""The PyTorch engine: the same numbers as the network, and no number from a bad file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save

from striate.errors import EnvironmentProblem, ModelError, NotFiniteError, StriateError, UsageError
from striate.layers.normalize import Normalize
from striate.modelfile import write_model
from striate.models import create, families
from striate.models.network import Network
from striate.runtime.pytorch import PyTorchEngine
from striate.structures import Preprocess

Write = Callable[..., Path]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8).transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def small() -> Network:
    torch.manual_seed(1)
    return create("mlp", ("a", "b"), preprocess={"size": [6, 5]}).eval()


def without_tensor(path: Path, name: str) -> None:
    """Rewrite a model file with one tensor less, its card as it was."""
    from striate.modelfile import read_card, read_tensors

    card, tensors = read_card(path), read_tensors(path)
    del tensors[name]
    write_model(path, tensors, card)


def test_a_file_gives_the_bits_of_the_network(network: Network, write: Write) -> None:
    from_file = PyTorchEngine.from_file(write(network), "cpu").dense({"images": IMAGES})
    copy = create("resnet18", network.classes, preprocess={"size": [64, 64], "resize_to": 72})
    copy.load_state_dict(network.state_dict())
    with torch.inference_mode():
        live = copy.eval().to(memory_format=torch.channels_last)
        expected = live.dense(torch.from_numpy(IMAGES))["logits"].numpy()
    assert from_file["logits"].dtype == np.float32
    assert from_file["logits"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("family", families())
def test_every_family_comes_back_from_its_file(family: str, write: Write) -> None:
    module = families()[family]
    tiny = msgspec.to_builtins(module.TINY)
    made = create(next(iter(module.VARIANTS)), **tiny).eval()
    spec = made.preprocess
    images = np.random.default_rng(0).integers(0, 256, (2, *spec.size, spec.channels), np.uint8)
    inputs = {"images": images.transpose(0, 3, 1, 2)}
    beside = made.blank_extras(torch.zeros(2, 1, *spec.size))
    inputs |= {name: value.numpy() for name, value in beside.items()}
    expected = PyTorchEngine(made).dense(inputs)
    found = PyTorchEngine.from_file(write(made), "cpu").dense(inputs)
    assert found.keys() == expected.keys()
    # Layout may change the order of a sum, so this is not bit by bit; of a detector, nor is the order then.
    for name in ("scores",) if "scores" in expected else expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)


def test_a_live_network_gives_its_own_numbers(network: Network) -> None:
    with torch.inference_mode():
        expected = network.dense(torch.from_numpy(IMAGES))["logits"].numpy()
    assert PyTorchEngine(network).dense({"images": IMAGES})["logits"].tobytes() == expected.tobytes()


def test_normalisation_comes_from_the_preprocessing_spec(write: Write) -> None:
    spec = {"size": [6, 5], "color": "rgb", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "scale": 0.01}
    made = create("mlp", ("a", "b"), preprocess=spec)
    loaded = PyTorchEngine.from_file(write(made), "cpu").network
    np.testing.assert_allclose(loaded.normalize.factor.flatten(), [0.025, 0.02, 0.01 / 0.6], rtol=1e-6)
    np.testing.assert_allclose(loaded.normalize.shift.flatten(), [-0.25, -0.4, -0.5], rtol=1e-6)


def test_a_loaded_network_is_ready_for_inference_alone(small: Network, write: Write) -> None:
    loaded = PyTorchEngine.from_file(write(small), "cpu").network
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.classes == ("a", "b")


def test_the_card_given_to_the_file_is_what_the_network_has(small: Network, write: Write) -> None:
    assert PyTorchEngine.from_file(write(small), "cpu").network.config == small.config


def test_training_mode_and_autocast_around_change_nothing_and_stay() -> None:
    torch.manual_seed(0)
    made = create("resnet20_cifar", 4)
    made.layer1.eval()  # as someone who freezes a stage does
    images = IMAGES[:, :, :32, :32]
    modes = [module.training for module in made.modules()]
    statistics = made.bn1.running_mean.clone()
    during = PyTorchEngine(made).dense({"images": images})["logits"]
    with torch.autocast("cpu", torch.bfloat16):
        cast = PyTorchEngine(made).dense({"images": images})["logits"]
    assert [module.training for module in made.modules()] == modes
    assert torch.equal(made.bn1.running_mean, statistics)
    calm = PyTorchEngine(made.eval()).dense({"images": images})["logits"]
    assert during.tobytes() == cast.tobytes() == calm.tobytes()


def test_modes_are_put_back_after_an_error() -> None:
    made = create("resnet20_cifar", 4).train()
    with pytest.raises(UsageError, match=r"\(B, 3, H, W\)"):
        PyTorchEngine(made).dense({"images": IMAGES[:, :1]})
    assert all(module.training for module in made.modules())


def test_memory_that_may_not_be_written_to_is_read(small: Network) -> None:
    images = np.zeros((2, 6, 5, small.preprocess.channels), np.uint8).transpose(0, 3, 1, 2)
    expected = PyTorchEngine(small).dense({"images": images})["logits"]
    images.flags.writeable = False
    assert (PyTorchEngine(small).dense({"images": images})["logits"] == expected).all()


def test_half_precision_outputs_come_as_float32() -> None:
    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def dense(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": images.bfloat16(), "labels": images.long()}

    dense = PyTorchEngine(Half()).dense({"images": np.array([[3.0]], np.float32)})  # type: ignore[arg-type]
    assert {name: array.dtype for name, array in dense.items()} == {"logits": np.float32, "labels": np.int64}


def test_a_network_that_has_nothing_to_learn_says_where_it_computes() -> None:
    normalisation = Normalize(Preprocess(size=(4, 4)))
    assert not list(normalisation.parameters())
    assert PyTorchEngine(normalisation).device == torch.device("cpu")  # type: ignore[arg-type]


def test_inputs_without_images_are_refused(small: Network) -> None:
    with pytest.raises(UsageError, match=r"\['picture'\], no 'images'"):
        PyTorchEngine(small).dense({"picture": IMAGES})


# files that are not what they should be


def test_a_file_cut_anywhere_is_a_model_error_that_names_it(small: Network, write: Write) -> None:
    path = write(small)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in (0, 7, 8, 100, header - 1, header, header + 5, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"model\.safetensors: "):
            PyTorchEngine.from_file(path, "cpu")


@pytest.mark.parametrize(
    "content", [b"no model at all", b"\xff" * 64, b"\0" * 64, b"PK\x03\x04" + b"\0" * 60]
)
def test_another_kind_of_file_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors: "):
        PyTorchEngine.from_file(path, "cpu")


def test_weights_without_a_card_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"weight": np.zeros(3, np.float32)}))
    with pytest.raises(ModelError, match="holds weights only"):
        PyTorchEngine.from_file(path, "cpu")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(small: Network, write: Write, bad: float) -> None:
    name = next(name for name in small.state_dict() if name.endswith("weight"))
    values = small.state_dict()[name].numpy().copy()
    values.flat[-1] = bad
    with pytest.raises(NotFiniteError, match=f"tensor {name} holds NaN or infinity"):
        PyTorchEngine.from_file(write(small, {name: values}), "cpu")


def test_a_tensor_of_another_shape_is_refused_by_name(small: Network, write: Write) -> None:
    name = next(name for name in small.state_dict() if name.endswith("bias"))
    with pytest.raises(ModelError, match=rf"tensor {name}: shape \(3,\) in the file"):
        PyTorchEngine.from_file(write(small, {name: np.zeros(3, np.float32)}), "cpu")


def test_a_tensor_of_another_type_is_refused_by_name(small: Network, write: Write) -> None:
    name, tensor = next(iter(small.state_dict().items()))
    with pytest.raises(ModelError, match=rf"tensor {name} is torch\.float16, mlp has torch\.float32"):
        PyTorchEngine.from_file(write(small, {name: tensor.half().numpy()}), "cpu")


def test_bfloat16_weights_are_refused_with_the_file(small: Network, write: Write) -> None:
    path = write(small)
    tensors = {name: tensor.bfloat16() for name, tensor in small.state_dict().items()}
    path.write_bytes(safetensors.torch.save(tensors, {"striate": _entry(path)}))
    with pytest.raises(ModelError, match=r"model\.safetensors: .*bfloat16"):
        PyTorchEngine.from_file(path, "cpu")


def test_a_missing_tensor_is_refused_by_name(small: Network, write: Write) -> None:
    path, name = write(small), next(iter(small.state_dict()))
    without_tensor(path, name)
    with pytest.raises(ModelError, match=f"tensor {name}: none in the file"):
        PyTorchEngine.from_file(path, "cpu")


def test_a_tensor_too_many_is_refused_by_name(small: Network, write: Write) -> None:
    with pytest.raises(ModelError, match=r"tensor extra: shape \(2,\) in the file, none in mlp"):
        PyTorchEngine.from_file(write(small, {"extra": np.zeros(2, np.float32)}), "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "os"}, "needs the network 'mlp' of 'os', unknown here"),
        ({"variant": "resnet99"}, "needs the network 'resnet99'"),
        ({"task": "detection"}, "card says detection, mlp does classification"),
        ({"config": {"hiden": [4]}}, "no network can be built from it .*hiden"),
        ({"config": {"hidden": "many"}}, "no network can be built from it"),
        ({"config": {"hidden": [10**6, 10**6]}}, "1,00.* parameters"),
        ({"config": {"hidden": [10**18, 10**18]}}, "overflow|parameters"),
        ({"config": {"hidden": [-4]}}, "no network can be built from it"),
        ({"classes": ()}, "too few"),
        ({"classes": ("a", "b", "c")}, "tensor .* in the file"),
    ],
)
def test_a_card_that_does_not_fit_is_a_model_error_that_names_the_file(
    small: Network, write: Write, changes: dict[str, Any], message: str
) -> None:
    path = write(small, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        PyTorchEngine.from_file(path, "cpu")
    assert str(path) in str(caught.value)


def test_other_preprocessing_than_the_weights_were_made_for_is_refused(small: Network, write: Write) -> None:
    path = write(small, preprocess=Preprocess(size=(16_384, 16_384)))
    with pytest.raises(ModelError):
        PyTorchEngine.from_file(path, "cpu")


def test_a_path_that_is_no_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        PyTorchEngine.from_file(tmp_path / "absent.safetensors", "cpu")


def test_a_device_that_is_not_there_is_said_before_the_file_is_read(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(EnvironmentProblem, match="cuda"):
        PyTorchEngine.from_file(tmp_path / "absent.safetensors", "cuda")


def test_every_changed_byte_of_the_header_is_survived(small: Network, write: Write, tmp_path: Path) -> None:
    path, copy = write(small), tmp_path / "copy.safetensors"
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, 8 + int.from_bytes(whole[:8], "little"), 150):
        copy.write_bytes(whole[:place] + bytes([random.integers(256)]) + whole[place + 1 :])
        try:
            PyTorchEngine.from_file(copy, "cpu").dense({"images": np.zeros((1, *_input(small)), np.uint8)})
        except StriateError:
            continue


def _entry(path: Path) -> str:
    """The card's text in a model file."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return str(header["__metadata__"]["striate"])


def _input(network: Network) -> tuple[int, int, int]:
    return (network.preprocess.channels, *network.preprocess.size)
