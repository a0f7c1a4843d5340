"""Text as it grows: equal to the whole in the end, whole characters on the way, and no stop string shown."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from s2t_eval.cli.transcript import CONTROL, Transcript
from s2t_eval.engine import Finish, FiredStep
from tests.harness_helpers import tokenizer


def decode(ids: Sequence[int]) -> str:
    return str(tokenizer().decode(ids, skip_special_tokens=True))


def encode(text: str) -> list[int]:
    return list(tokenizer().encode(text, add_special_tokens=False))


def fired(t: int, picked: int, greedy: int) -> FiredStep:
    return FiredStep(t, 1.0, [greedy, picked], [0.0, 1.0], greedy, picked)


@pytest.mark.parametrize("seed", range(20))
def test_in_the_end_it_is_the_whole_text(seed: int) -> None:
    numbers = random.Random(seed)
    ids = [numbers.randrange(len(tokenizer())) for _ in range(30)]
    transcript, before = Transcript(decode), ""
    for end in range(1, len(ids) + 1):
        transcript.update(ids[:end], [], Finish.LENGTH if end == len(ids) else None)
        assert transcript.text.startswith(before), "what was shown is never taken back"
        before = transcript.text
    # A broken character may be decoded in one part or in several; whole ones are the same.
    assert transcript.text.replace("\ufffd", "") == decode(ids).translate(CONTROL).replace("\ufffd", "")


def test_a_character_of_several_tokens_comes_whole() -> None:
    ids = encode("Ada 👋 é…")
    assert len(ids) > 8  # bytes
    transcript, shown = Transcript(decode), []
    for end in range(1, len(ids) + 1):
        transcript.update(ids[:end], [], Finish.LENGTH if end == len(ids) else None)
        shown.append(transcript.text)
    assert shown[-1] == "Ada 👋 é…"
    assert not any("\ufffd" in text for text in shown)


def test_several_tokens_a_round_and_none() -> None:
    ids = encode(" Max has 48 eggs.")
    transcript = Transcript(decode)
    for end in (2, 2, 5, len(ids)):
        transcript.update(ids[:end], [])
    assert transcript.text == " Max has 48 eggs."


def test_a_span_is_the_text_of_its_step() -> None:
    ids = encode(" Max has 48 eggs.")
    [t] = [t for t, token in enumerate(ids) if decode([token]) == " 48"]
    other = encode(" 47")[0]
    for greedy, is_flip in ((other, True), (ids[t], False)):
        transcript = Transcript(decode)
        for end in range(1, len(ids) + 1):
            steps = [fired(t, ids[t], greedy)] if end > t else []
            transcript.update(ids[:end], steps)
        [span] = transcript.spans
        assert (transcript.text[span.start : span.end], span.is_flip) == (" 48", is_flip)


def test_a_stop_string_is_never_shown() -> None:
    ids = encode(" So 12.\n\nQuestion: what")
    [place] = [i for i in range(len(ids)) if decode(ids[: i + 1]).endswith("Question:")]
    transcript = Transcript(decode, ["\n\nQuestion:", "###"])
    shown = []
    for end in range(1, place + 2):
        transcript.update(ids[:end], [], Finish.STOP_STRING if end == place + 1 else None)
        shown.append(transcript.text[: transcript.shown])
    assert shown[-1] == " So 12."
    assert all(" So 12.".startswith(text) for text in shown)


def test_what_only_began_like_a_stop_string_is_shown_later() -> None:
    ids = encode(" a #b")
    transcript = Transcript(decode, ["##"])
    shown = []
    for end in range(1, len(ids) + 1):
        transcript.update(ids[:end], [], Finish.LENGTH if end == len(ids) else None)
        shown.append(transcript.text[: transcript.shown])
    assert shown[-1] == " a #b"
    assert " a #" not in shown


def test_a_final_stop_token_is_no_text() -> None:
    ids = [*encode(" 12."), encode("x")[0]]
    transcript = Transcript(decode)
    transcript.update(ids, [], Finish.STOP_ID)
    assert transcript.text == " 12."


def test_control_characters_are_made_visible() -> None:
    """A terminal would obey them: colours, cursor movement, a title."""
    ids = encode("a\x1b[2J\rb\x9b\n\tc")
    transcript = Transcript(decode)
    transcript.update(ids, [], Finish.LENGTH)
    assert transcript.text == "a␛[2J␍b\ufffd\n\tc"
