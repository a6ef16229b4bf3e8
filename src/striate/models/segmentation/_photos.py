"""How networks that name the class of each pixel are trained on photos, where a paper's way does not fit."""

from striate.models.recipes import recipe_with_adamw

__all__ = ["PHOTOS", "recipe_for_photos"]

PHOTOS: dict[str, object] = {"flip": 0.5, "zoom": [0.5, 2.0], "jitter": 0.2}
"""How photos and their masks are varied."""


def recipe_for_photos() -> dict[str, dict[str, object]]:
    """Training and augmentation settings for small sets and small machines, from drawn weights too."""
    return recipe_with_adamw(dict(PHOTOS))
