"""The embedded pair: a tiny student, its teacher and their task, shipped inside the package.

The pair lets every decoding method run in seconds, on a CPU, with no network. Both folders are
ordinary transformers checkpoints with one shared tokenizer:

    AutoModelForCausalLM.from_pretrained(embedded_path("embedded/student"))

`arith.py` makes the problems, `tokenizer.py` the tokenizer, `train.py` the weights, and `measure.py`
measures what the pair shows. What stands beside them, `embedded/selector` (for `s2t_local` and `pps_local`),
`embedded/tah`, `embedded/distilled` and `embedded/r2r`, is made by scripts/train_embedded_*.py. The models
answer one question at a time: examples or instructions before it are unlike anything they were trained
on. Importing this module loads neither torch nor transformers.
"""

from pathlib import Path

_FOLDERS = {
    "embedded/student": "student",
    "embedded/teacher": "teacher",
    "embedded/selector": "selector",
    "embedded/tah": "tah",
    "embedded/distilled": "distilled",
    "embedded/r2r": "r2r",
}


def embedded_path(name: str) -> Path:
    """Resolve the name of a shipped model to its folder on disk.

    Args:
        name: "embedded/" and student, teacher, selector, tah, distilled or r2r.

    Returns:
        The folder that `from_pretrained` takes, or `selector=`, `router=`, `tah=` or `peft=`.

    Raises:
        ValueError: for any other name; the message lists the known ones.
    """
    if name not in _FOLDERS:
        known = ", ".join(sorted(_FOLDERS))
        raise ValueError(f"unknown embedded model {name!r}; known: {known}")
    return Path(__file__).parent / _FOLDERS[name]
