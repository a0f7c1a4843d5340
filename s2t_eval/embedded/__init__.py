"""The embedded pair: a tiny student, its teacher and their task, shipped in the package.

With the pair, every decoding method runs in seconds on a CPU, without a network. Both folders are ordinary
transformers checkpoints with the same tokenizer:

    AutoModelForCausalLM.from_pretrained(embedded_path("embedded/student"))

`arith.py` generates the problems, `tokenizer.py` builds the tokenizer, and `scripts/train_embedded_pair.py`
trains the models. The student's trained artifacts, `embedded/selector` (for `s2t_local` and `pps_local`),
`embedded/tah`, `embedded/distilled`, `embedded/rlkd` and `embedded/r2r`, are made by the other scripts
`train_embedded_*.py`.
The models were trained on single questions, without examples or instructions before them. Importing this
module loads neither torch nor transformers.
"""

from pathlib import Path

_FOLDERS = {
    "embedded/student": "student",
    "embedded/teacher": "teacher",
    "embedded/selector": "selector",
    "embedded/tah": "tah",
    "embedded/distilled": "distilled",
    "embedded/rlkd": "rlkd",
    "embedded/r2r": "r2r",
}


def embedded_path(name: str) -> Path:
    """The folder of a shipped model or artifact.

    Args:
        name: "embedded/" followed by student, teacher, selector, tah, distilled, rlkd or r2r.

    Returns:
        The folder, for `from_pretrained`, `selector=`, `router=`, `tah=` or `peft=`.

    Raises:
        ValueError: the name is another one; the message lists the known names.
    """
    if name not in _FOLDERS:
        known = ", ".join(sorted(_FOLDERS))
        raise ValueError(f"unknown embedded model {name!r}; known: {known}")
    return Path(__file__).parent / _FOLDERS[name]


def resolve_model(name: str) -> str:
    """The folder of `embedded/...`; another name, a folder or a repository on the Hub, is returned as it is.

    Raises:
        ValueError: an unknown embedded name.
    """
    return str(embedded_path(name)) if name.startswith("embedded/") else name
