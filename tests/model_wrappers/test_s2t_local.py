"""`s2t-eval train` and the backends that use what it makes, on the embedded pair through lm_eval."""

from __future__ import annotations

import copy
import json
import re
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from s2t_eval.cli.train import _show
from s2t_eval.embedded import embedded_path
from s2t_eval.engine import Decoder, ModelRunner
from s2t_eval.methods.selector_folder import Selector, load_selector
from s2t_eval.methods.selector_info import (
    NO_DEFAULT,
    PROPOSERS,
    SelectorError,
    read_info,
    selector_card,
    write_info,
)
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.s2t_local import PPSLocal, S2TLocal
from s2t_eval.models.vocabulary import text_vocabulary
from s2t_eval.selection.policy import greedy, s2t_local
from s2t_eval.selection.readout import Readout
from s2t_eval.selection.scores import make_score
from s2t_eval.selection.thresholds import ThresholdError
from s2t_eval.selection.triggers import make_trigger
from s2t_eval.training.labels import LabelSet
from s2t_eval.training.selector.agreement import agreement_of, gains, proposed_by_tuned, score_items
from s2t_eval.training.selector.export import export_to_reserved_rows
from s2t_eval.training.selector.held_out import halves_of_training, split_as_trained, split_held_out
from s2t_eval.training.selector.items import make_items
from s2t_eval.training.selector.reported import agreement_at, with_reported_figures
from s2t_eval.training.selector.router_training import step_table
from s2t_eval.training.selector.routing import Routing
from s2t_eval.training.selector.trajectory_scores import (
    held_out_trajectories,
    load_trained,
    score_trajectories,
)
from s2t_eval.training.selector.trigger_scan import (
    all_step_items,
    scan_scales,
    scan_triggers,
    with_defaults,
)
from tests.harness_helpers import (
    BIN,
    STUDENT,
    TEACHER,
    counts,
    evaluate,
    generation,
    logits_after,
    ours,
    prompts,
    run_command,
    texts,
)
from tests.learning import labels, main, selector, train_arguments

ARGUMENTS = {"pretrained": STUDENT, "device": "cpu", "batch_size": 4}


ROUTER_AT_5: dict[str, Any] = {"trigger": "router", "tau": 0.05}


def run(model: str, **arguments: Any) -> dict[str, Any]:
    return evaluate(model, {"selector": str(selector()), **arguments}, limit=4)


# ---------------------------------------------------------------- the folder


def test_a_selector_folder_says_what_it_is_and_reached() -> None:
    info = read_info(selector())
    student = Greedy(**ARGUMENTS)
    assert info.base == student.student_fingerprint
    figures = info.training["held_out"]
    assert figures["groups"] > 0 and 0 <= figures["agree@1"] <= 1 and -1 <= figures["spearman"] <= 1
    begun = info.training["history"][0]
    assert begun["agree@1"] == begun["greedy_agree@1"]  # residual begins as greedy
    chosen_by = info.training["choosing"]
    assert chosen_by["agree@1"] >= chosen_by["greedy_agree@1"]  # the best evaluation is kept
    assert info.training["choosing_problems"] == info.training["reported_problems"] == 3
    for proposer in ("tuned", "base"):
        assert set(info.thresholds[proposer]) == {
            "router", "entropy", "margin", "kl:student_teacher", "kl:teacher_student"
        }  # fmt: skip
        report = info.training["triggers"][proposer]
        assert {"router@0.01", "entropy@0.05", "margin@0.2"} <= report.keys()
        default = info.default(proposer)
        assert default.trigger in ("router", "entropy", "margin", "always")
        assert default.chosen == "held-out gain"
        best = max(info.training["scan"][proposer].values())
        name = default.trigger if default.tau is None else f"{default.trigger}@{default.tau}"
        weight = info.proposal_weight if proposer == "base" else 0
        assert info.training["scan"][proposer][f"{name}+{weight}" if weight else name] == best
    card = (selector() / "README.md").read_text()
    assert f"n = {figures['groups']}" in card and card.startswith("---\nlibrary_name: peft\n")
    assert not selector().with_name(selector().name + ".training").exists()
    names = {path.suffix for path in selector().iterdir()}
    assert names == {".json", ".safetensors", ".md"}


