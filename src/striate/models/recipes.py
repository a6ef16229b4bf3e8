"""How networks of several tasks are trained where a paper's way does not fit small sets and machines."""

__all__ = ["recipe_with_adamw"]


def recipe_with_adamw(
    augment: dict[str, object], learning_rate: float = 1e-3, clip_norm: float | None = None
) -> dict[str, dict[str, object]]:
    """Training settings that learn from few pictures, from drawn weights too, beside those of `augment`."""
    training: dict[str, object] = {
        "optimiser": "adamw",
        "learning_rate": learning_rate,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "clip_norm": clip_norm,
        "batch_size": 8,
        "epochs": 60,
    }
    return {"training": training, "augment": augment}
