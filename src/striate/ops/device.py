"""Which device to compute on, and how to have it compute float32 in full."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from striate.errors import EnvironmentProblem, UsageError

__all__ = ["choose_device", "exact_float32"]


def choose_device(name: str = "auto") -> torch.device:
    """The device `name` means: "auto" (CUDA, else Apple's MPS, else the CPU), "cpu", "cuda", "cuda:1", "mps".

    Raises UsageError for any other name, EnvironmentProblem where this machine has no such device.
    """
    if name == "auto":
        return torch.device(_best())
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (
        colon and not (kind == "cuda" and re.fullmatch("[0-9]{1,3}", number))
    ):
        raise UsageError(f"device {name!r}", "there is no such device", "use auto, cpu, cuda, cuda:1 or mps")
    present = _count(kind)
    if int(number or 0) >= present:
        raise EnvironmentProblem(
            f"device {name!r}",
            f"torch {torch.__version__} sees {present or 'no'} {kind} device{'s' * (present != 1)} here",
            f"use a number below {present}"
            if present
            else f"use auto or cpu, or install a torch built for {kind}",
        )
    return torch.device(name)


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Within it, `device` computes float32 in float32: no autocast, no convolution in TF32.

    On CUDA cuDNN's algorithms are not chosen by the clock either. All is put back after; matrix products,
    which torch keeps in float32 unless told otherwise, are left as they are.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            cudnn = torch.backends.cudnn
            # cuDNN rounds float32 convolutions to TF32, 10 bits of mantissa, unless told not to. What is
            # not named here would fall to its default, so that a run held to determinism would lose it.
            stack.enter_context(
                cudnn.flags(enabled=True, deterministic=cudnn.deterministic, allow_tf32=False)
            )
        yield


def _best() -> str:
    return next(kind for kind in ("cuda", "mps", "cpu") if _count(kind))


def _count(kind: str) -> int:
    """How many devices of `kind` torch can use."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return 1 if kind == "cpu" else int(torch.backends.mps.is_available())
