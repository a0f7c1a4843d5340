"""Where the backends are in a checkout: the folder `model_wrappers` beside this package.

A wheel holds them as the folder `s2t_eval/model_wrappers`, which Python finds before this file, and
leaves this file out. A module with a `__path__` is a package, so no symbolic link is needed.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[1] / "model_wrappers")]
