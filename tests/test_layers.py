"""The house's layers: who may import whom, read from the imports themselves."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import striate

ROOT = Path(striate.__file__).parent

VOCABULARY = {"errors", "structures", "config", "plugins", "files", "modelfile"}
TORCH = {"torch", "torchvision", "timm"}

# Longest prefix wins: `runtime.pytorch` has a row of its own, `runtime.predictor` falls under `runtime`.
# fmt: off
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "structures": {"errors"},
    "config": {"errors"},
    "plugins": {"errors"},
    "files": {"errors"},
    "modelfile": {"errors", "files", "structures"},
    "ops": {"ops"},
    "layers": {"layers", "ops"},
    "models": {"models", "layers", "ops"},
    "data": {"data", "ops"},
    "metrics": {"metrics"},
    "tasks": {"tasks", "metrics", "data.preprocess"},
    "training": {"training", "models", "layers", "tasks", "data", "metrics", "ops"},
    "runtime": {
        "runtime", "tasks", "data.preprocess", "data.decode", "data.plain_xml", "data.proposals",
    },
    "runtime.pytorch": {"runtime", "models", "layers", "ops"},
    "export": {"export", "models", "tasks", "runtime", "metrics"},
    "explain": {"explain", "models", "tasks", "ops", "layers"},
    "reports": {"reports"},
    "api": {
        "api", "data", "explain", "export", "layers", "metrics", "models", "ops", "reports",
        "runtime", "tasks", "training",
    },
    "__init__": {"api"},
    "cli": {"cli", "api"},
    "__main__": {"cli"},
}
# fmt: on

TORCH_FREE = (
    "errors", "structures", "config", "plugins", "files", "modelfile", "metrics", "tasks", "cli", "api",
    "data.dataset", "data.decode", "data.preprocess", "data.tree", "data.formats", "data.check", "data.split",
    "data.storage", "data.builtin", "data.facts", "data.findings", "data.similarity", "data.zips",
    "data.unlisted", "data.cache", "data.disk_cache", "data.disk_space", "data.identity", "data.draws",
    "data.augment", "data.batches", "data.mixing", "data.tars", "data.manifest", "data.pack",
    "data.masks", "data.mask_meaning", "data.class_list", "data.outlines", "data.box_findings",
    "data.overlaps", "data.plain_xml", "data.proposals", "runtime.__init__", "runtime.predictor",
    "runtime.engine", "runtime.engines", "runtime.card_file", "runtime._cores", "runtime._onnx_file",
    "runtime.unreported", "runtime._protobuf", "runtime.wiring", "reports",
)  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def prefix_of(module: str, table: "dict[str, set[str]] | tuple[str, ...]") -> str | None:
    parts = module.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in table), None)


def imports(source: str, module: str = "") -> Iterator[str]:
    """Every module imported anywhere in `source`, functions included; not those for type checking alone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(module: str, source: str) -> list[str]:
    row = prefix_of(module, MAY_IMPORT)
    if row is None:
        return [f"{module}: no row of the layer table covers it"]
    allowed = MAY_IMPORT[row] | (VOCABULARY if row not in VOCABULARY else set())
    found = []
    for name in imports(source, module):
        inside = name.removeprefix("striate.")
        if inside == name or prefix_of(inside, tuple(exists())) is None:
            continue
        if prefix_of(inside, tuple(allowed)) is None:
            found.append(f"{module} imports {name}")
    return found


def exists() -> set[str]:
    names = {name.removesuffix(".__init__") for name, _ in modules()}
    return {name for name in names if name != "__init__"}


@pytest.mark.parametrize(
    ("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_imports_keep_the_layer_table(module: str, path: Path) -> None:
    assert violations(module, path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("models.classification.resnet", "from striate.data.check import check"),
        ("metrics.accuracy", "def f():\n    from striate.tasks import classification"),
        ("training.fit", "import striate.api"),
        ("explain.trace", "from striate.training.fit import fit"),
        ("cli.train", "from striate.training.fit import fit"),
        ("errors", "from striate.structures import Preprocess"),
        ("data.augment", "from striate.tasks import classification"),
        ("runtime.predictor", "from striate.models import create"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    assert violations(module, source)


@pytest.mark.parametrize(
    ("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_torch_free_modules_import_no_torch_at_their_top(module: str, path: Path) -> None:
    if prefix_of(module, TORCH_FREE) is None:
        return
    top_level = _without_functions(ast.parse(path.read_text("utf-8")))
    assert not {name.split(".")[0] for name in imports(ast.unparse(top_level))} & TORCH


def _without_functions(tree: ast.Module) -> ast.Module:
    kept = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return ast.Module(kept, [])


def test_the_core_imports_without_torch() -> None:
    names = sorted({name.removesuffix(".__init__") for name, _ in modules() if prefix_of(name, TORCH_FREE)})
    code = "import sys\nfor name in ('torch', 'torchvision', 'sklearn'):\n    sys.modules[name] = None\n"
    code += "".join(f"import striate.{name}\n" for name in names)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_metrics_need_nothing_but_numpy() -> None:
    allowed = {"numpy", "striate", "hotcoco"} | set(sys.stdlib_module_names)
    for module, path in modules():
        if module.startswith("metrics"):
            roots = {name.split(".")[0] for name in imports(path.read_text("utf-8"))}
            assert roots <= allowed, module
