"""A backend's models on vLLM servers: models without weights in their place, and the scheduler over them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from transformers import AutoTokenizer

from s2t_eval.embedded import resolve_model
from s2t_eval.engine.stop import AnswerOf, Decode
from s2t_eval.model_wrappers.arguments import CommonArguments, PairArguments, ServerArguments
from s2t_eval.model_wrappers.served_identity import named_fingerprint, require_served
from s2t_eval.model_wrappers.splitting import LOADING_ARGS
from s2t_eval.models.loading import UNREADABLE, loading
from s2t_eval.models.vocabulary import require_same_vocabulary
from s2t_eval.remote.build import Fleet, LocalModels
from s2t_eval.remote.probe import connect
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.remote.settings import RemoteSettings, server_urls
from s2t_eval.selection.policy import Policy

logger = logging.getLogger(__name__)

WEIGHTS = (
    *("peft", "delta", "gguf_file", "load_in_4bit", "load_in_8bit", "quantization_config"),
    *("autogptq", "gptqmodel"),
)
"""Arguments that change a model's weights, which are the server's."""
PLACING = ("parallelize", "max_memory_per_gpu", "max_cpu_memory", "offload_folder", "tp_plan")
"""Arguments of stock `hf` about how weights are spread over devices."""
LOADED_HERE = (*PLACING, *sorted(LOADING_ARGS.difference(WEIGHTS)))
"""Arguments about loading weights, of which none are loaded beside servers."""
NOT_STATED = "of the server"
"""The dtype of a student on servers, where the user names none."""


class ServedTeacher(NamedTuple):
    """What this machine has of a teacher on servers."""

    tokenizer: Any
    """None where it is not on this machine"""
    fingerprint: str | None
    """of its weights; None where they are not on this machine"""


class Served:
    """The servers of a backend.

    Args:
        fleet: the servers, as probed.
        settings: chunk, concurrency, timeouts.
    """

    def __init__(self, fleet: Fleet, settings: RemoteSettings) -> None:
        self.fleet = fleet
        self.settings = settings

    @classmethod
    def of(cls, arguments: CommonArguments) -> Served | None:
        """The servers in a backend's arguments, probed and warmed up; None where there are none.

        Raises:
            ValueError: several processes were started together.
            ServerError: servers that lack what a run needs.
            ServersUnavailableError: a server that does not answer.
        """
        if not isinstance(arguments, ServerArguments) or not arguments.uses_servers:
            return None
        students: tuple[str, ...] = ()
        if arguments.student_url is not None:
            _require_one_process()
            students = server_urls("student_url", arguments.student_url)
        teachers: tuple[str, ...] = ()
        needs_rows = False
        if isinstance(arguments, PairArguments) and arguments.teacher_url is not None:
            teachers = server_urls("teacher_url", arguments.teacher_url)
            needs_rows = arguments.needs_rows
        settings = arguments.remote_settings
        fleet = connect(students, teachers, settings, needs_rows, arguments.needs_shared_batches)
        return cls(fleet, settings)

    @property
    def has_student(self) -> bool:
        """Whether the student is on servers; else only the teacher is."""
        return bool(self.fleet.students)

    def scheduler(
        self, policy: Policy, text_vocab: int, decode: Decode, answer_of: AnswerOf, local: LocalModels
    ) -> RemoteScheduler:
        """The scheduler of a run."""
        return RemoteScheduler(self.fleet, policy, text_vocab, self.settings, decode, answer_of, local)

    def describe(self) -> dict[str, Any]:
        """The models that servers loaded and vLLM's versions: what of the servers may change a text."""
        roles = {"student": self.fleet.students, "teacher": self.fleet.teachers}
        return {
            role: {
                "model": servers[0].model,
                "roots": sorted({server.root or server.model for server in servers}),
                "versions": sorted({server.version for server in servers}),
            }
            for role, servers in roles.items()
            if servers
        }

    def teacher(self, student_tokenizer: Any, name: str | None, trust: bool) -> ServedTeacher:
        """What is known of the teacher here; its vocabulary is compared first.

        Args:
            student_tokenizer: tokenizer of the student, whose vocabulary the teacher's must equal.
            name: the argument `teacher`; None tries the name by which the server loaded its model.
            trust: run the checkpoint's own code.

        Raises:
            VocabularyMismatchError: the vocabularies differ.
            ModelLoadError: `name` names no model.
            ServerError: a server that loaded a folder of this machine with other weights.
        """
        root = name or self.fleet.teachers[0].root
        try:
            with loading("teacher", root):
                tokenizer = AutoTokenizer.from_pretrained(resolve_model(root), trust_remote_code=trust)
        except UNREADABLE:
            if name is not None:
                raise
            logger.warning(
                "teacher_url: the tokenizer of %s is not on this machine, so it is not compared with the "
                "student's; name it by teacher=MODEL",
                root,
            )
            return ServedTeacher(None, None)
        require_same_vocabulary(student_tokenizer, tokenizer)
        fingerprint = named_fingerprint(root, trust)
        require_served("teacher", self.fleet.teachers, "teacher", root, fingerprint, trust)
        return ServedTeacher(tokenizer, fingerprint)


def stated_dtype(model_args: Mapping[str, Any]) -> str:
    """The dtype of a student on servers, which do not report theirs, for the records.

    Args:
        model_args: as the user gave them. A dtype among them is compared with nothing; it tells runs apart.
    """
    dtype = model_args.get("dtype")
    return NOT_STATED if dtype in (None, "auto") else f"{str(dtype).removeprefix('torch.')}, as stated"


def require_no_weights(model_args: Mapping[str, Any]) -> None:
    """Raise `ValueError` for an argument about weights, which a student on servers has none of here.

    Args:
        model_args: as the user gave them.
    """
    for name in WEIGHTS:
        if model_args.get(name):
            raise ValueError(
                f"{name}: with student_url the model is the server's; merge it into a checkpoint "
                "(`s2t-eval export --merged`), serve that, and leave the argument out"
            )
    for name in LOADED_HERE:
        if model_args.get(name):
            raise ValueError(
                f"{name}: with student_url no weights are loaded here, so it has no effect; leave it out"
            )


def _require_one_process() -> None:
    """Raise `ValueError` where torchrun or `accelerate launch` started several processes."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise ValueError(
            f"student_url: {count} processes were started together, and one is enough; start "
            "lm_eval without torchrun or accelerate, and name several servers joined by + instead"
        )
