"""striate: a ConvNet workbench.

import striate

run = striate.train("photos/", model="resnet18", epochs=10)
run.model.predict("cat.jpg").label
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.api import (
        calc,
        check,
        compare,
        convert,
        convert_state_dict,
        create,
        evaluate,
        explain,
        explain_config,
        export,
        find_rate,
        label_errors,
        load,
        predict,
        report,
        summary,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "calc",
    "check",
    "compare",
    "convert",
    "convert_state_dict",
    "create",
    "evaluate",
    "explain",
    "explain_config",
    "export",
    "find_rate",
    "label_errors",
    "load",
    "predict",
    "report",
    "summary",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from striate import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Verbs(ModuleType):
    """This package: `explain` and `export` are its verbs, although packages of its own bear their names."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import of such a package would put it in the verb's place; `sys.modules` has it all the same.
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Verbs
