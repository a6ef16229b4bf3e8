"""OpenVINO and what belongs to it, imported so that they report to nobody."""

import sys
from functools import cache
from importlib import import_module
from threading import Lock
from typing import Any

__all__ = ["openvino_core", "unreported"]

_REPORTER = "openvino_telemetry"
_one_at_a_time = Lock()


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


def openvino_core() -> Any:
    """The one `openvino.Core` of this process, with its CPU at hand.

    On processors with AMX each core that computes on the CPU gives the thread in which it is made a stack for
    signal handlers, and when it goes that of the core before it is back, though that one may be gone too:
    after two of them Ctrl-C was the end of the process. So there is one, which stays.

    Its bindings make their table of NumPy's types when it is first needed, and let other threads go on
    meanwhile: one that needed the table too waited for it with the interpreter's lock in hand, so that no
    thread ever went on. So the table is made here, by one thread, before calls side by side can begin.
    """
    with _one_at_a_time:
        return _core()


@cache
def _core() -> Any:
    openvino = unreported("openvino")
    core = openvino.Core()
    core.get_versions("CPU")  # by which its stack is set now, below those of cores that others make
    openvino.Type.f32.to_dtype()  # by which the table of NumPy's types is made
    return core


def _say_nothing(*_: object, **__: object) -> None:
    """In place of a report."""
