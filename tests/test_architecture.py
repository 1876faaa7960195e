"""The table of rooms in the design: imports point down, there are no cycles, and help is instant."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "transformer_mt"

# Row 8 is the top. A module imports rows below its own, and within its row only its own room.
ROWS = {
    8: {"__main__"},
    7: {"cli"},
    6: {"checkup"},
    5: {"experiment", "interactive", "report", "serve", "starter"},
    4: {"evaluate", "workers", "alignment", "heat_map", "picture", "export"},
    3: {"translate", "training"},
    2: {"decoding", "checkpoint", "output_file"},
    1: {"model", "data", "rundir"},
    0: {"config", "config_file", "errors", "special", "terminal", "device"}
    | {"memory", "parallel", "sealed", "streams", "strict_yaml"},
}
ROW_OF = {room: row for row, rooms in ROWS.items() for room in rooms}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def imports(module: str, *, top_level_only: bool = False) -> set[str]:
    """The modules of the package that a module imports, wherever in its text."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: imports are absolute"
            name = str(node.module)
            found |= {f"{name}.{alias.name}" if f"{name}.{alias.name}" in MODULES else name for alias in node.names}
    return {name for name in found if name.split(".")[0] == PACKAGE}


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_module_has_a_room_in_the_table() -> None:
    assert {room(module) for module in MODULES if module != PACKAGE} <= set(ROW_OF)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {PACKAGE}))
def test_imports_point_down(module: str) -> None:
    for imported in imports(module) - {PACKAGE}:
        ours, theirs = ROW_OF[room(module)], ROW_OF[room(imported)]
        allowed = theirs < ours or room(imported) == room(module) or ours == theirs == 0 or room(module) == "__main__"
        assert allowed, f"{module} (row {ours}) imports {imported} (row {theirs})"


def test_imports_make_no_cycle() -> None:
    graph = {module: imports(module) - {PACKAGE, module} for module in MODULES if module != PACKAGE}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_training_knows_nothing_of_search() -> None:
    reached, left = set[str](), [module for module in MODULES if room(f"{module}.") == "training"]
    while left:
        module = left.pop()
        if module not in reached:
            reached.add(module)
            left += imports(module) - {PACKAGE}
    assert "transformer_mt.training.trainer" in reached
    assert not [module for module in reached if room(module) in ("decoding", "translate", "evaluate")]


@pytest.mark.parametrize("module", [module for module, path in MODULES.items() if path.name == "__init__.py"])
def test_packages_hand_nothing_on_that_costs_an_import(module: str) -> None:
    assert not imports(module, top_level_only=True)


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], []], ids=["help", "train help", "nothing"])
def test_help_loads_no_heavy_library(command: list[str]) -> None:
    program = (
        "import sys; from transformer_mt.__main__ import run; run(sys.argv[1:]); "
        "print([m for m in ('torch', 'numpy', 'sentencepiece', 'datasets', 'sacrebleu') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
