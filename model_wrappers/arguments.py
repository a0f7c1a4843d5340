"""The `--model_args` of our backends beside those of stock `hf`, with their defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from s2t_eval.engine.compiled_layers import Compile
from s2t_eval.method_table import TRIGGER_NAMES
from s2t_eval.model_wrappers.argument_checks import (
    require_bool,
    require_int,
    require_number,
)
from s2t_eval.ranges import FIRING_RATE, SEED, SHARE, TOP_P, Range, require_choice
from s2t_eval.remote.drafting import LATER
from s2t_eval.remote.settings import RemoteSettings, server_urls
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.thresholds import ThresholdLookup
from s2t_eval.selection.triggers import KlDirection

SERVED_METHODS = (
    "greedy, distil, maj8, s2t, takeover, specreason, s2t_local, pps_local, or r2r with teacher_url alone"
)
"""Methods that run on servers, for messages."""

DIVERGENCES = {
    "kl": Range("a divergence of 0 or more (nats)", 0),
    "entropy": Range("an entropy of 0 or more (nats)", 0),
    "line_entropy": Range("an entropy of 0 or more (nats)", 0),
    "position": SHARE,
    "entropy64": Range("an entropy of 0 or more (nats)", 0),
    "margin": SHARE,
    "random": SHARE,
}
"""Ranges of the triggers' divergences, and so of their thresholds. A router's log-odds have no bounds; for
the probabilities of an R2R router every number is allowed: 1 and more never fire, less than 0 always does."""


@dataclass(frozen=True)
class CommonArguments:
    """Arguments of every backend in addition to stock `hf`'s.

    Args:
        seed: of all random numbers; each text's own seed is derived from it, the task, the document
            (under `--samples` its place among the chosen ones) and the repeat.
        trace: JSON-lines file to write, with one line for each generated text.
        compile: "auto": replay decode steps as CUDA graphs on a GPU, where a method has steps of one token
            for every row and the model's layers can be recorded; elsewhere it changes nothing. "always": also
            compile the decoder layers of the models in this process with `torch.compile`, on every device,
            which `tah` refuses. "never": neither. Texts may differ between them by rounding.
    """

    seed: int = 0
    trace: str | None = None
    compile: Compile = "auto"

    def __post_init__(self) -> None:
        require_int("seed", self.seed, 0)
        SEED.require("seed", self.seed)
        if self.compile not in get_args(Compile):
            raise ValueError(f"compile: expected never, auto or always, got {self.compile!r}")
        if self.trace is not None and not (isinstance(self.trace, str) and self.trace):
            raise ValueError(f"trace: expected the name of a file to write, got {self.trace!r}")

    @property
    def lookup(self) -> ThresholdLookup | None:
        """The threshold that a calibration, router or selector has to have; None: the method has none."""
        return None


@dataclass(frozen=True)
class ServerArguments(CommonArguments):
    """Arguments of `greedy` and `distil`, with which the model is on vLLM servers (see `s2t_eval/remote`).

    Args:
        student_url: base URLs of the servers of the student, joined by `+`. None loads the student here; with
            it `pretrained` names the tokenizer and the configuration only.
        chunk: tokens that a student's server generates before they are decided; shorter chunks suit high
            rates of fired steps. Greedy text, of which nothing is decided, is generated 256 tokens at a time.
        concurrency: texts decoded at once on servers.
        timeout_s: seconds after which a request without an answer is sent again.
        patience_s: seconds for which a request is repeated while no server answers it.
    """

    student_url: str | None = None
    chunk: int = RemoteSettings.chunk
    concurrency: int = RemoteSettings.concurrency
    timeout_s: float = RemoteSettings.timeout_s
    patience_s: float = RemoteSettings.patience_s

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.remote_settings
        if self.student_url is not None:
            server_urls("student_url", str(self.student_url))
        if self.uses_servers:
            self._require_model_to_compile()
            return
        for name in ("chunk", "concurrency", "timeout_s", "patience_s"):
            if getattr(self, name) != getattr(RemoteSettings, name):
                raise ValueError(f"{name}: it is a setting of servers; give student_url=URL, or leave it out")

    @property
    def uses_servers(self) -> bool:
        """Whether a model of the run is on servers."""
        return self.student_url is not None

    @property
    def has_model_here(self) -> bool:
        """Whether a model of the run is loaded in this process."""
        return self.student_url is None

    @property
    def needs_shared_batches(self) -> bool:
        """Whether the student's servers are to draft and score in one batch, if they can."""
        return False

    def _require_model_to_compile(self) -> None:
        if self.compile == "always" and not self.has_model_here:
            raise ValueError(
                "compile: every model is on a server, which decides it, got always; leave it out"
            )

    def require_own_concurrency(self) -> None:
        """Raise `ValueError` for a concurrency where a model of this process decides it by its cache."""
        if self.concurrency != RemoteSettings.concurrency:
            raise ValueError(
                f"concurrency: with one model in this process batch_size decides it, got {self.concurrency}; "
                "leave it out"
            )

    @property
    def remote_settings(self) -> RemoteSettings:
        """The settings of a run on servers."""
        return RemoteSettings(self.chunk, self.concurrency, self.timeout_s, self.patience_s)


