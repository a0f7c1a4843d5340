"""What a selector has learnt from: parts that a further training takes over, and labels to measure it on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from s2t_eval.analysis.share_rule import read_agreement
from s2t_eval.artifacts.files import WriteError
from s2t_eval.artifacts.manifest import write_manifest
from s2t_eval.embedded import embedded_path
from s2t_eval.methods.selector_folder import Selector, load_selector
from s2t_eval.methods.selector_info import (
    ProposerDefault,
    SelectorError,
    read_info,
    selector_card,
    write_info,
)
from s2t_eval.training.labels import LabelError, LabelSet, Trajectory
from s2t_eval.training.selector.complete import with_answered_defaults
from s2t_eval.training.selector.continuation import (
    has_same_router,
    require_known_split,
    require_same_writer,
    router_of_start,
    seen_texts,
    warn_of_earlier_choice,
)
from s2t_eval.training.selector.held_out import boundaries_of, divided_at, split_held_out
from s2t_eval.training.selector.trajectory_scores import has_same_problems, held_out_trajectories
from s2t_eval.training.selector.trigger_scan import with_unmeasured_defaults
from tests.harness_helpers import STUDENT
from tests.learning import collect_arguments, labels, main, selector, train_arguments

SETTINGS: dict[str, Any] = {"settings": {"held_out": 0.1, "limit": 200}, "loop": {"seed": 1}}
TRAINED: dict[str, Any] = {"reported_problems": 12, "settings": SETTINGS}
OWN_TEXTS: dict[str, Any] = {"selector": "ab", "tau": 0.05, "policy": {}}


@pytest.mark.parametrize(
    ("trained", "limit", "seed", "rollouts", "is_same"),
    [
        (TRAINED, 200, 1, None, True),
        (TRAINED, 200, 2, None, False),
        (TRAINED, None, 1, None, False),
        (TRAINED, 200, 1, OWN_TEXTS, False),
        (TRAINED | {"settings": SETTINGS | {"settings": {"held_out": 0.1}}}, None, 1, None, True),
        ({"settings": SETTINGS}, 200, 1, None, False),
    ],
)
def test_a_router_is_taken_over_where_it_was_trained_on_the_same_texts(
    trained: dict[str, Any], limit: int | None, seed: int, rollouts: dict[str, Any] | None, is_same: bool
) -> None:
    """A router of 200 problems was kept in a training on all of them, as was one of a selector made before
    the held-out texts had two halves, whose checkpoint the texts of the figures had chosen, and one of the
    plain student's texts in a second round, on texts that the selector wrote."""
    start = loaded(selector("direct"))
    start = replace(start, info=replace(start.info, training=trained))
    manifest = replace(LabelSet.load(labels()).manifest, rollouts=rollouts)
    assert has_same_router(start.info, manifest, limit, seed) is is_same
    router = router_of_start(start, manifest, limit, seed)
    assert router is (start.routers["base"] if is_same else None)
    assert router_of_start(None, manifest, limit, seed) is None


def test_texts_of_another_writer_complete_no_selector() -> None:
    """The router that was added, and all figures, were those of other texts than the rest of the folder."""
    info, plain = read_info(selector("direct")), LabelSet.load(labels())
    own = LabelSet(replace(plain.manifest, rollouts=OWN_TEXTS), list(plain))
    require_same_writer("complete=FOLDER", info, plain)
    require_same_writer("complete=FOLDER", replace(info, labels=asdict(own.manifest)), own)
    message = r"complete=FOLDER: it was trained on texts of the student alone, got labels of .* selector ab; "
    with pytest.raises(SelectorError, match=message):
        require_same_writer("complete=FOLDER", info, own)


def test_other_labels_of_the_same_problems_hold_those_that_were_trained_on() -> None:
    """A second collection on the same problems counted as problems that the selector had never seen.

    Its figures in an analysis were then mostly those of its own training problems: one last digit of the KL
    threshold, or texts that the selector had written, made the manifests different.
    """
    data = {"source": "gsm8k", "split": "train", "hash": "ab", "skip": 0, "problems": 500}
    trained = {"data": data, "kl_threshold": 0.1}
    assert has_same_problems(trained, {"data": data, "kl_threshold": 0.1000001, "rollouts": {"tau": 0.1}})
    assert has_same_problems(trained, {"data": data | {"entropy": "entropy64"}})  # made by servers
    for name, value in {"hash": "cd", "problems": 499, "split": "test", "source": "math"}.items():
        assert not has_same_problems(trained, {"data": data | {name: value}})


# ---------------------------------------------------------------- questions that a selector has seen


def loaded(folder: Path) -> Selector:
    info = read_info(folder)
    return load_selector(folder, info.base, info.vocabulary, info.hidden_size)


