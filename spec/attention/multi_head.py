"""Multi-head attention: a layer of projections around the attention of several heads."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.reference.attention.multi_head import multi_head
from kernelproof.spec.contracts.attention.families import MASKS
from kernelproof.spec.contracts.captured import check_captured_layer
from kernelproof.spec.contracts.multi_head.bound import LAYER
from kernelproof.spec.contracts.multi_head.clauses import LAYER_CLAUSES
from kernelproof.spec.contracts.multi_head.costs import LAYER_COSTS
from kernelproof.spec.contracts.multi_head.families import BIASES, FAMILIES
from kernelproof.spec.contracts.multi_head.gradients import GRADIENT_CLAUSES, LAYER_BACKWARD
from kernelproof.spec.contracts.multi_head.mutants import LAYER_MUTANTS
from kernelproof.spec.domain import Domain, Scalar
from kernelproof.spec.language import Call, Spec


def _check(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if min(x[name] for name in ("hq", "hkv", "d", "dv", "e")) < 1:
        raise ValueError("heads, their sizes and the width are at least 1")
    if x["hq"] % x["hkv"]:
        raise ValueError(f"hq{x['hq']} is not a multiple of hkv{x['hkv']}")
    if family == "masked-large" and "mask" not in options:
        raise ValueError("family masked-large: wanted an option mask, as in mask-padding")
    layer = family.removeprefix("captured-")
    if layer != family:
        check_captured_layer(x, family)
    if options.get("biases", "normal") not in ("normal", layer):
        raise ValueError(f"biases of {options['biases']}: wanted its family too")


spec = Spec(
    name="attention.multi_head",
    title="Multi-head attention",
    source="Vaswani et al. 2017, section 3.2.2; Shazeer 2019; Ainslie et al. 2023",
    call=Call(
        "x_q: b tq e, x_kv: b tk e, w_q: e hq*d, w_k: e hkv*d, w_v: e hkv*dv, w_o: hq*dv e",
        outputs="out: b tq e",
        given={"heads": "hq", "kv_heads": "hkv"},
        options="biases, mask, causal, scale",
        axis_defaults={"dv": "d"},
    ),
    reference=multi_head,
    accuracy=LAYER,
    domain=Domain(
        sizes={
            "b": (1, 2),
            "hq": (1, 6),
            "hkv": (1, 3),
            "tq": (1, 80),
            "tk": (1, 160),
            "d": (4, 48),
            "dv": (4, 48),
            "e": (8, 160),
        },
        families=FAMILIES,
        options={
            "biases": BIASES,
            "mask": MASKS,
            "causal": ("top-left", "bottom-right"),
            "scale": (0.0, 1.0, -0.3, 0.05),
        },
        smoke=(
            "b2.hq4.hkv2.tq20.tk33.d16.e64/default/normal",
            "b2.hq2.hkv1.tq120.tk3.d4.dv12.e16/biases-normal/large-logit",
            "b2.hq2.hkv1.tq200.tk3.d4.dv12.e16/default/large-logit",
            "b1.hq3.hkv3.tq33.tk33.d32.e96/biases-normal+causal-bottom-right/self",
            "b2.hq4.hkv1.tq9.tk65.d16.dv24.e48/biases-normal/positive",
            "b1.hq2.hkv2.tq40.tk40.d24.e48/causal-top-left/large-logit",
            "b1.hq1.hkv1.tq2.tk2100.d8.e8/default/stagnant",
            "b1.hq4.hkv4.tq20.tk48.d32.e384/biases-layer5/captured-layer5",
        ),
        core=(
            "b2.hq6.hkv3.tq65.tk130.d16.e80/mask-random/normal",
            "b1.hq4.hkv2.tq20.tk96.d32.e384/default/captured-layer5",
            "b1.hq4.hkv1.tq32.tk32.d32.e384/biases-layer0+causal-bottom-right/captured-layer0",
        ),
        full=("b1.hq8.hkv8.tq256.tk256.d64.e512/causal-bottom-right/self",),
        constrain=_check,
        coherent=lambda options: True,  # the rows of out share the errors of keys and values
    ),
    costs=LAYER_COSTS,
    clauses=(*LAYER_CLAUSES, *GRADIENT_CLAUSES),
    mutants=LAYER_MUTANTS,
    backward=LAYER_BACKWARD,
)
