"""The start-up hook: registers our backends and tasks when, and only when, lm_eval is imported.

lm_eval 0.4.13 has no plug-ins, and a name that is registered before `lm_eval.models` is imported hides
all of its own. So `startup.pth`, which is installed in site-packages as `s2t_eval.pth`, puts a finder
on `sys.meta_path`. It passes the imports of two modules of lm_eval to `find_spec` below, which runs an
action after the module's execution.

Remove this file and `startup.pth` once the oldest supported lm_eval reads the entry point group
`lm_eval.models` (merged upstream after 0.4.13, #4013) and finds the tasks of plug-ins (#4015).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from s2t_eval.model_wrappers import registration

# Module -> action after its import. startup.pth repeats the names.
ACTIONS: dict[str, Callable[[], None]] = {
    "lm_eval.models": registration.add_models,
    "lm_eval.tasks.manager": registration.add_task_folder,
}


def find_spec(
    hook: MetaPathFinder, name: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    """Find a module of `ACTIONS` with the finders after `hook`, and run its action after its execution."""
    for finder in sys.meta_path[sys.meta_path.index(hook) + 1 :]:
        spec = finder.find_spec(name, path, target)
        if spec is not None:
            if spec.loader is not None:
                _follow(spec.loader, name)
            return spec
    return None


def _follow(loader: Loader, name: str) -> None:
    # Only this instance's exec_module is replaced. It remains the loader that was found, so its source,
    # resources and reload work as before.
    execute = loader.exec_module

    def execute_then_act(module: ModuleType) -> None:
        execute(module)
        if module.__name__ == name:
            _act(name)

    loader.exec_module = execute_then_act  # type: ignore[method-assign]


def _act(name: str) -> None:
    try:
        ACTIONS[name]()
    except Exception as error:  # our failure must not break the import of lm_eval
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"s2t_eval: not added to {name}: {reason}", file=sys.stderr)
