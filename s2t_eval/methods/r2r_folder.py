"""An R2R router's folder: the network, its thresholds and the models that it fits.

router.safetensors   the network
r2r.json             student, teacher, size, thresholds, figures
README.md            the model card
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from s2t_eval.artifacts.card import render_card
from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.artifacts.manifest import ManifestKind, write_manifest
from s2t_eval.methods.artifact_folder import find_folder, load_weights, shape_difference
from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.selection.divergence_router import DivergenceRouter, DivergenceTrigger
from s2t_eval.selection.router_size import RouterSize
from s2t_eval.selection.thresholds import ThresholdTable, require_rates, trigger_key

FORMAT = 1
SETTINGS = "r2r.json"
WEIGHTS = "router.safetensors"
PUBLISHED_SHARES = (89.0, 6.0, 5.0)
"""Identical, neutral and divergent tokens in R2R's paper (32B and 1.5B), percent."""

CARD = """---
base_model: {{ base_name }}
tags: [s2t-eval, r2r]
---

# An R2R router for {{ base_name }}

It predicts at which tokens {{ base_name }} would take another path than {{ teacher_name }}; there the larger
model writes the token.

    lm_eval --model r2r --model_args pretrained={{ base_name }},teacher={{ teacher_name }},router=THIS \
{{ labels|evaluated }}

| | |
|---|---|
| labels | {{ labels.num_texts }} texts of {{ labels.data.source }} ({{ labels.data.split }}), rule \
{{ labels.settings.rule }} |
| identical / neutral / divergent | {{ "%.1f / %.1f / %.1f"|format(*shares) }} % |
| the same in R2R's paper (32B and 1.5B) | {{ "%.1f / %.1f / %.1f"|format(*published) }} % |
| rule against the final answers | {{ validation }} |
| threshold | {{ "%.4g"|format(threshold) }}, by {{ chosen_by }} |
| held out: recall at positive rate | {{ recall }} at {{ positive_rate }} \
(n = {{ held_out.steps|int }} tokens) |

It fits the student with fingerprint `{{ base }}` and the teacher with fingerprint `{{ teacher }}` alone.
"""


@dataclass(frozen=True)
class RouterInfo:
    """The contents of `r2r.json`.

    Args:
        base: fingerprint of the student.
        base_name: the student's name, for display.
        teacher: fingerprint of the model whose texts and verdicts the labels are.
        teacher_name: the teacher's name, for display.
        vocabulary: hash of the tokenizer's text entries.
        hidden_size: width of the student.
        size: of the network.
        threshold: probability above which a token is the teacher's, unless the user names another.
        chosen_by: the criterion: a recall or a rate on validation problems.
        thresholds: rate -> threshold, quantiles over the tokens of validation problems.
        held_out: recall and positive rate of `threshold` on problems that did not choose it, with n, and
            recall and positive rate at every rate; a recall without divergent tokens is None.
        labels: the manifest of the labels, and their shares.
        training: settings and history.
    """

    base: str
    base_name: str
    teacher: str
    teacher_name: str
    vocabulary: str
    hidden_size: int
    size: RouterSize
    threshold: float
    chosen_by: str
    thresholds: dict[str, float]
    held_out: dict[str, Any]
    labels: dict[str, Any]
    training: dict[str, Any]
    format: int = FORMAT

    def __post_init__(self) -> None:
        require_rates({"r2r": self.thresholds})

    def require_prompt(self, current: Mapping[str, Any]) -> None:
        """Raise `R2RError` unless its labels were made with these prompt settings."""
        fix = "label with the present ones and train on these labels"
        KIND.require_same_prompt("router", self.labels.get("prompt", {}), current, fix)


KIND = ManifestKind(RouterInfo, "s2t-eval r2r train", R2RError, FORMAT, SETTINGS)


