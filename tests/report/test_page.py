"""The page in a real browser: tables sort, figures are drawn, the viewer shows the candidates of a step."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.cli import main
from tests.report_helpers import EMBEDDED, REAL, ROWS

sync_api = pytest.importorskip("playwright.sync_api", reason="the page's test drives it with playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking".split()
TRACES = sorted((EMBEDDED / "traces").glob("*.jsonl"))
SCREENSHOTS = os.environ.get("S2T_EVAL_SCREENSHOTS")
"""A folder to keep pictures in, for a person to look at."""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    traces = [str(path) for path in TRACES]
    # The name puts published numbers beside measured ones.
    arguments = ["--mixed", "--student", "qwen-0.5b=qwen/Qwen2.5-0.5B-Instruct", "--trace", *traces]
    main(["report", str(EMBEDDED), str(REAL), "--format", "html", "--out", str(folder), *arguments])
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(page_file: Path) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        shown = browser.new_page(viewport={"width": 1240, "height": 900})
        problems: list[str] = []
        requested: list[str] = []
        shown.on("pageerror", lambda error: problems.append(str(error)))
        shown.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        shown.on("request", lambda request: requested.append(request.url))
        shown.goto(page_file.as_uri())
        yield shown
        browser.close()
        assert problems == [] and requested == [page_file.as_uri()]


def test_the_page_needs_nothing_from_elsewhere(page_file: Path) -> None:
    text = page_file.read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", text)
    assert not re.search(r"url\((?!#)", text)


def test_figures_are_drawn(page: Any) -> None:
    assert page.locator("figure svg").count() == 2
    assert page.locator("figure svg").first.bounding_box()["width"] > 400
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    if SCREENSHOTS:
        page.screenshot(path=f"{SCREENSHOTS}/page.png", full_page=True)


def test_a_click_on_a_head_sorts_within_blocks(page: Any) -> None:
    table = page.locator("#ablation")
    body = table.locator("tbody").first

    def column() -> list[float]:
        return [float(cell) for cell in body.locator("tr:not(.heading) td:nth-child(3)").all_inner_texts()]

    head = table.locator("thead th").nth(2)
    head.click()
    assert column() == sorted(column(), reverse=True) and len(column()) == len(ROWS) - 1
    assert head.get_attribute("aria-sort") == "descending"
    head.click()
    assert column() == sorted(column())
    assert body.locator("tr").first.get_attribute("class") == "heading"
    labels = body.locator("tr:not(.heading) td:nth-child(1)").all_inner_texts()
    assert labels[0].startswith("Maj@") and labels[-1] == "Teacher alone"


def test_published_numbers_do_not_sort_and_are_grey(page: Any) -> None:
    table = page.locator("#main")
    table.locator("thead th").nth(1).click()
    qwen = table.locator("tbody").nth(1)
    values = qwen.locator("tr:not(.heading) td:nth-child(2)").all_inner_texts()
    measured = [float(value.split()[0]) for value in values if not value.startswith("(")]
    assert measured == sorted(measured, reverse=True) and len(measured) >= 2
    assert "21.9 (44.5)" in values and values[-1].startswith("(")
    grey = qwen.locator(".published").first.evaluate("(e) => getComputedStyle(e).color")
    assert grey == "rgb(107, 114, 128)"


def test_the_viewer_shows_candidates_probabilities_and_choice(page: Any) -> None:
    records = [json.loads(line) for path in TRACES for line in path.read_text().splitlines()]
    items = page.locator("#list button")
    assert items.count() == len(records)
    flips = [r for r in records if any(s["picked"] != s["greedy"] for s in r["steps"])]
    at = page.evaluate("""JSON.parse(document.getElementById("data").textContent)
        .findIndex((text) => text.steps.some((step) => step.is_flip))""")
    items.nth(at).click()
    text = page.evaluate(f'JSON.parse(document.getElementById("data").textContent)[{at}]')
    assert items.nth(at).get_attribute("aria-current") == "true"
    assert page.locator("#text").inner_text().startswith("Question:")
    marked = page.locator("#text [role=button]")
    assert marked.count() == len(text["steps"])
    page.locator("#text [role=button].flip").first.click()
    step = next(step for step in text["steps"] if step["is_flip"])
    panel = page.locator("#step")
    assert f"Token {step['t']}" in panel.inner_text()
    rows = panel.locator("tbody tr")
    assert rows.count() == len(step["candidates"]) == 8
    assert "picked" in panel.locator("tr.picked").inner_text()
    assert f"{step['teacher'][step['picked_at']]:.3g}"[:4] in panel.locator("tr.picked").inner_text()
    assert "greedy" in rows.first.inner_text()
    assert "greedy decoding writes" in panel.inner_text()
    alone = re.sub("^ | $", "␣", step["teacher_token"])
    assert f"the teacher alone {alone}" in panel.inner_text()
    assert flips
    if SCREENSHOTS:
        page.locator("#trajectories").screenshot(path=f"{SCREENSHOTS}/viewer.png")


def test_the_viewer_works_from_the_keyboard_and_on_a_narrow_screen(page: Any) -> None:
    page.locator("#text [role=button]").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#text [role=button][aria-pressed=true]").count() == 1
    page.set_viewport_size({"width": 420, "height": 800})
    try:
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        if SCREENSHOTS:
            page.screenshot(path=f"{SCREENSHOTS}/narrow.png", full_page=True)
    finally:
        page.set_viewport_size({"width": 1240, "height": 900})


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """A model can write anything, `</script>` too."""
    from s2t_eval.report.page import page as make

    hostile = {"prompt": "</script><img src=x onerror=alert(1)>", "tokens": ["<b>"], "steps": []}
    text = make("<i>t</i>", "s", [], [], [{**hostile, "method": "s2t"}])
    assert "</script><img" not in text and "<i>t</i>" not in text
    match = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert match and json.loads(match[1])[0]["prompt"] == hostile["prompt"]
