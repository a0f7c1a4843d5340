"""Every method in one table without imports: a new method is a file and an entry here.

Registration with lm_eval, the entry points of pyproject.toml (a test compares them), the rows of reports,
the methods of scans and of `choose`, and the choices of command lines are derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

WRAPPERS = "s2t_eval.model_wrappers"
GENERATED = "generate_until"
"""lm_eval's `output_type` of a task for which texts are written; others compare log-likelihoods."""
LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""lm_eval's names of the limit of new tokens in `generation_kwargs`; the first one present is used."""


@dataclass(frozen=True)
class Method:
    """One method: its backend in lm_eval and its description in tables.

    Args:
        key: its name in files and in the tables of published numbers.
        title: its name in the paper.
        models: its `--model` names.
        about: one sentence for notes and cards.
        backend: `module:class` with a module of `model_wrappers`; None where it is not ours.
        fires: whether it selects at the steps where a trigger fires, so that a scan over K and tau applies.
        selects_locally: whether a trained selector selects.
        votes: whether it votes over answers.
        refuses_code: whether it needs answers or lines of reasoning, which code does not have ("–" in the
            paper's table).
        is_random: whether another seed gives another text by default.
        is_plain: whether it is plain decoding of one model, so that log-likelihoods are scores of it too; the
            others change generated texts alone, and log-likelihoods are those of the student that writes: the
            plain one, or under `s2t_local` the one with the selector's adapter, and under `tah` one with
            trained weights.
    """

    key: str
    title: str
    models: tuple[str, ...]
    about: str
    backend: str | None = None
    fires: bool = False
    selects_locally: bool = False
    votes: bool = False
    refuses_code: bool = False
    is_random: bool = False
    is_plain: bool = False


STOCK = "hf"
"""`--model` of lm_eval's own backend."""
METHODS = (
    Method(STOCK, "Stock hf", (STOCK,), "lm_eval's own hf backend", is_plain=True),
    Method(
        "greedy",
        "Greedy",
        ("greedy",),
        "the model's own argmax at every step",
        "greedy:Greedy",
        is_plain=True,
    ),
    Method("tuned", "Tuned", (), "a student with an adapter of its own, decoded greedily", is_plain=True),
    Method(
        "distil",
        "Distil",
        ("distil",),
        "a student distilled from the teacher, decoded greedily",
        "distil:Distil",
        is_plain=True,
    ),
    Method(
        "maj8",
        "Maj@8",
        ("maj8", "maj_at_k"),
        "plurality over sampled answers",
        "maj8:MajorityVote",
        votes=True,
        refuses_code=True,
        is_random=True,
    ),
    Method(
        "tah",
        "TaH",
        ("tah",),
        "Think-at-Hard: a second iteration at hard tokens",
        "tah:ThinkAtHard",
    ),
    Method(
        "topk_distilled",
        "Top-K distilled, greedy",
        (),
        "a student distilled on the labels' candidates, decoded greedily",
    ),
    Method(
        "s2t_local",
        "S2T-Local",
        ("s2t_local",),
        "a learned selector picks among own candidates",
        "s2t_local:S2TLocal",
        fires=True,
        selects_locally=True,
    ),
    Method(
        "pps_local",
        "PPS-Local",
        ("pps_local",),
        "as S2T-Local, proposals from the untouched model",
        "s2t_local:PPSLocal",
        fires=True,
        selects_locally=True,
    ),
    Method(
        "s2t",
        "S2T (teacher)",
        ("s2t",),
        "a larger teacher picks among the model's own candidates",
        "s2t:SelectToThink",
        fires=True,
    ),
    Method(
        "takeover",
        "Takeover",
        ("takeover",),
        "a larger teacher writes its own token",
        "takeover:Takeover",
        fires=True,
    ),
    Method(
        "r2r",
        "R2R",
        ("r2r",),
        "a larger teacher writes its own token where a router predicts that the model's would diverge",
        "r2r:RoadsToRome",
        fires=True,
    ),
    Method(
        "specreason",
        "SpecReason",
        ("specreason",),
        "a larger teacher scores each step of reasoning and writes those that it rejects",
        "specreason:SpecReason",
    ),
    Method(
        "tot",
        "Tree of Thoughts",
        ("tot",),
        "a search over lines that continues those of the highest value",
        "tot:TreeOfThoughts",
        refuses_code=True,
        is_random=True,
    ),
    Method(
        "rlkd",
        "RLKD",
        (),
        "a student trained by reinforcement learning to follow a teacher's steps, decoded greedily",
        is_plain=True,
    ),
)
BY_MODEL = {model: method for method in METHODS for model in method.models}
BY_KEY = {method.key: method for method in METHODS}
FIRING_MODELS = tuple(model for method in METHODS if method.fires for model in method.models)
"""`--model` names of methods with a trigger, for which a grid of K and tau makes sense."""
BACKENDS = {
    model: f"{WRAPPERS}.{method.backend}"
    for method in METHODS
    for model in method.models
    if method.backend is not None
}
"""`--model` name -> its class, as `module:class`. pyproject.toml repeats it as entry points."""

