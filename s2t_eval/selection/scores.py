"""Score forms of a local selector: scores of the candidates by the student itself, without a teacher.

Training and decoding use the same classes, so both compute the same scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from s2t_eval.method_table import ScoreAs, ScoreForm
from s2t_eval.selection.readout import Readout


@dataclass(frozen=True)
class Evidence:
    """The inputs of a score, for the K candidates of some steps.

    Args:
        log_probs: the proposer's log-probabilities of the candidates, float32 [..., K].
        hidden: the scorer's hidden states at the appended candidates [..., K, hidden]; None where
            the form does not look ahead.
        own_logits: the scorer's logits of the candidates at the step itself, float32 [..., K]; None
            where the form looks ahead.
    """

    log_probs: Tensor
    hidden: Tensor | None = None
    own_logits: Tensor | None = None


class Score(Protocol):
    """One way to score candidates; larger is better."""

    @property
    def form(self) -> ScoreForm:
        """Its name in selector folders and on command lines."""
        ...

    @property
    def looks_ahead(self) -> bool:
        """Whether each candidate is appended and run, or only the step itself is scored."""
        ...

    def score(self, evidence: Evidence) -> Tensor:
        """Scores float32 [..., K]."""
        ...


@dataclass(frozen=True)
class LookaheadScore:
    """The paper's form: append each candidate and apply the reserved rows to its hidden state (section 4)."""

    readout: Readout
    form: ScoreForm = "lookahead"
    looks_ahead: bool = True

    def score(self, evidence: Evidence) -> Tensor:
        """The readout at each candidate."""
        assert evidence.hidden is not None
        return self.readout.score(evidence.hidden)


@dataclass(frozen=True)
class ResidualScore:
    """log p_S(c) plus the readout's score: with rows of zeros it is greedy decoding's ranking.

    The paper's form has to learn the student's own ranking from labels; this one starts from it.
    """

    readout: Readout
    form: ScoreForm = "residual"
    looks_ahead: bool = True

    def score(self, evidence: Evidence) -> Tensor:
        """Log-probability plus learned correction."""
        assert evidence.hidden is not None
        correction = self.readout.score(evidence.hidden)
        return evidence.log_probs.to(correction.device) + correction


@dataclass(frozen=True)
class DirectScore:
    """The scorer's own logits of the candidates at the step: no candidate is appended at all."""

    form: ScoreForm = "direct"
    looks_ahead: bool = False

    def score(self, evidence: Evidence) -> Tensor:
        """The adapted model's logits."""
        assert evidence.own_logits is not None
        return evidence.own_logits


@dataclass(frozen=True)
class WithProposal:
    """Another form's score plus the proposer's own log-probability, weighted.

    A selector that is trained on divergent steps only loses the student's ranking at the other steps; the
    proposer's log-probability restores it.
    """

    score_alone: Score
    proposal_weight: float

    @property
    def form(self) -> ScoreForm:
        """The name of the form without the proposal."""
        return self.score_alone.form

    @property
    def looks_ahead(self) -> bool:
        """As in the form without the proposal."""
        return self.score_alone.looks_ahead

    def score(self, evidence: Evidence) -> Tensor:
        """S(c) + weight * log p_S(c)."""
        return with_proposal(self.score_alone.score(evidence), evidence.log_probs, self.proposal_weight)


def with_proposal(scores: Tensor, log_probs: Tensor, proposal_weight: float) -> Tensor:
    """S(c) + weight * log p_S(c): the scores by which candidates are ranked, [..., K]; weight 0 changes none.

    Decoding and every held-out figure rank by this function.
    """
    return scores + proposal_weight * log_probs.to(scores.device) if proposal_weight else scores


def make_score(form: ScoreForm, weight: Tensor, score_as: ScoreAs, proposal_weight: float = 0.0) -> Score:
    """The score form of this name over readout rows [bins, hidden], with this weight of the proposal."""
    score: Score = DirectScore()
    if form != "direct":
        readout = Readout(weight, score_as)
        score = LookaheadScore(readout) if form == "lookahead" else ResidualScore(readout)
    return WithProposal(score, proposal_weight) if proposal_weight else score
