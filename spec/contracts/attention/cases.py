"""Accuracy cases that all exact attention variants share, and the rules of their domain."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from kernelproof.spec.contracts.attention.families import FAMILIES, KEEPS, MASKS
from kernelproof.spec.contracts.captured import check_captured
from kernelproof.spec.domain import Domain, DrawInput, OptionValues, Scalar, with_inputs
from kernelproof.spec.language import option_words

OPTIONS: Mapping[str, OptionValues] = {
    "causal": ("top-left", "bottom-right"),
    "scale": (0.0, 1.0, -0.3, 0.05),
    "mask": MASKS,
    "keep": KEEPS,
}

SMOKE = (
    "b2.h2.tq64.tk64.d64/default/normal",
    "b1.h2.tq33.tk129.d32/causal-bottom-right/normal",
    "b1.h3.tq100.tk100.d64/causal-top-left/large-logit",
    "b1.h2.tq1.tk257.d64/default/heavy-tailed",
    "b2.h2.tq65.tk64.d128/mask-random/normal",
    "b1.h2.tq47.tk200.d64/default/rising",
    "b1.h2.tq40.tk100.d32/default/plateau",
    "b1.h2.tq40.tk100.d32/default/value-offset",
    "b1.h2.tq40.tk100.d32/default/one-hot",
    "b1.h2.tq33.tk50.d32/keep-0.5/normal",
    "b1.h1.tq2.tk4500.d16/default/stagnant",
    "b1.h2.tq64.tk512.d64/default/positive-value",
    "b1.h2.tq40.tk100.d32/default/tiny-value",
    "b1.h4.tq128.tk128.d32/default/captured",
    "b1.h2.tq64.tk256.d64/causal-bottom-right/captured",
)

CORE = (
    *(
        f"b1.h2.tq128.tk333.d64/default/{f}"
        for f in (
            *("normal", "heavy-tailed", "large-logit", "huge", "uniform", "zero-query"),
            *("unit-value", "cancelling", "rising", "plateau", "sink", "one-hot"),
        )
    ),
    *(
        f"b1.h2.tq96.tk160.d{d}/causal-{c}/normal"
        for d in (16, 80, 128)
        for c in ("top-left", "bottom-right")
    ),
    "b2.h2.tq64.tk64.d64/mask-random+keep-0.1/normal",
    "b3.h8.tq20.tk24.d16/default/normal",
    "b1.h1.tq4.tk2048.d16/default/faint",
    "b2.h4.tq140.tk600.d96/causal-bottom-right+mask-left-padding/normal",
    "b2.h4.tq150.tk300.d64/mask-per-head+keep-0.5/normal",
    "b2.h2.tq20.tk30.d22.dv41/causal-top-left+keep-0.1/normal",
    "b1.h1.tq512.tk512.d64/causal-bottom-right/normal",
    "b2.h4.tq128.tk1024.d16/default/normal",  # many rows: their mean square error is known well
    "b1.h1.tq256.tk1024.d64/default/normal",
    "b1.h4.tq256.tk256.d32/causal-bottom-right/captured",
    "b1.h2.tq256.tk256.d64/mask-padding/captured",
)

FULL = (
    "b1.h1.tq2048.tk2048.d64/causal-bottom-right/normal",
    "b2.h4.tq512.tk1024.d128/default/heavy-tailed",
    "b4.h4.tq128.tk128.d64/causal-top-left+mask-random/large-logit",
)

TIMED = (
    "b1.h4.tq512.tk512.d64/default/normal",
    "b1.h4.tq512.tk512.d64/causal-bottom-right/normal",
    "b1.h8.tq1.tk2048.d64/default/normal",
)


def with_options(taken: Sequence[str], cases: Iterable[str]) -> tuple[str, ...]:
    """The cases that set none but these options."""
    kept = []
    for case in cases:
        words = case.split("/")[1]
        set_ = [] if words == "default" else [word.partition("-")[0] for word in words.split("+")]
        if set(set_) <= set(taken):
            kept.append(case)
    return tuple(kept)


def attention_domain(
    heads: Callable[[int], str],
    sizes: Mapping[str, tuple[int, int]],
    options: str,
    *,
    own: Mapping[str, OptionValues] | None = None,
    inputs: Mapping[str, DrawInput] | None = None,
    smoke: Sequence[str] = (),
    core: Sequence[str] = (),
) -> Domain:
    """The domain of a variant with these options.

    heads: what takes the place of ``h2`` in a case, e.g. ``hq4.hkv2``.
    sizes: smallest and largest number of heads in random cases.
    own: values of options that no other variant has; smoke, core: cases beside the shared ones.
    inputs: how inputs that no other variant has are drawn, for each of the shared families.
    """
    taken, values = option_words(options), {**OPTIONS, **(own or {})}
    if unknown := [name for name in taken if name not in values]:
        raise ValueError(f"option {unknown[0]}: wanted its values in own={{...}}")

    def cases(shared: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            re.sub(r"\bh(\d+)\b", lambda match: heads(int(match[1])), case)
            for case in with_options(taken, shared)
        )

    return Domain(
        sizes={"b": (1, 2), **sizes, "tq": (1, 160), "tk": (1, 320), "d": (8, 128), "dv": (8, 128)},
        families={
            name: with_inputs(family, inputs or {})
            for name, family in FAMILIES.items()
            if name != "masked-huge" or "mask" in taken
        },
        options={name: each for name, each in values.items() if name in taken},
        smoke=(*cases(SMOKE), *smoke),
        core=(*cases(CORE), *core),
        full=cases(FULL),
        timed=cases(TIMED),
        constrain=check_point,
        coherent=lambda options: (
            abs(float(options.get("scale", 1))) < 0.01
        ),  # weights are nearly equal
    )


def check_point(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    """Raise ValueError where sizes, options and family do not go together."""
    if family == "captured":
        check_captured(x, max(x["tq"], x["tk"]))
    if family == "masked-huge" and "mask" not in options:
        raise ValueError("family masked-huge: wanted an option mask, as in mask-padding")
    if x["d"] == 0 or x["dv"] == 0:
        raise ValueError("head sizes d and dv are at least 1")
    if "hkv" in x and x["hq"] % max(x["hkv"], 1):
        raise ValueError(f"hq{x['hq']} is not a multiple of hkv{x['hkv']}")
    if x.get("hkv") == 0 and x["hq"]:
        raise ValueError(f"hq{x['hq']} query heads want key heads: hkv is 0")
