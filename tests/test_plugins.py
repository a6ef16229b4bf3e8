from pathlib import Path
from types import ModuleType

import pytest

from striate import plugins
from striate.errors import UnknownName


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    folder = tmp_path / "orchard"
    (folder / "pear").mkdir(parents=True)
    (folder / "notes").mkdir()
    for name in ("__init__.py", "apple.py", "_private.py", "readme.txt", "pear/__init__.py"):
        (folder / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    import orchard  # type: ignore[import-not-found]

    return orchard


def test_a_file_or_package_in_the_folder_is_a_plugin_and_nothing_else(package: ModuleType) -> None:
    assert plugins.names(package) == ("apple", "pear")


def test_a_plugin_is_loaded_by_its_name(package: ModuleType) -> None:
    assert plugins.load(package, "apple").__name__ == "orchard.apple"


def test_a_missing_plugin_is_answered_with_the_nearest(package: ModuleType) -> None:
    with pytest.raises(UnknownName, match="did you mean apple"):
        plugins.load(package, "aple")
