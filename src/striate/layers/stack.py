"""Layers in a row, each under its name: the trunk of a network without branches."""

from collections.abc import Mapping

from torch import Tensor, nn

__all__ = ["Stack"]


class Stack(nn.Sequential):
    """Named layers, one after the other; `maps` also gives what comes out on the way."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def cut(self, last: str) -> None:
        """Drop the layers behind the one named `last`."""
        names = list(self._modules)
        for name in names[names.index(last) + 1 :]:
            delattr(self, name)

    def maps(self, values: Tensor, names: Mapping[str, str]) -> dict[str, Tensor]:
        """The outputs of the layers in `names`, in order, each under the name that `names` has for it.

        A layer that works in place on the output of the one before changes that one's output too.
        """
        found = {}
        for layer_name, layer in self.named_children():
            values = layer(values)
            if layer_name in names:
                found[names[layer_name]] = values
        return found
