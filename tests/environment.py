"""The environment of the tests: what the caller's shell exports for other programs must not reach them."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from s2t_eval.artifacts.software import REPOSITORY_VARIABLES

UNSET = (
    # Without a sandbox the tests of escapes would end all processes of the user and delete all their files.
    *("S2T_SANDBOX", "HF_ALLOW_CODE_EVAL"),
    # They change the width and the colours of the help.
    *("FORCE_COLOR", "CLICOLOR_FORCE", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"),
    # git exports them to its hooks and to `rebase -x`; they take precedence over `git -C FOLDER`.
    *REPOSITORY_VARIABLES,
)
CHECKOUT = ("S2T_EVAL_NO_HOOK", "PYTHONPATH")
"""With them an interpreter does not find the installed package as a user's does."""
LOCAL = "127.0.0.1,localhost"
"""The tests' servers are on this machine, so a proxy must not be used for them."""


def isolate(environ: MutableMapping[str, str]) -> None:
    """Remove the variables of `UNSET` from an environment, and except `LOCAL` from its proxies."""
    for name in UNSET:
        environ.pop(name, None)
    for name in ("no_proxy", "NO_PROXY"):
        listed = environ.get(name, "")
        if LOCAL not in listed:
            environ[name] = ",".join(filter(None, (listed, LOCAL)))


def as_installed(**more: str) -> dict[str, str]:
    """The environment for a new interpreter that finds the package where it is installed, with its hook."""
    return {**{name: value for name, value in os.environ.items() if name not in CHECKOUT}, **more}
