"""The prose of the reference pages, and descriptions of what the code leaves without one."""

from __future__ import annotations

MODEL_ARGUMENTS = """# Model arguments

Every backend takes the arguments of lm_eval's own `hf` backend with the same meaning (`pretrained`,
`dtype`, `device`, `revision`, `peft`, `gguf_file`, …) and those below. An unknown argument is an error that
names the nearest known one.
"""

TEACHER_ARGUMENTS = """## The teacher of `s2t`, `takeover`, `r2r`, `specreason`, `s2t_local`, `pps_local`

The teacher is loaded as `hf` loads a model: every argument of `hf` about loading exists a second time, with
`teacher_` in front. Without `teacher_dtype`, `teacher_device` and `teacher_trust_remote_code` the student's
hold; the others have the defaults of `hf`. Commands that load a teacher take the same arguments in
`--teacher_args`, without `teacher_` in front. [Large teachers](../guides/large-teachers.md) has examples.
"""

COMMANDS = """# Commands

`s2t-eval COMMAND` and `python -m s2t_eval COMMAND` are the same. An underscore in an option may be written as
a hyphen. Options that end in … take several values, separated by spaces. A dash means that an option has no
default. [Completion](../guides/completion.md) works in bash and zsh.
"""

TRAINING = """# Training settings

What the options of the training commands mean, with their defaults. A command may have another default for
some of them; see [Commands](commands.md).
"""

RESULTS_PAGE = """# Results

lm_eval's results file holds our entry under `config.s2t_eval`. Fingerprints and hashes identify models,
data and artifacts, so that runs of different ones are never compared by accident. A key stands only in the
results of the methods that it belongs to.
"""

TRACE_PAGE = """# Trace

With `--model_args trace=FILE.jsonl` a run writes one JSON line for each text, enough to replay every
choice. While the run lasts the file is called `FILE.jsonl.partial`; every line in it is complete.
"""

ARTIFACTS_PAGE = """# Artifacts

What commands write and backends read. Every artifact names the models that it belongs to by fingerprint,
and is refused where another model is used. Weights are safetensors; nothing is pickled.
"""

RESULTS: dict[str, str] = {
    "version": "version of s2t-eval",
    "commit": "commit of the checkout, with -dirty for changed code; null for an installed package",
    "code": "the code in one word: the commit, with a hash of the code where no commit has it",
    "device": "device of the student",
    "steps_at_once": "commands of `s2t-eval reproduce` that shared the machine",
    "packages": "versions of the packages that may change a text or a score",
    "teacher_parameters": "number of the teacher's parameters; null without one",
    "method": "the `--model` name of the method",
    "pretrained": "the student as it was named",
    "policy": "trigger, threshold, selector, number of candidates and tokens without a trigger at the start",
    "student": "fingerprint of the student's weights",
    "dtype": "of the student; with `teacher_dtype` and `teacher_device`, each where the teacher's is another",
    "add_bos_token": "as in stock `hf`",
    "think_end_token": "as in stock `hf`",
    "seed": "the run's seed",
    "max_length": "context length in tokens; with a teacher that is loaded here, what both models support",
    "system_turn": "`in the first user turn` where the chat template has no system role (Gemma); else absent",
    "teacher_name": "the teacher as it was named",
    "teacher": "fingerprint of the teacher's weights; null without one",
    "tau": "the wanted rate of fired steps; null where a threshold was given",
    "calibration": "hash of the calibration file; null without one",
    "selector": "hash of the selector folder; null without one",
    "router": "hash of the folder given as `router`",
    "proposer": "`tuned` or `base`: the model that writes",
    "merge": "whether the adapter was merged into the weights",
    "proposal_weight": "share of the proposer's log-probability in a score",
    "adapter_scale": "how much of the adapter was added to the student",
    "sampling": "temperature, top-p, top-k and number of samples (`maj8`); of the branches (`tot`)",
    "search": "shape and value of the tree search (`tot`)",
    "distilled": "what the distilled student was made of (`distil`)",
    "accept_rate": "wanted share of accepted drafts, whose threshold the calibration has (`specreason`)",
    "accept": "score from which a drafted step is accepted (`specreason`)",
    "step_score": "form of the score of a step (`specreason`)",
    "delimiter": "where a step of reasoning ends (`specreason`)",
    "max_step": "most tokens of a step of reasoning (`specreason`)",
    "tah": "name of the Think-at-Hard folder (`tah`)",
    "tah_hash": "hash of that folder (`tah`)",
    "threshold": "probability above which a token gets another pass (`tah`)",
    "max_depth": "most passes for a token (`tah`)",
    "oracle": "hash of the reference texts that decide instead of the decider (`tah`)",
    "batch_size": "texts decoded at once",
    "plain_likelihoods": "tasks with log-likelihoods, which are the plain student's; absent without",
    "adapted_likelihoods": "the same, where they are those of a student that the method has changed",
    "prompt_hashes": "task → hash over its prompts",
    "sandbox": "what generated programs ran in",
    "telemetry": "costs, see the next table",
}

