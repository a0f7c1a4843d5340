"""Texts of a run are kept small, graded again by the present graders, and a changed verdict is shown."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.cli import main
from s2t_eval.evaluation.sandbox import Isolation
from s2t_eval.pipelines.regrade import RegradeError, regrade
from s2t_eval.report.kept_texts import (
    MOST_BYTES,
    KeptText,
    find_texts,
    read_texts,
    text_files,
    texts_of,
    write_texts,
)
from s2t_eval.report.runs import ResultsError, read_runs
from tests.benchmark_folder import write_benchmarks
from tests.commands import refused
from tests.harness_helpers import evaluate
from tests.report_helpers import BASELINES, run_to, save

LIMIT = 12


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of the embedded pair, as lm_eval writes it: about half of its answers are right."""
    return run_to(tmp_path_factory.mktemp("results") / "greedy", "greedy", LIMIT)


@pytest.fixture
def kept(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The same run as it is committed."""
    main(["keep", str(results), "--out", str(tmp_path / "kept")])
    capsys.readouterr()
    return tmp_path / "kept"


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> list[str]:
    """The lines of `s2t-eval regrade`, which ends with this exit code."""
    if code:
        with pytest.raises(SystemExit) as caught:
            main(["regrade", *map(str, arguments)])
        assert caught.value.code == code
    else:
        main(["regrade", *map(str, arguments)])
    return capsys.readouterr().out.splitlines()


def test_a_fresh_run_keeps_its_verdicts(
    results: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [run] = read_runs([results])
    right = int(run.scored["score"].sum())
    assert 0 < right < LIMIT
    for place in (results, kept):
        line, total = said(capsys, place, "--check", "--json", tmp_path / "verdicts.json")
        assert f"s2t_arith, exact_match,answer: {right} -> {right} of {LIMIT}, 0 won, 0 lost" in line
        assert total == f"{LIMIT} documents of 1 runs graded again: 0 verdicts changed"
        [verdicts] = json.loads((tmp_path / "verdicts.json").read_text()).values()
        assert [verdict["old"] for verdict in verdicts] == run.scored["score"].tolist()
        assert all(verdict["old"] == verdict["new"] for verdict in verdicts)


def test_an_altered_verdict_is_found_in_samples(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a repaired grader does to committed results: here the old verdicts are made wrong instead."""
    [samples] = results.rglob("samples_*.jsonl")
    text = samples.read_text()
    records = [json.loads(line) for line in text.splitlines()]
    right = next(record for record in records if record["exact_match"] == 1.0)
    wrong = next(record for record in records if record["exact_match"] == 0.0)
    before = sum(record["exact_match"] for record in records)
    right["exact_match"], wrong["exact_match"] = 0.0, 1.0
    try:
        samples.write_text("".join(json.dumps(record) + "\n" for record in records))
        line, *changed, total = said(capsys, results, "--check", code=1)
        assert f"{before:g} -> {before:g} of {LIMIT}, 1 won, 1 lost" in line
        assert total.endswith("2 verdicts changed")
        assert len(changed) == 2
        won = next(line for line in changed if "(won)" in line)
        assert f"document {right['doc_id']}: 0 -> 1 (won); expected '{right['target']}'" in won
        assert f"read '{right['target']}', text ends " in won
        assert any(f"document {wrong['doc_id']}: 1 -> 0 (lost)" in line for line in changed)
        assert said(capsys, results)[-1] == total  # without --check it is no failure
    finally:
        samples.write_text(text)


def test_texts_that_were_not_scored_are_graded(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run with --predict_only reports showed 99900 %, and regrading gave no verdict on any text."""
    [run] = read_runs([results])
    unscored = Path(shutil.copytree(results, tmp_path / "unscored"))
    [samples], [figures] = unscored.rglob("samples_*.jsonl"), unscored.rglob("results_*.json")
    records = [{**json.loads(line), "bypass": 999} for line in samples.read_text().splitlines()]
    for record in records:
        del record["exact_match"]
    samples.write_text("".join(json.dumps(record) + "\n" for record in records))
    content = json.loads(figures.read_text())
    content["results"]["s2t_arith"] = {"alias": "s2t_arith", "bypass,answer": 999}
    figures.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=r"no score: .* with --predict_only; grade its texts"):
        read_runs([unscored])
    right = int(run.scored["score"].sum())
    line, *_ = said(capsys, unscored)
    assert f"s2t_arith, exact_match,answer: none -> {right} of {LIMIT}, {right} won, 0 lost" in line


def test_kept_texts_that_are_not_of_their_run_are_refused(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A verdict that was altered in one of the two places is a fault of the files, not of a grader."""
    [path] = kept.glob("*.texts.jsonl.gz")
    texts = read_texts(path)
    for change in ({"verdict": 1.0 - (texts[3].verdict or 0.0)}, {"output_hash": "0" * 16}):
        altered = [*texts[:3], KeptText(**{**vars(texts[3]), **change}), *texts[4:]]
        write_texts(path, altered)
        line = refused(capsys, "regrade", kept)
        assert f"document {texts[3].doc_id} of s2t_arith is not as in the results beside it" in line
    [results] = kept.glob("*.json")
    content = json.loads(results.read_text())
    rows = content["documents"]["s2t_arith"]
    assert rows[4].endswith(f" {texts[3].verdict:g}")
    rows[4] = rows[4].rsplit(" ", 1)[0] + f" {1 - (texts[3].verdict or 0.0):g}"
    results.write_text(json.dumps(content))
    wrong = [
        *texts[:3],
        KeptText(**{**vars(texts[3]), "verdict": 1.0 - (texts[3].verdict or 0.0)}),
        *texts[4:],
    ]
    write_texts(path, wrong)
    assert said(capsys, kept, "--check", code=1)[-1].endswith(": 1 verdicts changed")


def test_kept_texts_that_lack_a_document_are_refused(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A document without a text, or with that of another one, was left out: `--check` passed without it."""
    [path] = kept.glob("*.texts.jsonl.gz")
    texts = read_texts(path)
    other = KeptText(**{**vars(texts[3]), "doc_hash": "0" * 16})
    for altered in ([*texts[:3], *texts[4:]], [*texts[:3], other, *texts[4:]]):
        write_texts(path, altered)
        line = refused(capsys, "regrade", kept, "--check")
        assert f"it has no text of document {texts[3].doc_id} of s2t_arith, or that of another one" in line


def test_shares_that_were_kept_with_six_digits_are_of_their_run(results: Path, tmp_path: Path) -> None:
    """Where one of three responses was right, 1/3 was not the 0.333333 of the results beside the texts."""
    measured = tmp_path / "measured"
    shutil.copytree(results, measured)
    [samples] = measured.rglob("samples_*.jsonl")
    records = [json.loads(line) for line in samples.read_text().splitlines()]
    for number, record in enumerate(records):
        record["exact_match"] = (number % 4) / 3
    samples.write_text("".join(json.dumps(record) + "\n" for record in records))
    main(["keep", str(measured), "--out", str(tmp_path / "kept")])
    [run] = find_texts(tmp_path / "kept")
    assert run.texts is not None and run.texts[1].verdict == 1 / 3
    content = json.loads(run.source.read_text())
    lines = content["documents"]["s2t_arith"]
    assert lines[2].endswith(" 0.3333333333333333")
    for digits, at in (("0.333333", 2), ("0.666667", 3)):  # as earlier versions kept them
        lines[at] = " ".join([*lines[at].split(" ")[:-1], digits])
    run.source.write_text(json.dumps(content))
    assert [len(run.texts or []) for run in find_texts(tmp_path / "kept")] == [LIMIT]
    lines[2] = lines[2].replace("0.333333", "0.333")
    run.source.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match="document 1 of s2t_arith is not as in the results beside it"):
        list(find_texts(tmp_path / "kept"))


def test_the_same_texts_are_the_same_bytes_and_small(kept: Path) -> None:
    [path] = kept.glob("*.texts.jsonl.gz")
    before = path.read_bytes()
    write_texts(path, read_texts(path))
    assert path.read_bytes() == before
    head, *records = map(json.loads, gzip.decompress(before).splitlines())
    assert head == {"format": 1} and len(records) == LIMIT
    assert all(record["doc"].keys() == {"answer"} for record in records)  # neither question nor prompt


def large_texts(size: int, count: int = 1000) -> list[KeptText]:
    """Texts that hardly get smaller by compression: so many bytes of each are left."""
    noise = random.Random(0)
    return [
        KeptText("s2t_gsm8k", i, "d", "o", {"answer": "1"}, [noise.randbytes(size).hex()], [None], "m,f", 0.0)
        for i in range(count)
    ]


def test_the_texts_of_a_large_run_are_kept_in_several_files(tmp_path: Path) -> None:
    """A run on MMLU-Pro has 12,032 texts: they were refused, and `reproduce paper` ended there for ever."""
    path, texts = tmp_path / "big.texts.jsonl.gz", large_texts(4500)
    files = write_texts(path, texts)
    names = [path.name, "big.texts-2.jsonl.gz", "big.texts-3.jsonl.gz"]
    assert [file.name for file in files] == names == [file.name for file in text_files(path)]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)
    assert all(file.stat().st_size <= MOST_BYTES for file in files)
    assert read_texts(path) == texts
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in write_texts(path, read_texts(path))] == before
    assert write_texts(path, texts[:9]) == [path] == text_files(path)
    assert read_texts(path) == texts[:9]


def test_a_part_that_is_missing_or_of_another_run_is_named(tmp_path: Path) -> None:
    """A run killed while it wrote its parts must not pass for a smaller one."""
    path, texts = tmp_path / "big.texts.jsonl.gz", large_texts(4500)
    _, second, third = write_texts(path, texts)
    content = second.read_bytes()
    second.unlink()
    with pytest.raises(ResultsError, match=r"big\.texts-2\.jsonl\.gz: no texts of a run .*keep them again"):
        read_texts(path)
    second.write_bytes(third.read_bytes())
    with pytest.raises(
        ResultsError, match=r"big\.texts-2\.jsonl\.gz: expected part 2 of 3 .* got part 3 of 3"
    ):
        read_texts(path)
    second.write_bytes(content)
    write_texts(path, texts[1:])
    second.write_bytes(content)
    with pytest.raises(
        ResultsError, match=r"big\.texts-2\.jsonl\.gz: expected part 2 of 3 of the texts \w+, "
    ):
        read_texts(path)
    path.write_bytes(third.read_bytes())
    with pytest.raises(ResultsError, match=r"big\.texts\.jsonl\.gz: expected part 1 of 3 .* got part 3 of 3"):
        read_texts(path)


def test_all_parts_of_a_run_are_graded_again(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2t_eval.report.kept_texts.MOST_BYTES", 500)
    out = tmp_path / "kept"
    main(["keep", str(results), "--out", str(out)])
    files = text_files(out / "greedy.texts.jsonl.gz")
    assert len(files) > 1
    assert capsys.readouterr().out.endswith(f" kB of texts in {len(files)} files\n")
    total = said(capsys, out, "--check")[-1]
    assert total == f"{LIMIT} documents of 1 runs graded again: 0 verdicts changed"
    main(["keep", str(out), "--out", str(tmp_path / "again")])  # runs that were kept can be kept again
    assert read_texts(tmp_path / "again" / "greedy.texts.jsonl.gz") == read_texts(files[0])


def test_a_single_text_of_more_than_two_megabytes_is_refused(tmp_path: Path) -> None:
    message = r"one of its 2 texts takes 2\.\d MB, compressed; expected at most 2 MB"
    with pytest.raises(ValueError, match=message):
        write_texts(tmp_path / "big.texts.jsonl.gz", large_texts(2_100_000, 2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "no texts of a run"),
        (lambda content: b"no gzip", "no texts of a run"),
        (lambda content: gzip.compress(b'{"format": 7}\n'), "line 1: expected format 1 or 2, got 7"),
        (lambda content: gzip.compress(b'{"format": 1}\n{"task": 3}\n'), "line 2: it has no 'doc_id'"),
    ],
)
def test_damaged_texts_are_named(kept: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    [path] = kept.glob("*.texts.jsonl.gz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ResultsError, match=message):
        list(find_texts(kept))


def test_results_without_texts_are_named(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [path] = kept.glob("*.texts.jsonl.gz")
    path.unlink()
    assert "no texts beside it; expected samples_*.jsonl of `lm_eval --log_samples`" in refused(
        capsys, "regrade", kept
    )
    assert "there is no such file or folder" in refused(capsys, "regrade", tmp_path / "none")


def test_a_check_does_not_pass_over_runs_without_texts(
    kept: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the texts of one of two runs were not committed, `--check` graded the other and ended with 0."""
    [path] = kept.glob("*.texts.jsonl.gz")
    path.unlink()
    line = refused(capsys, "regrade", results, kept, "--check")
    assert "no texts beside it" in line and "; without --check the other runs are graded" in line
    *_, total = said(capsys, results, kept)
    assert total == f"{LIMIT} documents of 1 runs graded again: 0 verdicts changed"


# ---------------------------------------------------------------- every kind of grader


def benchmark_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, tasks: list[str]) -> Path:
    """The embedded student on small benchmarks: its texts are no answers, but they are graded as any."""
    monkeypatch.setenv("S2T_DATA", str(write_benchmarks(folder / "data")))
    options: dict[str, Any] = {"gen_kwargs": "max_gen_toks=12", "confirm_run_unsafe_code": True}
    results = evaluate("greedy", tasks=tasks, limit=2, **options)
    monkeypatch.delenv("S2T_DATA")  # grading again reads no data
    return save(results, folder / "greedy")


def test_benchmarks_are_graded_again_without_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = ["s2t_gsm8k", "s2t_math500", "s2t_mmlu_pro"]
    [run] = find_texts(benchmark_runs(tmp_path, monkeypatch, tasks))
    assert run.texts is not None and {text.task for text in run.texts} == set(tasks)
    assert not any(verdict.is_changed for verdict in regrade(run.texts))
    answers = {
        "s2t_gsm8k": "So it is \\boxed{18} in all.",
        "s2t_math500": "Thus \\boxed{0.5}.",
        "s2t_mmlu_pro": "The answer is (B).",
    }
    first = [next(text for text in run.texts if text.task == task) for task in tasks]
    better = [KeptText(**{**vars(text), "responses": [answers[text.task]]}) for text in first]
    assert [(v.text.verdict, v.new, v.is_won) for v in regrade(better)] == [(0.0, 1.0, True)] * 3


def test_programs_run_in_the_sandbox_again(
    sandbox: Isolation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [run] = find_texts(benchmark_runs(tmp_path, monkeypatch, ["s2t_humaneval"]))
    assert run.texts is not None
    verdicts = regrade(run.texts)
    assert [verdict.new for verdict in verdicts] == [text.verdict for text in run.texts] == [0.0, 0.0]
    right = KeptText(
        **{**vars(run.texts[0]), "responses": ["```python\ndef twice(x):\n    return 2 * x\n```"]}
    )
    wrong = KeptText(**{**vars(right), "verdict": 1.0, "responses": ["def twice(x):\n    return x\n"]})
    won, lost = regrade([right, wrong])
    assert (won.new, won.is_won) == (1.0, True) and "document 0: 0 -> 1 (won); read " in won.line()
    assert (lost.new, lost.is_lost) == (0.0, True)


def test_a_cut_off_text_is_graded_as_one() -> None:
    """A text that hit its limit has no last sentence to read an answer from: the flag is kept with it."""
    text = KeptText(
        "s2t_aime25", 0, "d", "o", {"answer": "70"}, ["First we add 70"], [False], "exact_match,answer", 1.0
    )
    cut = KeptText(**{**vars(text), "truncated": [True], "verdict": 0.0})
    assert [verdict.new for verdict in regrade([text, cut])] == [1.0, 0.0]


def test_tasks_of_others_are_refused() -> None:
    text = KeptText("gsm8k", 0, "d", "o", {"answer": "1"}, ["1"], [None], "exact_match,strict-match", 1.0)
    with pytest.raises(RegradeError, match=r"task gsm8k: expected one of s2t-eval's own"):
        regrade([text])
    renamed = KeptText(**{**vars(text), "task": "s2t_gsm8k"})
    with pytest.raises(RegradeError, match="it has no filter 'strict-match' any more"):
        regrade([renamed])


def test_committed_runs_keep_their_texts() -> None:
    """All since results record a commit: before, only hashes were kept, and nothing could be graded again."""
    with_commit = [
        run
        for folder in sorted(path for path in BASELINES.iterdir() if path.is_dir())
        for run in read_runs([folder])
        if run.backend_info.get("commit") is not None
    ]
    assert len({run.source for run in with_commit}) >= 60
    for run in with_commit:
        files = text_files(run.source.with_suffix(".texts.jsonl.gz"))
        assert files and sum(file.stat().st_size for file in files) <= MOST_BYTES, run.source
        texts = texts_of(run.source)
        assert texts is not None and len(texts) == run.n, run.source
