"""Networks for counting only: on the meta device, where tensors have a shape and no memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["unweighted"]


@contextmanager
def unweighted() -> Iterator[None]:
    """Within it networks are built on the meta device, and no starting weights are drawn for them."""
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Leaves out the drawing of weights, which on that device imports torch's compiler: over a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        draws = getattr(func, "__module__", "") == "torch.nn.init" or func in (
            Tensor.normal_,
            Tensor.uniform_,
        )
        if draws:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