def test_triggers_are_printed_with_the_steps_that_they_were_measured_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The n beside them counted the steps of both held-out halves; the figures are of the reported half."""
    info = read_info(selector())
    _, halves = split_as_trained(info.training, LabelSet.load(labels()))
    num_steps = sum(len(row.output_ids) for row in halves.reported)
    assert 0 < num_steps < info.threshold_steps
    capsys.readouterr()  # of a training that this test was the first to need
    _show(selector(), info)
    lines = [line for line in capsys.readouterr().out.splitlines() if re.match(r"  \w+, \w+@", line)]
    assert len(lines) == 2 * 3 * 4 and all(line.endswith(f" (n = {num_steps} steps)") for line in lines)
    assert all(re.search(r"auroc \S+, kl_share \S+, recall \S+ \(n", line) for line in lines)
    for report in info.training["triggers"].values():
        for figures in report.values():
            del figures["steps"]  # as in the folder of an earlier version
    _show(selector(), info)
    assert "n =" not in capsys.readouterr().out


def test_the_adapter_is_a_plain_peft_adapter() -> None:
    base = AutoModelForCausalLM.from_pretrained(embedded_path(STUDENT))
    before = {name: value.clone() for name, value in base.state_dict().items()}
    peft = PeftModel.from_pretrained(base, str(selector()))
    assert any(bool(p.any()) for name, p in peft.named_parameters() if "lora_B" in name)
    for name, value in peft.get_base_model().state_dict().items():
        if "lora" not in name:
            assert torch.equal(value, before[name.replace(".base_layer", "")])


def test_training_again_gives_the_same_weights(tmp_path: Path) -> None:
    main(train_arguments(labels(), tmp_path / "again", "--form", "residual"))
    for name in ("adapter_model.safetensors", "readout.safetensors", "router.safetensors"):
        one, two = load_file(selector() / name), load_file(tmp_path / "again" / name)
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_bfloat16_training_chooses_a_default_like_any_other(tmp_path: Path) -> None:
    """The router was once asked within the loop's precision, and its odds could not be read."""
    main(train_arguments(labels(), tmp_path / "half", "--form", "direct", "--precision", "bf16"))
    half, whole = read_info(tmp_path / "half"), read_info(selector("direct"))
    for info in (half, whole):
        assert {default.chosen for default in info.defaults.values()} == {"held-out gain"}
    losses = [info.training["history"][-1]["loss"] for info in (half, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def shipped() -> tuple[Selector, Any, int]:
    """The selector that was trained for long, and its student."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_path(STUDENT))
    student = AutoModelForCausalLM.from_pretrained(embedded_path(STUDENT), dtype=torch.float32)
    info = read_info(embedded_path("embedded/selector"))
    found = load_selector("embedded/selector", info.base, info.vocabulary, info.hidden_size)
    return found, student, text_vocabulary(tokenizer)


def test_the_default_is_the_largest_gain_on_held_out_texts() -> None:
    """Its twin: step by step, what the teacher thinks of the pick and of the student's own first token."""
    found, student, text_vocab = shipped()
    rows = list(LabelSet.load(labels()))[:8]
    table = step_table(ModelRunner(student, "student", text_vocab), rows, is_own_text=True)
    routing = Routing(found.routers["base"], found.info.thresholds["base"], table, table)
    model = load_trained(found, student, text_vocab)
    chosen = scan_triggers(model, all_step_items(rows, 8), len(rows), "base", routing)
    judged = score_trajectories(found, shipped()[1], text_vocab, rows)
    for weight in (0.0, 0.5):
        total = {"always": 0.0, "entropy@0.05": 0.0}
        for row in rows:
            for number, step in enumerate(row.kept.tolist()):
                own = judged[row.problem_id].scores[step][: found.info.top_k].tolist()
                proposed = row.student_log_probs[number].tolist()
                mixed = [score + weight * p for score, p in zip(own, proposed, strict=False)]
                pick = max(range(len(mixed)), key=lambda k: mixed[k])
                of_pick, of_first = (max(-30.0, float(row.teacher_log_probs[number][k])) for k in (pick, 0))
                total["always"] += of_pick - of_first
                if row.entropy[step] > found.info.thresholds["base"]["entropy"]["0.05"]:
                    total["entropy@0.05"] += of_pick - of_first
        for name, expected in total.items():
            assert expected != 0
            key = f"{name}+{weight}" if weight else name
            assert chosen.scan[key] == pytest.approx(expected / len(rows), abs=2e-3)
    suffix = f"+{chosen.proposal_weight}" if chosen.proposal_weight else ""
    tau = "" if chosen.default.tau is None else f"@{chosen.default.tau}"
    best = max(chosen.scan.values())
    assert chosen.scan[f"{chosen.default.trigger}{tau}{suffix}"] == best > 0


@pytest.mark.slow
@pytest.mark.parametrize("form", ["lookahead", "residual"])
def test_the_tuned_proposer_s_default_counts_what_it_writes_itself(form: str) -> None:
    """Its twin: where its trigger does not fire, the adapted model's own token of the student's first K."""
    student, text_vocab = shipped()[1:]
    info = read_info(selector(form))
    found = load_selector(selector(form), info.base, info.vocabulary, info.hidden_size)
    rows = list(LabelSet.load(labels()))[:6]
    model = load_trained(found, student, text_vocab)
    table = step_table(ModelRunner(model.peft, "tuned", text_vocab), rows, is_own_text=False)
    routing = Routing(found.routers["tuned"], info.thresholds["tuned"], table, table)
    chosen = scan_triggers(model, all_step_items(rows, 8), len(rows), "tuned", routing)
    threshold = info.thresholds["tuned"]["entropy"]["0.2"]
    total = {"always": 0.0, "entropy@0.2": 0.0}
    for row, entropy in zip(rows, table.entropy, strict=True):
        for number, step in enumerate(row.kept.tolist()):
            ids = row.text_ids[: len(row.prompt_ids) + step].tolist()
            candidates = row.candidates[number][:8].tolist()
            logits = logits_after(model.peft, ids)[candidates]
            own = int(logits.argmax())
            states = [hidden_after(model.peft, [*ids, candidate]) for candidate in candidates]
            scores = Readout(found.readout, info.score_as).score(torch.stack(states))
            pick = int((logits.log_softmax(-1) + scores if form == "residual" else scores).argmax())
            gain = [max(-30.0, float(row.teacher_log_probs[number][k])) for k in (pick, own, 0)]
            total["always"] += gain[0] - gain[2]
            fires = float(entropy[step]) > threshold
            total["entropy@0.2"] += (gain[0] if fires else gain[1]) - gain[2]
    for name, expected in total.items():
        assert chosen.scan[name] == pytest.approx(expected / len(rows), abs=5e-3)


def test_scores_behind_the_candidates_are_computed_once_for_both_proposers() -> None:
    """The scans after the training of the paper's form appended all candidates of all held-out steps twice,
    for proposer `base` and for `tuned`, and got the same scores. Their twin computes them for each."""
    _, student, text_vocab = shipped()
    info = read_info(selector("lookahead"))
    found = load_selector(selector("lookahead"), info.base, info.vocabulary, info.hidden_size)
    label_set = LabelSet.load(labels())
    rows = list(label_set)[:3]
    model = load_trained(found, student, text_vocab)
    table = step_table(ModelRunner(model.peft, "tuned", text_vocab), rows, is_own_text=False)
    routings = {name: Routing(found.routers[name], info.thresholds[name], table, table) for name in PROPOSERS}
    items = all_step_items(rows, 8)
    passes: list[int] = []
    decoder: Any = model.base_model.get_decoder()
    hook = decoder.register_forward_hook(lambda *_: passes.append(1))
    expected = {
        name: scan_triggers(model, items, len(rows), name, routing) for name, routing in routings.items()
    }
    apart = len(passes)
    chosen = with_defaults(replace(info, training={}), model, label_set, rows, 8, routings, "no")
    assert len(passes) - apart == apart - len(rows)  # a text with branches is a forward pass of its own
    hook.remove()
    assert chosen.training["scan"] == {name: result.scan for name, result in expected.items()}
    assert chosen.defaults == {name: result.default for name, result in expected.items()}
    assert chosen.proposal_weight == expected["base"].proposal_weight
    reported = with_reported_figures(replace(chosen, training={}), model, label_set, rows, routings, "no")
    ranking = torch.cat(score_items(model, proposed_by_tuned(model, items)))
    fired = {"entropy": torch.cat(table.entropy), "margin": torch.cat(table.margin)}
    compared = 0
    for row in reported.training["agreement"]:
        if row["proposer"] == "tuned" and row["trigger"] in fired:
            threshold = info.thresholds["tuned"][row["trigger"]][str(row["tau"])]
            is_fired = (fired[row["trigger"]] > threshold).numpy()
            twin = agreement_at("tuned", row["trigger"], row["tau"], ranking, items, is_fired, 0.0)
            assert twin._asdict() == row
            compared += 1
    assert compared > 4


@torch.no_grad()
def hidden_after(model: Any, ids: list[int]) -> torch.Tensor:
    """The last hidden state of a text, encoded afresh."""
    states: torch.Tensor = model.get_base_model().get_decoder()(torch.tensor([ids])).last_hidden_state
    return states[0, -1].float()


def test_scales_are_measured_as_if_the_adapter_were_smaller() -> None:
    """Its twin: the second matrices themselves are halved."""
    found, student, text_vocab = shipped()
    model = load_trained(found, student, text_vocab)
    texts_seen = list(LabelSet.load(labels()))[:6]
    scales = scan_scales(model, all_step_items(texts_seen, 8), len(texts_seen))
    items = make_items(texts_seen, 8, -np.inf)
    for factor, scale in ((1.0, "1.0"), (0.5, "0.5")):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter *= factor
        expected = float(gains(torch.cat(score_items(model, items, 1)), items).sum()) / len(texts_seen)
        assert scales[scale] == pytest.approx(expected, abs=1e-4)
    assert len(set(scales.values())) == 3


@pytest.mark.parametrize("form", ["direct", "residual"])
def test_the_reported_figures_are_of_texts_that_chose_nothing(form: str) -> None:
    """Their twin: the rule that decodes, step by step, on the half of the held-out texts that is left."""
    info = read_info(selector(form))
    label_set = LabelSet.load(labels())
    train, held_out = label_set.split(0.25)
    halves = split_held_out(held_out)
    assert len(halves.choosing) == len(halves.reported) == 3
    sides = [{row.problem_id for row in side} for side in (train, *halves)]
    assert len(set.union(*sides)) == sum(map(len, sides)) == len(label_set)
    found = load_selector(selector(form), info.base, info.vocabulary, info.hidden_size)
    assert held_out_trajectories(found, label_set) == halves.reported
    figures = {(row["proposer"], row["trigger"], row["tau"]): row for row in info.training["agreement"]}
    _, student, text_vocab = shipped()
    model = load_trained(found, student, text_vocab)
    agree = greedy_agree = steps = top = right = 0
    for row in halves.reported:
        for number, step in enumerate(row.kept.tolist()):
            ids = row.text_ids[: len(row.prompt_ids) + step].tolist()
            candidates, own = row.candidates[number][:8].tolist(), row.student_log_probs[number][:8]
            if form == "direct":
                scores = logits_after(model.peft, ids)[candidates]
            else:
                states = torch.stack([hidden_after(model.peft, [*ids, token]) for token in candidates])
                scores = torch.from_numpy(own) + Readout(found.readout, info.score_as).score(states)
            pick = int((scores + info.proposal_weight * torch.from_numpy(own)).argmax())
            best = int(row.teacher_log_probs[number][:8].argmax())
            if row.entropy[step] > info.thresholds["base"]["entropy"]["0.2"]:
                steps, agree, greedy_agree = steps + 1, agree + (pick == best), greedy_agree + (best == 0)
            if row.kl_student_teacher[step] > label_set.manifest.kl_threshold:
                top, right = top + 1, right + (pick == best)
    entropy = figures["base", "entropy", 0.2]
    assert entropy["steps"] == steps > 5
    assert entropy["agree"] == pytest.approx(agree / steps)
    assert entropy["greedy_agree"] == pytest.approx(greedy_agree / steps)
    assert entropy["share"] == pytest.approx((agree - greedy_agree) / (steps - greedy_agree))
    assert info.training["held_out"]["agree@1"] == pytest.approx(right / top)
    assert {"gain", "gain_low", "gain_high"} <= info.training["held_out"].keys()
    assert ("tuned", "entropy", 0.2) in figures or form == "direct"


def test_analyses_score_by_the_rule_that_decodes(tmp_path: Path) -> None:
    """`analyze` ranked by the scores alone, although decoding adds the weighted proposal."""
    folder = Path(shutil.copytree(embedded_path("embedded/selector"), tmp_path / "weighted"))
    found, student, text_vocab = shipped()
    rows = list(LabelSet.load(labels()))[:2]
    alone = score_trajectories(found, student, text_vocab, rows)
    change(folder, proposal_weight=0.5)
    weighted = load_selector(folder, found.info.base, found.info.vocabulary, found.info.hidden_size)
    both = score_trajectories(weighted, shipped()[1], text_vocab, rows)
    for row in rows:
        for number, step in enumerate(row.kept.tolist()):
            expected = alone[row.problem_id].scores[step] + 0.5 * row.student_log_probs[number]
            np.testing.assert_allclose(both[row.problem_id].scores[step], expected, rtol=1e-4, atol=1e-4)


def test_selectors_without_halves_keep_all_their_held_out_texts() -> None:
    """The shipped selector was chosen by all of them before they had halves."""
    rows = list(LabelSet.load(labels()))[:4]
    assert "reported_problems" not in read_info(embedded_path("embedded/selector")).training
    assert halves_of_training(shipped()[0].info.training, rows) == (rows, [])


def test_one_held_out_problem_cannot_choose_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(train_arguments(labels(), tmp_path / "one", "--held_out", "0.04"))
    assert "held_out: expected at least 2 held-out problems, one to choose" in capsys.readouterr().err


def test_a_selector_without_routers_can_be_completed(tmp_path: Path) -> None:
    """Routers cost as much as a small selector; a search over settings does not need them."""
    main(train_arguments(labels(), tmp_path / "bare", "--form", "direct", "--skip_routers"))
    bare = read_info(tmp_path / "bare")
    assert bare.thresholds.keys() == {"base"} and "router" not in bare.thresholds["base"]
    assert bare.default("base").trigger in ("entropy", "margin", "always")
    lm = PPSLocal(**ARGUMENTS, selector=str(tmp_path / "bare"), trigger="entropy", tau=0.05)
    assert lm.policy().trigger.name == "entropy"
    with pytest.raises(ValueError, match="has no router for proposer=base"):
        PPSLocal(**ARGUMENTS, selector=str(tmp_path / "bare"), trigger="router", tau=0.05)
    given = ["--pretrained", STUDENT, "--labels", str(labels()), "--device", "cpu"]
    main(["train", *given, "--complete", str(tmp_path / "bare"), "--out", str(tmp_path / "whole")])
    whole, expected = read_info(tmp_path / "whole"), read_info(selector("direct"))
    assert whole.thresholds == expected.thresholds and whole.defaults == expected.defaults
    assert whole.adapter_scale == expected.adapter_scale and "adapter_scales" not in bare.training
    assert whole.training["adapter_scales"] == expected.training["adapter_scales"]
    one, two = (
        load_file(folder / "router.safetensors") for folder in (tmp_path / "whole", selector("direct"))
    )
    assert one and one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_the_form_direct_has_a_router_for_the_proposer_that_selects(tmp_path: Path) -> None:
    """A router was trained for proposer `tuned` too, on features of every text under the adapted model, which
    took a quarter of the training of a real pair. `s2t_local` refuses its trigger and its rate: with this
    form it decodes the adapted model greedily. Folders that have such a router decode as those without.
    """
    info = read_info(selector("direct"))
    records = (info.thresholds, info.defaults, *(info.training[name] for name in ("triggers", "scan")))
    assert all(record.keys() == {"base"} for record in records)
    weights = load_file(selector("direct") / "router.safetensors")
    assert weights and all(name.startswith("base.") for name in weights)
    scales = info.training["adapter_scales"]
    assert scales[str(info.adapter_scale)] == max(scales.values())
    assert "(proposer tuned) | greedy decoding of" in (selector("direct") / "README.md").read_text()
    shipped_folder = embedded_path("embedded/selector")
    old, new = read_info(shipped_folder), Path(shutil.copytree(shipped_folder, tmp_path / "new"))
    thresholds, defaults = {"base": old.thresholds["base"]}, {"base": old.defaults["base"]}
    write_info(new, replace(old, thresholds=thresholds, defaults=defaults))
    routers = load_file(new / "router.safetensors")
    kept = {name: value for name, value in routers.items() if name.startswith("base.")}
    assert 0 < len(kept) < len(routers)
    save_file(kept, new / "router.safetensors")
    assert selector_card(read_info(new)) == selector_card(old)
    compared: list[tuple[str, dict[str, Any]]] = [
        ("s2t_local", {}),
        ("pps_local", {}),
        ("pps_local", ROUTER_AT_5),
    ]
    for model, arguments in compared:
        without, whole = (
            evaluate(model, {"selector": str(folder), **arguments}, limit=4)
            for folder in (new, shipped_folder)
        )
        assert texts(without) == texts(whole) and counts(without)["triggers"] == counts(whole)["triggers"]


def test_fewer_problems_can_be_learnt_from(tmp_path: Path) -> None:
    """A learning curve: the held-out problems stay the same."""
    options = ("--limit", "5", "--drop_misses", "--regret", "0.5", "--beta", "0.1", "--anchor", "labels")
    options = (*options, "--average_last", "0.5")
    main(train_arguments(labels(), tmp_path / "few", "--form", "direct", *options, "--skip_routers"))
    few, all_problems = read_info(tmp_path / "few").training, read_info(selector("direct")).training
    assert (few["problems"], all_problems["problems"]) == (5, 18)
    assert few["history"][0]["agree@1"] == all_problems["history"][0]["agree@1"]
    assert few["history"][-1]["averaged"] == 2  # two steps are all that there are
    assert few["settings"]["student_dtype"] == "torch.float32"  # without it, any dtype could resume
    assert few["settings"]["settings"]["limit"] == 5 and few["settings"]["selector"]["anchor"] == "labels"


def test_the_best_by_gain_is_kept_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    form = ("--form", "direct")
    main(train_arguments(labels(), tmp_path / "kept", *form, "--skip_routers", "--keep", "gain"))
    training = read_info(tmp_path / "kept").training
    assert training["choosing"]["gain"] == max(entry["gain"] for entry in training["history"])
    always = {name: gain for name, gain in training["scan"]["base"].items() if name.startswith("always")}
    assert training["choosing"]["gain"] == pytest.approx(max(always.values()), abs=1e-4)
    main(train_arguments(labels(), tmp_path / "tuned", *form, "--keep", "tuned_gain"))
    training = read_info(tmp_path / "tuned").training
    assert training["choosing"]["tuned_gain"] == max(entry["tuned_gain"] for entry in training["history"])
    best_scale = max(training["adapter_scales"].values())
    assert training["choosing"]["tuned_gain"] == pytest.approx(best_scale, abs=1e-4)
    with pytest.raises(SystemExit):
        main(train_arguments(labels(), tmp_path / "a", "--form", "residual", "--keep", "gain"))
    assert "keep=gain: it needs labels at every step" in capsys.readouterr().err


PAPER = ("--form", "lookahead", "--score_as", "expected", "--loss", "ce", "--temperature", "0.1")


@pytest.mark.parametrize("form", [PAPER, ("--form", "residual")], ids=["the paper's", "residual"])
def test_a_checkpoint_can_be_chosen_as_s2t_local_ranks(form: tuple[str, ...], tmp_path: Path) -> None:
    """The paper's form was chosen, and described, as `pps_local` ranks it, with the student's log-probability
    added: every evaluation agreed as often as greedy decoding, while `s2t_local` agreed at no step. The twin
    of the figures ranks step by step, as `s2t_local` does."""
    main(train_arguments(labels(), tmp_path / "kept", *form, "--skip_routers", "--keep", "tuned_agree@1"))
    info = read_info(tmp_path / "kept")
    training = info.training
    best, last = training["choosing"], training["history"][-1]
    assert best["tuned_agree@1"] == max(entry["tuned_agree@1"] for entry in training["history"])
    if form == PAPER:
        assert last["agree@1"] == last["greedy_agree@1"] > last["tuned_agree@1"]
    found = load_selector(tmp_path / "kept", info.base, info.vocabulary, info.hidden_size)
    _, student, text_vocab = shipped()
    model = load_trained(found, student, text_vocab)
    label_set = LabelSet.load(labels())
    _, halves = split_as_trained(training, label_set)
    for half, figures in ((halves.choosing, best), (halves.reported, training["held_out"])):
        right = []
        for row in half:
            for number, step in enumerate(row.kept.tolist()):
                if row.kl_student_teacher[step] <= label_set.manifest.kl_threshold:
                    continue
                ids = row.text_ids[: len(row.prompt_ids) + step].tolist()
                candidates = row.candidates[number][:8].tolist()
                states = torch.stack([hidden_after(model.peft, [*ids, token]) for token in candidates])
                scores = Readout(found.readout, info.score_as).score(states)
                if info.form == "residual":
                    scores = scores + logits_after(model.peft, ids)[candidates].log_softmax(-1)
                right.append(int(scores.argmax()) == int(row.teacher_log_probs[number][:8].argmax()))
        assert figures["tuned_agree@1"] == pytest.approx(sum(right) / len(right))
    card = (tmp_path / "kept" / "README.md").read_text()
    shown = f"{100 * training['held_out']['tuned_agree@1']:.1f} % (at the same steps) |"
    assert f"| held-out Agree@1 of `s2t_local` (proposer tuned) | {shown}" in card
    assert "| held-out Agree@1 of `pps_local` (proposer base) | " in card


def test_training_goes_on_from_a_selector(tmp_path: Path) -> None:
    first = selector("direct")
    main(train_arguments(labels(), tmp_path / "next", "--form", "direct", "--start", str(first)))
    before, after = read_info(first).training, read_info(tmp_path / "next").training
    assert after["history"][0]["loss"] == pytest.approx(before["choosing"]["loss"], rel=1e-4)
    assert after["settings"]["start"] and "start" not in before["settings"]
    one, two = (load_file(folder / "router.safetensors") for folder in (first, tmp_path / "next"))
    base = [name for name in one if name.startswith("base.")]
    assert base and all(torch.equal(one[name], two[name]) for name in base)  # the labels are the same


def test_a_start_brings_what_it_has_learnt(tmp_path: Path) -> None:
    """The long-trained selector, as if it came of these labels: training begins where it ended."""
    start = Path(shutil.copytree(embedded_path("embedded/selector"), tmp_path / "start"))
    info = read_info(start)
    settings = copy.deepcopy(info.training["settings"])
    settings["settings"]["held_out"] = 0.25
    ours = asdict(LabelSet.load(labels()).manifest)
    change(start, labels=ours, training={**info.training, "settings": settings})
    size = ("--form", "direct", "--rank", "64", "--alpha", "128", "--lr", "1e-9")
    main(train_arguments(labels(), tmp_path / "next", *size, "--skip_routers", "--start", str(start)))
    found, student, text_vocab = shipped()
    choosing = split_held_out(LabelSet.load(labels()).split(0.25)[1]).choosing
    items = make_items(choosing, 8, LabelSet.load(labels()).manifest.kl_threshold)
    begun = read_info(tmp_path / "next").training["history"][0]
    weight = begun["proposal_weight"]
    trained = load_trained(found, student, text_vocab)
    expected = agreement_of(score_items(trained, items), items, trained.settings, weight)
    assert {name: begun[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    assert begun["agree@1"] > begun["greedy_agree@1"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rank", "4"), "trained with rank=16, got rank=4"),
        (("--form", "residual"), "trained with form=direct, got form=residual"),
        (("--held_out", "0.5"), "problems that are held out here may have been trained on"),
    ],
)
def test_a_start_that_does_not_fit_is_named(
    more: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ("--form", "direct", "--start", str(selector("direct")))
    with pytest.raises(SystemExit):
        main(train_arguments(labels(), tmp_path / "next", *start, *more))
    assert message in capsys.readouterr().err and not (tmp_path / "next").exists()


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    given = ["--pretrained", STUDENT, "--labels", labels(), "--device", "cpu", "--form", "residual"]
    loop = ["--epochs", "2", "--accumulate", "1", "--lr", "1e-3"]
    program = ["-m", "s2t_eval", "train", *given, *loop]
    one = ["python", *program, "--batch-size", "4", "--out", tmp_path / "one"]
    two = ["torchrun", "--nproc_per_node", "2", *program, "--batch-size", "2", "--out", tmp_path / "two"]
    for command, *arguments in (one, two):
        done = run_command(BIN / command, *arguments, folder=tmp_path, ACCELERATE_USE_CPU="1")
        assert done.returncode == 0, done.stderr
    alone, shared = (read_info(tmp_path / name).training["history"] for name in ("one", "two"))
    assert alone[-1]["loss"] != alone[0]["loss"]  # something was learnt, kept or not
    for first, second in zip(alone, shared, strict=True):
        # Adam divides by tiny gradients at first, which makes rounding of another order 3e-4 large
        assert second == pytest.approx(first, rel=2e-3)


# ---------------------------------------------------------------- the backends


def test_no_teacher_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by name nor by trigger: loading any second model fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a teacher was loaded")

    monkeypatch.setattr("s2t_eval.model_wrappers.teacher.TeacherModel", refuse)
    for model in ("s2t_local", "pps_local"):
        results = run(model)
        assert ours(results)["teacher"] is None and counts(results)["teacher_tokens"] == 0


def test_a_direct_selector_under_the_tuned_proposer_is_greedy_decoding_of_the_adapted_model() -> None:
    """Trigger, rate and K were accepted and did nothing: every selection is the argmax of the proposer."""
    lm = S2TLocal(**ARGUMENTS, selector="embedded/selector")
    assert lm.describe()["policy"]["method"] == "topk_distilled" and lm.describe()["tau"] is None
    requests = lm.engine_requests([generation(prompt, i) for i, prompt in enumerate(prompts(6))])
    score = make_score("direct", lm.selector.readout, "expected")
    policies = [lm.policy(), greedy()]
    policies += [s2t_local(make_trigger("always"), 0.0, score, top_k) for top_k in (1, 2, 8, 16)]
    policies += [s2t_local(make_trigger("entropy"), 0.3, score), s2t_local(make_trigger("never"), 0.0, score)]
    outputs = []
    for policy in policies:
        decoder = Decoder(lm.student, policy, rows=4, decode=lm.tok_decode)
        results = sorted(decoder.run(requests), key=lambda result: result.index)
        outputs.append([result.output_ids for result in results])
        fired = [step for result in results for step in result.steps]
        assert all(step.picked == step.greedy for step in fired)
        assert bool(fired) == (policy.trigger.name in ("always", "entropy"))
    assert all(output == outputs[0] for output in outputs)
    adapter = str(embedded_path("embedded/selector"))
    distilled = texts(evaluate("s2t_local", {"selector": "embedded/selector"}, limit=6))
    assert distilled == texts(evaluate("greedy", {"peft": adapter}, limit=6))
    assert distilled != texts(evaluate("greedy", limit=6))


@pytest.mark.parametrize(
    "arguments",
    [
        {"trigger": "never"},
        {"trigger": "router", "tau": 0.05},
        {"tau": 0.05},
        {"top_k": 16},
        {"warmup_tokens": 3},
        {"proposal_weight": 0.5},
    ],
)
def test_arguments_of_a_selection_that_changes_no_token_are_refused(arguments: dict[str, Any]) -> None:
    name, value = next(iter(arguments.items()))
    message = (
        rf"^--model s2t_local: {name}={value}(, tau=0\.05)? would have no effect: with a selector of form "
        r"direct \(selector=embedded/selector\) under proposer=tuned .* leave it out, or .*proposer=base"
    )
    with pytest.raises(ValueError, match=message):
        S2TLocal(**ARGUMENTS, selector="embedded/selector", **arguments)
    if name in ("trigger", "tau", "top_k"):  # the same arguments matter to PPS
        PPSLocal(**ARGUMENTS, selector="embedded/selector", **arguments)


def test_a_teacher_of_a_selection_that_changes_no_token_is_refused() -> None:
    given = {"trigger": "kl", "threshold": 1.0, "teacher": TEACHER}
    with pytest.raises(ValueError, match=r"trigger=kl, threshold=1\.0, teacher=\S+ would have no effect"):
        S2TLocal(**ARGUMENTS, selector="embedded/selector", **given)


def test_s2t_local_with_a_base_proposer_is_pps_local() -> None:
    one, two = run("s2t_local", proposer="base", tau=0.05), run("pps_local", tau=0.05)
    assert texts(one) == texts(two)
    assert ours(one)["policy"]["trigger"]["name"] == ours(two)["policy"]["trigger"]["name"]


def test_merged_and_unmerged_adapters_give_the_same_texts() -> None:
    assert texts(run("s2t_local", merge=True, tau=0.1)) == texts(run("s2t_local", merge=False, tau=0.1))


def test_a_proposal_that_outweighs_all_is_greedy() -> None:
    never_mind = run("pps_local", trigger="always", proposal_weight=1e6)
    assert ours(never_mind)["policy"]["proposal_weight"] == 1e6
    assert texts(never_mind) == texts(evaluate("greedy", limit=4))


def test_the_selector_s_weight_holds_for_proposer_base_alone(copied: Path) -> None:
    change(copied, proposal_weight=0.5)
    for model, expected in ((PPSLocal, 0.5), (S2TLocal, None)):
        described = model(**ARGUMENTS, selector=str(copied), trigger="always").policy().describe()
        assert described.get("proposal_weight") == expected


def test_a_scaled_adapter_adds_so_much_of_what_it_learnt() -> None:
    given: dict[str, Any] = {"selector": "embedded/selector"}
    assert texts(run("s2t_local", **given, adapter_scale=0)) == texts(evaluate("greedy", limit=4))
    name = "model.layers.1.mlp.up_proj.weight"

    def merged(scale: float) -> torch.Tensor:
        lm = S2TLocal(**ARGUMENTS, **given, adapter_scale=scale)
        assert lm.describe().get("adapter_scale", 1.0) == scale
        return dict(lm.student.base.named_parameters())[name.replace("weight", "base_layer.weight")]

    plain = AutoModelForCausalLM.from_pretrained(embedded_path(STUDENT), dtype=torch.float32)
    learnt = merged(1.0) - plain.state_dict()[name]
    assert bool(learnt.any())
    torch.testing.assert_close(merged(0.5) - plain.state_dict()[name], learnt / 2, atol=1e-6, rtol=1e-4)


def test_the_selector_s_scale_holds_for_proposer_tuned_alone(copied: Path) -> None:
    change(copied, adapter_scale=0.5)
    for model, expected in ((PPSLocal, None), (S2TLocal, 0.5)):
        described = model(**ARGUMENTS, selector=str(copied), trigger="always").describe()
        assert described.get("adapter_scale") == expected


def test_a_selector_that_never_fires_is_greedy_under_the_base_proposer() -> None:
    assert texts(run("pps_local", trigger="never")) == texts(evaluate("greedy", limit=4))


def test_teachers_are_allowed_for_study() -> None:
    results = run("pps_local", trigger="kl", teacher=TEACHER, tau=0.1)
    assert counts(results)["teacher_tokens"] > 0 and counts(results)["triggers"] > 0
    threshold = read_info(selector()).thresholds["base"]["kl:student_teacher"]["0.1"]
    assert ours(results)["policy"]["threshold"] == threshold


def test_the_router_fires_in_every_backend_that_selects() -> None:
    for model in ("s2t", "takeover"):
        results = run(model, teacher=TEACHER, trigger="router", tau=0.1)
        assert ours(results)["policy"]["trigger"]["name"] == "router"
        assert 0 < counts(results)["realised_rate"] < 0.5


def test_an_untrained_router_s_rate_is_the_calibrated_one() -> None:
    """Over greedy texts the share above the threshold of tau is tau: thresholds come from such texts."""
    lm = SelectToThink(**ARGUMENTS, teacher=TEACHER, selector=str(selector()), trigger="router", tau=0.1)
    info = read_info(selector())
    assert lm.policy().trigger_threshold == info.thresholds["base"]["router"]["0.1"]
    tuned = S2TLocal(**ARGUMENTS, selector=str(selector()), trigger="router", tau=0.1)
    assert tuned.policy().trigger_threshold == info.thresholds["tuned"]["router"]["0.1"]


# ---------------------------------------------------------------- bad input


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(selector(), tmp_path / "selector"))


def load(folder: Path) -> Selector:
    """As a backend of the student reads it."""
    own = read_info(selector())
    return load_selector(folder, own.base, own.vocabulary, own.hidden_size)


def change(folder: Path, **values: object) -> None:
    path = folder / "selector.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": "0" * 16}, "another base model"),
        ({"vocabulary": "0" * 16}, "another tokenizer"),
        ({"hidden_size": 32}, "another hidden size"),
        ({"bins": 9}, r"its readout is \(16, 64\), expected \(9, 64\)"),
        ({"format": 7}, "format 7"),
    ],
)
def test_a_selector_of_another_student_is_refused(
    copied: Path, values: dict[str, object], message: str
) -> None:
    change(copied, **values)
    with pytest.raises(SelectorError, match=message):
        load(copied)


