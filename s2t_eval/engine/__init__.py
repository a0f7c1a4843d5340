"""Batched decoding on token ids: slots, one packed forward a step, selection at the steps that fire."""

from s2t_eval.engine.decoder import Decoder, NonFiniteLogitsError
from s2t_eval.engine.request import Finish, FiredStep, Request, Result, Usage
from s2t_eval.engine.sampling import Sampling, derive_seed
from s2t_eval.engine.slot_model import SlotModel, UnsupportedModelError

__all__ = [
    "Decoder",
    "Finish",
    "FiredStep",
    "NonFiniteLogitsError",
    "Request",
    "Result",
    "Sampling",
    "SlotModel",
    "UnsupportedModelError",
    "Usage",
    "derive_seed",
]
