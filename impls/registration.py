"""Registering an implementation: a decorator that records what a kernel claims to be.

It knows nothing of specs; the judge checks each claim against the spec it names. This module
imports the standard library only, so that a kernel file pays nothing for its decorator.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

BACKENDS = ("cpu", "interpret", "compile", "cuda")
_ATTRIBUTE = "__kernelproof__"
_T = TypeVar("_T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Registration:
    """What one implementation claims; see :func:`implementation` for the fields."""

    spec: str
    name: str
    target: Callable[..., Any]
    backends: tuple[str, ...] = ("cpu",)
    dtypes: tuple[str, ...] = ("float32",)
    limits: Mapping[str, Any] = field(default_factory=dict)
    returns: tuple[str, ...] | None = None
    precision: Any = None
    tiles: Mapping[str, str] = field(default_factory=dict)
    atomics: bool = False
    gradients: tuple[str, ...] = ()
    deviates: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)


def implementation(
    spec: str,
    *,
    name: str | None = None,
    backends: Iterable[str] = ("cpu",),
    dtypes: Iterable[str] = ("float32",),
    limits: Mapping[str, Any] | None = None,
    returns: Iterable[str] | None = None,
    precision: str | Mapping[str, Any] | None = None,
    tiles: Mapping[str, str] | None = None,
    atomics: bool = False,
    gradients: bool | Iterable[str] = False,
    deviates: Mapping[str, str] | None = None,
) -> Callable[[_T], _T]:
    """Register a function (or, for a program such as a cache, a class) as an implementation.

    spec: the algorithm, e.g. ``"attention.scaled_dot_product"``; ``kernelproof list`` has all.
    name: shown in reports; default: module and function name.
    backends: where it runs: cpu, interpret, compile, cuda.
    dtypes: input dtypes it takes: float64, float32, float16, bfloat16.
    limits: sizes and option values that it is made for, e.g.
        ``{"d": [16, 32, 64], "tk": range(1, 4097), "causal": [None, "top-left"]}``.
        Cases outside are unsupported. Options that it does not take as keywords are too.
    returns: outputs it returns, in order; default: all that the spec names.
    precision: its roundings: a preset (strict32, mixed16, eager16, tf32, ...), a mapping of the
        fields of ``kernelproof.spec.rounding.Precision``, or a mapping from dtype to either.
    tiles: roles of its tile constants: spec's name to constexpr name.
    atomics: results may differ in the last bits from call to call.
    gradients: True, or dtypes: torch's autograd can go through it backwards, and with inputs of
        these dtypes its gradients are to be judged.
    deviates: clauses that it is known to break, with the reason. Their cases count as
        unsupported, the reason is printed, and the implementation is not called conformant.

    The callable gets tensors in the spec's order and only those options that a case sets.
    """

    def register(target: _T) -> _T:
        module = sys.modules.get(target.__module__)
        default = f"{target.__module__.rpartition('.')[2]}.{target.__qualname__}"
        registration = Registration(
            spec=spec,
            name=name or default,
            target=target,
            backends=_words(backends),
            dtypes=_words(dtypes),
            limits=dict(limits or {}),
            returns=None if returns is None else _words(returns),
            precision=precision,
            tiles=dict(tiles or {}),
            atomics=atomics,
            gradients=_dtypes_of(gradients, _words(dtypes)),
            deviates=dict(deviates or {}),
        )
        # kept by the module, not in one global list: a second function of the same name then
        # shows as a duplicate instead of replacing the first
        if module is not None:
            vars(module).setdefault(_ATTRIBUTE, []).append(registration)
        return target

    return register


def _dtypes_of(gradients: bool | Iterable[str], dtypes: tuple[str, ...]) -> tuple[str, ...]:
    """All dtypes, none or some; what is neither is for the judge to refuse."""
    if isinstance(gradients, bool):
        return dtypes * gradients
    return _words(gradients) if isinstance(gradients, Iterable) else (repr(gradients),)


def _words(given: Iterable[str]) -> tuple[str, ...]:
    """A lone string means one word, not its letters."""
    return (given,) if isinstance(given, str) else tuple(given)


def registered_in(module: Any) -> list[Registration]:
    """Registrations of a module, of its loaded submodules, and of modules it imports from."""
    prefix = module.__name__ + "."
    modules = [module, *(m for n, m in sorted(sys.modules.items()) if n.startswith(prefix))]
    homes = {str(getattr(value, "__module__", "")) for value in vars(module).values()}
    modules += [sys.modules[name] for name in sorted(homes & set(sys.modules))]
    found: dict[int, Registration] = {}
    for each in modules:
        for registration in vars(each).get(_ATTRIBUTE, ()):
            imported = each is module or each.__name__.startswith(prefix)
            if imported or any(v is registration.target for v in vars(module).values()):
                found[id(registration)] = registration
    return list(found.values())