def test_a_backend_refuses_a_selector_of_another_student(copied: Path) -> None:
    change(copied, base="0" * 16)
    with pytest.raises(SelectorError, match="another base model"):
        PPSLocal(**ARGUMENTS, selector=str(copied))


def test_damaged_folders_are_named(copied: Path) -> None:
    save_file({"other": torch.zeros(1)}, copied / "readout.safetensors")
    with pytest.raises(SelectorError, match="damaged"):
        load(copied)
    (copied / "selector.json").write_text("{")
    with pytest.raises(SelectorError, match="expected a folder of `s2t-eval train`"):
        load(copied)
    with pytest.raises(SelectorError, match="expected a folder of `s2t-eval train` or a hub repository"):
        load_selector(copied / "nowhere", "", "", 64)


def test_an_adapter_that_does_not_fit_is_named(copied: Path) -> None:
    (copied / "adapter_model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(SelectorError, match="cannot be loaded"):
        PPSLocal(**ARGUMENTS, selector=str(copied))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs selector=FOLDER"),
        ({"selector": "x", "trigger": "kl", "tau": 0.1}, "trigger=kl needs teacher=MODEL"),
        ({"selector": "x", "proposer": "teacher"}, "proposer: expected 'tuned' or 'base'"),
        ({"selector": "x", "threshold": 1.0}, "name the trigger too"),
        ({"selector": "x", "proposal_weight": -1}, "proposal_weight: expected 0 or more, got -1"),
        ({"selector": "x", "adapter_scale": float("inf")}, "adapter_scale: expected 0 or more, got inf"),
        ({"selector": "x", "proposal_weight": "a"}, "proposal_weight: expected a number"),
        ({"selector": "x", "tau": 1.5}, "tau: expected a rate above 0, at most 1"),
        ({"selector": "x", "peft": "y"}, "peft=y cannot be combined with selector="),
        ({"selektor": "x"}, "did you mean 'selector'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        S2TLocal(**ARGUMENTS, **arguments)


def test_a_rate_without_a_threshold_lists_those_there_are() -> None:
    with pytest.raises(ThresholdError, match=r"no threshold for trigger router at tau=0\.03 .*router: 0\.01"):
        PPSLocal(**ARGUMENTS, selector=str(selector()), tau=0.03, trigger="router")


def test_every_selector_runs_under_both_proposers_with_nothing_but_its_name() -> None:
    """The shipped one once ended in "it was trained for proposer=base alone"."""
    for folder in (str(selector("direct")), str(selector("residual")), "embedded/selector"):
        for backend, proposer in (("s2t_local", "tuned"), ("pps_local", "base")):
            results = evaluate(backend, {"selector": folder}, limit=2)
            info = read_info(embedded_path(folder) if folder.startswith("embedded") else Path(folder))
            default = info.default(proposer)
            entry, cost = ours(results), counts(results)
            is_distilled = info.form == "direct" and proposer == "tuned"
            name = "never" if is_distilled else "always" if default.tau == 1 else default.trigger
            assert (entry["policy"]["trigger"]["name"], entry["tau"]) == (name, default.tau)
            assert entry["proposer"] == proposer
            assert entry["policy"]["score"] == (None if is_distilled else info.form)
            assert (cost["scorer_calls"] > 0) == (proposer == "base" and cost["triggers"] > 0)
            assert entry["policy"]["method"] == ("topk_distilled" if is_distilled else "s2t_local")
            assert default.chosen == "held-out gain" or (is_distilled and default is NO_DEFAULT)


def as_format_1(folder: Path, proposer: str) -> Path:
    """The folder as an earlier version wrote it for one proposer."""
    content = json.loads((folder / "selector.json").read_text())
    default = content.pop("defaults")[proposer]
    default.pop("runs_of")
    training = content["training"]
    training["scan"] = training["scan"][proposer]
    content["thresholds"] = {proposer: content["thresholds"][proposer]}
    training["triggers"] = {proposer: training["triggers"][proposer]}
    content |= {"default": {"proposer": proposer, **default}, "format": 1}
    (folder / "selector.json").write_text(json.dumps(content))
    routers = load_file(folder / "router.safetensors")
    kept = {name: value for name, value in routers.items() if name.startswith(proposer)}
    save_file(kept, folder / "router.safetensors")
    return folder


@pytest.mark.parametrize(("proposer", "other"), [("base", S2TLocal), ("tuned", PPSLocal)])
def test_an_older_folder_runs_under_the_other_proposer_with_every_step_fired(
    proposer: str, other: type[S2TLocal], copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = as_format_1(copied, proposer)
    lm = other(**ARGUMENTS, selector=str(old))
    assert lm.policy().trigger.name == "always" and lm.describe()["tau"] is None
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("s2t_eval")]
    assert f"measured for proposer={proposer} alone" in said and "`s2t-eval train --complete FOLDER" in said
    own = (PPSLocal if proposer == "base" else S2TLocal)(**ARGUMENTS, selector=str(old))
    assert own.policy().describe() == type(own)(**ARGUMENTS, selector=str(selector())).policy().describe()
    assert len(caplog.records) == 1
    for arguments in ({"tau": 0.1}, {"trigger": "entropy", "tau": 0.1}):
        with pytest.raises(ValueError, match=r"s2t-eval train --complete"):
            other(**ARGUMENTS, selector=str(old), **arguments)


@pytest.mark.parametrize("proposer", PROPOSERS)
def test_completing_an_older_folder_gives_what_training_gives_now(
    proposer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = selector()
    old = as_format_1(Path(shutil.copytree(whole, tmp_path / "old")), proposer)
    given = ["--pretrained", STUDENT, "--labels", str(labels()), "--device", "cpu"]
    main(["train", *given, "--complete", str(old), "--out", str(tmp_path / "new")])
    for name in ("adapter_model.safetensors", "readout.safetensors", "router.safetensors"):
        one, two = load_file(whole / name), load_file(tmp_path / "new" / name)
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    before, after = read_info(whole), read_info(tmp_path / "new")
    assert after.thresholds == before.thresholds and after.defaults == before.defaults
    assert after.training["scan"] == before.training["scan"]
    assert (after.proposal_weight, after.adapter_scale) == (before.proposal_weight, before.adapter_scale)
    with pytest.raises(SystemExit):
        main(["train", *given, "--complete", str(whole), "--out", str(tmp_path / "again")])
    assert "it has all for proposer tuned and base" in capsys.readouterr().err


def test_an_older_folder_of_the_form_direct_needs_what_proposer_base_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that has a router of proposer `tuned` alone keeps it; one without it lacks nothing."""
    given = ["--pretrained", STUDENT, "--labels", str(labels()), "--device", "cpu"]
    with pytest.raises(SystemExit):
        main(["train", *given, "--complete", str(selector("direct")), "--out", str(tmp_path / "again")])
    assert "it has all for proposer base" in capsys.readouterr().err
    old = Path(shutil.copytree(selector("direct"), tmp_path / "old"))
    content = json.loads((old / "selector.json").read_text())
    content["defaults"] = {"tuned": {"trigger": "always", "tau": None, "chosen": "held-out gain"}}
    content["thresholds"] = {"tuned": content["thresholds"]["base"]}
    content["training"]["scan"] = {"tuned": {"always": 1.0}}
    (old / "selector.json").write_text(json.dumps(content))
    routers = load_file(old / "router.safetensors")
    of_tuned = {f"tuned.{name.removeprefix('base.')}": value for name, value in routers.items()}
    save_file(of_tuned, old / "router.safetensors")
    main(["train", *given, "--complete", str(old), "--out", str(tmp_path / "new")])
    before, after = read_info(selector("direct")), read_info(tmp_path / "new")
    assert after.thresholds == {"tuned": before.thresholds["base"], **before.thresholds}
    assert after.default("base") == before.default("base") and after.default("tuned").chosen != "not measured"
    made = load_file(tmp_path / "new" / "router.safetensors")
    assert made.keys() == {*routers, *of_tuned}
    assert all(torch.equal(made[name], value) for name, value in routers.items())


@pytest.mark.slow
def test_adapter_files_are_the_same_in_every_process(tmp_path: Path) -> None:
    """peft keeps the names of layers as a set, whose order depends on a process's hash seed."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom transformers import AutoModelForCausalLM\n"
        "from s2t_eval.artifacts.manifest import save_adapter\n"
        "from s2t_eval.embedded import embedded_path\n"
        "from s2t_eval.models.lora import with_lora\n"
        "from s2t_eval.models.lora_settings import LoraSettings\n"
        "model = AutoModelForCausalLM.from_pretrained(embedded_path('embedded/student'))\n"
        "save_adapter(Path(sys.argv[1]), with_lora(model, LoraSettings(2, 4)), 'embedded/student')\n"
    )
    written = []
    for seed in ("1", "2", "3"):
        (tmp_path / seed).mkdir()
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = run_command(sys.executable, "-c", program, tmp_path / seed, folder=tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        written.append((tmp_path / seed / "adapter_config.json").read_bytes())
    assert written[0] == written[1] == written[2] and b"target_modules" in written[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": float("nan")}, "temperature: expected a finite number, got NaN"),
        ({"proposal_weight": float("inf")}, "proposal_weight: expected a finite number"),
        ({"adapter_scale": None}, "adapter_scale: expected a finite number"),
        (
            {"thresholds": {"base": {"entropy": {"0.1": float("nan")}}}},
            "thresholds.base.entropy.0.1: expected a finite number",
        ),
        ({"thresholds": "none"}, "expected a folder of `s2t-eval train`"),
        ({"defaults": {"base": {"trigger": "always"}}}, "expected a folder of `s2t-eval train`"),
        (
            {"defaults": {"base": {"trigger": "margin", "tau": "a", "chosen": "x"}}},
            "defaults.base.tau: expected a finite number",
        ),
        ({"top_k": 2.5}, "top_k: expected a whole number"),
        ({"format": 99}, "has format 99, expected 2 or 1; .* update"),
        ({"format": None}, "has format null"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], message: str, copied: Path) -> None:
    change(copied, **values)
    with pytest.raises(SelectorError, match=message):
        read_info(copied)


def test_the_shipped_selector_is_small_and_was_measured() -> None:
    folder = embedded_path("embedded/selector")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    figures = read_info(folder).training["held_out"]
    assert figures["groups"] > 1000 and figures["agree@1"] > figures["greedy_agree@1"] + 0.1


def test_kl_thresholds_hold_for_the_labelling_teacher(copied: Path) -> None:
    change(copied, teacher="0" * 16)
    with pytest.raises(ValueError, match="KL thresholds hold for its teacher"):
        PPSLocal(**ARGUMENTS, selector=str(copied), trigger="kl", teacher=TEACHER, tau=0.1)


def test_training_refuses_what_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out, more, message in (
        (selector(), (), "exists; name another folder"),
        (tmp_path / "a", ("--bins", "1"), "bins: expected at least 2"),
        (tmp_path / "a", ("--num_candidates", "40"), "expected at least 40 candidates a step, got 16"),
        (tmp_path / "a", ("--pretrained", TEACHER), "made for another student"),
    ):
        with pytest.raises(SystemExit):
            main(train_arguments(labels(), out, *more))
        assert message in capsys.readouterr().err


# ---------------------------------------------------------------- the paper's form


def test_exported_rows_are_the_readout(tmp_path: Path) -> None:
    """A student with a padded vocabulary: reserved logits are the readout's, text is the tuned one's."""
    student = AutoModelForCausalLM.from_pretrained(embedded_path(STUDENT), dtype=torch.float32)
    text = student.config.vocab_size
    info = read_info(selector("lookahead"))
    student.resize_token_embeddings(text + info.bins + 3)
    found = Selector(selector("lookahead"), info, torch.randn(info.bins, 64), {}, "0")
    tuned = PeftModel.from_pretrained(copy.deepcopy(student), str(selector("lookahead"))).eval()
    tokenizer = AutoTokenizer.from_pretrained(embedded_path(STUDENT))
    ids = export_to_reserved_rows(student, tokenizer, found, text, tmp_path / "out")
    assert ids == list(range(text, text + info.bins))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    asked = torch.arange(5, 25)[None]
    with torch.no_grad():
        logits = again(asked).logits[0]
        hidden = again.get_decoder()(asked).last_hidden_state[0]
        expected = tuned(asked).logits[0, :, :text]
    torch.testing.assert_close(logits[:, :text], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits[:, ids], hidden @ found.readout.T, atol=1e-4, rtol=1e-4)
    values = torch.tensor(json.loads((tmp_path / "out" / "s2t_reserved_rows.json").read_text())["values"])
    torch.testing.assert_close(logits[:, ids].softmax(-1) @ values, Readout(found.readout).score(hidden))


def test_models_without_unused_rows_are_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form, message in (
        ("lookahead", "head only 0 unused ones"),
        ("direct", "has no readout to write"),
    ):
        given = ["export", "--pretrained", STUDENT, "--device", "cpu", "--selector", str(selector(form))]
        with pytest.raises(SystemExit):
            main([*given, "--to_reserved_rows", "--out", str(tmp_path / form)])
        assert message in capsys.readouterr().err
        assert not (tmp_path / form).exists()
