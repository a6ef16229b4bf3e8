"""What every family that builds on a classification network promises about that one's weights."""

import pytest

from striate import models
from striate.models.convert import SAME_NAMES, compare
from striate.models.unweighted import unweighted

FAMILIES = [name for name, family in models.families().items() if hasattr(family, "backbone_of")]


def test_there_are_such_families() -> None:
    assert {"deeplab_v3", "deeplab_v3plus"} <= set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_all_weights_that_are_taken_have_their_place(name: str) -> None:
    family = models.families()[name]
    variant, config = next(iter(family.VARIANTS.items()))
    base = family.backbone_of(config)
    if base is None:
        pytest.skip(f"{variant} builds on no network that has weights of its own")
    with unweighted():
        whole, network = models.create(base), models.create(variant)
    report = compare(family.from_backbone(whole.state_dict(), config), network.state_dict(), SAME_NAMES)
    assert (report.unexpected, report.wrong_shape) == ((), ())
    assert len(report.matched) > len(whole.state_dict()) // 3
