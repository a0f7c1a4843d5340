"""Several processes train together: one of them writes, or the command refuses them."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.forked import start_forked

SCRIPT = """
import json, os
from pathlib import Path
from s2t_eval.training.processes import write_result
from s2t_eval.training.checkpoints import TrainingError
from s2t_eval.training.r2r.train import train_router
from s2t_eval.training.tah.decider_training import train_decider
from s2t_eval.training.tah.depth_training import train_depths
from s2t_eval.training.tah.plain_tuning import train_plain

rank, said = os.environ["RANK"], []
for train, count in ((train_depths, 6), (train_decider, 6), (train_plain, 6), (train_router, 7)):
    try:
        train(*[None] * count)
    except TrainingError as error:
        said.append(str(error))

def write():
    with open("written", "a") as file:
        file.write(rank)

write_result(write, Path("work"))
Path(f"rank{rank}.json").write_text(json.dumps([said, Path("written").read_text(), Path("work").exists()]))
"""


@pytest.mark.slow
def test_one_of_two_processes_writes_and_single_device_commands_refuse_them(tmp_path: Path) -> None:
    """Each process wrote the same folder and removed the checkpoints, which the second one did not find."""
    (tmp_path / "work").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "1"}
    processes = [
        start_forked("-c", SCRIPT, folder=tmp_path, RANK=rank, LOCAL_RANK=rank, **shared)
        for rank in ("0", "1")
    ]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    for rank in (0, 1):
        said, written, has_work = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert (written, has_work) == ("0", False)
        commands = ["tah train", "tah train", "tah plain", "r2r train"]
        assert [line.partition(":")[0] for line in said] == commands
        assert all("expected one process, got 2; it trains on one device" in line for line in said)
