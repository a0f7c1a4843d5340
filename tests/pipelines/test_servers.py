"""`calibrate` and `collect` with both models on servers, against the fake's model position by position."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s2t_eval import cli
from s2t_eval.analysis.steps import positions
from s2t_eval.embedded.arith import make_split
from s2t_eval.engine import ModelRunner
from s2t_eval.models.loading import load_model
from s2t_eval.models.vocabulary import text_vocabulary
from s2t_eval.pipelines import collect_labels
from s2t_eval.pipelines.settings import CollectionSettings, Prompting, Source
from s2t_eval.remote.protocol import SUPPORT
from s2t_eval.selection.calibration import Calibration
from s2t_eval.training.labels import LabelSet
from s2t_eval.training.selector.router_training import step_table
from tests.harness_helpers import STUDENT, TEACHER, tokenizer
from tests.remote.fake_server import FakeServer, log_probs, serving

pytestmark = pytest.mark.usefixtures("small_task_index")

VOCAB = 443
PROBLEMS = 4
LIMIT = 24
PROBLEM_OPTIONS = ("--task", "s2t_arith", "--limit", str(PROBLEMS), "--max_gen_toks", str(LIMIT))


@pytest.fixture(scope="module")
def servers() -> Iterator[list[FakeServer]]:
    """Two of the student, one of the teacher."""
    made = [FakeServer(seed=seed, vocab=VOCAB) for seed in (0, 0, 1)]
    with serving(*made):
        yield made


def urls(servers: list[FakeServer]) -> list[str]:
    first, second, teacher = (server.url for server in servers)
    return ["--student_url", f"{first}+{second}", "--teacher_url", teacher]


def command(name: str, servers: list[FakeServer], *more: str | Path, teacher: str | None = TEACHER) -> None:
    models = ["--pretrained", STUDENT, *(["--teacher", teacher] if teacher else [])]
    cli.main([name, *models, *urls(servers), *PROBLEM_OPTIONS, *map(str, more)])


def slow_steps() -> list[list[dict[str, Any]]]:
    """Every step of the fake's greedy texts, one position at a time."""
    stops, vocab = {tokenizer().eos_token_id}, text_vocabulary(tokenizer())
    problems = []
    for problem in make_split("train")[:PROBLEMS]:
        ids = list(tokenizer()(f"Question: {problem.question}\nAnswer:")["input_ids"])
        steps: list[dict[str, Any]] = []
        while len(steps) < LIMIT:
            student, teacher = (log_probs(seed, tuple(ids[-3:]), VOCAB) for seed in (0, 1))
            ranked = sorted(range(vocab), key=lambda i, s=student: (-s[i], i))[:SUPPORT]  # type: ignore[misc]
            p, q = ([math.exp(values[i]) for i in ranked] for values in (student, teacher))
            rest = max(0.0, 1 - sum(p))
            kl = [
                sum(a / sum(u) * math.log(a / sum(u) / (b / sum(v))) for a, b in zip(u, v, strict=True))
                for u, v in ((p, q), (q, p))
            ]
            steps.append(
                {
                    "token": ranked[0],
                    "top": ranked,
                    "student": [student[i] for i in ranked],
                    "teacher": [teacher[i] for i in ranked],
                    "argmax": max(range(vocab), key=lambda i, t=teacher: t[i]),  # type: ignore[misc]
                    "kl:student_teacher": kl[0],
                    "kl:teacher_student": kl[1],
                    "entropy64": -sum(a * math.log(a) for a in (*p, rest)),
                    "margin": 1 - (p[0] - p[1]),
                    "position": 1 / (1 + len(steps)),
                }
            )
            ids.append(ranked[0])
            if ranked[0] in stops:
                break
        problems.append(steps)
    return problems


