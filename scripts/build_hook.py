"""Build hook of hatchling: an editable install takes only the start-up hook from outside the package.

Without it, hatchling would copy `model_wrappers` and `tasks` into site-packages, where they would grow stale.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableFiles(BuildHookInterface[Any]):
    """Names the files that an editable wheel holds besides the finder."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each wheel; `version` is `editable` or `standard`."""
        if version == "editable":
            build_data["force_include_editable"] = {"s2t_eval/startup.pth": "s2t_eval.pth"}
