"""Whether the comparison works at all on this machine, and what to install where it does not."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

KNOWN = (
    (r"x+\frac{1}{2}", "0.5+x", True),
    (r"2\sqrt{3}", r"\sqrt{12}", True),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}", False),
    ("x+1", "x+2", False),
)
"""Pairs that need math-verify's grammar, with their verdicts."""
PACKAGES = ("math-verify", "latex2sympy2_extended", "antlr4-python3-runtime", "sympy")
EXPECTED = (
    "antlr4-python3-runtime 4.9.3, 4.11.0 or 4.13.2, whichever latex2sympy2_extended finds a grammar for"
)
INSTALL = "pip install 'math-verify[antlr4-11-0]'"


def fault() -> str | None:
    """What is wrong with the comparison in one line, None where it works.

    A broken grammar raises nothing that a caller would see: it reads no answer, and every score is 0.
    """
    try:
        from s2t_eval.evaluation.grading.equality import same
        from s2t_eval.evaluation.grading.values import grammar

        grammar()
        wrong = next((pair for pair in KNOWN if same(pair[0], pair[1]) is not pair[2]), None)
    except Exception as error:
        return _line(f"{type(error).__name__}: {error}")
    if wrong is None:
        return None
    gold, answer, is_same = wrong
    wanted, got = ("be equal", "are not") if is_same else ("differ", "do not")
    return _line(f"`{gold}` and `{answer}` should {wanted} and {got}")


def _line(reason: str) -> str:
    found = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    reason = " ".join(reason.split())[:300]
    return (
        f"answers cannot be compared on this machine ({reason}): found {found}; expected {EXPECTED}; "
        f"install them with: {INSTALL}"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"