ScoreForm = Literal["lookahead", "residual", "direct"]
ScoreAs = Literal["expected", "log_odds"]
"""How the bins of a readout become a score (`selection/readout.py`)."""
SCORE_FORMS: tuple[ScoreForm, ...] = get_args(ScoreForm)
"""Score forms of a local selector (`selection/scores.py`)."""
TRIGGER_NAMES = (
    *("kl", "entropy", "entropy64", "margin", "router", "line_entropy", "position"),
    *("random", "always", "never"),
)
"""Triggers (`selection/triggers.py`)."""
DistilMethod = Literal["kd", "reverse_kl", "jsd", "seqkd", "tsd_kd"]
DISTIL_METHODS: tuple[DistilMethod, ...] = get_args(DistilMethod)
"""Losses of distillation (`training/distil/methods.py`)."""
StepScoreName = Literal["digit", "expected", "logprob"]
STEP_SCORES: tuple[StepScoreName, ...] = get_args(StepScoreName)
"""The teacher's scores of drafted steps (`methods/specreason/scores.py`)."""
Delimiter = Literal["line", "paragraph", "sentence"]
DELIMITERS: tuple[Delimiter, ...] = get_args(Delimiter)
"""Where a step of reasoning ends (`methods/reasoning_steps.py`)."""


TEACHER_SCORES = ("s2t", "takeover", "r2r")
"""Methods whose traces have the teacher's probabilities of the candidates at fired steps."""


def method_of(
    model: str,
    has_adapter: bool = False,
    policy: str | None = None,
    score: str | None = None,
    proposer: str | None = None,
    distilled_by: str | None = None,
) -> Method:
    """The method of a run with this `--model`.

    Three methods have no `--model` of their own: plain decoding of a student with an adapter, a local
    selector of the form `direct` whose adapted model also proposes, which is greedy decoding of that model,
    and RLKD, whose students are evaluated as distilled ones.

    Args:
        model: the `--model` name.
        has_adapter: whether the run has `peft=`.
        policy: name of its policy, if its results describe one.
        score: form of its local selector, if it has one.
        proposer: `tuned` or `base`, if it has a selector folder.
        distilled_by: how its student was distilled, if its results describe that.

    Raises:
        ValueError: a name that the table lacks.
    """
    if has_adapter and model in ("hf", "greedy"):
        return BY_KEY["tuned"]
    # Earlier results describe the same runs as s2t_local with the form `direct`.
    if policy == "topk_distilled" or (score == "direct" and proposer == "tuned"):
        return BY_KEY["topk_distilled"]
    if model == "distil" and distilled_by == "rlkd":
        return BY_KEY["rlkd"]
    if model not in BY_MODEL:
        raise ValueError(
            f"unknown method: config.model is {model!r}; the table knows {', '.join(BY_MODEL)}; leave "
            "that run out, or add a line to METHODS in s2t_eval/method_table.py"
        )
    return BY_MODEL[model]


ADDRESSES = ("student_url", "teacher_url")
"""Arguments, and options of commands, that name the servers of a model."""
PLACE_ARGUMENTS = (
    *("pretrained", "tokenizer", "peft", "delta", "gguf_file", "teacher", "calibration"),
    *("selector", "router", "tah", "oracle", "exported"),
)
"""Arguments of a model that name something it reads, also with `teacher_` in front: a change of what lies
there changes the run. A test compares them with the arguments of every backend."""
