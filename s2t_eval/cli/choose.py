"""`s2t-eval choose`: a selector's default is the setting that answers most development problems correctly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class Choose:
    """Choose a selector's default trigger and tau by answers to development problems.

    Args:
        results: runs on a task whose name ends in `_dev`, such as those of `s2t-eval scan`.
        selector: selector folder; its default is rewritten.
        proposer: the model that proposed the candidates of the runs to compare: `base` is the untouched
            student, `tuned` the student with the adapter.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval choose scan-dev --selector selector"

    results: tuple[Path, ...] = field(kw_only=False)
    selector: Path
    proposer: Literal["base", "tuned"] = "base"

    def run(self) -> None:
        """Choose, write, and print the compared runs."""
        from s2t_eval.methods.selector_info import write_info
        from s2t_eval.report.cells import accuracy, percent
        from s2t_eval.report.choose import choose
        from s2t_eval.report.runs import read_runs

        chosen = choose(self.selector, read_runs(list(self.results)), self.proposer)
        write_info(self.selector, chosen.info)
        for place, candidate in enumerate(chosen.ranked):
            score = accuracy(candidate)
            rate = percent(candidate.cost.get("realised_rate", float("nan")))
            counted = "" if score.correct is None else f"{score.correct} of {score.n} correct, "
            print(
                f"{'  ' if place else '->'} {candidate.label}: {counted}{percent(score.value)} % "
                f"(95 % {score.interval_text}), fired at {rate} % of tokens"
            )
        default = chosen.info.default(self.proposer)
        print(
            f"{self.selector}: default of proposer {self.proposer}: trigger {default.trigger}, tau "
            f"{default.tau}, chosen by {default.chosen}"
        )
