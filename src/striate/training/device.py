"""In which precision and how many threads to compute, and how to say where.

The device itself is `ops.device`'s choice.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from striate.errors import EnvironmentProblem
from striate.models.network import Network

__all__ = ["autocast", "choose_precision", "choose_threads", "describe", "threads"]

_SMALL_STEP = 500_000_000  # multiply-adds of the forward pass, whole batch


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
    beside another busy program. The choice depends on network and batch alone, so the bits do too.
    """
    if asked is not None:
        return asked
    small = batch_size * _multiply_adds(network) < _SMALL_STEP
    return 1 if small else torch.get_num_threads()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within it torch's operations on the CPU use `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _multiply_adds(network: Network) -> int:
    """Multiply-adds of the network's forward pass on one picture of its input's size."""
    shape = (1, network.preprocess.channels, *network.preprocess.size)
    counted = copy.deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        counted(torch.empty(shape, dtype=torch.uint8, device="meta"))
    return int(counter.get_total_flops()) // 2


def describe(device: torch.device, precision: torch.dtype, threads: int) -> str:
    """One phrase for people: "2 CPU threads, bf16 (AMX)", "NVIDIA H200, bf16", "Apple GPU, fp32"."""
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    elif device.type == "mps":
        where = "Apple GPU"
    else:
        where = f"{threads} CPU thread{'s' * (threads != 1)}"
    if precision == torch.float32:
        return f"{where}, fp32"
    return f"{where}, bf16{' (AMX)' * (device.type == 'cpu' and _has_amx())}"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu"


def _has_amx() -> bool:
    # Not a public function, so it may go: then AMX is taken as absent.
    supported = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(supported())