def test_thresholds_are_quantiles_of_the_slow_twin(servers: list[FakeServer], tmp_path: Path) -> None:
    command(
        "calibrate", servers, "--tau", "0.05", "0.2", "--warmup_tokens", "2", "--out", tmp_path / "c.json"
    )
    calibration = Calibration.load(tmp_path / "c.json")
    steps = [step for text in slow_steps() for step in text[2:]]
    assert calibration.num_steps == len(steps)
    assert set(calibration.thresholds) == {
        *("kl:student_teacher", "kl:teacher_student", "entropy64", "margin", "position")
    }
    for name, rates in calibration.thresholds.items():
        for tau, threshold in rates.items():
            expected = float(np.quantile([step[name] for step in steps], 1 - float(tau)))
            assert threshold == pytest.approx(expected, abs=2e-4), name


@pytest.mark.parametrize(
    ("teacher", "more", "message"),
    [
        (None, (), "--teacher MODEL beside --teacher_url, or --step_score logprob"),
        (TEACHER, ("--max_gen_toks", "480"), "480 new ones exceed the servers'"),
    ],
)
def test_step_scores_that_cannot_be_measured_are_refused_before_any_text(
    servers: list[FakeServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    teacher: str | None,
    more: tuple[str, ...],
    message: str,
) -> None:
    """All texts were written and scored first, and the thresholds of the triggers were lost too."""
    monkeypatch.setattr(servers[2], "root", "/elsewhere/teacher" if teacher is None else TEACHER)
    for server in servers:
        server.requests.clear()
    with pytest.raises(SystemExit):
        command(
            *("calibrate", servers, "--step_score", "digit", *more, "--out", tmp_path / "c.json"),
            teacher=teacher,
        )
    assert message in capsys.readouterr().err
    assert {body["cache_salt"] for server in servers for body in server.requests} == {"s2t-eval-probe"}


def test_without_a_teacher_local_triggers_are_calibrated(servers: list[FakeServer], tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    options = ["--pretrained", STUDENT, "--student_url", servers[0].url, *PROBLEM_OPTIONS, "--out", str(out)]
    cli.main(["calibrate", *options])
    calibration = Calibration.load(out)
    assert set(calibration.thresholds) == {"entropy64", "margin", "position"}
    assert calibration.teacher is None


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_one_model_on_a_server_and_the_other_one_here(
    servers: list[FakeServer], tmp_path: Path, role: str
) -> None:
    """A small student here and a large teacher on servers, or the other way round.

    `--concurrency` was refused there: "batch_size decides it", which it did not.
    """
    server = servers[0] if role == "student" else servers[2]
    models = [
        "--pretrained",
        STUDENT,
        "--teacher",
        TEACHER,
        f"--{role}-url",
        server.url,
        "--concurrency",
        "1",
    ]
    server.most_open = 0
    cli.main(["collect", *models, *PROBLEM_OPTIONS, "--steps", "all", "--out", str(tmp_path / "labels")])
    assert server.most_open == 1
    labels = LabelSet.load(tmp_path / "labels")
    assert labels.manifest.has_exact_entropy == (role == "teacher")
    for row, steps in zip(labels, slow_steps(), strict=True):
        assert (row.output_ids.tolist() == [step["token"] for step in steps]) == (role == "student")
        if role == "teacher":
            ids = row.text_ids[len(row.prompt_ids) - 3 : len(row.prompt_ids)]
            values = log_probs(1, tuple(int(i) for i in ids), VOCAB)
            expected = [values[i] for i in row.candidates[0]]
            np.testing.assert_allclose(row.teacher_log_probs[0], expected, atol=2e-4)
        else:
            assert (row.teacher_log_probs[:, 0] != [step["teacher"][0] for step in steps]).all()


@pytest.fixture(scope="module")
def collected(servers: list[FakeServer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels") / "labels"
    command("collect", servers, "--steps", "all", "--out", folder, "--concurrency", "3")
    return folder


def test_labels_of_another_stated_dtype_are_not_reused(
    servers: list[FakeServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts of a student served in bfloat16 were joined with those of one in float32."""
    options = ("--steps", "all", "--dtype")
    command("collect", servers, *options, "bfloat16", "--out", tmp_path / "first")
    dtypes = LabelSet.load(tmp_path / "first").manifest.dtypes
    assert dtypes == {"student": "bfloat16, as stated"}
    reusing = ("--reuse", tmp_path / "first", "--out", tmp_path / "second")
    with pytest.raises(SystemExit):
        command("collect", servers, *options, "float32", *reusing)
    assert "bfloat16, as stated" in capsys.readouterr().err
    command("collect", servers, *options, "bfloat16", *reusing)
    assert LabelSet.load(tmp_path / "second").manifest.dtypes == dtypes


def test_labels_are_the_slow_twins(collected: Path) -> None:
    labels = LabelSet.load(collected)
    assert len(labels) == PROBLEMS and not (collected / "work").exists()
    assert labels.manifest.num_steps == sum(map(len, slow_steps()))
    for row, steps in zip(labels, slow_steps(), strict=True):
        columns = {key: [step[key] for step in steps] for key in steps[0]}
        assert row.output_ids.tolist() == columns["token"]
        assert row.teacher_argmax.tolist() == columns["argmax"]
        assert row.candidates.tolist() == [top[:16] for top in columns["top"]]
        for name, expected in (
            ("kl_student_teacher", columns["kl:student_teacher"]),
            ("kl_teacher_student", columns["kl:teacher_student"]),
            ("entropy", columns["entropy64"]),
            ("margin", columns["margin"]),
            ("top_log_probs", [values[:8] for values in columns["student"]]),
            ("student_log_probs", [values[:16] for values in columns["student"]]),
            ("teacher_log_probs", [values[:16] for values in columns["teacher"]]),
        ):
            np.testing.assert_allclose(getattr(row, name), np.array(expected), atol=2e-4, err_msg=name)


def rollouts(server: FakeServer, first: int) -> int:
    """Requests of texts, not of the probe, from a number on."""
    return sum(body["sampling_params"]["max_tokens"] == LIMIT for body in server.requests[first:])


def test_an_interrupted_collection_repeats_no_text(
    servers: list[FakeServer], collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each phase is interrupted once; what had ended is not generated or scored again."""
    student, _, teacher = servers
    models = ["--pretrained", STUDENT, "--teacher", TEACHER]
    addresses = ["--student_url", student.url, "--teacher_url", teacher.url, "--concurrency", "1"]
    out = ["--steps", "all", "--out", str(tmp_path / "labels")]
    run = ["collect", *models, *addresses, "--patience_s", "0.2", *PROBLEM_OPTIONS, *out]
    first, refused = len(student.requests), student.refused
    for server, kind, requests in ((student, "rollouts", 6 + 2), (teacher, "labels", 7 + 30)):
        server.dies_after = len(server.requests) + requests
        with pytest.raises(SystemExit):
            cli.main(run)
        assert (
            f"no {'student' if server is student else 'teacher'} server answered" in capsys.readouterr().err
        )
        server.dies_after, server.is_dead = None, False
        assert 0 < len(list((tmp_path / "labels" / "work" / kind).iterdir())) < PROBLEMS
    cli.main(run)
    # A server that is dead was sent one of the texts again until the patience was at an end.
    assert rollouts(student, first) - PROBLEMS == student.refused - refused
    resumed, whole = LabelSet.load(tmp_path / "labels"), LabelSet.load(collected)
    assert resumed.manifest == whole.manifest
    for one, other in zip(resumed, whole, strict=True):
        for name in ("output_ids", "kl_student_teacher", "teacher_argmax", "teacher_log_probs"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_collection_of_servers_is_not_resumed_here(
    servers: list[FakeServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entropies of 64 tokens and of the whole vocabulary do not belong into one set."""
    servers[2].dies_after = len(servers[2].requests) + 8
    out = ["--out", tmp_path / "labels"]
    with pytest.raises(SystemExit):
        command("collect", servers, *out, "--patience_s", "0.2")
    servers[2].dies_after, servers[2].is_dead = None, False
    models = ["--pretrained", STUDENT, "--teacher", TEACHER]
    with pytest.raises(SystemExit):
        cli.main(["collect", *models, *PROBLEM_OPTIONS, *map(str, out)])
    message = capsys.readouterr().err
    assert "the unfinished work of another run (its " in message
    assert re.search(r"\(its [^)]*\bdata\b[^)]* differ\)", message), message


# ---------------------------------------------------------------- entropies of 64 tokens


def test_training_computes_the_entropies_that_servers_do_not_return(collected: Path) -> None:
    """A router is used with exact entropies, so it must not be trained with others."""
    rows = LabelSet.load(collected).trajectories
    model, tokens = load_model("pretrained", STUDENT, "float32", "cpu", False)
    runner = ModelRunner(model, "student", text_vocabulary(tokens))
    table = step_table(runner, rows, is_own_text=True)
    for row, entropy in zip(rows, table.entropy, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([row.text_ids[:-1].tolist()])).logits[0, len(row.prompt_ids) - 1 :]
        log_probs = logits[:, : runner.text_vocab].log_softmax(-1)
        expected = -(log_probs.exp() * log_probs).sum(-1)
        torch.testing.assert_close(entropy, expected, atol=2e-4, rtol=0)


def test_analyses_name_the_entropy_that_labels_have(collected: Path) -> None:
    rows = LabelSet.load(collected).trajectories
    ends_line = np.zeros(VOCAB, dtype=bool)
    columns = positions(rows, "B", ends_line).columns
    assert "entropy64" in columns
    assert not {"entropy", "line_entropy"} & set(columns)


# ---------------------------------------------------------------- what does not fit


REFUSED = [
    (["--student_url", "a:1"], "--student_url: expected URLs such as http://host:8001"),
    (["--teacher_url", "http://a:1"], "--teacher_url: give --student_url too"),
    (["--concurrency", "3"], "--concurrency: it is a setting of servers"),
    (["--student_url", "http://a:1", "--concurrency", "0"], "concurrency: expected at least 1, got 0"),
    (
        ["--student_url", "http://a:1", "--teacher", TEACHER],
        f"--teacher {TEACHER}: with --student_url its servers are needed too",
    ),
    (["--student_url", "http://127.0.0.1:9"], "student server http://127.0.0.1:9 does not answer"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_options_that_do_not_fit(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["calibrate", "--pretrained", STUDENT, *PROBLEM_OPTIONS, "--out", str(tmp_path / "c.json")]
    with pytest.raises(SystemExit):
        cli.main([*run, *options])
    assert message in capsys.readouterr().err


def test_a_label_set_needs_a_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["collect", "--pretrained", STUDENT, *PROBLEM_OPTIONS, "--out", str(tmp_path / "labels")])
    assert "expected --teacher MODEL, the larger model that labels, or --teacher_url URL" in (
        capsys.readouterr().err
    )


def test_routers_are_calibrated_here(
    servers: list[FakeServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("calibrate", servers, "--router", "embedded/r2r", "--out", tmp_path / "c.json")
    assert "--router: it reads hidden states, which servers do not return" in capsys.readouterr().err


def test_a_student_whose_weights_are_elsewhere_gets_no_labels(
    servers: list[FakeServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2t_eval.model_wrappers.loading.unloaded_fingerprint", lambda *_: None)
    addresses = {"student_url": servers[0].url, "teacher_url": servers[2].url}
    lm = collect_labels.load_pair(STUDENT, TEACHER, **addresses)
    with pytest.raises(
        ValueError, match="--pretrained embedded/student: its weights are not on this machine"
    ):
        collect_labels.collect_labels(
            lm,
            Source(task="s2t_arith"),
            Prompting(),
            CollectionSettings(),
            tmp_path / "labels",
        )
