"""A comparison as Markdown for GITHUB_STEP_SUMMARY."""

from __future__ import annotations

import html
from collections.abc import Sequence

from s2t_eval.report.cells import MISSING, delta, p_value, percent, won_lost
from s2t_eval.report.compare import Comparison, Rules, Verdict, p_values_from
from s2t_eval.report.table import md, plain

HEADER = """\
| | task | base | new | n | base % | new % | Δ points (95 %) | won / lost | p (Holm) | \
detectable | tokens | forwards / token | teacher tokens | scorer tokens |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""
MAX_IDS = 50


def markdown(rows: Sequence[Comparison], problems: Sequence[str], rules: Rules) -> str:
    """Headline, table, the documents won and lost, and an explanation of the columns."""
    lines = ["### " + _headline(rows, problems), "", HEADER, *map(_row, rows), ""]
    lines += [f"- **failed:** {md(problem)}" for problem in problems]
    if problems:
        lines.append("")
    for row in rows:
        if row.won or row.lost:
            lines += _flips(row)
    lines.append(
        f"Documents are paired by document and prompt hash. Regression: more than {100 * rules.threshold:g} "
        f"points lost, with a p-value (from {p_values_from(rows)}, with Holm's correction over the rows) of "
        f"at most {rules.alpha:g}. Intervals are from a seeded paired bootstrap. *Detectable* is the true "
        f"difference that the exact McNemar test finds with a power of 80 %, at a p-value of at most "
        f"{rules.alpha:g} without the correction."
    )
    metrics = dict.fromkeys(f"{md(row.task)} {md(row.metric)}" for row in rows)
    lines.append(f"\nScores by lm_eval's metric and filter: {'; '.join(metrics)}.")
    unscored = [f"{md(row.task)}, {md(row.new)}: {row.unscored}" for row in rows if row.unscored]
    if unscored:
        lines.append(f"\nPairs left out because one document has no score: {'; '.join(unscored)}.")
    groups = sorted({f"{md(row.task)} ({row.num_tasks} tasks)" for row in rows if row.num_tasks > 1})
    if groups:
        lines.append(
            f"\nScores of groups are means over all their documents, which are paired: {', '.join(groups)}."
            " lm_eval's own figure of a group may be the mean of its tasks instead, as in reports."
        )
    timed = dict.fromkeys(md(row.new) for row in rows if row.timed_costs)
    if timed:
        lines.append(
            "\nForward passes, prefilled and discarded tokens and the teacher's calls and tokens are no "
            "reason to fail where the teacher's chunks have lengths that depend on the machine's speed "
            "(verify=auto, the default of s2t and takeover under a trigger of the teacher): "
            f"{', '.join(timed)}. With verify=NUMBER in both runs they are compared."
        )
    others = dict.fromkeys(f"{md(row.new)}: {md(row.other_tasks)}" for row in rows if row.other_tasks)
    if others:
        lines.append(
            "\nCosts were not compared where the two results files hold different tasks (documents in "
            f"parentheses), since they are those of the whole file: {'; '.join(others)}."
        )
    return "\n".join(lines) + "\n"


def _headline(rows: Sequence[Comparison], problems: Sequence[str]) -> str:
    if problems:
        return f"❌ {len(problems)} of {len(rows)} comparisons failed"
    lower = sum(row.verdict is Verdict.LOWER for row in rows)
    if regressions := sum(row.verdict is Verdict.REGRESSION for row in rows):
        return f"{regressions} of {len(rows)} comparisons are regressions, which are no reason to fail here"
    passed = f"✅ no regression in {len(rows)} comparisons"
    return passed + (f", {lower} lower within noise" if lower else "")


def _row(row: Comparison) -> str:
    cells = (
        row.verdict.value,
        md(row.task),
        md(row.base),
        md(row.new),
        row.n,
        percent(row.base_score),
        percent(row.new_score),
        delta(row.delta, row.interval),
        won_lost(row),
        p_value(row.p_holm),
        percent(row.detectable),
        _cost(row, "tokens"),
        _cost(row, "forwards_per_token"),
        _cost(row, "teacher_tokens"),
        _cost(row, "scorer_tokens"),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _cost(row: Comparison, name: str) -> str:
    if name not in row.costs:
        return MISSING
    base, new = row.costs[name]
    text = f"{new:.3f}" if name == "forwards_per_token" else f"{new:,.0f}"
    change = f"{100 * (new / base - 1):+.1f} %" if base else "new"
    return text if new == base else f"{text} ({change})"


def _flips(row: Comparison) -> list[str]:
    name = html.escape(plain(f"{row.task}, {row.new}"), quote=False)
    return [
        f"<details><summary>{name}: {len(row.won)} won, {len(row.lost)} lost</summary>",
        "",
        f"won (doc_id): {_ids(row.won)}",
        "",
        f"lost (doc_id): {_ids(row.lost)}",
        "",
        "</details>",
        "",
    ]


def _ids(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - MAX_IDS} more" if len(ids) > MAX_IDS else ""
    return (", ".join(map(str, ids[:MAX_IDS])) or "none") + more