@dataclass(frozen=True)
class PairArguments(ServerArguments):
    """Arguments of a student and a teacher of which one or both are on vLLM servers.

    Args:
        teacher_url: base URLs of the servers of the teacher, joined by `+`. `teacher` then names the
            tokenizer that is compared with the student's; without it the server's model name is tried.
    """

    teacher_url: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.student_url is None) != (self.teacher_url is None):
            self.require_own_concurrency()
        if self.teacher_url is not None:
            server_urls("teacher_url", str(self.teacher_url))

    @property
    def uses_servers(self) -> bool:
        """Whether a model of the run is on servers."""
        return self.student_url is not None or self.teacher_url is not None

    @property
    def has_model_here(self) -> bool:
        """Whether a model of the run is loaded in this process."""
        return self.student_url is None or self.teacher_url is None

    @property
    def needs_rows(self) -> bool:
        """Whether the teacher's servers are to score a chunk in one request."""
        return False


@dataclass(frozen=True)
class SamplingArguments(ServerArguments):
    """Arguments of `maj8`. Defaults as in the Qwen2.5 models' own sampling (METHODS: Maj@8).

    Args:
        num_samples: samples for each prompt.
        temperature: of the samples.
        top_p: probability mass that samples are drawn from.
        sample_top_k: number of most likely tokens that samples are drawn from; 0 means all.
        weight: weight of a sample's vote. None: 1. `confidence`: the text's own confidence (DeepConf); the
            samples are the same, so the run without it is the control.
    """

    num_samples: int = 8
    temperature: float = 0.7
    top_p: float = 0.8
    sample_top_k: int = 20
    weight: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("num_samples", self.num_samples, 1)
        require_int("sample_top_k", self.sample_top_k, 0)
        require_number("temperature", self.temperature)
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: expected above 0 to sample, got {self.temperature}")
        require_number("top_p", self.top_p)
        TOP_P.require("top_p", self.top_p)
        if self.weight not in (None, "confidence"):
            raise ValueError(f"weight: expected 'confidence', or none at all, got {self.weight!r}")


