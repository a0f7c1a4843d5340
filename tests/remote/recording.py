"""The answers that `recorded_answers.json` holds, recorded from a server with the V2 model runner.

python -c "import json; from tests.remote.recording import record; print(json.dumps(record(URL), indent=1))"
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from s2t_eval.remote.protocol import GENERATE, draft_body, rows_body, score_body

PROMPT = list(range(20, 60))
SCORED = [[1, 2, 3], [4, 5]]


def record(url: str) -> dict[str, Any]:
    """One answer for each kind of request."""
    models = _send(url + "/v1/models")
    name = models["data"][0]["id"]
    bodies = {
        "draft": draft_body(PROMPT, 3, [1], 5),
        "scores": score_body(PROMPT, [5, 6, 7]),
        "rows": rows_body(PROMPT, [5, 6], SCORED, reads_cache=False),
    }
    answers = {kind: _send(url + GENERATE, {"model": name, **body}) for kind, body in bodies.items()}
    return {"version": _send(url + "/version"), "models": models, **answers}


def _send(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.load(response)


def shape(value: Any) -> Any:
    """Keys and types of a JSON value; of a list those of its first entry; numbers are alike."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    )
