"""The decoder of a run: each role on its servers, or by a model of this process."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

import aiohttp

from s2t_eval.engine.runner import ModelRunner
from s2t_eval.remote.client import Pool, Server
from s2t_eval.remote.drafting import LATER, IsEnd
from s2t_eval.remote.gates import Gate
from s2t_eval.remote.local_student import LocalStudent
from s2t_eval.remote.local_teacher import LocalTeacher
from s2t_eval.remote.roles import Teacher, Writer
from s2t_eval.remote.scorers import AdapterScorer, ReservedRowScorer, Scorer
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.remote.student import UNBOUNDED_CHUNK, RemoteStudent
from s2t_eval.remote.teacher import RemoteTeacher
from s2t_eval.remote.text import TextDecoder
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.selectors import LocalSelector
from s2t_eval.selection.triggers import KlTrigger


@dataclass(frozen=True)
class Fleet:
    """The servers of a run, as `connect` finds them.

    Args:
        students: empty where the student is in this process.
        teachers: may be empty.
        has_rows: whether every teacher scores a chunk in one request.
        adapter: name by which the students serve the adapter of a local selector as a LoRA.
        reserved_rows: ids of the students' output rows that hold the readout of a local selector.
        has_shared_batches: whether the students' servers can draft and score in one batch; see `gates.py`.
    """

    students: tuple[Server, ...]
    teachers: tuple[Server, ...] = ()
    has_rows: bool = False
    adapter: str | None = None
    reserved_rows: tuple[int, ...] = ()
    has_shared_batches: bool = False

    @property
    def max_length(self) -> int:
        """The longest text, prompt included, that every server takes.

        A teacher that scores a chunk in one request generates a token behind it, and so does a student that
        reads a text's last candidate.
        """
        return self.longest_before(0)

    def longest_before(self, question: int) -> int:
        """The longest text that every server takes, where teachers read a question behind it.

        Args:
            question: tokens of the question.
        """
        # A question is followed by a generated token, whether the teachers have rows or not.
        behind = max(int(self.has_rows), question + bool(question))
        teachers = [server.max_length - behind for server in self.teachers]
        students = [server.max_length - bool(self.reserved_rows) for server in self.students]
        return min([*students, *teachers])


@dataclass(frozen=True)
class LocalModels:
    """The models of a run that are in this process, beside the servers of the other role.

    Args:
        student: None where it is on servers.
        teacher: None where it is on servers, or where there is none.
        rows: texts that these models decode at once.
    """

    student: ModelRunner | None = None
    teacher: ModelRunner | None = None
    rows: int = 32

    @property
    def runners(self) -> tuple[ModelRunner, ...]:
        """Those that there are."""
        return tuple(runner for runner in (self.student, self.teacher) if runner is not None)


@dataclass(frozen=True)
class Roles:
    """Makes the decoder of a run.

    Args:
        fleet: the servers.
        local: the models of this process.
        policy: trigger and selector.
        text_vocab: ids from here on are no text.
        settings: chunk and timeouts.
        capacity: longest text of the run in tokens, prompt included.
    """

    fleet: Fleet
    local: LocalModels
    policy: Policy
    text_vocab: int
    settings: RemoteSettings
    capacity: int

    def decoder(self, session: aiohttp.ClientSession, keep_top: bool) -> TextDecoder:
        """A decoder over the fleet's pools, with a salt of this run's own; it has to be closed."""
        salt = secrets.token_hex(8)
        gates = self.gates()
        # Without rows there is a warning, which only a trigger that needs them deserves.
        needs_rows = isinstance(self.policy.trigger, KlTrigger)
        return TextDecoder(
            self.policy,
            self.student(session, salt, gates),
            self.teacher(session, salt, gates, needs_rows) if self.policy.needs_teacher else None,
            self._chunk,
            self._scorer(session, salt, gates),
            keep_top,
        )

    @property
    def _chunk(self) -> int:
        """A student of this process ends its drafts by itself where the trigger fires."""
        is_open = self.local.student is not None and self.policy.trigger.name not in LATER
        return UNBOUNDED_CHUNK if is_open else self.settings.chunk

    def gates(self, does_teacher_write: bool = False) -> dict[str, Gate]:
        """URL -> gate, of each server that drafts and scores and cannot compute both in one batch.

        Args:
            does_teacher_write: whether the teacher drafts too, with the most likely tokens of each step.
        """
        fleet = self.fleet
        students, teachers = ({server.url for server in role} for role in (fleet.students, fleet.teachers))
        mixed: set[str] = set()
        if not fleet.has_shared_batches:
            mixed |= students if isinstance(self.policy.selector, LocalSelector) else students & teachers
        if does_teacher_write and not fleet.has_rows:  # what rows need, both kinds in one batch need too
            mixed |= teachers
        return {url: Gate() for url in mixed}

    def student(
        self,
        session: aiohttp.ClientSession,
        salt: str,
        gates: Mapping[str, Gate],
        is_end: IsEnd | None = None,
    ) -> Writer:
        """The student: its servers, or the model of this process, whose drafts end by `is_end`."""
        if self.local.student is not None:
            return LocalStudent(self.local.student, self.policy, self.local.rows, self.capacity, is_end)
        pool = Pool("student", self.fleet.students, session, self.settings, salt, gates)
        return RemoteStudent(pool, self.text_vocab)

    def teacher(
        self,
        session: aiohttp.ClientSession,
        salt: str,
        gates: Mapping[str, Gate],
        needs_rows: bool,
        is_end: IsEnd | None = None,
    ) -> Teacher:
        """The teacher: its servers, or the model of this process, whose steps end by `is_end`."""
        if self.local.teacher is not None:
            return LocalTeacher(self.local.teacher, self.local.rows, self.capacity, is_end)
        pool = Pool("teacher", self.fleet.teachers, session, self.settings, salt, gates)
        return RemoteTeacher(pool, self.text_vocab, self.fleet.has_rows or not needs_rows)

    def _scorer(self, session: aiohttp.ClientSession, salt: str, gates: Mapping[str, Gate]) -> Scorer | None:
        selector, fleet = self.policy.selector, self.fleet
        if not isinstance(selector, LocalSelector):
            return None
        if fleet.adapter is None:
            pool = Pool("student", fleet.students, session, self.settings, salt, gates)
            return ReservedRowScorer(pool, fleet.reserved_rows, selector.score)
        servers = [replace(server, model=fleet.adapter) for server in fleet.students]
        pool = Pool("student", servers, session, self.settings, salt, gates)
        return AdapterScorer(pool, selector.score)
