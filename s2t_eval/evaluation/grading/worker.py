"""The process in which answers are compared: `python -m s2t_eval.evaluation.grading.worker`.

Protocol: JSON lines on standard input and output. The first output line is `[true, ""]`, or
`[false, reason]` if the comparison does not work on this machine. For each input line
`[gold, answer, tolerance]` there is one output line `[verdict, ""]`, or `[null, reason]` if the comparison
raised an error. The worker has no time limit of its own: its parent process kills it (see `grader.py`).
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys

from s2t_eval.evaluation.grading.selfcheck import comparison_problem

MEMORY_LIMIT = 4 << 30


def main() -> None:
    """Compare pairs until standard input ends."""
    lines, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not mix with the replies
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(3000)
    reason = comparison_problem()
    replies.write(json.dumps([reason is None, reason or ""]) + "\n")
    replies.flush()
    if reason is not None:
        return
    from s2t_eval.evaluation.grading.equivalence.compare import is_equivalent

    for line in lines:
        try:
            reply = [is_equivalent(*json.loads(line)), ""]
        except Exception as error:
            reply = [None, f"{type(error).__name__}: {error}"[:200]]
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