@dataclass(frozen=True)
class RouterFolder:
    """A loaded router.

    Args:
        folder: its path.
        info: its settings.
        router: the network, in evaluation mode.
        hash: 16 hex digits over its weights and settings.
    """

    folder: Path
    info: RouterInfo
    router: DivergenceRouter
    hash: str

    def trigger(self, embed: Callable[[Tensor], Tensor], device: Any) -> DivergenceTrigger:
        """The trigger of this router, for a student with these input embeddings."""
        return DivergenceTrigger(self.router.to(device), embed, self.hash)

    def table(self, trigger: DivergenceTrigger) -> ThresholdTable:
        """The thresholds by rate, to be looked up for its trigger."""
        return ThresholdTable("router", {trigger_key(trigger): self.info.thresholds})

    def require_teacher(self, fingerprint: str | None) -> None:
        """Raise `R2RError` unless the labels are this teacher's; None (no teacher is loaded) passes."""
        if fingerprint is not None:
            fix = "use that teacher, or label and train with this one"
            saved, name = self.info.teacher, self.info.teacher_name
            KIND.require_same(f"router={self.folder}", "teacher", saved, fingerprint, fix, name)


def find_router(name: str | Path) -> Path:
    """The folder of a router's name: a local one, `embedded/...`, or the snapshot of a Hub repository.

    Raises:
        R2RError: there is none.
    """
    return find_folder(f"router={name}", name, f"{KIND.expected},", R2RError)


def percent_or_undefined(fraction: float | None) -> str:
    """A held-out figure in percent, "81.5 %", or "undefined" for None."""
    return "undefined" if fraction is None else f"{100 * fraction:.1f} %"


def save_router(folder: Path, info: RouterInfo, router: DivergenceRouter) -> None:
    """Write a router's folder whole or not at all."""
    with atomic_path(folder) as partial:
        partial.mkdir()
        weights = {name: value.detach().cpu().contiguous() for name, value in router.state_dict().items()}
        save_file(weights, partial / WEIGHTS)
        write_manifest(partial / SETTINGS, info)
        write_text(partial / "README.md", router_card(info))


def router_card(info: RouterInfo) -> str:
    """The model card of a router."""
    counts = [info.labels[f"num_{kind}"] for kind in ("identical", "neutral", "divergent")]
    shares = [100 * count / sum(counts) for count in counts]
    figures, validation = info.labels.get("validation"), "not compared"
    if figures and figures["mismatches"]:
        validation = f"agreement {figures['agreement']:.3f}, kappa {figures['kappa']:.3f}"
        validation += f" (n = {figures['mismatches']:.0f} mismatches)"
    held_out = {name: percent_or_undefined(info.held_out[name]) for name in ("recall", "positive_rate")}
    lines = {"shares": shares, "published": PUBLISHED_SHARES, "validation": validation, **held_out}
    return render_card(CARD, {**asdict(info), **lines})


def load_router(name: str | Path, base: str, vocabulary: str, hidden_size: int) -> RouterFolder:
    """Read a router's folder for this student.

    Args:
        name: the folder, `embedded/r2r`, or a Hub repository.
        base: fingerprint of the student.
        vocabulary: hash of its tokenizer's text entries.
        hidden_size: its width.

    Raises:
        R2RError: missing or damaged, or made for another student, tokenizer or width.
    """
    folder = find_router(name)
    info = KIND.read(f"router={name}", folder / SETTINGS)
    fix = "use that student, or train a router for this one"
    KIND.require_student(f"router={name}", info, base, vocabulary, hidden_size, fix, "student")
    try:
        router = DivergenceRouter(info.hidden_size, info.size)
        weights = load_weights("router", name, folder / WEIGHTS)
        if difference := shape_difference(router, weights):
            raise R2RError(
                f"router={name}: its network has another size than {SETTINGS} names ({difference}); train it "
                "anew"
            )
        router.load_state_dict(weights)
        identity = folder_hash(folder)
    except (OSError, SafetensorError) as error:
        raise R2RError(f"router={name}: {folder} is damaged ({error}); train it anew") from error
    return RouterFolder(folder, info, router.eval(), identity)
