"""How networks that name the class of each pixel are trained on photos, where a paper's way does not fit."""

__all__ = ["recipe_for_photos"]


def recipe_for_photos() -> dict[str, dict[str, object]]:
    """Training and augmentation settings for small sets and small machines, from drawn weights too."""
    training: dict[str, object] = {
        "optimiser": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "batch_size": 8,
        "epochs": 60,
    }
    return {"training": training, "augment": {"flip": 0.5, "zoom": [0.5, 2.0], "jitter": 0.2}}
