"""The splits of `s2t_arith`, generated on the fly: no network, no files."""

from dataclasses import asdict

from datasets import Dataset

from s2t_eval.embedded.arith import make_split


def load(**_metadata: object) -> dict[str, Dataset]:
    """The training, development and test splits; lm_eval passes the task's metadata, which is not needed."""
    return {
        split: Dataset.from_list([asdict(problem) for problem in make_split(split)])
        for split in ("train", "dev", "test")
    }
