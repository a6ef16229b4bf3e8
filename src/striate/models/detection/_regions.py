"""How networks that read regions are fed and trained: what Fast R-CNN and Faster R-CNN have in common."""

__all__ = ["GRAY", "recipe_for_regions"]

GRAY = 114
"""About the mean of photos, so that what pads them is about 0 for the network."""


def recipe_for_regions(has_learned: bool, augment: dict[str, object]) -> dict[str, dict[str, object]]:
    """Training and augmentation settings, for sets much smaller than the papers'.

    Those whose backbone should begin with learned weights have the papers' momentum and weight decay, and a
    rate for batches of 4; the others AdamW, which learns faster from drawn ones. A cosine instead of a rate
    cut by hand, and a limit on the gradient, as first steps on few pictures are uneasy.
    """
    training: dict[str, object] = {
        "optimiser": "sgd" if has_learned else "adamw",
        "learning_rate": 0.002 if has_learned else 1e-3,
        "momentum": 0.9,
        "weight_decay": 5e-4 if has_learned else 0.01,
        "schedule": "cosine",
        "warmup_epochs": 1.0,
        "clip_norm": 10.0,
        "batch_size": 4,
        "epochs": 24,
    }
    return {"training": training, "augment": augment}
