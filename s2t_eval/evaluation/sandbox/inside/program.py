"""Script that runs an untrusted program in the sandbox and executes calls to its functions.

It is started as `python -I -S program.py`. The program can access everything in this process. Nothing here
helps it to pass, because the checks run in another process in another sandbox and receive only data from this
one. There are few imports, because every start of a program has to execute them.

Input lines: a Python literal with the source and the limits, then calls `(name, args, kwargs)`. Output lines:
`["started"]` before the source is compiled, so that earlier failures are not attributed to the program; then
one JSON list per call (decoded in `values.py`).

If the job lists the modules of the checks (`modules`), the checks run here, as the metric `code_eval` runs
them. They come as one line `(checks, token)` after the program was loaded, and the token is the reply if they
succeeded. `["missing", module]` in place of `["started"]` means that no such checks can run.
"""

from __future__ import annotations

import os
import resource
import sys

TYPE_CHECKING = False  # importing typing would add 10 ms to the start of every program
if TYPE_CHECKING:
    from io import TextIOWrapper
    from typing import Any

MAX_ITEMS = 1_000_000
PACKAGES = "/packages"
"""Mount point of numpy, if it is installed."""
MUTABLE_TYPES = (list, dict, set)
LITERALS: dict[str, object] = {
    "__builtins__": {},
    "set": set,
    "frozenset": frozenset,
    "complex": complex,
    "range": range,
    "iter": iter,
    "nan": float("nan"),
    "inf": float("inf"),
}
NUMERIC_TYPES = "b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16"
MAX_ARRAY_ITEMS = 100_000
RETAINED: list[object] = []
"""Results that cannot be encoded; the checks refer to them by index and may pass them back."""


def set_limits(limits: dict[str, int]) -> None:
    """Set hard resource limits, which this process cannot raise again."""
    values = {
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: limits["processes"],
    }
    for kind, value in values.items():
        _, hard = resource.getrlimit(kind)  # the inherited limit may be lower
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lowered, lowered))


def open_channel() -> tuple[TextIOWrapper, int]:
    """Move both pipes to new descriptors, and redirect the standard streams to /dev/null."""
    calls, replies = os.dup(0), os.dup(1)
    null_fd = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null_fd, standard)
    os.close(null_fd)
    return os.fdopen(calls, "r", encoding="utf-8"), replies


def send(replies: int, text: str) -> None:
    """Write one line."""
    data = text.encode() + b"\n"
    while data:
        data = data[os.write(replies, data) :]


def encode_text(value: str) -> str:
    """Encode a string as JSON, including lone surrogates."""
    return '"' + str.encode(value, "utf-8", "surrogatepass").hex() + '"'


def encode(value: Any, depth: int = 0) -> str:
    """Encode a value of a built-in type as JSON; of any other value only the type's name."""
    if depth > 200:
        return encode_opaque(value, "value that is nested too deep")
    if value is None or value is True or value is False:
        return f'["constant","{value}"]'
    if isinstance(value, int):
        return f'["int","{int.__index__(value):x}"]'
    if isinstance(value, float):
        return f'["float","{float.hex(value)}"]'
    if isinstance(value, str):
        return f'["str",{encode_text(value)}]'
    if isinstance(value, (bytes, bytearray)):
        return f'["bytes","{bytes(value).hex()}"]'
    if isinstance(value, complex):
        return f'["complex","{value.real.hex()}","{value.imag.hex()}"]'
    if isinstance(value, dict):
        pairs = ",".join(f"[{encode(k, depth + 1)},{encode(v, depth + 1)}]" for k, v in dict.items(value))
        return f'["dict",[{pairs}]]'
    kinds: tuple[Any, ...] = (list, tuple, set, frozenset)
    for kind in kinds:
        if isinstance(value, kind):
            items = ",".join(encode(item, depth + 1) for item in kind.__iter__(value))
            return f'["{kind.__name__}",[{items}]]'
    return encode_other(value, depth)


