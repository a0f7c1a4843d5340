"""Every method in one table that imports nothing: a new method is a file and a line here.

Registration with lm_eval, the entry points of pyproject.toml (compared by a test), rows of reports, the
methods that scans and `choose` work on, and the choices of command lines are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass

WRAPPERS = "s2t_eval.model_wrappers"


@dataclass(frozen=True)
class Method:
    """One method: how lm_eval runs it and how tables show it.

    Args:
        key: how published numbers and files name it.
        title: as the paper writes it.
        models: the `--model` names that run it.
        about: one sentence for notes and cards.
        backend: `module:class`, the module within `model_wrappers`; None where it is not ours.
        fires: whether it selects at steps that a trigger fires, so that a scan over K and tau makes sense.
        selects_locally: whether a trained selector picks.
        votes: whether it votes over answers, which code does not have ("–" in the paper's table).
    """

    key: str
    title: str
    models: tuple[str, ...]
    about: str
    backend: str | None = None
    fires: bool = False
    selects_locally: bool = False
    votes: bool = False


METHODS = (
    Method("hf", "Stock hf", ("hf",), "lm_eval's own hf backend"),
    Method("greedy", "Greedy", ("greedy",), "the model's own argmax at every step", "greedy:Greedy"),
    Method("tuned", "Tuned", (), "a student with an adapter of its own, decoded greedily"),
    Method(
        "distil",
        "Distil",
        ("distil",),
        "a student distilled from the teacher, decoded greedily",
        "distil:Distil",
    ),
    Method(
        "maj8",
        "Maj@8",
        ("maj8", "maj_at_k"),
        "plurality over sampled answers",
        "maj8:MajorityVote",
        votes=True,
    ),
    Method("tah", "TaH", ("tah",), "Think-at-Hard: a second iteration at hard tokens", "tah:ThinkAtHard"),
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
)
BY_MODEL = {model: method for method in METHODS for model in method.models}
BY_KEY = {method.key: method for method in METHODS}
BACKENDS = {
    model: f"{WRAPPERS}.{method.backend}"
    for method in METHODS
    for model in method.models
    if method.backend is not None
}
"""`--model` name -> where its class is. pyproject.toml repeats it as entry points."""

SCORE_FORMS = ("lookahead", "residual", "direct")
"""Score forms of a local selector (`selection/scores.py`)."""
TRIGGER_NAMES = (
    *("kl", "entropy", "margin", "router", "line_entropy", "position"),
    *("random", "always", "never"),
)
"""Triggers (`selection/triggers.py`)."""
DISTIL_METHODS = ("kd", "reverse_kl", "jsd", "seqkd", "tsd_kd")
"""Losses of distillation (`training/distil/methods.py`)."""


TEACHER_SCORES = ("s2t", "takeover", "r2r")
"""Methods at whose fired steps a trace has the teacher's probabilities of the candidates."""


def method_of(model: str, has_adapter: bool = False) -> Method:
    """The method that a `--model` name runs.

    Plain decoding of a student with an adapter (`peft=`) is not the plain student's.

    Raises:
        ValueError: a name that the table lacks.
    """
    if has_adapter and model in ("hf", "greedy"):
        return BY_KEY["tuned"]
    if model not in BY_MODEL:
        raise ValueError(
            f"unknown method: config.model is {model!r}; the table knows {', '.join(BY_MODEL)}; leave "
            "that run out, or add a line to METHODS in s2t_eval/method_table.py"
        )
    return BY_MODEL[model]
