"""What the bits of a run's result depend on, beside its settings and its data."""

import platform
from collections.abc import Mapping

import torch

from striate.models.network import Network
from striate.ops.device import choose_device
from striate.training.config import TrainingConfig
from striate.training.device import choose_precision, choose_threads
from striate.training.processes import team

__all__ = ["circumstances"]


def circumstances(network: Network, config: TrainingConfig, versions: Mapping[str, str]) -> dict[str, str]:
    """By name: `versions` of the libraries, device, precision, threads, processes.

    Two runs whose settings, data and circumstances are equal end with the same bits where the operations
    are deterministic.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    return {
        **versions,
        "device": _device_name(device),
        "precision": "fp32" if precision == torch.float32 else "bf16",
        "threads": str(choose_threads(config.threads, network, config.batch_size)),
        "processes": str(team().count),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple GPU, macOS {platform.mac_ver()[0]}"
    # Kernels are chosen by the processor's widest instructions, and round accordingly.
    return f"{platform.machine()} CPU with {torch.backends.cpu.get_cpu_capability()}"
