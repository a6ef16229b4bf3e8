"""In which precision, with how many threads and whose memory to compute, and how to say where.

The device itself is `ops.device`'s choice.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from striate.errors import EnvironmentProblem
from striate.models.network import Network
from striate.training.allocator import keep_freed_memory

__all__ = [
    "autocast",
    "choose_memory",
    "choose_precision",
    "choose_threads",
    "describe",
    "is_small_step",
    "threads",
]

_SMALL_STEP = 500_000_000  # work of the forward pass on the whole batch, in multiply-adds
_VALUE = 100  # multiply-adds in whose time a value of a map passes through memory, measured on LeNet


def choose_precision(name: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype:
    """The type that matrix products are computed in while training: float32 or bfloat16.

    "auto" is bf16 where the hardware multiplies it: CUDA cards of that kind and CPUs with AMX (2 to 3.4
    times as fast there, measured); the weights stay float32, and so does evaluation. Raises
    EnvironmentProblem for bf16 where the device has none.
    """
    if name == "bf16" and not _has_bf16(device):
        raise EnvironmentProblem(f"precision {name!r}", f"{device} has no bf16", "use precision fp32 or auto")
    fast = _has_bf16(device) and (device.type == "cuda" or _has_amx())
    return torch.bfloat16 if name == "bf16" or (name == "auto" and fast) else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Within it, matrix products and convolutions run in `precision`; nothing changes for float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision != torch.float32)


def choose_threads(asked: int | None, network: Network, batch_size: int) -> int:
    """Threads that one operation of torch on the CPU is spread over.

    None: one where a step is so small that threads would mostly wait for each other, else one a core.
    Measured on two cores: an 8x8 network takes 6 instead of 5 s alone, but seconds instead of minutes
    beside another busy program; LeNet on 256 pictures, taken as large, is 1.5 times as fast on both. The
    choice depends on network and batch alone, so the bits do too.
    """
    if asked is not None:
        return asked
    return 1 if is_small_step(network, batch_size) else torch.get_num_threads()


def is_small_step(network: Network, batch_size: int) -> bool:
    """Whether a step takes so few operations that what is around them takes as long."""
    if network.preprocess.proposals:
        return False  # hundreds of boxes a picture are work enough
    return batch_size * _work(network) < _SMALL_STEP


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within it torch's operations on the CPU use `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_memory(asked: bool, device: torch.device) -> bool:
    """Whether this process keeps what a step frees, from now on: if asked, on a CPU, with glibc."""
    return asked and device.type == "cpu" and keep_freed_memory()


def _work(network: Network) -> int:
    """What the network's forward pass on one picture costs: its multiply-adds, and each map value as 100."""
    if network not in _counted:
        device = next(network.parameters()).device
        shape = (1, network.preprocess.channels, *network.preprocess.size)
        _counted[network] = _work_on(network, torch.zeros(shape, dtype=torch.uint8, device=device))
    return _counted[network]


_counted: WeakKeyDictionary[Network, int] = WeakKeyDictionary()


@torch.no_grad()
def _work_on(network: Network, pixels: Tensor) -> int:
    # Torch's own counter and its meta device import torch's compiler when first used: over a second.
    work = 0

    def note(layer: nn.Module, _: tuple[object, ...], output: object) -> None:
        nonlocal work
        if isinstance(output, Tensor):
            products = layer.weight[0].numel() if isinstance(layer, nn.Conv2d | nn.Linear) else 0
            work += output.numel() * (_VALUE + products)

    leaves = [layer for layer in network.modules() if not any(layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    was_training = network.training
    try:
        network.eval()(pixels)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return work


def describe(device: torch.device, precision: torch.dtype, threads: int, keeps_memory: bool = False) -> str:
    """One phrase for people: "2 CPU threads, bf16 (AMX), memory kept", "NVIDIA H200, bf16"."""
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    elif device.type == "mps":
        where = "Apple GPU"
    else:
        where = f"{threads} CPU thread{'s' * (threads != 1)}"
    amx = " (AMX)" * (device.type == "cpu" and _has_amx())
    number = "fp32" if precision == torch.float32 else f"bf16{amx}"
    return f"{where}, {number}{', memory kept' * keeps_memory}"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu"


def _has_amx() -> bool:
    # Not a public function, so it may go: then AMX is taken as absent.
    supported = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(supported())
