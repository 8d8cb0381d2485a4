"""The backward of softmax attention with regard to q, k and v, and the clauses about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kernelproof.reference.attention.gradients import Gradients, attention_gradients
from kernelproof.reference.attention.scaled_dot_product import Attention
from kernelproof.spec.contracts.attention.bound import Array
from kernelproof.spec.contracts.attention.cases import with_options
from kernelproof.spec.contracts.gradients.mutants import (
    GROUP_GRADIENT_MUTANTS,
    gradient_mutants,
)
from kernelproof.spec.contracts.gradients.recomputation import recomputation_mutants
from kernelproof.spec.contracts.gradients.spread import GRADIENTS
from kernelproof.spec.language import Backward, Clause, Mutant, option_words


def _gradients(exact: Attention, d_out: Array, inputs: Mapping[str, Array]) -> Gradients:
    return attention_gradients(exact, d_out, key_heads=inputs["k"].shape[1])


def backward_mutants(options: str) -> tuple[Mutant, ...]:
    """The bugs of a backward pass of attention with these options, from a stored lse."""
    return (
        *gradient_mutants(options),
        *GROUP_GRADIENT_MUTANTS,
        *recomputation_mutants(options),
    )


def attention_backward(options: str, *, without: Sequence[str] = ()) -> Backward:
    """Gradients of attention of scale q kᵀ; those of keys and values are summed over a group.

    options: of the variant; without: planted bugs that it cannot have.
    """
    planted = tuple(mutant for mutant in backward_mutants(options) if mutant.name not in without)
    return Backward(of="q, k, v", reference=_gradients, accuracy=GRADIENTS, mutants=planted)


ONE_TO_ONE = ("group-first", "group-mean", "group-modulo")
"""Bugs that want heads which share keys."""


def gradient_clauses(heads: str, options: str = "mask, causal, scale") -> tuple[Clause, ...]:
    """The clauses about gradients with these options, with cases for ``heads`` (``hq4.hkv2``)."""
    h, taken = heads, option_words(options)
    every = (
        Clause(
            "attention.gradients",
            "dq, dk and dv of a given d_out differ from the exact gradients by no more than the "
            "worst case of the declared roundings, in every element; dk and dv are sums over the "
            "query heads of a group.",
            "gradients",
            smoke=(
                f"b2.{h}.tq33.tk40.d16/default/normal",
                f"b1.{h}.tq17.tk65.d32/causal-bottom-right/normal",
                f"b1.{h}.tq33.tk33.d32/causal-top-left/large-logit",
                f"b2.{h}.tq150.tk30.d16/mask-random/normal",  # more rows than a tile has
                f"b1.{h}.tq33.tk50.d16/keep-0.1/normal",
                f"b1.{h}.tq300.tk20.d16/default/normal",  # long sums of dk and dv
                f"b2.{h}.tq2.tk200.d64/default/normal",  # short ones: casts of P show
            ),
            core=(
                f"b2.{h}.tq64.tk64.d64/default/normal",
                f"b1.{h}.tq1.tk257.d64/default/heavy-tailed",
                f"b2.{h}.tq20.tk30.d16/mask-random+keep-0.5/normal",
                f"b1.{h}.tq40.tk100.d32/default/plateau",
                f"b1.{h}.tq40.tk100.d32/default/one-hot",
                f"b1.{h}.tq40.tk100.d32/default/value-offset",
                f"b1.{h}.tq64.tk256.d32/causal-bottom-right/captured",
                f"b1.{h}.tq200.tk140.d32.dv16/default/normal",
                f"b1.{h}.tq130.tk96.d80/causal-top-left/normal",
                f"b1.{h}.tq47.tk200.d64/default/rising",
            ),
        ),
        Clause(
            "attention.gradients.options",
            "scale, causal, mask and keep hold on the way back as on the way forth: also a scale "
            "of 0, which leaves dv alone, and a negative one.",
            "gradients",
            smoke=[
                f"b1.{h}.tq17.tk20.d16/{options}/normal"
                for options in ("scale-0.0", "scale--0.3", "causal-top-left+scale-1.0")
            ],
            core=[
                f"b2.{h}.tq17.tk40.d32/causal-bottom-right+scale-0.3+mask-random/normal",
                f"b2.{h}.tq33.tk40.d32/causal-bottom-right+keep-0.5/normal",
                f"b2.{h}.tq17.tk40.d32/mask-padding/normal",
            ],
        ),
        Clause(
            "attention.gradients.empty-row",
            "A row with no allowed key has dq = 0 and adds nothing to dk and dv; a key that no row "
            "sees has dk = 0 and dv = 0: exactly.",
            "gradients",
            smoke=[
                f"b1.{h}.tq20.tk9.d16/causal-bottom-right/normal",
                f"b1.{h}.tq9.tk20.d16/causal-top-left/normal",
                f"b2.{h}.tq9.tk20.d16/mask-empty-rows/normal",
                f"b2.{h}.tq9.tk20.d16/causal-top-left+mask-empty-rows/normal",
            ],
            core=[f"b2.{h}.tq17.tk33.d32/mask-none/normal"],
        ),
        Clause(
            "attention.gradients.shape",
            "One query or key, lengths that no tile divides, and none at all are right; of no keys "
            "dq is zero, of no queries dk and dv are.",
            "gradients",
            smoke=[
                f"b1.{h}.tq{tq}.tk{tk}.d16/default/normal" for tq, tk in ((1, 1), (5, 0), (0, 9))
            ],
            core=[f"b1.{h}.tq{tq}.tk{tk}.d32/default/normal" for tq, tk in ((7, 129), (65, 15))],
        ),
        Clause(
            "attention.gradients.layout",
            "Inputs and d_out may be transposed, sliced, expanded or at an offset in a larger "
            "storage.",
            "gradients",
            smoke=[f"b2.{h}.tq9.tk20.d16/default/normal/{each}" for each in ("sliced", "expanded")],
            core=[
                f"b2.{h}.tq17.tk33.d32/default/normal/{each}"
                for each in ("transposed", "offset", "mixed")
            ],
        ),
        Clause(
            "attention.gradients.deterministic",
            "The same call and its way back twice give equal gradients, bit for bit, in memory of "
            "their own, unless the implementation declares atomics.",
            "gradients",
            smoke=[f"b2.{h}.tq33.tk40.d16/default/normal"],
            repeat=True,
        ),
    )
    return tuple(
        replace(each, smoke=with_options(taken, each.smoke), core=with_options(taken, each.core))
        for each in every
    )


GRADIENTS_OF_GROUPS = Clause(
    "attention.gradients.groups",
    "dk and dv of a key/value head are sums over all its query heads, however many.",
    "gradients",
    smoke=("b1.hq3.hkv1.tq9.tk20.d16/default/normal",),
    core=("b2.hq8.hkv2.tq9.tk20.d16/default/normal", "b1.hq4.hkv4.tq9.tk20.d16/default/normal"),
)
"""Where groups have other sizes than elsewhere."""
