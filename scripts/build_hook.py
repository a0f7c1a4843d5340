"""Build hook of hatchling: an editable install includes only the start-up hook from outside the package.

Without it, hatchling would copy `model_wrappers` and `tasks` into site-packages, where the copies would
become outdated.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableFiles(BuildHookInterface[Any]):
    """Adds the start-up hook to the files of an editable wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each wheel; `version` is `editable` or `standard`."""
        if version == "editable":
            build_data["force_include_editable"] = {"s2t_eval/startup.pth": "s2t_eval.pth"}
