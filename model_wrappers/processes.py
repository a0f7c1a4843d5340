"""Several processes (torchrun, `accelerate launch`) that share the documents of one evaluation."""

from __future__ import annotations

import atexit
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from torch import distributed


@atexit.register
def leave_processes() -> None:
    """Leave the process group while the interpreter is whole, at its exit.

    Gloo's threads that outlive the interpreter now and then abort a process that has finished its work;
    the launcher then kills the others, which may still be writing the results (pytorch#179291).
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


class SharedWork(HFLM):
    """Stock `hf` whose processes share the work on every device without repeating it.

    Stock distributes documents over several GPUs alone: on other devices every process generates all of
    them. It also uses a process's index on its machine as the rank, which is not unique on several
    machines (#1081).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._padded: list[Instance] = []

    def join_processes(self) -> None:
        """Set this process's rank among those that were started together."""
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None and accelerator.num_processes > 1:
            self._rank = accelerator.process_index
            self._world_size = accelerator.num_processes

    @property
    def is_copy(self) -> bool:
        """Whether another process decodes the same texts, as all do with tensor parallelism."""
        return self.world_size == 1 and int(os.environ.get("LOCAL_RANK", "0")) > 0

    def padding(self, requests: Sequence[Instance]) -> dict[int, int]:
        """Positions of padding requests of this process -> position of the request that each repeats.

        The harness gives all processes equally many requests by repeating a process's last one.
        """
        if self.world_size == 1:
            return {}
        positions: dict[int, list[int]] = defaultdict(list)
        padding = {}
        for position, instance in enumerate(requests):
            seen = positions[id(instance)]
            if len(seen) == instance.repeats:
                padding[position] = seen[0]
                self._padded.append(instance)
            else:
                seen.append(position)
        return padding

    def wait(self) -> None:
        """Wait for the other processes."""
        super().barrier()

    def barrier(self) -> None:
        """Wait for the other processes, as the harness does once it has all responses.

        Responses to padding requests are removed from their documents.
        """
        self.wait()
        for instance in self._padded:
            del instance.resps[instance.repeats :]
        self._padded = []
