"""OpenVINO and what belongs to it, imported so that they report to nobody."""

import sys
from importlib import import_module
from typing import Any

__all__ = ["unreported"]

_REPORTER = "openvino_telemetry"


def unreported(name: str) -> Any:
    """The module `name`, "openvino" or "nncf", without the one by which they tell their makers of their use.

    Importing OpenVINO is enough for it to send a message to an analytics service, and NNCF sends one for each
    model. Both do without where that module is missing, so here it is, for the rest of the process; where
    someone has imported it before, it is made to say nothing from now on.
    """
    reporter: Any = sys.modules.setdefault(_REPORTER, None)  # type: ignore[arg-type]
    if reporter is not None:
        for method in ("send_event", "start_session", "end_session", "send_error", "send_stack_trace"):
            setattr(reporter.Telemetry, method, _say_nothing)
    return import_module(name)


def _say_nothing(*_: object, **__: object) -> None:
    """In place of a report."""
