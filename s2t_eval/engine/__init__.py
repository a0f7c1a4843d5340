"""Batched decoding on token ids: one packed forward a step, selection at the steps that fire."""

from s2t_eval.engine.decoder import Decoder
from s2t_eval.engine.request import Finish, FiredStep, Request, Result, Usage
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sampling import Sampling, derive_seed
from s2t_eval.engine.stepper import NonFiniteLogitsError, OnRound, Round
from s2t_eval.engine.support import UnsupportedModelError

__all__ = [
    "Decoder",
    "Finish",
    "FiredStep",
    "ModelRunner",
    "NonFiniteLogitsError",
    "OnRound",
    "Request",
    "Result",
    "Round",
    "Sampling",
    "UnsupportedModelError",
    "Usage",
    "derive_seed",
]