def label_set(rows: Sequence[Trajectory], **data: Any) -> LabelSet:
    """Some of the shared labels, as a set of other problems of the same source."""
    manifest = LabelSet.load(labels()).manifest
    return LabelSet(replace(manifest, data={**manifest.data, "problems": len(rows), **data}), rows)


def without_questions(selector: Selector) -> Selector:
    """The selector as earlier versions wrote it."""
    training = {k: v for k, v in selector.info.training.items() if k != "question_fingerprints"}
    return replace(selector, info=replace(selector.info, training=training))


def test_labels_that_share_problems_with_a_training_lose_those() -> None:
    """Only whole label sets were compared, so a set of half of the problems counted as never seen."""
    rows = list(LabelSet.load(labels()))
    train, held_out = LabelSet.load(labels()).split(0.25)
    halves = split_held_out(held_out)
    found = held_out_trajectories(loaded(selector("direct")), label_set(rows[:20]))
    expected = {row.problem_id for row in rows[:20]} & {row.problem_id for row in halves.reported}
    assert {row.problem_id for row in found} == expected != set()
    with pytest.raises(
        LabelError, match=r"expected problems that selector=.* has not seen, got 4 that it was"
    ):
        held_out_trajectories(loaded(selector("direct")), label_set(train[:4]))


def test_where_a_folder_does_not_list_its_questions_a_warning_names_the_source(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old, rows = without_questions(loaded(selector("direct"))), list(LabelSet.load(labels()))[:20]
    caplog.clear()  # of what the training of the selector, which other tests share, has said
    assert held_out_trajectories(old, label_set(rows)) == rows
    [line] = [record.getMessage() for record in caplog.records]
    assert "was trained on other problems of s2t_arith, and its folder does not list which" in line
    caplog.clear()
    assert held_out_trajectories(old, label_set(rows, source="another")) == rows
    assert not caplog.records


def test_texts_that_chose_a_selector_of_an_earlier_version_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without halves all held-out texts chose the checkpoint; they were analysed without a word."""
    found = loaded(selector("direct"))
    training = {k: v for k, v in found.info.training.items() if k not in ("reported_problems", "boundaries")}
    old = replace(found, info=replace(found.info, training=training))
    label_set = LabelSet.load(labels())
    for one, count, is_named in ((found, 3, False), (old, 6, True)):
        caplog.clear()
        assert len(held_out_trajectories(one, label_set)) == count
        assert ("all 6 texts that it was not trained on chose its checkpoint" in caplog.text) is is_named


def test_questions_of_the_selector_that_was_started_from_are_seen() -> None:
    train, held_out = LabelSet.load(labels()).split(0.25)
    halves = split_held_out(held_out)
    start = loaded(selector("direct"))
    assert seen_texts(train, 5, halves, None) == [*train[:5], *halves.choosing]
    assert seen_texts(train, 5, halves, start) == [*train, *halves.choosing]
    training = {k: v for k, v in start.info.training.items() if k != "reported_problems"}
    old = replace(start, info=replace(start.info, training=training))
    assert seen_texts(train, 5, halves, old) == [*train, *halves.choosing, *halves.reported]


def test_a_start_that_all_held_out_problems_chose_gets_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The figures of the new training are then of problems that chose the adapter it began with."""
    start = loaded(selector("direct"))
    warn_of_earlier_choice(start)
    assert not caplog.records
    training = {k: v for k, v in start.info.training.items() if k != "reported_problems"}
    warn_of_earlier_choice(replace(start, info=replace(start.info, training=training)))
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"start={start.folder}: its checkpoint was chosen by all held-out problems")


@pytest.mark.parametrize("count", [24, 20, 14])
def test_boundaries_hold_the_same_problems_out_of_some_of_them(count: int) -> None:
    """The slow twin: the sides that each problem had in the split of all."""
    label_set = LabelSet.load(labels())
    train, held_out = label_set.split(0.25)
    halves = split_held_out(held_out)
    boundaries = boundaries_of(train, halves)
    some = list(label_set)[:count]
    again, (choosing, reported) = divided_at(boundaries, some)
    for side, found in ((train, again), (halves.choosing, choosing), (halves.reported, reported)):
        expected = {row.problem_id for row in side}
        assert found and [row for row in some if row.problem_id in expected] == found


def test_labels_without_one_of_the_sides_are_refused() -> None:
    train, held_out = LabelSet.load(labels()).split(0.25)
    boundaries = boundaries_of(train, split_held_out(held_out))
    with pytest.raises(LabelError, match="got 18 to train on, 0 to choose by and 0 to report; label more"):
        divided_at(boundaries, train)


