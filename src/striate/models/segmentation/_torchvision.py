"""Names of torchvision's segmentation networks: what their heads have in common."""

from collections.abc import Iterator

__all__ = ["fcn_head_modules"]


def fcn_head_modules(there: str, here: str) -> Iterator[tuple[str, str]]:
    """Name there and here of each module with weights of a head that is an `FCNHead` here."""
    yield from ((f"{there}.0", f"{here}.hidden.conv"), (f"{there}.1", f"{here}.hidden.norm"))
    yield (f"{there}.4", f"{here}.classifier")
