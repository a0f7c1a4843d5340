"""Self-check of the comparison: pairs with known verdicts, and the packages to install if it fails."""

from __future__ import annotations

from s2t_eval.artifacts.software import installed_version

KNOWN_PAIRS = (
    (r"x+\frac{1}{2}", "0.5+x", True),
    (r"2\sqrt{3}", r"\sqrt{12}", True),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}", False),
    ("x+1", "x+2", False),
)
"""Pairs with their verdicts, whose comparison needs math-verify's grammar."""
PACKAGES = ("math-verify", "latex2sympy2_extended", "antlr4-python3-runtime", "sympy")
EXPECTED_VERSIONS = (
    "antlr4-python3-runtime 4.9.3, 4.11.0 or 4.13.2, whichever latex2sympy2_extended finds a grammar for"
)
INSTALL_COMMAND = "pip install 'math-verify[antlr4-11-0]'"


def comparison_problem() -> str | None:
    """Describe in one line why answers cannot be compared; None if the comparison works.

    A broken grammar raises no error during a comparison: it parses no answer, and every score is 0.
    """
    try:
        from s2t_eval.evaluation.grading.equivalence.compare import is_equivalent
        from s2t_eval.evaluation.grading.equivalence.parsing import load_grammar

        load_grammar()
        failed = next((pair for pair in KNOWN_PAIRS if is_equivalent(pair[0], pair[1]) is not pair[2]), None)
    except Exception as error:
        return _message(f"{type(error).__name__}: {error}")
    if failed is None:
        return None
    gold, answer, is_same = failed
    expected, actual = ("be equal", "are not") if is_same else ("differ", "do not")
    return _message(f"`{gold}` and `{answer}` should {expected} and {actual}")


def _message(reason: str) -> str:
    installed = ", ".join(f"{name} {installed_version(name) or '(not installed)'}" for name in PACKAGES)
    reason = " ".join(reason.split())[:300]
    return (
        f"answers cannot be compared on this machine ({reason}): found {installed}; "
        f"expected {EXPECTED_VERSIONS}; install them with: {INSTALL_COMMAND}"
    )
