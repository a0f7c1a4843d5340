"""Which package may import which: one direction, every package, no cycle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "s2t_eval"

FLOORS = (
    ("artifacts", "embedded", "method_table", "ranges", "statistics"),
    ("evaluation", "models", "selection"),
    ("engine",),
    ("remote",),
    ("methods",),
    ("report", "training", "model_wrappers"),
    ("analysis", "pipelines"),
    ("reproduce",),
    ("cli",),
    ("__main__",),
)
"""From the ground up: a package imports only from floors below its own."""
KNOWS_LM_EVAL = {"model_wrappers", "pipelines"}
DECODING = ("selection", "models", "engine", "remote", "methods", "model_wrappers")


def modules() -> Iterator[tuple[str, str, Path]]:
    """Package (or module at the top), dotted name and file of each module of s2t_eval."""
    roots = [(PACKAGE, "s2t_eval"), (REPOSITORY / "model_wrappers", "s2t_eval.model_wrappers")]
    for root, name in roots:
        for path in sorted(root.rglob("*.py")):
            if path in (PACKAGE / "model_wrappers.py", PACKAGE / "__init__.py"):
                continue  # the link to the folder beside, and the version
            parts = [*name.split("."), *path.relative_to(root).with_suffix("").parts]
            yield parts[1], ".".join(parts), path


def imported(path: Path) -> Iterator[str]:
    """Every module a file names in an import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            # `from s2t_eval import policy` imports s2t_eval.policy.
            names = [f"s2t_eval.{alias.name}" for alias in node.names]
            yield from names if node.module == "s2t_eval" else [node.module]


def packages_used() -> dict[str, set[str]]:
    """Package of s2t_eval -> the others that it imports."""
    uses: dict[str, set[str]] = {}
    for package, _, path in modules():
        ours = {name.split(".")[1] for name in imported(path) if name.startswith("s2t_eval.")}
        uses.setdefault(package, set()).update(ours - {package, "__version__"})
    return uses


def test_every_package_has_its_floor() -> None:
    assert sorted(packages_used()) == sorted(package for floor in FLOORS for package in floor)


def test_imports_point_down() -> None:
    below: set[str] = set()
    uses = packages_used()
    for floor in FLOORS:
        for package in floor:
            upward = uses[package] - below
            assert not upward, f"s2t_eval.{package} imports {sorted(upward)}, which is not below it"
        below |= set(floor)


def test_modules_of_a_package_do_not_import_each_other_in_a_circle() -> None:
    known = {name for _, name, _ in modules()}
    graph = {name: {m for m in imported(path) if m in known} - {name} for _, name, path in modules()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_who_imports_lm_eval() -> None:
    importers = {
        package
        for package, _, path in modules()
        if any(name.split(".")[0] == "lm_eval" for name in imported(path))
    }
    assert importers == KNOWS_LM_EVAL


@pytest.mark.parametrize("package", DECODING)
def test_decoding_names_nothing_of_training_reports_or_analysis(package: str) -> None:
    assert not packages_used()[package] & {"training", "report", "analysis", "pipelines", "cli"}


def test_a_backend_loads_no_training_and_no_reports() -> None:
    code = """
import sys
import s2t_eval.model_wrappers.greedy, s2t_eval.model_wrappers.s2t_local, s2t_eval.model_wrappers.tah
loaded = {name.split(".")[1] for name in sys.modules if name.startswith("s2t_eval.")}
print(sorted(loaded & {"training", "report", "analysis", "pipelines", "cli"}), "matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[] False\n"), done.stderr


PICKLING_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "sqlitedict"}
PICKLING_FUNCTIONS = {"torch.load", "torch.save", "pd.read_pickle", "np.load"}
MAY = {
    "s2t_eval.models.loading": {"pickle.UnpicklingError"},
    "s2t_eval.remote.protocol": {"np.load(allow_pickle=False)"},
}
"""Module -> what it may use: the error of a pickle that transformers reads, and arrays without objects."""


def pickling(path: Path) -> Iterator[str]:
    """What a file uses that reads or writes pickles, or could."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in PICKLING_MODULES)
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in PICKLING_MODULES:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            if function in PICKLING_FUNCTIONS or function.endswith(".to_pickle"):
                named = [ast.unparse(word) for word in node.keywords if word.arg == "allow_pickle"]
                yield f"{function}({', '.join(named)})"


def test_nothing_is_pickled() -> None:
    """README and SECURITY.md promise it; lm_eval's own response cache is the exception that they name."""
    found = {name: set(pickling(path)) for _, name, path in modules()}
    assert {name: uses for name, uses in found.items() if uses} == MAY