def test_a_second_round_on_half_of_the_problems_keeps_the_first_ones_split(tmp_path: Path) -> None:
    """Its labels were refused, since a split of their own would have held out what was trained on before."""
    main(collect_arguments(tmp_path / "half", 20, "--steps", "all"))
    half = train_arguments(tmp_path / "half", tmp_path / "second", "--form", "direct")
    main([*half, "--start", str(selector("direct")), "--skip_routers"])
    first, second = loaded(selector("direct")), loaded(tmp_path / "second")
    of_all, of_half = LabelSet.load(labels()), LabelSet.load(tmp_path / "half")
    ids = {row.problem_id for row in held_out_trajectories(first, of_all)}
    reported = held_out_trajectories(second, of_half)
    assert reported and {row.problem_id for row in reported} <= ids
    assert second.info.training["boundaries"] == first.info.training["boundaries"]
    seen = second.info.training["question_fingerprints"]
    assert seen == first.info.training["question_fingerprints"]  # those that it started from saw them
    assert {row.problem_id for row in held_out_trajectories(second, of_all)} == ids


def test_a_start_without_boundaries_needs_its_own_problems(tmp_path: Path) -> None:
    """Selectors of earlier versions do not tell how other problems would have been split."""
    first = loaded(selector("direct"))
    training = {k: v for k, v in first.info.training.items() if k != "boundaries"}
    old = replace(first, info=replace(first.info, training=training))
    of_half = label_set(list(LabelSet.load(labels()))[:20], hash="other")
    require_known_split(first, of_half, 0.25)
    with pytest.raises(SelectorError, match=r"trained on other labels or with another --held_out \(data\)"):
        require_known_split(old, of_half, 0.25)
    with pytest.raises(SelectorError, match=r"with another --held_out \(held_out\), so problems"):
        require_known_split(first, of_half, 0.5)


