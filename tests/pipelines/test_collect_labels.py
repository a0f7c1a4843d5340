"""Label collection through a backend: rollouts end where the backend's own texts end."""

from __future__ import annotations

from pathlib import Path

from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.training.label_collection import CollectionFolder, Problem, generate_rollouts
from tests.harness_helpers import STUDENT, generation, prompts


def test_a_stop_string_in_a_thought_does_not_end_a_rollout(tmp_path: Path) -> None:
    """Rollouts of reasoning models once ended at the first stop string of their thoughts."""
    lm = Greedy(STUDENT, device="cpu", think_end_token="answer")
    [request] = lm.engine_requests([generation(prompts(1)[0], until=["."], max_gen_toks=96)])
    work = CollectionFolder(tmp_path / "labels", {})
    problem = Problem("made/0", "q", request, request.prompt_ids)
    finished: list[int] = []
    generate_rollouts(lm.student, [problem], work, 1, lm.tok_decode, lm.thoughts.answer_of, finished.append)
    [expected] = lm.decoder().run([request])
    output_ids = work.load("rollouts", 0)["output_ids"].tolist()
    assert output_ids == expected.output_ids
    text = lm.tok_decode(output_ids)
    assert text.count(".") > 1, "the thought has sentences of its own"
    assert text.endswith(".") and " answer is " in text
    assert finished == [1]
