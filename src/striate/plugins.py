"""The folder is the registry: a plugin is a file in a package, found by its name.

`models/classification/resnet.py` is the family "resnet"; nothing files it anywhere else.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from striate.errors import UnknownName

__all__ = ["load", "names"]


def names(package: ModuleType) -> tuple[str, ...]:
    """Names of the plugins in `package`, sorted: its files and folders that do not start with `_`."""
    found = set()
    for folder in map(Path, package.__path__):
        for entry in folder.iterdir():
            is_module = entry.suffix == ".py" or (entry / "__init__.py").is_file()
            if is_module and not entry.name.startswith("_"):
                found.add(entry.stem)
    return tuple(sorted(found))


def load(package: ModuleType, name: str) -> ModuleType:
    """Import one plugin of `package`. Raises UnknownName, with the nearest, if there is none."""
    if name not in names(package):
        raise UnknownName(package.__name__.removeprefix("striate."), name, names(package))
    return import_module(f"{package.__name__}.{name}")
