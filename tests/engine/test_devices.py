"""Every device writes the same texts, and a greedy step waits for it once.

Run line on a machine with a GPU: pytest -m gpu tests/engine/test_devices.py
"""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from benchmarks import gpu, kernels
from benchmarks.workload import Settings
from s2t_eval.engine import Decoder, ModelRunner
from s2t_eval.engine.step_positions import StepPositions
from s2t_eval.methods.selector_adapter import AdapterSwitch
from s2t_eval.selection import policy
from s2t_eval.selection.readout import Readout
from s2t_eval.selection.scores import ResidualScore
from s2t_eval.selection.triggers import EntropyTrigger, KlTrigger
from tests.twins import decode, generate_greedy, outputs, requests, tiny_model

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])]


def on(device: str, family: str, seed: int, **options: int) -> PreTrainedModel:
    """A tiny model on the device; its weights are those of every other device."""
    model: PreTrainedModel = tiny_model(family, seed, **options).to(device)  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", ["qwen2", "llama", "gemma3", "gemma2"])
def test_greedy_is_generate_on_the_cpu(device: str, family: str) -> None:
    asked = requests()
    expected = [generate_greedy(tiny_model(family, 0), request) for request in asked]
    assert outputs(decode(on(device, family, 0), policy.greedy(), asked)) == expected


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("verify", [1, 4, "auto"])
def test_s2t_is_lockstep_on_the_cpu(device: str, verify: int | str) -> None:
    asked = requests()
    chosen = policy.s2t(KlTrigger(), 0.5, top_k=6)
    pairs = [(on(place, "qwen2", 0), on(place, "qwen2", 1, hidden_size=48)) for place in ("cpu", device)]
    expected = outputs(decode(pairs[0][0], chosen, asked, pairs[0][1]))
    results = decode(pairs[1][0], chosen, asked, pairs[1][1], verify=verify)
    assert outputs(results) == expected
    assert sum(result.usage.triggers for result in results) > 0


def pps(device: str) -> list[list[int]]:
    """Texts of proposal-preserving selection: the adapted student scores the plain one's candidates."""
    model = on(device, "llama", 0)
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    peft = get_peft_model(model, config).cpu().to(device).eval()  # adapters are drawn on the CPU
    peft.base_model.disable_adapter_layers()
    inner = peft.get_base_model()
    weight = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).to(device)
    chosen = policy.s2t_local(EntropyTrigger(), 2.0, ResidualScore(Readout(weight, "log_odds")), 6)
    scorer = ModelRunner(inner, "scorer", forward_context=AdapterSwitch(peft))
    decoder = Decoder(ModelRunner(inner, "student"), chosen, rows=4, scorer=scorer)
    results = {result.index: result for result in decoder.run(requests())}
    assert sum(result.usage.triggers for result in results.values()) > 0
    return [results[i].output_ids for i in range(len(results))]


@pytest.mark.parametrize("device", DEVICES)
def test_pps_is_that_of_the_cpu(device: str) -> None:
    assert pps(device) == pps("cpu")


@pytest.mark.parametrize("device", DEVICES)
def test_a_student_that_scores_its_own_branches_is_that_of_the_cpu(device: str) -> None:
    """Its candidates are on the GPU where its branches are planned on the host."""
    weight = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))

    def texts(place: str) -> list[list[int]]:
        score = ResidualScore(Readout(weight.to(place), "log_odds"))
        return outputs(
            decode(on(place, "llama", 0), policy.s2t_local(EntropyTrigger(), 2.0, score, 6), requests())
        )

    assert texts(device) == texts("cpu")


@pytest.mark.gpu
@needs_gpu
def test_a_greedy_step_waits_for_the_gpu_once() -> None:
    """Counted by torch's own check of synchronisations, in runs of two lengths."""
    runner = ModelRunner(on("cuda", "qwen2", 0), compile="never")
    costs = kernels.step_costs(lambda tokens: kernels.decode(runner, 4, tokens))
    assert costs.reads == 1


@pytest.mark.parametrize("device", DEVICES)
def test_positions_follow_the_rows(device: str) -> None:
    positions = StepPositions(torch.device(device))
    for lengths in ([3, 5], [4, 6], [5, 7], [7, 5], [8], [9], [9], [1, 2, 3]):
        assert positions.at(lengths).tolist() == lengths


def test_the_figures_of_a_gpu_run_in_one_command() -> None:
    tiny = Settings(student="random/tiny", teacher="random/tiny", new_tokens=4, repeats=1, taus=(0.1,))
    report = list(gpu.figures(tiny, batches=(1,)))
    assert {entry["figure"] for entry in report} == {"kernels", "greedy-vs-hf", "verify", "local"}
    assert all(entry["ratios"] for entry in report)


def test_the_figures_of_a_gpu_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"^benchmarks\.gpu: there is no CUDA device here"):
        gpu.main([])
