"""Runs in the sandbox: a hostile program, whose functions are called from outside, value by value.

Started as `python -I -S program.py`. Everything in this process belongs to the program as soon as it
runs: what it could learn or change here is worth nothing, because the checks run in another process
in another sandbox, which gets plain data from this one. Few imports, since each start pays for them.

Lines in: first a Python literal with the source and the limits, then a call each, `(name, args,
kwargs)`. Lines out: `["started"]` before the source is touched, so that what fails earlier is never laid
to the program; then one JSON list each (see `values.py` for the reading side).
"""

from __future__ import annotations

import os
import resource
import sys

TYPE_CHECKING = False  # importing typing costs every program's start ten milliseconds
if TYPE_CHECKING:
    from io import TextIOWrapper
    from typing import Any

MOST_ITEMS = 1_000_000
PACKAGES = "/packages"
"""Where the sandbox has numpy, if the machine has it."""
CHANGEABLE = (list, dict, set)
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
KEPT: list[object] = []
"""Results that only this process can read; the checks hold their places, and may hand them back."""


def limit(limits: dict[str, int]) -> None:
    """Hard limits, which nothing in here can raise again."""
    wanted = {
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: limits["processes"],
    }
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)  # what this process was started with may be lower already
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))


def channel() -> tuple[TextIOWrapper, int]:
    """The two pipes at places of their own; standard input is empty, what is printed goes nowhere."""
    calls, replies = os.dup(0), os.dup(1)
    nowhere = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    return os.fdopen(calls, "r", encoding="utf-8"), replies


def send(replies: int, text: str) -> None:
    """One line."""
    data = text.encode() + b"\n"
    while data:
        data = data[os.write(replies, data) :]


def text_of(value: str) -> str:
    """A string as JSON, whatever is in it."""
    return '"' + str.encode(value, "utf-8", "surrogatepass").hex() + '"'


def encode(value: Any, depth: int = 0) -> str:
    """A value of Python's own types as JSON; anything else says its type only."""
    if depth > 200:
        return opaque(value, "value that is nested too deep")
    if value is None or value is True or value is False:
        return f'["constant","{value}"]'
    if isinstance(value, int):
        return f'["int","{int.__index__(value):x}"]'
    if isinstance(value, float):
        return f'["float","{float.hex(value)}"]'
    if isinstance(value, str):
        return f'["str",{text_of(value)}]'
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
    """Numbers of the standard library, ranges, iterators; the rest is opaque."""
    module, name = type(value).__module__, type(value).__name__
    if isinstance(value, range):
        return f'["range",{encode([value.start, value.stop, value.step])}]'
    if module == "decimal":
        return f'["decimal",{text_of(str(value))}]'
    if module == "numpy" and name != "ndarray" and hasattr(value, "item"):
        return encode(value.item(), depth + 1)
    if module == "fractions":
        return f'["fraction",{encode([value.numerator, value.denominator])}]'
    if hasattr(type(value), "__next__") or name in ("dict_keys", "dict_values", "dict_items"):
        items = []
        for item in value:
            items.append(encode(item, depth + 1))
            if len(items) > MOST_ITEMS:
                return opaque(value, "endless iterator")
        return f'["iterator",[{",".join(items)}]]'
    return opaque(value, name)


def opaque(value: object, kind: str) -> str:
    """A value that stays here, by its place."""
    KEPT.append(value)
    return f'["opaque",{text_of(kind[:200])},{len(KEPT) - 1}]'


def explain(error: BaseException) -> str:
    """A raised exception: the built-in type it is or descends from, and its text."""
    kinds = type(error).__mro__
    name = next((k.__name__ for k in kinds if k.__module__ == "builtins"), "Exception")
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:
        text = name
    return f'["raised",{text_of(name)},{text_of(text[:500])}]'


def changeable(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Arguments that a function may have changed, which its caller sees."""
    return [value for value in (*args, *kwargs.values()) if type(value) in CHANGEABLE]


def answer(namespace: dict[str, Any], line: str) -> str:
    """The reply to one call."""
    names = {**LITERALS, "kept": KEPT, "program": namespace}
    if "Decimal(" in line or "Fraction(" in line:
        from decimal import Decimal
        from fractions import Fraction

        names.update(Decimal=Decimal, Fraction=Fraction)
    name, args, kwargs = eval(line, names)
    try:
        if name not in namespace:
            raise NameError(f"the program defines no {name!r}")
        value = encode(namespace[name](*args, **kwargs))
        after = encode(changeable(args, kwargs))
        if after != '["list",[]]' and after != encode(changeable(*eval(line, names)[1:])):
            return f'["changed",{value},{after}]'
        return value
    except BaseException as error:
        return explain(error)


def main() -> None:
    """Run the program, then answer calls until nobody asks any more."""
    sys.set_int_max_str_digits(0)
    os.environ.clear()
    sys.path.append(PACKAGES)
    calls, replies = channel()
    job = eval(calls.readline(), dict(LITERALS))
    if "numpy" in job["source"]:
        os.putenv("OPENBLAS_NUM_THREADS", "1")  # it ends a process in which it can start no thread
    limit(job["limits"])
    send(replies, '["started"]')
    module = type(sys)("program")
    sys.modules["program"] = module  # dataclasses look up the module that they are defined in
    namespace = vars(module)
    try:
        exec(compile(job["source"], "program.py", "exec", dont_inherit=True), namespace)
        send(replies, '["ready"]')
    except BaseException as error:
        send(replies, explain(error))
        return
    for line in calls:
        try:
            reply = answer(namespace, line)
        except BaseException as error:
            reply = explain(error)
        send(replies, reply)


main()