def test_a_training_that_started_from_a_selector_is_not_resumed_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder had what the selector had learnt, but none of the problems that it had learnt from."""
    arguments = train_arguments(labels(), tmp_path / "out", "--form", "direct", "--skip_routers")
    start = str(selector("direct"))
    write = "s2t_eval.training.selector.selector_training.save_selector"
    with patch(write, side_effect=WriteError("no room")), pytest.raises(SystemExit):
        main([*arguments, "--start", start])
    with pytest.raises(SystemExit):
        main(arguments)
    assert "checkpoints of another run (its start differ)" in capsys.readouterr().err


def test_another_seed_trains_another_router(tmp_path: Path) -> None:
    """Routers began with the same weights in every seed, so the spread over seeds lacked theirs."""
    main(train_arguments(labels(), tmp_path / "other", "--form", "direct", "--seed", "1"))
    one, two = (
        load_file(folder / "router.safetensors") for folder in (selector("direct"), tmp_path / "other")
    )
    assert one.keys() == two.keys()
    matrices = [key for key, value in one.items() if value.ndim == 2]
    assert matrices and not any(torch.equal(one[key], two[key]) for key in matrices)


def test_without_routers_and_gains_the_default_needs_no_router(tmp_path: Path) -> None:
    """Labels of the top steps alone measure no gain; the default was then a router that did not exist."""
    main(collect_arguments(tmp_path / "top"))
    main(train_arguments(tmp_path / "top", tmp_path / "bare", "--form", "direct", "--skip_routers"))
    info = read_info(tmp_path / "bare")
    assert (
        info.default("base").trigger == "margin" and info.default("base").trigger in info.thresholds["base"]
    )
    assert info.proposal_weight == info.training["choosing"]["proposal_weight"]


@pytest.mark.parametrize(
    ("choosing", "proposers", "expected"),
    [
        ({"agree@1": 0.9, "proposal_weight": 1.0}, ("base", "tuned"), 1.0),
        ({"agree@1": 0.9, "proposal_weight": 1.0}, ("tuned",), 0.25),  # completed: base was measured before
        ({"agree@1": 0.9}, ("base", "tuned"), 0.25),
    ],
)
def test_labels_of_the_top_steps_decode_with_the_weight_that_chose_the_checkpoint(
    choosing: dict[str, float], proposers: Sequence[str], expected: float
) -> None:
    """The checkpoint was kept for its agreement with the best weight, 0.905; the weight 0 was saved, with
    which texts were decoded and figures reported, 0.46."""
    trained = read_info(selector("direct"))
    info = replace(trained, training={**trained.training, "choosing": choosing}, proposal_weight=0.25)
    chosen = with_unmeasured_defaults(info, dict.fromkeys(proposers, True))
    assert chosen.proposal_weight == expected
    assert {chosen.default(proposer).trigger for proposer in proposers} == {"router"}


def test_completion_refuses_what_it_would_ignore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = train_arguments(labels(), tmp_path / "whole", "--complete", str(selector("direct")))
    with pytest.raises(SystemExit):
        main(given)
    assert "--held_out: --complete trains no adapter and takes the settings" in capsys.readouterr().err


def test_a_card_counts_the_problems_that_were_trained_on() -> None:
    """It counted those of the labels, with the ones that were held out or left out by `--limit`."""
    info = read_info(selector("direct"))
    assert info.labels["data"]["problems"] == 24 and info.training["problems"] == 18
    assert (
        "| trained on | 18 problems of s2t_arith (train) |" in (selector("direct") / "README.md").read_text()
    )


def test_a_card_calls_greedy_decoding_no_selection() -> None:
    """With the form `direct` its command was `--model s2t_local`, by default with the trigger always: that is
    a distilled student, decoded greedily."""
    info = read_info(embedded_path("embedded/selector"))
    card = selector_card(info)
    assert "lm_eval --model pps_local --model_args" in card and "default of `s2t_local`" not in card
    assert "| `s2t_local` (proposer tuned) | greedy decoding of the adapted model" in card
    other = selector_card(replace(info, form="lookahead"))
    assert "lm_eval --model s2t_local --model_args" in other and "greedy decoding of" not in other
    assert other.count("\n| default of `") == 2


def test_figures_name_the_weight_that_they_were_measured_with(tmp_path: Path) -> None:
    """After `choose` had set another weight, Agree@1 of the old one stood beside it as if it were its own."""
    trained = read_info(selector("direct"))
    assert trained.training["held_out_weight"] == trained.proposal_weight
    assert {row["proposal_weight"] for row in trained.training["agreement"]} == {trained.proposal_weight}
    assert "measured with weight" not in selector_card(trained)
    chosen = replace(trained, proposal_weight=trained.proposal_weight + 0.5)
    assert f"measured with weight {trained.proposal_weight}" in selector_card(chosen)
    optimistic = "of the texts that chose the checkpoint"
    shipped = embedded_path("embedded/selector")
    assert optimistic not in selector_card(trained)
    assert optimistic in (shipped / "README.md").read_text() == selector_card(read_info(shipped))
    shutil.copytree(selector("direct"), tmp_path / "chosen")
    write_manifest(tmp_path / "chosen" / "selector.json", chosen)
    table = read_agreement(tmp_path / "chosen")
    assert set(table["proposal_weight"]) == {trained.proposal_weight}


def test_a_completed_selector_keeps_the_default_that_answers_chose(tmp_path: Path) -> None:
    """Routers were added to a selector that a search without them had found, and that `choose` had given a
    default: it decoded with another trigger, rate and weight from then on, without a word."""
    bare = tmp_path / "bare"
    main(train_arguments(labels(), bare, "--form", "direct", "--limit", "5", "--skip_routers"))
    measured = read_info(bare)
    chosen = ProposerDefault("margin", 0.2, "answers to 8 problems of s2t_arith_dev", ("0" * 16,))
    weight = measured.proposal_weight + 0.5
    write_info(bare, replace(measured, defaults={"base": chosen}, proposal_weight=weight))
    given = ["--pretrained", STUDENT, "--labels", str(labels()), "--device", "cpu"]
    main(["train", *given, "--complete", str(bare), "--out", str(tmp_path / "whole")])
    whole = read_info(tmp_path / "whole")
    assert (whole.default("base"), whole.proposal_weight) == (chosen, weight)
    assert whole.training["held_out_weight"] == weight
    assert "router" in whole.thresholds["base"] and whole.defaults.keys() == {"base"}
    assert "adapter_scales" in whole.training
    info = replace(measured, defaults={"tuned": chosen}, adapter_scale=0.25)
    other = replace(info, defaults=measured.defaults, proposal_weight=weight, adapter_scale=1.0)
    kept = with_answered_defaults(other, info)
    assert (kept.default("tuned"), kept.default("base")) == (chosen, measured.default("base"))
    assert (kept.adapter_scale, kept.proposal_weight) == (0.25, weight)


def test_a_completed_selector_has_the_router_of_its_own_problems(tmp_path: Path) -> None:
    """A selector of five problems got routers of all problems of the labels."""
    few = ("--form", "direct", "--limit", "5")
    main(train_arguments(labels(), tmp_path / "few", *few))
    main(train_arguments(labels(), tmp_path / "bare", *few, "--skip_routers"))
    given = ["--pretrained", STUDENT, "--labels", str(labels()), "--device", "cpu"]
    main(["train", *given, "--complete", str(tmp_path / "bare"), "--out", str(tmp_path / "whole")])
    one, two = (load_file(tmp_path / name / "router.safetensors") for name in ("few", "whole"))
    few, whole = (read_info(tmp_path / name).training for name in ("few", "whole"))
    assert whole["held_out"] == few["held_out"] and whole["agreement"] == few["agreement"]
    assert one and one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