COUNTS: dict[str, str] = {
    "texts": "texts generated; each sample of `maj8` counts",
    "cached_texts": "texts among them that came from the response cache",
    "tokens": "generated tokens, final stop tokens included",
    "forwards": "forward passes of the student that a text took part in, summed over texts, prefill included",
    "prefill_tokens": "prompt tokens that were computed (shared beginnings are computed once); on servers "
    "also tokens of a text that a request computes again",
    "triggers": "fired steps",
    "flips": "fired steps at which another token than greedy's was taken",
    "hits": "fired steps at which the teacher's most likely token was among the candidates",
    "misses": "fired steps at which it was not",
    "teacher_calls": "forward passes of the teacher, summed over texts",
    "teacher_tokens": "tokens that the teacher computed: its prompts, and what follows them; in `s2t`, "
    "`takeover` and `r2r` it only reads",
    "teacher_generated": "tokens that the teacher wrote itself (`takeover`, `r2r`, `specreason`)",
    "teacher_prefilled": "tokens among `teacher_tokens` that it read as prompts and in chunks, apart from "
    "those that it read one by one as it wrote (`specreason`); absent where the teacher of another method "
    "read something (0 in files of earlier versions)",
    "scorer_calls": "forward passes of a separate scoring model (`pps_local`)",
    "scorer_tokens": "tokens that it computed; where the adapted student scores candidates of its own "
    "(`s2t_local` with a form that looks ahead), those that were not selected",
    "continued": "tokens that got another pass (`tah`)",
    "server_requests": "requests that were sent to servers (`student_url`, `teacher_url`)",
    "deeper_passes": "passes beyond a token's first (`tah`)",
    "discarded_tokens": "tokens that the student wrote ahead of its teacher in vain (`s2t`, `takeover`); "
    "their cost is in `forwards`, and in `teacher_tokens` where the teacher read them; tokens of rejected "
    "steps (`specreason`) and of abandoned branches (`tot`)",
    "drafted_steps": "steps of reasoning that the student drafted (`specreason`), and branches (`tot`)",
    "rejected_steps": "steps among them that were not kept when they were scored",
    "evaluation_tokens": "tokens that a model read in order to score steps: questions about them",
    "realised_rate": "`triggers` / `tokens`",
    "flip_rate": "`flips` / `tokens`",
    "hit_rate": "`hits` / (`hits` + `misses`); null where no teacher picks",
    "forwards_per_token": "`forwards` / `tokens`",
    "mean_depth": "mean number of passes for a token; 1 but for `tah`",
    "continued_rate": "`continued` / `tokens`",
    "length_limited": "texts that ended at their length limit",
    "truncated_prompts": "prompts whose beginning was cut off to fit the context",
    "processes": "processes that shared the work",
    "seconds": "wall-clock seconds of decoding",
    "tokens_per_second": "`tokens` / `seconds`",
    "peak_memory_bytes": "largest memory used: of the GPUs with a model of the run, else of the process",
}

TRACE: dict[str, str] = {
    "task": "name of the task",
    "doc_id": "the document's number in the task; under `--samples` its place among the chosen ones, from 0",
    "repeat": "number of the repeat, from 0",
    "sample": "number of the sample, from 0 (`maj8`)",
    "method": "the `--model` name of the method",
    "trigger": "name of the trigger",
    "threshold": "a step fires where the trigger's value is above it; an infinite one is the text `inf` or "
    "`-inf`",
    "prompt_ids": "token ids of the prompt",
    "output_ids": "token ids of the answer, a final stop token included",
    "finish": "`stop_id`, `stop_string` or `length`",
    "seconds": "from the text's admission to its end",
    "usage": "what this text cost, with the names of [Results](results.md#costs)",
    "steps": "the fired steps, see below",
    "answer": "the sample's answer as the vote read it (`maj8`)",
    "vote": "the outcome of the vote (`maj8`)",
    "plain_vote": "the outcome without weights (`maj8` with `weight=confidence`)",
    "confidence": "the weight of the sample's vote (`maj8` with `weight=confidence`)",
}

STEP: dict[str, str] = {
    "t": "index of the token in the answer, from 0",
    "divergence": "the trigger's value; null where it is infinite, as under `always`",
    "candidates": "the student's most likely tokens, most likely first",
    "scores": "the score of each candidate; with a teacher its probability",
    "greedy": "the student's own most likely token",
    "picked": "the token that was taken",
    "teacher": "the teacher's most likely token of the whole vocabulary; null where no teacher picks",
}

FIELDS: dict[str, str] = {
    "num_samples": "samples for each prompt",
    "temperature": "of the samples",
    "top_p": "probability mass that samples are drawn from",
    "sample_top_k": "number of most likely tokens that samples are drawn from; 0 means all",
}
"""Fields that the code leaves without a description."""
