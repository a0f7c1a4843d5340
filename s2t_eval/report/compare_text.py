"""A comparison as Markdown for GITHUB_STEP_SUMMARY."""

from __future__ import annotations

import html
from collections.abc import Sequence

from s2t_eval.report.compare import Comparison, Rules, Verdict
from s2t_eval.report.table import md, plain

HEADER = """\
| | task | base | new | n | base % | new % | Δ points (95 %) | won / lost | p (exact, Holm) | \
detectable | tokens | forwards / token |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""
MOST_IDS = 50


def markdown(rows: Sequence[Comparison], problems: Sequence[str], rules: Rules) -> str:
    """Headline, table, what is won and lost, and how to read it."""
    lines = ["### " + _headline(rows, problems), "", HEADER, *map(_row, rows), ""]
    lines += [f"- **failed:** {md(problem)}" for problem in problems]
    if problems:
        lines.append("")
    for row in rows:
        if row.won or row.lost:
            lines += _flips(row)
    lines.append(
        f"Documents are paired by document and prompt hash. Regression: more than {100 * rules.threshold:g} "
        f"points lost and a p-value (exact McNemar for right and wrong, Holm over the rows) of at most "
        f"{rules.alpha:g}. Interval: paired bootstrap, seeded. *Detectable*: the true difference that this "
        f"test would find in four of five repetitions."
    )
    unscored = [f"{md(row.task)}, {md(row.new)}: {row.unscored}" for row in rows if row.unscored]
    if unscored:
        lines.append(f"\nPairs without a score on a side, left out: {'; '.join(unscored)}.")
    return "\n".join(lines) + "\n"


def _headline(rows: Sequence[Comparison], problems: Sequence[str]) -> str:
    if problems:
        return f"❌ {len(problems)} of {len(rows)} comparisons failed"
    doubts = sum(row.verdict is Verdict.DOUBT for row in rows)
    passed = f"✅ no regression in {len(rows)} comparisons"
    return passed + (f", {doubts} lower within noise" if doubts else "")


def _row(row: Comparison) -> str:
    delta = f"{100 * row.delta:+.1f}"
    if row.interval.low == row.interval.low:
        delta += f" ({100 * row.interval.low:+.1f} to {100 * row.interval.high:+.1f})"
    detectable = f"{100 * row.detectable:.1f}" if row.detectable == row.detectable else "–"
    cells = (
        row.verdict.value,
        md(row.task),
        md(row.base),
        md(row.new),
        row.n,
        f"{100 * row.base_score:.1f}",
        f"{100 * row.new_score:.1f}",
        delta,
        f"{len(row.won)} / {len(row.lost)}",
        f"{row.p_holm:.2g}",
        detectable,
        _cost(row, "tokens"),
        _cost(row, "forwards_per_token"),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _cost(row: Comparison, name: str) -> str:
    if name not in row.costs:
        return "–"
    old, now = row.costs[name]
    text = f"{now:,.0f}" if name == "tokens" else f"{now:.3f}"
    change = f"{100 * (now / old - 1):+.1f} %" if old else "new"
    return text if now == old else f"{text} ({change})"


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
    more = f" and {len(ids) - MOST_IDS} more" if len(ids) > MOST_IDS else ""
    return (", ".join(map(str, ids[:MOST_IDS])) or "none") + more
