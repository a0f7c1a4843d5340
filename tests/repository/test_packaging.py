"""What an installation puts where: wheel, sdist and `pip install -e .`, all without the network."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import pytest

from s2t_eval import __version__
from s2t_eval.model_wrappers import registration
from tests.environment import as_installed

REPOSITORY = Path(__file__).resolve().parents[2]
DIST_INFO = f"s2t_eval-{__version__}.dist-info"
SHIPPED = {".jinja", ".py", ".yaml", ".json", ".jsonl", ".safetensors", ".typed"}
TOPS = (("s2t_eval", ""), *((top, "s2t_eval/") for top in ("model_wrappers", "recipes", "tasks")))
FOLDERS = ("benchmarks", "model_wrappers", "results", "tasks", "tests")
PLACES_AS_JSON = """
import json, sys
from importlib.util import find_spec
import lm_eval.models, lm_eval.tasks.manager
from lm_eval.api.registry import model_registry
lm_eval.tasks.manager.__file__ = "/nonesuch/manager.py"  # its own tasks take seconds to scan
print(json.dumps({
    "package": find_spec("s2t_eval").origin,
    "model_wrappers": find_spec("s2t_eval.model_wrappers.registration").origin,
    "task": str(lm_eval.tasks.manager.TaskManager().task_index["s2t_arith"].yaml_path),
    "backends": [name for name in model_registry if name not in lm_eval.models.MODEL_MAPPING],
    "generic": [str(find_spec(name)) for name in sys.argv[1:] if find_spec(name)],
}))
"""


class Places(NamedTuple):
    """What an interpreter finds: files of ours, our names in lm_eval, modules of generic names."""

    package: str
    model_wrappers: str
    task: str
    backends: list[str]
    generic: list[str]


def python(*arguments: str | Path, executable: Path | str = sys.executable, cwd: Path) -> str:
    """Run an interpreter, expect success and return what it printed."""
    done = subprocess.run(
        [executable, *arguments], cwd=cwd, env=as_installed(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel built from the repository, and the one built from the sdist."""
    direct, by_sdist = tmp_path_factory.mktemp("direct"), tmp_path_factory.mktemp("by_sdist")
    build = ("-m", "build", "--no-isolation", "--outdir")
    python(*build, direct, "--wheel", REPOSITORY, cwd=direct)
    python(*build, by_sdist, REPOSITORY, cwd=by_sdist)
    return next(direct.glob("*.whl")), next(by_sdist.glob("*.whl"))


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A new virtual environment that sees this one's libraries, but not its start-up hook."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=False)
    # A path that a .pth file adds is searched, but the .pth files in it are not read.
    libraries = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (site_packages(folder) / "zz_parent.pth").write_text("\n".join(libraries) + "\n")
    return folder


def site_packages(environment: Path) -> Path:
    [folder] = environment.glob("lib/python*/site-packages")
    return folder


def installed(environment: Path) -> set[str]:
    return {path.name for path in site_packages(environment).iterdir()} - {"zz_parent.pth"}


def pip(environment: Path, *arguments: str | Path) -> None:
    executable = environment / "bin" / "python"
    options = ("--disable-pip-version-check", "--no-input")
    python("-m", "pip", "--python", executable, *arguments, *options, cwd=environment)


def places(environment: Path) -> Places:
    """Ask the environment's interpreter what lm_eval knows and where our parts are."""
    executable = environment / "bin" / "python"
    printed = python("-c", PLACES_AS_JSON, *FOLDERS, executable=executable, cwd=environment)
    return Places(**json.loads(printed))


def files_of_the_package() -> Iterator[str]:
    """Names, as a wheel has them, of the package and of the folders at the top that it takes in."""
    for top, place in TOPS:
        for path in (REPOSITORY / top).rglob("*"):
            name = path.relative_to(REPOSITORY).as_posix()
            if path.suffix in SHIPPED and name != "s2t_eval/model_wrappers.py":
                yield place + name


def test_wheel_holds_the_package_the_hook_and_nothing_else(wheels: tuple[Path, Path]) -> None:
    names = set(ZipFile(wheels[0]).namelist())
    assert {name.split("/")[0] for name in names} == {"s2t_eval", "s2t_eval.pth", DIST_INFO}
    assert set(files_of_the_package()) <= names
    assert "s2t_eval/startup.pth" not in names
    assert f"{DIST_INFO}/licenses/LICENSE" in names


def test_wheel_holds_backends_tasks_and_the_embedded_pair(wheels: tuple[Path, Path]) -> None:
    names = set(ZipFile(wheels[0]).namelist())
    modules = {target.split(":")[0] for target in registration.BACKENDS.values()}
    assert {f"{module.replace('.', '/')}.py" for module in modules} <= names
    assert "s2t_eval/tasks/s2t_arith/s2t_arith.yaml" in names
    assert {"s2t_eval/tasks/_s2t_shared_yaml", "s2t_eval/evaluation/sandbox/inside/program.py"} <= names
    assert any(n.startswith("s2t_eval/embedded/") and n.endswith(".safetensors") for n in names)


def test_wheel_declares_the_entry_points(wheels: tuple[Path, Path]) -> None:
    points = ConfigParser()
    points.read_string(ZipFile(wheels[0]).read(f"{DIST_INFO}/entry_points.txt").decode())
    assert dict(points["lm_eval.models"]) == registration.BACKENDS
    assert dict(points["console_scripts"]) == {"s2t-eval": "s2t_eval.cli:main"}


def test_wheel_from_the_sdist_is_the_same(wheels: tuple[Path, Path]) -> None:
    direct, by_sdist = (ZipFile(wheel) for wheel in wheels)
    assert sorted(direct.namelist()) == sorted(by_sdist.namelist())
    for name in direct.namelist():
        assert direct.read(name) == by_sdist.read(name), name


def test_installed_wheel_works_and_uninstalls(wheels: tuple[Path, Path], environment: Path) -> None:
    pip(environment, "install", "--no-deps", "--no-index", wheels[0])
    assert installed(environment) == {"s2t_eval", "s2t_eval.pth", DIST_INFO}
    found = places(environment)
    assert found.backends == list(registration.BACKENDS)
    for place in (found.package, found.model_wrappers, found.task):
        assert Path(place).is_relative_to(site_packages(environment)), place
    pip(environment, "uninstall", "-y", "s2t-eval")
    assert installed(environment) == set()


def test_editable_install_works_from_the_repository_and_exposes_nothing_else(
    environment: Path,
) -> None:
    pip(environment, "install", "--no-deps", "--no-index", "--no-build-isolation", "-e", REPOSITORY)
    finder = {"_editable_impl_s2t_eval.pth", "_editable_impl_s2t_eval.py"}
    assert installed(environment) - {"__pycache__"} == {*finder, "s2t_eval.pth", DIST_INFO}
    found = places(environment)
    assert found.backends == list(registration.BACKENDS)
    assert Path(found.package).resolve() == REPOSITORY / "s2t_eval" / "__init__.py"
    assert Path(found.model_wrappers).resolve() == REPOSITORY / "model_wrappers" / "registration.py"
    assert Path(found.task) == REPOSITORY / "tasks" / "s2t_arith" / "s2t_arith.yaml"
    assert not [spec for spec in found.generic if str(REPOSITORY) in spec]
