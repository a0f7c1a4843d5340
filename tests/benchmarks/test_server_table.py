"""The tables of the servers' guide, from small results."""

from __future__ import annotations

from typing import Any

from benchmarks.server_table import server_tables

MACHINE = {
    "processor": "a processor",
    "threads": 1,
    "gpu": None,
    "load": 0.5,
    "python": "3.11",
    "torch": "2",
    "transformers": "5",
}
SETTINGS = {"student": "small", "teacher": "large", "dtype": "float32"}


def ratio(name: str, values: list[float], **more: Any) -> dict[str, Any]:
    return {"name": name, "values": values, "target": None, "is_met": None, "cpu": [], "details": {}, **more}


def test_methods_are_compared_with_the_student_and_with_the_engine() -> None:
    details = {
        "realised_rate": 0.052,
        "requests_per_text": 5.25,
        "teacher_requests_per_text": 2.0,
        "discarded_per_text": 12.5,
    }
    ratios = [
        ratio("kl, 8 at once, chunk 16, to the student alone", [2.0, 4.0, 3.0], details=details),
        ratio("student, 32 at once, to the engine here at batch 32", [0.5, 0.5, 0.5], details=details),
    ]
    content = {"figure": "remote", "machine": MACHINE, "settings": SETTINGS, "ratios": ratios}
    lines = server_tables(content).splitlines()
    assert lines[0].startswith(
        "`small` and `large`, float32, n = 3 rounds (median, smallest and largest); a pro"
    )
    assert "| `kl` | 8 | 16 | 3.00 (2.00–4.00)x | 5.2 % | 5.2 | 2.0 | 12.5 |" in lines
    assert lines[-1] == "| student, 32 at once | 0.50 (0.50–0.50)x, at batch 32 |"


def test_the_client_alone_has_targets() -> None:
    ratios = [
        ratio("client, kl, ms", [0.1], target="<= 0.20", is_met=True),
        ratio("client, scale", [1.5], target="<= 1.20", is_met=False, cpu=[1.0]),
    ]
    content = {"figure": "remote-client", "machine": MACHINE, "settings": SETTINGS, "ratios": ratios}
    lines = server_tables(content).splitlines()
    assert lines[0].startswith("The client alone, n = 1 rounds")
    assert lines[-2:] == [
        "| client, kl, ms | 0.10 | at most 0.20 |",
        "| client, scale | 1.50; in processor time 1.00 | at most 1.20: **missed** |",
    ]
