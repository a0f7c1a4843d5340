"""The tests give the same verdict in every shell, and reach nothing outside their folders."""

from __future__ import annotations

import os

import pytest

from tests import conftest
from tests.environment import LOCAL, UNSET, isolate


@pytest.mark.parametrize("listed", ["", "example.org"])
def test_settings_of_the_shell_do_not_reach_the_tests(listed: str) -> None:
    environ = {**dict.fromkeys(UNSET, "1"), "HOME": "/home/me", "no_proxy": listed}
    isolate(environ)
    assert environ.pop("no_proxy") == ",".join(filter(None, (listed, LOCAL)))
    assert environ == {"HOME": "/home/me", "NO_PROXY": LOCAL}
    isolate(environ)  # in the workers of xdist, which inherit it
    assert environ["NO_PROXY"] == environ["no_proxy"] == LOCAL


def test_every_session_is_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """With S2T_SANDBOX=none and HF_ALLOW_CODE_EVAL=1 the tests of escapes ran without a sandbox."""
    for name in ("S2T_SANDBOX", "HF_ALLOW_CODE_EVAL"):
        assert name not in os.environ
        monkeypatch.setenv(name, "1")
    conftest.pytest_configure()
    assert not {"S2T_SANDBOX", "HF_ALLOW_CODE_EVAL"} & set(os.environ)
