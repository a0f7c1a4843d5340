"""Score forms against their definitions."""

from __future__ import annotations

import pytest
import torch

from s2t_eval.method_table import ScoreAs
from s2t_eval.selection.policy import s2t_local
from s2t_eval.selection.readout import Readout
from s2t_eval.selection.scores import DirectScore, Evidence, LookaheadScore, ResidualScore, WithProposal
from s2t_eval.selection.selectors import LocalSelector
from s2t_eval.selection.triggers import ConstantTrigger


def hidden() -> torch.Tensor:
    return torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(0))


def weight(bins: int = 7, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(bins, 12, generator=torch.Generator().manual_seed(1))


def test_expected_bin_is_its_definition() -> None:
    states, rows = hidden(), weight()
    found = Readout(rows).score(states)
    for i in range(3):
        for k in range(5):
            p = torch.softmax(rows @ states[i, k], 0)
            expected = sum(float(p[b]) * b / 6 for b in range(7))
            assert float(found[i, k]) == pytest.approx(expected, abs=1e-5)


def test_log_odds_are_those_of_the_expected_bin() -> None:
    states, rows = hidden(), weight()
    expected = Readout(rows).score(states).double()
    torch.testing.assert_close(
        Readout(rows, "log_odds").score(states).double(),
        torch.log(expected / (1 - expected)),
        atol=1e-4,
        rtol=1e-4,
    )


def test_log_odds_stay_finite_where_the_expected_bin_is_one() -> None:
    rows = torch.zeros(4, 12)
    rows[3], rows[0] = 50.0, -50.0
    states = torch.ones(1, 12)
    assert float(Readout(rows).score(states)) == 1.0
    assert torch.isfinite(Readout(rows, "log_odds").score(states)).all()


def test_scores_of_a_student_whose_head_is_on_another_device() -> None:
    """Over several devices the last layer may be on another one than the head, which is tied to the
    embeddings: states behind candidates and their log-probabilities could not be added."""
    evidence = Evidence(torch.zeros(3, 5), hidden=hidden().to("meta"))
    for score in (ResidualScore(Readout(weight())), WithProposal(LookaheadScore(Readout(weight())), 0.5)):
        assert score.score(evidence).device.type == "meta"


@pytest.mark.parametrize("score_as", ["expected", "log_odds"])
def test_scores_in_mixed_precision_are_those_of_decoding(score_as: ScoreAs) -> None:
    """With `--precision bf16` the expected bin was a product in bfloat16. Of 16 similar candidates it had two
    or three different values, so that loss and Agree@1 were those of ties that decoding does not have."""
    states = hidden()[:1, :1] + 0.05 * torch.randn(1, 16, 12, generator=torch.Generator().manual_seed(2))
    score = LookaheadScore(Readout(weight(16, 0.1), score_as))
    evidence = Evidence(torch.zeros(1, 16), hidden=states.bfloat16())
    decoded = score.score(evidence)
    with torch.autocast("cpu", torch.bfloat16):
        trained = score.score(evidence)
    assert trained.dtype == torch.float32 and torch.equal(trained, decoded)
    assert len(set(trained.flatten().tolist())) > 8


@pytest.mark.parametrize("bins", [2, 9])
def test_rows_of_zeros_correct_nothing(bins: int) -> None:
    log_probs = torch.tensor([[-0.5, -1.0, -3.0, -4.0, -9.0]]).expand(3, -1)
    score = ResidualScore(Readout(torch.zeros(bins, 12), "log_odds"))
    found = score.score(Evidence(log_probs, hidden=hidden()))
    torch.testing.assert_close(found, log_probs, atol=1e-6, rtol=0)


def test_forms_look_where_they_say() -> None:
    log_probs, own = torch.zeros(3, 5), torch.arange(15.0).view(3, 5)
    readout = Readout(weight())
    assert torch.equal(
        LookaheadScore(readout).score(Evidence(log_probs - 9, hidden=hidden())), readout.score(hidden())
    )
    assert torch.equal(DirectScore().score(Evidence(log_probs, own_logits=own)), own)
    assert not DirectScore().looks_ahead and ResidualScore(readout).looks_ahead


def test_a_weighted_proposal_is_added_to_any_form() -> None:
    log_probs = -torch.rand(3, 5, generator=torch.Generator().manual_seed(3))
    for alone, evidence in (
        (DirectScore(), Evidence(log_probs, own_logits=torch.arange(15.0).view(3, 5))),
        (LookaheadScore(Readout(weight())), Evidence(log_probs, hidden=hidden())),
    ):
        both = WithProposal(alone, 0.5)
        assert torch.equal(both.score(evidence), alone.score(evidence) + 0.5 * log_probs)
        assert (both.form, both.looks_ahead) == (alone.form, alone.looks_ahead)
        described = s2t_local(ConstantTrigger("always"), 0.0, both).describe()
        assert described["score"] == alone.form and described["proposal_weight"] == 0.5
        assert "proposal_weight" not in s2t_local(ConstantTrigger("always"), 0.0, alone).describe()


def test_among_equals_the_student_s_first_wins() -> None:
    candidates = torch.tensor([[7, 3, 9]])
    evidence = Evidence(torch.zeros(1, 3), own_logits=torch.ones(1, 3))
    assert LocalSelector(DirectScore()).select(candidates, evidence).picked.tolist() == [7]


def test_unusable_readouts_are_named() -> None:
    with pytest.raises(ValueError, match="bins >= 2"):
        Readout(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="score_as"):
        Readout(torch.zeros(2, 4), "logodds")  # type: ignore[arg-type]
