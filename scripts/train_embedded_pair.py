"""Train the embedded pair from random weights on one CPU core.

    python -m scripts.train_embedded_pair                  # both models, into the package
    python -m scripts.train_embedded_pair --out runs/pair --only student

Each model is trained for one epoch, with the loss on the solution only. The problems are those of
`arith.training_stream()`, which contains no problem of dev or test. All solutions are correct, and both
models are trained on about the same number of problems: the student is weaker because it is smaller.

Training takes about 15 minutes on one busy core. Runs are seeded, but floating-point rounding, and with it
the weights, depends on the machine and on `--threads`. Both sizes were chosen on the dev split.
"""

import argparse
import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

from s2t_eval.embedded import embedded_path
from s2t_eval.embedded.arith import Problem, format_prompt, make_split, training_stream
from s2t_eval.embedded.tokenizer import build_tokenizer

CONTEXT_LENGTH = 1024
INTO = embedded_path("embedded/student").parent
_IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    """Size and training settings of one model of the pair."""

    name: str
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    num_problems: int
    learning_rate: float
    batch_size: int = 32
    warmup_steps: int = 100
    weight_decay: float = 0.01
    seed: int = 0


RECIPES = (
    Recipe("student", 64, 4, 2, 224, num_problems=50_000, learning_rate=4e-3),
    Recipe("teacher", 160, 4, 5, 480, num_problems=45_000, learning_rate=3e-3),
)


def make_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of the recipe's size, with tied embeddings and full attention.

    Qwen2 cannot be used: transformers 5 rebuilds the tokenizer of that model type from its vocabulary and
    merges, and drops `ignore_merges`, so every word would be split into bytes.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_heads,
        intermediate_size=recipe.mlp_size,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def batches(
    problems: Iterator[Problem], tokenizer: PreTrainedTokenizerFast, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and labels [batch, seq], padded on the right; labels ignore prompt and padding."""
    while chunk := list(islice(problems, batch_size)):
        prompts = tokenizer([format_prompt(p.question) for p in chunk])["input_ids"]
        solutions = tokenizer([" " + p.solution + tokenizer.eos_token for p in chunk])["input_ids"]
        length = max(len(p) + len(s) for p, s in zip(prompts, solutions, strict=True))
        ids = torch.full((len(chunk), length), tokenizer.pad_token_id)
        labels = torch.full_like(ids, _IGNORED)
        for row, (prompt, solution) in enumerate(zip(prompts, solutions, strict=True)):
            end = len(prompt) + len(solution)
            ids[row, :end] = torch.tensor(prompt + solution)
            labels[row, len(prompt) : end] = torch.tensor(solution)
        yield ids, labels


def solution_loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the solution tokens; the LM head is run only at these.

    No attention mask is needed, because the model is causal and the padding is on the right.
    """
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    is_scored = labels[:, 1:] != _IGNORED
    return cross_entropy(model.lm_head(hidden[is_scored]), labels[:, 1:][is_scored])


def train(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Train one model with AdamW, a linear warmup and cosine decay to zero."""
    set_seed(recipe.seed)
    model = make_model(recipe, tokenizer)
    num_steps = math.ceil(recipe.num_problems / recipe.batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
        fused=True,
    )

    def rate(step: int) -> float:
        warmup = min(1.0, (step + 1) / recipe.warmup_steps)
        return warmup * 0.5 * (1 + math.cos(math.pi * step / num_steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    problems = islice(training_stream(), recipe.num_problems)
    progress = tqdm(batches(problems, tokenizer, recipe.batch_size), recipe.name, num_steps)
    for step, (ids, labels) in enumerate(progress):
        loss = solution_loss(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")
    return model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a float16 checkpoint with dtype float32 in its config, so that it is loaded in float32.

    The files are written to a temporary folder first, so an interrupted save leaves the old model.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.half().save_pretrained(scratch)
    model.config.dtype = torch.float32
    model.config.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    scratch.chmod(0o755)
    for file in scratch.iterdir():
        file.chmod(0o644)
    if folder.exists():
        shutil.rmtree(folder)
    scratch.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded student and teacher.")
    parser.add_argument("--out", type=Path, default=INTO, help="parent folder")
    parser.add_argument("--only", choices=[recipe.name for recipe in RECIPES])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    texts = (f"{format_prompt(p.question)} {p.solution}" for p in make_split("train"))
    tokenizer = build_tokenizer(texts, CONTEXT_LENGTH)
    for recipe in RECIPES:
        if args.only in (None, recipe.name):
            save(train(recipe, tokenizer), tokenizer, args.out / recipe.name)


if __name__ == "__main__":
    main()
