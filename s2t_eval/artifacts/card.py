"""Model cards of trained artifacts, rendered from the content of their manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

SELECTOR_TEMPLATE = """---
library_name: peft
base_model: {{ base_name }}
tags: [s2t-eval, select-to-think]
---

# A Select-to-Think selector for {{ base_name }}

At the steps at which its trigger fires, this adapter scores the student's {{ top_k }} most likely tokens,
and the best of them is written; no teacher is needed. Use it with s2t-eval, an extension of
lm-evaluation-harness:

    lm_eval --model s2t_local --model_args pretrained={{ base_name }},selector=THIS --tasks gsm8k

| | |
|---|---|
| score form | {{ form }}, readout of {{ bins }} bins as {{ score_as }} |
| trained on | {{ labels.data.problems }} problems of {{ labels.data.source }} ({{ labels.data.split }}) |
| labelled by | {{ labels.teacher_name }} |
{% for proposer, setting in defaults.items() -%}
| default of `{{ "s2t_local" if proposer == "tuned" else "pps_local" }}` (proposer {{ proposer }}) | trigger \
{{ setting.trigger }}, tau {{ setting.tau }}: {{ setting.chosen }} |
{% endfor -%}
| weight of the proposal (proposer base) | {{ proposal_weight }} |
| scale of the adapter (proposer tuned) | {{ adapter_scale }} |
{% if training.held_out and training.held_out.groups -%}
| held-out Agree@1 | {{ "%.1f"|format(100 * training.held_out["agree@1"]) }} % (greedy agrees in \
{{ "%.1f"|format(100 * training.held_out["greedy_agree@1"]) }} %; n = {{ training.held_out.groups }}\
{% if training.held_out_weight is defined and training.held_out_weight != proposal_weight %}\
; measured with weight {{ training.held_out_weight }}{% endif %}) |
| held-out Spearman | {{ "%.3f"|format(training.held_out.spearman) }} |
{%- endif %}

It fits the checkpoint with fingerprint `{{ base }}` alone. A score reached with it is the method's, not the
plain model's: state method, K, tau and prompt beside it.
"""


def selector_card(info: Mapping[str, Any]) -> str:
    """Markdown with the Hub's metadata block, from the content of `selector.json`."""
    return Environment(autoescape=False).from_string(SELECTOR_TEMPLATE).render(**info) + "\n"


DISTILLED_TEMPLATE = """---
{% if kind == "adapter" -%}
library_name: peft
{% endif -%}
base_model: {{ base_name }}
tags: [s2t-eval, distillation]
---

# {{ base_name }}, distilled from {{ teacher_name }}

{% if kind == "adapter" %}An adapter{% else %}All weights{% endif %} of {{ base_name }} after distillation \
with `--method {{ method }}`. Use it with s2t-eval, an extension of lm-evaluation-harness:

    lm_eval --model distil --model_args {% if kind == "adapter" -%}
pretrained={{ base_name }},peft=THIS{% else %}pretrained=THIS{% endif %} --tasks gsm8k

The held-out problems below also chose the step that was kept.

| held out, {{ training.held_out_problems }} problems | before | after |
|---|---|---|
| KL(teacher, student), nats | {{ "%.4f"|format(training.before.forward_kl) }} | \
{{ "%.4f"|format(training.after.forward_kl) }} |
| same first token as the teacher | {{ "%.1f"|format(100 * training.before.agreement) }} % | \
{{ "%.1f"|format(100 * training.after.agreement) }} % |
| steps | {{ training.before.steps_measured|int }} | {{ training.after.steps_measured|int }} |

Learnt on {{ training.problems }} problems of {{ labels.data.source }} ({{ labels.data.split }}). It belongs \
to the checkpoint with fingerprint `{{ base }}`.
"""


RLKD_TEMPLATE = """---
library_name: peft
base_model: {{ base_name }}
tags: [s2t-eval, distillation, reinforcement-learning]
---

# {{ base_name }} after RLKD

An adapter of {{ base_name }}, trained by GRPO to follow the steps of {{ teacher_name }} and to give right \
answers. Use it with s2t-eval, an extension of lm-evaluation-harness:

    lm_eval --model distil --model_args pretrained={{ base_name }},peft=THIS --tasks gsm8k

The held-out problems below also chose the step that was kept.
{% if not training.best_step %}No step was better than the untrained student, which it leaves as it is.
{% endif %}
| held out, {{ training.held_out_problems }} problems, greedy | before | after |
|---|---|---|
| right answers | {{ "%.1f"|format(100 * training.before.correct) }} % | \
{{ "%.1f"|format(100 * training.after.correct) }} % |
{% if "structure" in training.before %}| structure reward | {{ "%.3f"|format(training.before.structure) }} | \
{{ "%.3f"|format(training.after.structure) }} |
{% endif %}| tokens of a text | {{ "%.1f"|format(training.before.tokens) }} | \
{{ "%.1f"|format(training.after.tokens) }} |

Learnt on {{ training.problems }} problems of {{ labels.data.source }} ({{ labels.data.split }}): \
{{ training.cost.text_visits|int }} text visits, {{ training.cost.generated_tokens|int }} sampled tokens, \
{{ training.cost.updates }} updates. It belongs to the checkpoint with fingerprint `{{ base }}`.
"""


def distilled_card(info: Mapping[str, Any]) -> str:
    """Markdown with the Hub's metadata block, from the content of `distil.json`."""
    template = RLKD_TEMPLATE if info["method"] == "rlkd" else DISTILLED_TEMPLATE
    return Environment(autoescape=False).from_string(template).render(**info) + "\n"
