"""The process in which answers are compared: `python -m s2t_eval.evaluation.grading.worker`.

The first line out is `[true, ""]`, or `[false, reason]` where the comparison does not work on this
machine. Then a line in, `[gold, answer, tolerance]`; a line out, `[true or false, ""]`, or null and
the reason where the comparison broke. It has no time limit of its own: whoever asks kills it (see
`grader.py`).
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys

from s2t_eval.evaluation.grading.selfcheck import fault

MEMORY = 4 << 30


def main() -> None:
    """Answer until nobody asks any more."""
    lines, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(3000)
    reason = fault()
    replies.write(json.dumps([reason is None, reason or ""]) + "\n")
    replies.flush()
    if reason is not None:
        return
    from s2t_eval.evaluation.grading.equality import same

    for line in lines:
        try:
            reply = [same(*json.loads(line)), ""]
        except Exception as error:
            reply = [None, f"{type(error).__name__}: {error}"[:200]]
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