@dataclass(frozen=True)
class SelectionArguments(CommonArguments):
    """Arguments of `s2t` and `takeover`; `s2t_local` has the same ones with other defaults.

    Args:
        teacher: the larger model; a hub name, a folder or `embedded/teacher`.
        top_k: number of candidates.
        trigger: what is measured at each step to decide whether it fires.
        threshold: a step fires if the trigger's value is above this. Give this or `tau`.
        tau: wanted rate of fired steps; its threshold comes from `calibration`, and 1 is every step.
        calibration: JSON file of `s2t-eval calibrate`.
        kl_direction: of trigger "kl": "student_teacher" is KL(p_S || p_L), "teacher_student" KL(p_L || p_S).
        warmup_tokens: steps at the start of a text that never fire.
        selector: folder of `s2t-eval train`, or a hub repository; contains the router and thresholds.
        other_prompt: allow prompts with other few-shot examples, chat template or system instruction than
            those that calibration, selector and router were made with.
        router: with trigger `router`: folder of `s2t-eval r2r train` (R2R's router, whose threshold is a
            probability), or one of `s2t-eval train`, whose router then replaces the selector's; or a hub
            repository with either.
            An R2R router fires at its own threshold where neither `threshold` nor `tau` is given.
    """

    teacher: str | None = None
    top_k: int = Policy.top_k
    trigger: str = "kl"
    threshold: float | None = None
    tau: float | None = None
    calibration: str | None = None
    kl_direction: str = "student_teacher"
    warmup_tokens: int = Policy.warmup_tokens
    selector: str | None = None
    other_prompt: bool = False
    router: str | None = None

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_firing(self.trigger)

    def _check_ranges(self) -> None:
        super().__post_init__()
        if self.top_k is not None:
            require_int("top_k", self.top_k, 1)
        require_int("warmup_tokens", self.warmup_tokens, 0)
        require_bool("other_prompt", self.other_prompt)
        if self.kl_direction not in get_args(KlDirection):
            expected = " or ".join(map(repr, get_args(KlDirection)))
            raise ValueError(f"kl_direction: expected {expected}, got {self.kl_direction!r}")
        if self.threshold is not None:
            require_number("threshold", self.threshold)
        if self.tau is not None:
            require_number("tau", self.tau)
            FIRING_RATE.require("tau", self.tau)

    def _check_firing(self, trigger: str) -> None:
        """Check the trigger, and that it has either a threshold or a rate."""
        require_choice("trigger", trigger, TRIGGER_NAMES)
        if trigger == "router" and self.selector is None and self.router is None:
            raise ValueError(
                "trigger=router needs selector=FOLDER, made by `s2t-eval train`, or router=FOLDER, made by "
                "`s2t-eval r2r train`: it contains the router"
            )
        self._check_conflicts(trigger)
        if trigger in ("always", "never"):
            return
        if (self.threshold is None) == (self.tau is None) and not self._has_routers_threshold:
            raise ValueError(
                f"trigger={trigger} needs either threshold=NUMBER or tau=RATE with "
                f"calibration=FILE; got threshold={self.threshold} and tau={self.tau}"
            )
        needs_threshold = self.tau not in (None, 1) and trigger != "random"
        if needs_threshold and not (self.calibration or self.selector or self.router):
            raise ValueError(
                f"tau={self.tau} needs calibration=FILE: the threshold that fires at this rate "
                "is measured on training problems, with `s2t-eval calibrate`"
            )

    @property
    def lookup(self) -> ThresholdLookup:
        """What is looked up of a calibration, else of a router, else of a selector."""
        needs_threshold = self.tau not in (None, 1) and self.trigger not in ("random", "always", "never")
        key = f"kl:{self.kl_direction}" if self.trigger == "kl" else self.trigger
        rate, folder = self.tau if needs_threshold else None, self.router or self.selector
        return ThresholdLookup(self.calibration, folder, self.warmup_tokens, "tau", rate, key)

    @property
    def _has_routers_threshold(self) -> bool:
        """Whether neither a rate nor a number is named, so that the threshold of R2R's router holds."""
        return self.router is not None and self.threshold is None and self.tau is None

    def _decider(self, trigger: str) -> str:
        """The trigger that decides: at the rate 1 every step fires, whatever the trigger."""
        return "always" if self.tau == 1 and trigger != "never" else trigger

    def _named(self, trigger: str) -> str:
        """The trigger for messages, with the rate that replaces it."""
        is_replaced = self._decider(trigger) != trigger
        return f"trigger={trigger} with tau=1 (every step fires)" if is_replaced else f"trigger={trigger}"

    def _check_conflicts(self, trigger: str) -> None:
        """Refuse arguments that the trigger does not use, and thresholds outside its divergence's range."""
        if trigger in ("always", "never"):
            agrees = trigger == "always" and self.tau == 1
            for name in ("threshold", "tau"):
                if getattr(self, name) is not None and not (agrees and name == "tau"):
                    raise ValueError(
                        f"trigger={trigger} does not depend on {name}, got {name}={getattr(self, name)}; "
                        "leave it out, or name another trigger"
                    )
        if trigger == "never" and self.warmup_tokens != SelectionArguments.warmup_tokens:
            raise ValueError(
                f"warmup_tokens: under trigger=never no step fires anyway, got {self.warmup_tokens}; leave "
                "it out"
            )
        if self.calibration is not None and trigger in ("always", "never"):
            raise ValueError(
                f"calibration={self.calibration}: trigger={trigger} has no threshold, so it is not used; "
                "leave it out"
            )
        if self.router is not None and trigger not in ("router", "always", "never"):
            raise ValueError(f"router={self.router}: trigger={trigger} does not read it; take trigger=router")
        if self._decider(trigger) != "kl" and self.kl_direction != SelectionArguments.kl_direction:
            raise ValueError(
                f"kl_direction: {self._named(trigger)} does not use it, got {self.kl_direction!r}; leave it "
                "out"
            )
        if self.threshold is not None and trigger in DIVERGENCES:
            DIVERGENCES[trigger].require(f"threshold of trigger={trigger}", _finite(self.threshold, trigger))
        if self.threshold is not None and self.tau is None and self.calibration is not None:
            raise ValueError(
                f"calibration={self.calibration}: it is not used with threshold={self.threshold}; give "
                "tau=RATE instead of the threshold, or leave the calibration out"
            )
        if self.calibration is not None and self._has_routers_threshold:
            raise ValueError(
                f"calibration={self.calibration}: without tau the router's own threshold holds; give "
                "tau=RATE, or leave the calibration out"
            )


