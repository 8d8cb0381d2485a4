"""The backward of softmax attention with regard to q, k and v, and the clauses about it."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.reference.attention.gradients import Gradients, attention_gradients
from kernelproof.reference.attention.scaled_dot_product import Attention
from kernelproof.spec.contracts.attention.bound import Array
from kernelproof.spec.contracts.attention.cases import with_options
from kernelproof.spec.contracts.attention.gradients_spread import GRADIENTS
from kernelproof.spec.language import Backward, Clause, option_words


def _gradients(exact: Attention, d_out: Array, inputs: Mapping[str, Array]) -> Gradients:
    return attention_gradients(exact, d_out, key_heads=inputs["k"].shape[1])


BACKWARD = Backward(of="q, k, v", reference=_gradients, accuracy=GRADIENTS, mutants=())
"""Gradients of attention of scale q kᵀ; those of keys and values are summed over a group."""


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
                f"b2.{h}.tq64.tk64.d64/default/normal",
                f"b1.{h}.tq33.tk129.d32/causal-bottom-right/normal",
                f"b1.{h}.tq100.tk100.d64/causal-top-left/large-logit",
                f"b2.{h}.tq65.tk64.d128/mask-random/normal",
                f"b1.{h}.tq1.tk257.d64/default/heavy-tailed",
                f"b1.{h}.tq40.tk100.d32/default/plateau",
                f"b1.{h}.tq33.tk50.d32/keep-0.5/normal",
            ),
            core=(
                f"b1.{h}.tq40.tk100.d32/default/one-hot",
                f"b1.{h}.tq40.tk100.d32/default/value-offset",
                f"b1.{h}.tq64.tk256.d32/causal-bottom-right/captured",
                f"b1.{h}.tq300.tk333.d64.dv32/default/normal",
                f"b1.{h}.tq128.tk96.d80/causal-top-left/normal",
                f"b1.{h}.tq47.tk200.d64/default/rising",
            ),
        ),
        Clause(
            "attention.gradients.options",
            "scale, causal, mask and keep hold on the way back as on the way forth: also a scale "
            "of 0, which leaves dv alone, and a negative one.",
            "gradients",
            smoke=[
                f"b1.{h}.tq17.tk33.d32/{options}/normal"
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
                f"b2.{h}.tq40.tk17.d32/causal-bottom-right/normal",
                f"b1.{h}.tq9.tk33.d32/causal-top-left/normal",
                f"b2.{h}.tq17.tk33.d32/mask-empty-rows/normal",
                f"b2.{h}.tq17.tk33.d32/mask-none/normal",
            ],
        ),
        Clause(
            "attention.gradients.shape",
            "One query or key, lengths that no tile divides, and none at all are right; of no keys "
            "dq is zero, of no queries dk and dv are.",
            "gradients",
            smoke=[
                f"b1.{h}.tq{tq}.tk{tk}.d32/default/normal"
                for tq, tk in ((1, 1), (7, 129), (65, 15), (5, 0), (0, 9))
            ],
        ),
        Clause(
            "attention.gradients.layout",
            "Inputs and d_out may be transposed, sliced, expanded or at an offset in a larger "
            "storage.",
            "gradients",
            smoke=[
                f"b2.{h}.tq17.tk33.d32/default/normal/{layout}"
                for layout in ("transposed", "sliced", "offset", "expanded", "mixed")
            ],
        ),
    )
    return tuple(
        Clause(
            each.anchor,
            each.sentence,
            each.check,
            smoke=with_options(taken, each.smoke),
            core=with_options(taken, each.core),
        )
        for each in every
    )
