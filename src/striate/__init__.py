"""striate: a ConvNet workbench.

import striate

run = striate.train("photos/", model="resnet18", epochs=10)
run.model.predict("cat.jpg").label
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.api import (
        calc,
        check,
        convert,
        convert_state_dict,
        create,
        evaluate,
        explain_config,
        find_rate,
        load,
        predict,
        summary,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "calc",
    "check",
    "convert",
    "convert_state_dict",
    "create",
    "evaluate",
    "explain_config",
    "find_rate",
    "load",
    "predict",
    "summary",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from striate import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