@dataclass(frozen=True)
class TeacherArguments(SelectionArguments, PairArguments):
    """Arguments of `s2t` and `takeover` beside those of all methods of selection.

    Args:
        verify: under trigger `kl`, the tokens that the student writes ahead before the teacher reads them in
            one pass; 1 is lockstep, a pass of the teacher for each token. `auto` adapts the length by
            measurement and falls back to lockstep where that is faster. The texts are the same, but for
            rounding. On servers `chunk` takes its place.
    """

    verify: int | str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_chunk()
        if self.verify == "auto":
            return
        if self.uses_servers:
            raise ValueError(
                "verify: with models on servers chunk takes its place; give chunk=TOKENS instead"
            )
        if isinstance(self.verify, bool) or not isinstance(self.verify, int) or self.verify < 1:
            raise ValueError(f"verify: expected 'auto' or a whole number of at least 1, got {self.verify!r}")
        if self._decider(self.trigger) != "kl":
            raise ValueError(
                f"verify: under {self._named(self.trigger)} the teacher reads a text only where a step "
                f"fires, got {self.verify!r}; leave it out"
            )

    def _check_chunk(self) -> None:
        """Refuse a length of chunks where the student is in this process and ends them by itself."""
        if self.chunk == RemoteSettings.chunk or self.student_url is not None or self.trigger in LATER:
            return
        raise ValueError(
            f"chunk: with trigger={self.trigger} a student in this process writes until a step fires, got "
            f"{self.chunk}; leave it out ({' and '.join(LATER)} alone are decided by chunks)"
        )

    @property
    def needs_rows(self) -> bool:
        """Whether the teacher's servers are to score a chunk in one request."""
        # Calibration and labels read whole texts, under the policy that never fires.
        return self._decider(self.trigger) in ("kl", "never")


def _finite(threshold: float, trigger: str) -> float:
    """The threshold; an infinite one of an unbounded divergence, which never fires, as a large number."""
    unbounded = ("kl", "entropy", "entropy64", "line_entropy")
    return 1e300 if threshold == math.inf and trigger in unbounded else threshold
