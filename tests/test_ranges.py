"""Every setting's range and every conflict of two settings: refused where it is given, in one line."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from s2t_eval.methods.tah.settings import DeciderSettings, LoopedSettings
from s2t_eval.model_wrappers.arguments import (
    SamplingArguments,
)
from s2t_eval.model_wrappers.tah import TahArguments
from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.pipelines.settings import CollectionSettings, Prompting, Source
from s2t_eval.ranges import PART, POSITIVE, SHARE, whole
from s2t_eval.training.distil.settings import DistilSettings
from s2t_eval.training.rlkd.settings import RlkdSettings
from s2t_eval.training.selector.settings import SelectorSettings, TrainSettings
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.tah.settings import DecisionSettings, DepthSettings

NAN, INF, HUGE = math.nan, math.inf, 10**400

# ---------------------------------------------------------------- dataclasses

COUNTS = (0, -1, 1.5, True, NAN, "2")
SHARES_PART = (0, 1, -0.1, 1.1, NAN, INF, True, "0.1")
SETTINGS: list[tuple[type, dict[str, tuple[Any, ...]]]] = [
    (
        LoopSettings,
        {
            "epochs": COUNTS,
            "batch_size": COUNTS,
            "accumulate": COUNTS,
            "evaluations": COUNTS,
            "lr": (0, -1e-3, NAN, INF, "fast"),
            "schedule": ("cosin", "", "reduce_lr_on_plateau", 3),
            "lr_warmup_fraction": (2, -0.1, NAN, "0.1"),
            "weight_decay": (-0.1, NAN, INF),
            "clip": (-1, 0, NAN, INF),
            "patience": (-1, 0.5),
            "precision": ("fp8", "", None, 16),
            "seed": (-1, 0.5, 2**63),
            "log_with": (("nonesuch",), ("",)),
        },
    ),
    (
        SelectorSettings,
        {
            "bins": (1, 0, -3, 2.5),
            "temperature": (0, -1, NAN, INF),
            "beta": (-0.1, NAN, INF),
            "rank": COUNTS,
            "alpha": COUNTS,
            "dropout": (1, -0.1, NAN, 2),
        },
    ),
    (
        TrainSettings,
        {
            "num_candidates": (1, 0, -3, 2.5, True),
            "top_k": (1, 0, 17, 100, 2.5),
            "low_kl_fraction": (2, -0.1, NAN),
            "held_out": SHARES_PART,
        },
    ),
    (LoraSettings, {"rank": COUNTS, "alpha": COUNTS, "dropout": (1, -0.1, NAN)}),
    (
        RlkdSettings,
        {
            "structurer": ("gsrm", "", None),
            "aligner": ("judge", "", None),
            "aggregate": ("max", None),
            "structure_weight": (-1, NAN, INF),
            "correctness_weight": (-1, NAN, INF),
            "group_size": (1, 0, 2.5, True),
            "temperature": (0, -1, NAN, INF),
            "kl_weight": (-0.1, NAN, INF),
            "clip_range": SHARES_PART,
            "updates": COUNTS,
            "held_out": SHARES_PART,
            "rows": COUNTS,
            "limit": COUNTS,
            "max_held_out": COUNTS,
            "dropout": (0.1, 1, NAN),
        },
    ),
    (
        DistilSettings,
        {
            "method": ("kdd", "", None),
            "temperature": (0, -1, NAN, INF),
            "held_out": SHARES_PART,
            "rows": COUNTS,
            "limit": COUNTS,
            "until": (("x",), ("",)),
            "beta": (0.5,),
        },
    ),
    (
        LoopedSettings,
        {
            "max_depth": (0, 99, 9, True, 1.5),
            "top_n": COUNTS,
            "rank": COUNTS,
            "alpha": COUNTS,
            "dropout": (1, -0.1, NAN),
        },
    ),
    (DeciderSettings, {"width": COUNTS, "blocks": COUNTS, "dropout": (1, NAN), "layers": ((1, 1),)}),
    (DepthSettings, {"easy_fraction": (-0.1, 1.1, NAN), "held_out": SHARES_PART, "max_eval_texts": COUNTS}),
    (
        DecisionSettings,
        {
            "positive_weight": (0, -1, NAN, INF),
            "held_out": SHARES_PART,
            "max_eval_texts": COUNTS,
            "eval_threshold": (-0.1, 1.1, NAN, True, "0.5"),
            "decoding_threshold": (-0.1, 1.1, NAN),
        },
    ),
    (Prompting, {"num_fewshot": (-1, 1.5), "max_gen_toks": (0, -1, 1.5)}),
    (CollectionSettings, {"tau": (0, 1, NAN, -0.1), "steps": ("some", "")}),
    (
        SamplingArguments,
        {
            "num_samples": COUNTS,
            "temperature": (0, -1, NAN, INF, "hot"),
            "top_p": (0, 1.5, NAN, "most"),
            "sample_top_k": (-1, 1.5, True),
            "seed": (-1, 0.5, "x", 2**63),
            "trace": ("", 5, True),
        },
    ),
    (TahArguments, {"threshold": (-0.1, 1.1, NAN), "max_depth": (0, 99, 1.5)}),
]


@pytest.mark.parametrize(("kind", "wrong"), SETTINGS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_field_has_a_range(kind: type, wrong: dict[str, tuple[Any, ...]]) -> None:
    kind()
    assert set(wrong) <= {item.name for item in fields(kind)}
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"^{name}: ") as caught:
                kind(**{name: value})
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        (
            LoopSettings,
            {"lr_warmup_fraction": 0, "patience": 3, "weight_decay": 0.0, "precision": "bf16", "clip": 1},
        ),
        (LoopSettings, {"schedule": "constant", "lr_warmup_fraction": 1.0, "seed": 2**63 - 1}),
        (TrainSettings, {"num_candidates": 2, "top_k": 2, "low_kl_fraction": 1.0, "held_out": 0.001}),
        (SelectorSettings, {"form": "residual", "beta": 0.0, "dropout": 0.0, "bins": 2, "temperature": 0.01}),
        (LoopedSettings, {"max_depth": 8, "top_n": 5000}),
        (DistilSettings, {"method": "jsd", "beta": 0.5}),
        (DistilSettings, {"method": "seqkd", "until": ("\n\n",), "rows": 1}),
        (DecisionSettings, {"eval_threshold": 0, "decoding_threshold": 1}),
    ],
)
def test_ends_of_the_ranges_are_taken(kind: type, right: dict[str, Any]) -> None:
    kind(**right)


def test_problems_need_a_number_and_a_beginning() -> None:
    for wrong in ({"limit": 0}, {"limit": -5}, {"limit": 1, "skip": -1}):
        with pytest.raises(ValueError, match=r"^(limit|skip): expected at least"):
            Source("s2t_arith", None, **wrong)


def test_more_candidates_in_decoding_than_in_training() -> None:
    """`--top_k 100` became 16 without a word."""
    with pytest.raises(ValueError, match=r"^top_k: expected at most the 4 candidates of training .* got 8$"):
        TrainSettings(num_candidates=4)


def test_reverse_has_something_to_reverse() -> None:
    with pytest.raises(ValueError, match=r"^reverse: with beta 0 there is no regularizer"):
        SelectorSettings(beta=0.0, reverse=True)


@pytest.mark.parametrize("value", [NAN, INF, -INF, True, None, "1", HUGE, [1], 1 + 0j])
def test_what_is_never_in_a_range(value: object) -> None:
    assert not any(allowed.holds(value) for allowed in (SHARE, PART, whole(1, 16)))
    assert not POSITIVE.holds(value) or value == HUGE