def encode_other(value: Any, depth: int) -> str:
    """Encode ranges, iterators and numbers of the standard library; other values are opaque."""
    module, name = type(value).__module__, type(value).__name__
    if isinstance(value, range):
        return f'["range",{encode([value.start, value.stop, value.step])}]'
    if module == "decimal":
        return f'["decimal",{encode_text(str(value))}]'
    if module == "numpy" and name == "ndarray":
        return encode_array(value, depth)
    if module == "numpy" and hasattr(value, "item"):
        return encode(value.item(), depth + 1)
    if module == "fractions":
        return f'["fraction",{encode([value.numerator, value.denominator])}]'
    if hasattr(type(value), "__next__") or name in ("dict_keys", "dict_values", "dict_items"):
        items = []
        for item in value:
            items.append(encode(item, depth + 1))
            if len(items) > MAX_ITEMS:
                return encode_opaque(value, "endless iterator")
        return f'["iterator",[{",".join(items)}]]'
    return encode_opaque(value, name)


def encode_array(value: Any, depth: int) -> str:
    """Encode an array of numbers; it is also retained, for checks that do not import numpy."""
    if value.dtype.str[1:] not in NUMERIC_TYPES.split() or value.size > MAX_ARRAY_ITEMS:
        return encode_opaque(value, "ndarray")
    items = encode(value.tolist(), depth + 1)
    RETAINED.append(value)
    return f'["array",{encode_text(value.dtype.str)},{items},{len(RETAINED) - 1}]'


def encode_opaque(value: object, kind: str) -> str:
    """Retain a value in this process and encode its index."""
    RETAINED.append(value)
    return f'["opaque",{encode_text(kind[:200])},{len(RETAINED) - 1}]'


def encode_exception(error: BaseException) -> str:
    """Encode an exception: its nearest built-in type and its text."""
    kinds = type(error).__mro__
    name = next((k.__name__ for k in kinds if k.__module__ == "builtins"), "Exception")
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:
        text = name
    return f'["raised",{encode_text(name)},{encode_text(text[:500])}]'


def mutable_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The mutable arguments of a call, whose changes are visible to the caller."""
    return [value for value in (*args, *kwargs.values()) if type(value) in MUTABLE_TYPES]


def reply_to(namespace: dict[str, Any], line: str) -> str:
    """Execute a call and return the reply."""
    names = {**LITERALS, "retained": RETAINED, "program": namespace}
    if "Decimal(" in line or "Fraction(" in line:
        from decimal import Decimal
        from fractions import Fraction

        names.update(Decimal=Decimal, Fraction=Fraction)
    name, args, kwargs = eval(line, names)
    try:
        if name not in namespace:
            raise NameError(f"the program defines no {name!r}")
        value = encode(namespace[name](*args, **kwargs))
        after = encode(mutable_arguments(args, kwargs))
        if after != '["list",[]]' and after != encode(mutable_arguments(*eval(line, names)[1:])):
            return f'["changed",{value},{after}]'
        return value
    except BaseException as error:
        return encode_exception(error)


def first_missing(modules: list[str]) -> str | None:
    """The first module that cannot be imported; None if all can."""
    for name in modules:
        try:
            __import__(name)
        except ImportError:
            return name
    return None


def run_checks(
    calls: TextIOWrapper,
    namespace: dict[str, Any],
    exec: Any = exec,
    compile: Any = compile,
    eval: Any = eval,
) -> str:
    """Run the checks in the program's namespace and return the token that came with them.

    The built-in functions are bound before the program runs, which may replace them.
    """
    checks, token = eval(calls.readline(), {"__builtins__": {}})
    exec(compile(checks, "checks.py", "exec", dont_inherit=True), namespace)
    return token


def main() -> None:
    """Run the program, then execute calls until standard input ends."""
    sys.set_int_max_str_digits(0)
    os.environ.clear()
    sys.path.append(PACKAGES)
    calls, replies = open_channel()
    job = eval(calls.readline(), dict(LITERALS))
    if "numpy" in f"{job['source']} {job['modules']}":
        os.putenv("OPENBLAS_NUM_THREADS", "1")  # OpenBLAS aborts if it cannot start threads
    set_limits(job["limits"])
    missing = first_missing(job["modules"] or [])
    if missing is not None:
        send(replies, f'["missing","{missing}"]')
        return
    send(replies, '["started"]')
    module = type(sys)("program")
    sys.modules["program"] = module  # dataclasses look up their module by name
    namespace = vars(module)
    try:
        exec(compile(job["source"], "program.py", "exec", dont_inherit=True), namespace)
        send(replies, '["ready"]')
        if job["modules"] is not None:
            send(replies, run_checks(calls, namespace))
            return
    except BaseException as error:
        send(replies, encode_exception(error))
        return
    for line in calls:
        try:
            reply = reply_to(namespace, line)
        except BaseException as error:
            reply = encode_exception(error)
        send(replies, reply)


main()
