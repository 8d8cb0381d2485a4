"""The gates of costs: kernels that are right in value and wrong in cost fail, and say why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kernelproof.conformance.costs import read_tiles
from kernelproof.conformance.expectation import draw, expect
from kernelproof.conformance.judge import Judge
from kernelproof.conformance.meters.counts import Counts, Launch
from kernelproof.conformance.reply import read_reply
from kernelproof.conformance.request import build_request
from kernelproof.conformance.standing import standings
from kernelproof.conformance.suite import Planned, select_cases
from kernelproof.conformance.verdict import Result
from kernelproof.spec.contracts.attention.costs import standard_traffic
from kernelproof.spec.language import WORKSPACE, Call

RAGGED = "float32/b1.hq4.hkv2.tq60.tk100.d32/default/normal"
ONES = "float32/b1.hq4.hkv2.tq60.tk100.d32/default/unit-value"
CAUSAL = "float32/b1.hq2.hkv2.tq96.tk96.d32/causal-top-left/normal"
LONG = "float32/b1.hq1.hkv1.tq600.tk600.d16/default/normal"
DECODE = "float32/b1.hq8.hkv1.tq1.tk256.d32/default/normal"
SQUARE = "float32/m128.k64.n128/default/normal"
SMOKE = "float32/b2.hq4.hkv2.tq100.tk130.d64/default/normal"
MIXED = "float32/b2.h2.t100.d32.dv24.r20/default/normal"
METRICS = ("traffic", "footprint", "flops", "exps", "memory")


@dataclass(frozen=True)
class Gates:
    """A suite whose checks are asked for by what they look at: accuracy, or a metric."""

    suite: Any
    backend: str = "interpret"

    def implementation(self, name: str) -> Any:
        self.suite.read()
        return next(i for i in self.suite.implementations if i.name == name)

    def clause(self, name: str, what: str) -> Any:
        clauses = self.implementation(name).spec.clauses
        return next(c for c in clauses if what in (c.check, c.metric))

    def __call__(self, name: str, case: str, what: str) -> Result:
        each, clause = self.implementation(name), self.clause(name, what)
        return self.suite.check(Planned(each, self.backend, each.spec.case(case), clause))

    def failing(self, name: str, case: str) -> set[str]:
        """The metrics whose gate fails."""
        known = {c.metric for c in self.implementation(name).spec.clauses} & set(METRICS)
        return {metric for metric in known if self(name, case, metric).verdict == "fail"}

    def steps(self, name: str, case: str) -> Iterator[tuple[Any, Any, Counts]]:
        """Of a program, driven by hand: the costs of every step, its sizes and what was counted."""
        each, clause = self.implementation(name), self.clause(name, "traffic")
        point = each.spec.case(case)
        steps, expected = expect(each.spec, point, each.precision_at(point.dtype), "0", False)
        request, storages = build_request(each, point, clause, steps)
        answer = self.suite._worker(each.target, self.backend).run(request, storages)
        replies = read_reply(*answer, runs=1, steps=len(steps)).runs[0]
        for step, after, reply in zip(steps, expected, replies, strict=True):
            sizes = each.spec.sizes(point, step.tables, held={**after.held, **step.sizes})
            yield each.spec.costs_of(step.operation), sizes, reply.counts

    def counts(self, name: str, case: str) -> tuple[Any, dict[str, int], Counts]:
        """Of one call, driven by hand: its sizes, its tiles and what was counted."""
        each, point = self.implementation(name), self.implementation(name).spec.case(case)
        steps = draw(each.spec, point, "0")
        request, storages = build_request(each, point, self.clause(name, "traffic"), steps)
        answer = self.suite._worker(each.target, self.backend).run(request, storages)
        counts = read_reply(*answer, runs=1, steps=1).runs[0][0].counts
        tiles, problem = read_tiles(each.tiles, counts)
        assert not problem
        return each.spec.sizes(point, steps[0].tables, tiles), tiles, counts


@pytest.fixture(scope="module")
def costly(suite_of: Callable[..., Any], kernels: Path) -> Gates:
    return Gates(suite_of(kernels / "costly.py", timeout=60).suite)


@pytest.fixture(scope="module")
def on_cpu(costly: Gates) -> Gates:
    return Gates(costly.suite, "cpu")


@pytest.fixture(scope="module")
def built_in(suite_of: Callable[..., Any]) -> Gates:
    return Gates(suite_of("kernelproof.impls.triton", "kernelproof.impls.torch", timeout=60).suite)


# Fair kernels -------------------------------------------------------------------------------------

FAIR = [
    ("fair", RAGGED),
    ("fair", CAUSAL),
    ("fair, declares nothing", RAGGED),
    ("fair and tall", LONG),
    ("fair product", SQUARE),
    ("fair product, declares nothing", SQUARE),
    ("projected", MIXED),
    ("projected, declares nothing", MIXED),
]


@pytest.mark.parametrize(("name", "case"), FAIR)
def test_a_fair_kernel_passes_every_gate(costly: Gates, name: str, case: str) -> None:
    clauses = costly.implementation(name).spec.clauses
    for what in ("accuracy", *{c.metric for c in clauses} - {None}):
        result = costly(name, case, what)
        assert (result.verdict, result.message) == ("pass", ""), what
        assert result.ratio <= 1


BUILT_IN = [
    ("triton-flash", "float32/b2.hq4.hkv2.tq100.tk130.d64/default/normal"),
    ("triton-flash", "float32/b1.hq4.hkv2.tq130.tk100.d64/causal-bottom-right/normal"),
    ("triton-flash", "float16/b1.hq4.hkv2.tq1.tk300.d64/default/normal"),
    ("triton-flash", "bfloat16/b1.hq2.hkv1.tq50.tk70.d24.dv40/causal-top-left/normal"),
    ("triton-flash", "float32/b1.hq3.hkv1.tq300.tk40.d16/causal-top-left/normal/transposed"),
    ("triton-grouped-query", "float32/b1.hq6.hkv2.tq90.tk150.d80/causal-top-left/normal"),
    ("triton-multi-query", "float16/b1.hq3.tq130.tk64.d128/causal-bottom-right/normal"),
    ("triton-flash-decoding", "float32/b1.hq6.hkv2.tk200.d64.dv40/splits-3/normal"),
    ("triton-flash-decoding", "float16/b3.hq4.hkv1.tk150.d24/lengths-some-empty+splits-2/normal"),
    ("triton-flash-decoding", "bfloat16/b2.hq2.hkv2.tk70.d16/lengths-ragged/normal/transposed"),
    ("triton-paged", "float32/b3.hq4.hkv2.d40.pages90.page7.n25/lengths-ragged+splits-3/normal"),
    (
        "triton-paged",
        "float16/b4.hq4.hkv1.d24.pages40.page16.n9/"
        "lengths-some-empty+tables-shared+splits-2/normal",
    ),
    ("triton-paged", "bfloat16/b2.hq2.hkv2.d16.pages5.page128.n2/lengths-ragged/normal/transposed"),
    ("triton-fused", "float32/b1.h2.tq130.tk70.d24.dv40/causal-bottom-right/normal"),
    ("triton-fused", "bfloat16/b2.h1.tq40.tk300.d80/causal-top-left/normal"),
    ("triton-fused", "float16/b1.h1.tq70.tk40.d32/causal-bottom-right/normal"),
    ("triton-flash-backward", "float32/b2.hq4.hkv2.tq50.tk130.d32.dv48/default/normal"),
    ("triton-flash-backward", "float16/b1.hq2.hkv1.tq130.tk100.d24/causal-bottom-right/normal"),
    ("triton-flash-backward-atomics", "float32/b1.hq3.hkv1.tq140.tk40.d16/causal-top-left/normal"),
    ("triton-flash-backward-atomics", "bfloat16/b1.hq2.hkv1.tq30.tk150.d16/default/normal"),
    ("triton-lsh", "float32/b2.h1.t100.d24.dv40.rounds3.half3/causal-top-left/normal"),
    ("triton-lsh", "float16/b1.h1.t90.d16.rounds2.half7/duplicates-counted/normal"),
    ("triton-lsh", "bfloat16/b1.h2.t150.d16.rounds2.half1/default/normal/transposed"),
    ("triton-performer", "float32/b2.h1.t300.d24.dv40.r150/default/normal"),
    ("triton-performer", "bfloat16/b1.h1.t330.d16.r80/causal-top-left/normal/transposed"),
    ("triton-performer", "float16/b1.h2.t150.d16.dv7.r40/kind-hyperbolic+causal-top-left/normal"),
    ("triton-performer", "float32/b1.h1.t200.d64.r70/kind-trig+causal-top-left/small"),
    ("triton-performer", "bfloat16/b1.h2.t140.d40.r24/kind-trig/small"),
    ("triton-performer", "float32/b1.h1.t1.d8.r8/kind-relu+causal-top-left/normal"),
    ("triton-tiled", "float32/m100.k130.n70/default/normal"),
    ("triton-tiled", "bfloat16/m1.k300.n200/default/normal"),
    ("triton-naive", "float32/m20.k70.n30/default/normal"),
    ("triton-naive", "bfloat16/m1.k1500.n9/default/normal"),
    ("triton-strassen", "float32/m128.k64.n128/levels-1/normal"),
    ("triton-strassen", "float32/m64.k96.n40/levels-2+variant-winograd/normal/transposed"),
    ("triton-strassen", "float16/m33.k129.n65/levels-2/normal"),
    ("triton-strassen", "bfloat16/m50.k40.n30/default/normal"),
    ("triton-safe-softmax", "float32/r33.n1500/default/normal"),
    ("triton-safe-softmax", "bfloat16/r7.n2048/default/normal/columns"),
    ("triton-safe-softmax", "float16/r70.n1/default/normal"),
    ("triton-online-softmax", "float32/r33.n1500/default/normal"),
    ("triton-online-softmax", "bfloat16/r5.n5000/default/normal/transposed"),
    ("triton-online-softmax", "float16/r1.n300/default/normal"),
]


def test_every_built_in_kernel_moves_its_closed_form_on_the_cases_of_its_clause(
    built_in: Gates,
) -> None:
    built_in.suite.read()
    # a program's steps are held to theirs below
    kernels = [i for i in built_in.suite.implementations if isinstance(i.spec.call, Call)]
    for each in (i for i in kernels if "interpret" in i.backends):
        traffic = built_in.clause(each.name, "traffic")
        for case in select_cases(each.spec, traffic, "smoke", ["float32"]):
            if not each.unsupported(case, traffic):
                x, _, counts = built_in.counts(each.name, case.id)
                assert counts.traffic == each.spec.costs.traffic(x), (each.name, case.id)


@pytest.mark.parametrize(("name", "case"), BUILT_IN)
def test_a_built_in_kernel_moves_and_computes_its_closed_forms_exactly(
    built_in: Gates, name: str, case: str
) -> None:
    x, tiles, counts = built_in.counts(name, case)
    costs = built_in.implementation(name).spec.costs
    assert set(tiles) >= set(costs.tiles[:2])
    assert counts.traffic == costs.traffic(x)
    counted = {c.metric for c in built_in.implementation(name).spec.clauses}
    if "operations" in counted:
        assert counts.operations == costs.operations(x)
    else:
        assert (counts.dots, counts.exps) == (costs.flops(x), costs.exps(x))
    if "additions" in counted:
        assert counts.elementwise == costs.additions(x)
    assert built_in(name, case, "traffic").measured == costs.traffic(x)
    assert not built_in.failing(name, case)


@pytest.mark.parametrize(
    ("name", "passes"), [("torch-safe-softmax", 8), ("torch-online-softmax", 12)]
)
def test_operators_move_all_of_x_once_per_pass_and_no_more(
    built_in: Gates, name: str, passes: int
) -> None:
    on_cpu = Gates(built_in.suite, "cpu")
    short, long = (
        on_cpu(name, f"float32/r9.n{n}/default/normal", "traffic").measured for n in (300, 700)
    )
    assert long - short == passes * 4 * 9 * (700 - 300)


LAYERS = [
    "b2.hq4.hkv2.tq9.tk20.d8.dv12.e24/default/normal",
    "b1.hq6.hkv3.tq20.tk9.d16.e40/biases-normal/normal",
    "b2.hq3.hkv1.tq1.tk33.d8.e16/biases-normal/normal",
]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("point", LAYERS)
def test_what_a_layer_moves_beside_its_attention_is_its_closed_form(
    built_in: Gates, point: str, dtype: str
) -> None:
    on_cpu = Gates(built_in.suite, "cpu")
    x, _, counts = on_cpu.counts("torch-multi-head", f"{dtype}/{point}")
    # the attention inside has inputs in the accumulator's format
    wide = "float64" if dtype == "float64" else "float32"
    sizes = ".".join(f"{axis}{size}" for axis, size in x.axes.items() if axis != "e")
    inner, _, own = on_cpu.counts("torch-grouped-query", f"{wide}/{sizes}/default/normal")
    layer, attention = (
        on_cpu.implementation(name).spec.costs
        for name in ("torch-multi-head", "torch-grouped-query")
    )
    assert counts.traffic - own.traffic == layer.traffic(x) - standard_traffic(inner)
    assert counts.dots - own.dots == layer.flops(x) - attention.flops(inner)
    assert counts.exps == own.exps


def test_uptraining_moves_its_closed_form(built_in: Gates) -> None:
    on_cpu = Gates(built_in.suite, "cpu")
    for dtype in ("float64", "float32", "bfloat16"):
        point = f"{dtype}/hq6.hkv2.d20.e33/default/normal"
        x, _, counts = on_cpu.counts("torch-uptrain", point)
        assert counts.traffic == on_cpu.implementation("torch-uptrain").spec.costs.traffic(x)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("point", ["d16.r40/default/normal", "d8.r5/default/normal"])
def test_orthogonal_features_move_their_closed_form(
    built_in: Gates, point: str, dtype: str
) -> None:
    on_cpu = Gates(built_in.suite, "cpu")
    x, _, counts = on_cpu.counts("torch-features", f"{dtype}/{point}")
    assert counts.traffic == on_cpu.implementation("torch-features").spec.costs.traffic(x)


# Wrong in cost ------------------------------------------------------------------------------------

COSTLY = [
    ("reads v twice", RAGGED, "traffic", "v: 204,800 read, k: 102,400 read"),
    ("spills scores", RAGGED, "traffic", "scratch: 96,000 read and 96,000 written"),
    ("reads q per tile", RAGGED, "traffic", "q: 153,600 read"),
    ("reads keys per head", DECODE, "traffic flops exps", "k: 262,144 read, v: 262,144 read"),
    ("visits all tiles", CAUSAL, "traffic flops exps", "197,376 bytes moved: at most 155,635"),
    ("computes all tiles", CAUSAL, "flops exps", "2,359,296 FLOPs of products: at most 1,588,592"),
    ("exponentials twice", RAGGED, "exps", "66,560 exponentials: at most 34,129"),
    ("unused scratch", LONG, "memory", "1,399,200 bytes held at the peak"),
    (
        "scratch behind the output",
        LONG,
        "memory",
        "bytes held at the peak beside inputs and outputs",
    ),
    ("reads half of the keys", ONES, "footprint", "outputs depend on 25,600"),
    (
        "small tiles",
        SQUARE,
        "traffic",
        "at most 262,144 (what matmul.tiled allows whatever the tiles)",
    ),
    (
        "small tiles, declares nothing",
        SQUARE,
        "traffic",
        "whatever the tiles; tiles=... names yours)",
    ),
    ("tiles that it has not", SQUARE, "traffic", "for tiles bm 128, bn 128, bk 32"),
    ("operands twice", SQUARE, "traffic", "a: 131,072 read, b: 131,072 read"),
    ("values mixed twice", MIXED, "flops traffic", "FLOPs of products: at most"),
]


@pytest.mark.parametrize(("name", "case", "metrics", "words"), COSTLY)
def test_a_kernel_of_right_values_and_wrong_costs_fails_where_it_is_wrong(
    costly: Gates, name: str, case: str, metrics: str, words: str
) -> None:
    assert costly(name, case, "accuracy").verdict == "pass"
    assert costly.failing(name, case) == set(metrics.split())
    result = costly(name, case, metrics.split()[0])
    assert words in result.message
    assert result.clause.endswith(f".cost.{metrics.split()[0]}")
    assert result.ratio > 1


@pytest.mark.parametrize(
    ("name", "case", "metric"),
    [("reads v twice", RAGGED, "traffic"), ("reads half of the keys", ONES, "footprint")],
)
def test_the_ratio_is_above_1_in_the_direction_that_is_wrong(
    costly: Gates, name: str, case: str, metric: str
) -> None:
    result = costly(name, case, metric)
    larger, smaller = result.measured, result.allowed
    if metric == "footprint":
        larger, smaller = smaller, larger
    assert result.ratio == larger / smaller > 1


def test_copies_by_operators_and_loads_of_a_kernel_are_added_up(costly: Gates) -> None:
    keys = 4 * 2 * 100 * 32  # read and written by a copy
    alone = costly("fair", RAGGED, "traffic")
    mixed = costly("transposes keys", RAGGED, "traffic")
    assert mixed.measured == alone.measured + 2 * keys
    assert (alone.verdict, mixed.verdict) == ("pass", "fail")
    assert costly("transposes keys", RAGGED, "memory").measured == keys
    assert costly("transposes keys", RAGGED, "footprint").verdict == "pass"


@pytest.mark.parametrize("metric", METRICS)
def test_a_cheap_call_that_is_wrong_fails_for_its_values(costly: Gates, metric: str) -> None:
    result = costly("wrong at 77 keys", RAGGED.replace("tk100", "tk77"), metric)
    assert (result.verdict, result.clause) == ("fail", "attention.accuracy")
    assert result.worst.beyond


def test_one_call_serves_all_cost_clauses_of_a_case(costly: Gates) -> None:
    each, judge = costly.implementation("fair"), Judge("0")
    altered = Altered(costly.suite._worker(each.target, "interpret"), lambda step: None)
    for case in (RAGGED, CAUSAL):
        for clause in (c for c in each.spec.clauses if c.check == "costs"):
            result = judge.check(each, altered, "interpret", each.spec.case(case), clause)
            assert (result.verdict, result.clause) == ("pass", clause.anchor)
    assert altered.calls == 2


# Tiles that cannot be read ------------------------------------------------------------------------

UNREADABLE = [
    (
        "misspelt tile",
        "tiles['br'] is 'BLOCK_X', but no launch has a constexpr of that name: wanted one of "
        "BLOCK_M, BLOCK_N, CAUSAL, CLAIMED, D, WAY",
    ),
    ("two sizes", "tiles['br']: BLOCK_M was 16, 32: wanted one size in all launches"),
    ("tile that is a word", "wanted one size in all launches"),
]


@pytest.mark.parametrize("metric", ["traffic", "flops", "exps"])
@pytest.mark.parametrize(("name", "words"), UNREADABLE)
def test_tiles_that_launches_do_not_have_fail_with_what_they_have(
    costly: Gates, name: str, words: str, metric: str
) -> None:
    result = costly(name, RAGGED, metric)
    assert (result.verdict, words in result.message) == ("fail", True), result.message
    assert costly(name, RAGGED, "accuracy").verdict == "pass"


def test_without_a_launch_the_cap_holds_whatever_tiles_are_named(on_cpu: Gates) -> None:
    result = on_cpu("eager flash with tiles", RAGGED, "traffic")
    assert result.verdict == "fail"
    assert "what attention.flash allows whatever the tiles" in result.message


def test_a_tile_may_be_that_of_one_kernel_among_several() -> None:
    launches = [Launch(name, (1, 1, 1), {"BLOCK_M": m}) for name, m in (("split", 64), ("sum", 16))]
    counts = Counts(launches=launches)
    assert read_tiles({"br": "split.BLOCK_M"}, counts) == ({"br": 64}, "")
    assert "wanted one size" in read_tiles({"br": "BLOCK_M"}, counts)[1]


def test_the_tiles_of_a_kernel_that_a_call_does_not_launch_are_unknown() -> None:
    counts = Counts(launches=[Launch("product", (1, 1, 1), {"BLOCK_M": 64})])
    tiles = {"bm": "BLOCK_M", "block": "addition.BLOCK"}
    assert read_tiles(tiles, counts) == ({"bm": 64}, "")
    assert "no launch has" in read_tiles({"block": "product.BLOCK"}, counts)[1]


FAST_BY_TORCH = [
    "float64/m100.k130.n70/levels-2/normal",
    "float32/m256.k192.n256/levels-1+variant-winograd/normal",
    "bfloat16/m130.k100.n140/default/normal",
]


@pytest.mark.parametrize("case", FAST_BY_TORCH)
def test_a_fast_product_of_torch_operators_moves_adds_and_holds_its_closed_forms(
    built_in: Gates, case: str
) -> None:
    on_cpu = Gates(built_in.suite, "cpu")
    x, _, counts = on_cpu.counts("torch-strassen", case)
    costs = on_cpu.implementation("torch-strassen").spec.costs
    assert (counts.traffic, counts.dots) == (costs.traffic(x), costs.flops(x))
    assert counts.elementwise == costs.additions(x)
    assert on_cpu("torch-strassen", case, "memory").measured == costs.memory(x) - WORKSPACE


ON_BLOCKS = [
    "float32/b2.h2.tq100.tk130.d64/default/normal",
    "bfloat16/b1.h3.tq256.tk192.d32/causal-top-left/normal",
    "float64/b1.h2.tq130.tk70.d24.dv40/causal-bottom-right/normal",
]


@pytest.mark.parametrize("case", ON_BLOCKS)
def test_fused_attention_of_torch_operators_moves_its_closed_form(
    built_in: Gates, case: str
) -> None:
    on_cpu = Gates(built_in.suite, "cpu")
    x, _, counts = on_cpu.counts("torch-fused", case)
    costs = on_cpu.implementation("torch-fused").spec.costs
    assert counts.traffic == costs.variants["operators on 64 rows at a time"](x)
    if x.tq % 64 == 0:
        whole_blocks = x.with_tiles(br=64)
        assert (counts.dots, counts.exps) == (costs.flops(whole_blocks), costs.exps(whole_blocks))


BY_OPERATORS = [
    ("torch-dot-product", "float64/b2.t70.d24/default/normal"),
    ("torch-dot-product", "float32/b2.t70.d24/default/normal"),
    ("torch-dot-product", "bfloat16/b2.t70.d24/default/normal"),
    ("torch-performer", "float32/b1.h2.t130.d16.dv24.r48/default/normal"),
    ("torch-performer", "float64/b1.h2.t130.d16.dv24.r48/kind-hyperbolic+causal-top-left/normal"),
    ("torch-performer", "bfloat16/b2.h1.t70.d16.r24/kind-trig+causal-top-left/small"),
    ("torch-performer", "float32/b1.h1.t1.d8.r8/kind-relu/normal"),
    ("torch-linformer", "float32/b2.h2.t100.d32.dv24.r20/default/normal"),
    ("torch-linformer", "float64/b1.h1.t7.d8.r1/scale-0.05/normal"),
    ("torch-linformer", "bfloat16/b1.h2.t70.d16.r24/default/normal"),
    ("torch-linformer", "float32/b2.h2.t2800.d8.r100/default/normal"),  # in blocks of queries
    (
        "torch-lsh",
        "float32/b2.h3.t100.d16.dv24.rounds3.half8/causal-top-left+duplicates-counted/normal",
    ),
    ("torch-lsh", "float64/b1.h2.t64.d16.rounds4.half4/default/normal"),
    ("torch-lsh", "bfloat16/b1.h2.t50.d24.dv40.rounds2.half5/default/normal"),
    ("torch-lsh", "float32/b2.h8.t300.d8.rounds2.half4/default/normal"),  # in blocks of chunks
]


@pytest.mark.parametrize(("name", "case"), BY_OPERATORS)
def test_torch_operators_move_and_compute_the_closed_forms_of_what_they_make(
    built_in: Gates, name: str, case: str
) -> None:
    x, _, counts = Gates(built_in.suite, "cpu").counts(name, case)
    costs = built_in.implementation(name).spec.costs
    counted = (counts.traffic, counts.dots, counts.exps)
    assert counted == (costs.traffic(x), costs.flops(x), costs.exps(x))


ADDITIVE_BY_TORCH = [
    "float32/b2.h24.tq40.tk70.dv20.dq12/default/normal",
    "float64/b2.h16.tq33.tk50.dq12/mask-random+form-decoder/normal",
    "bfloat16/b2.h16.tq33.tk50.dq12/mask-padding+form-decoder/normal",
    "float16/b1.h48.tq1.tk300.dq32/mask-matrix/normal",
]


@pytest.mark.parametrize("case", ADDITIVE_BY_TORCH)
def test_additive_attention_of_torch_operators_moves_and_computes_its_closed_forms(
    built_in: Gates, case: str
) -> None:
    x, _, counts = Gates(built_in.suite, "cpu").counts("torch-additive", case)
    costs = built_in.implementation("torch-additive").spec.costs
    assert counts.traffic == costs.traffic(x)
    assert (counts.dots, counts.exps) == (costs.flops(x), costs.exps(x))
    assert costs.useful(x) == counts.dots - 2 * x.b * x.tq * x.tk * x.h


PAGED_BY_TORCH = [
    "float32/hq4.hkv2.d32.pages30.page8/"
    "steps-allocate@0.attend@0.append75@0.fork@0@1.append30@1.append1@0.attend@1@0@1.free@0/normal",
    "float64/hq3.hkv1.d16.pages40.page4/"
    "steps-allocate@2.append3@2.append0@2.append90@2.attend@2.append1@2/normal",
    "bfloat16/hq4.hkv4.d24.pages9.page16/steps-allocate@0.append99@0.append30@0.decode2@0/normal",
]


@pytest.mark.parametrize("case", PAGED_BY_TORCH)
def test_every_step_of_a_paged_cache_moves_and_computes_its_closed_forms(
    built_in: Gates, case: str
) -> None:
    for costs, x, counts in Gates(built_in.suite, "cpu").steps("torch-paged-manager", case):
        # attention is that of torch-paged, whose operators are about those of the form
        attends = "sequences" in x.options
        assert counts.traffic == costs.traffic(x) or (attends and counts.traffic <= costs.cap(x))
        assert (counts.dots, counts.exps) == (costs.flops(x), costs.exps(x))
        assert counts.peak_memory <= costs.memory(x)
        assert costs.compulsory(x) <= costs.traffic(x)


CACHES_BY_TORCH = [
    "float32/b2.hq4.hkv2.d64.{}300/steps-append256.append1.attend2/normal",
    "float64/b1.hq3.hkv1.d16.{}300/steps-append100.attend.append0.attend3/normal",
    "float16/b2.hq4.hkv2.d64.{}300/steps-append256.attend3.decode2/normal",
]


@pytest.mark.parametrize("case", CACHES_BY_TORCH)
@pytest.mark.parametrize(
    ("name", "size"), [("torch-contiguous", "capacity"), ("torch-rolling", "window")]
)
def test_every_step_of_a_cache_moves_and_computes_its_closed_forms(
    built_in: Gates, name: str, size: str, case: str
) -> None:
    for costs, x, counts in Gates(built_in.suite, "cpu").steps(name, case.format(size)):
        assert counts.traffic == costs.traffic(x)
        assert (counts.dots, counts.exps) == (costs.flops(x), costs.exps(x))
        assert counts.peak_memory <= costs.memory(x)


WRONG_ROLES = """
from kernelproof import implementation

for role in ("bmm", "rows", "br"):
    implementation("matmul.tiled", name=role, tiles={role: "BLOCK"})(lambda a, b: a @ b)
"""


def test_a_role_that_the_spec_has_not_is_refused_at_load(
    suite_of: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "kernel.py").write_text(WRONG_ROLES)
    (result,) = suite_of(tmp_path / "kernel.py").problems().values()
    assert result.verdict == "invalid"
    assert result.message.split("; ") == [
        "bmm: unknown tile role 'bmm': did you mean 'bm'?",
        "rows: unknown tile role 'rows': wanted bm, bn, bk",
        "br: unknown tile role 'br': wanted bm, bn, bk",
    ]


# Bounds, and what the interpreter lacks -----------------------------------------------------------

ASTRAY = [
    ("loads outside", "loads from k[6400], but its storage holds elements 0 to 6399", "(0, 2, 0)"),
    (
        "stores outside",
        "stores to out[7680], but its storage holds elements 0 to 7679",
        "(1, 3, 0)",
    ),
]


@pytest.mark.parametrize("what", ["accuracy", "traffic"])
@pytest.mark.parametrize(("name", "words", "program"), ASTRAY)
def test_an_access_outside_fails_with_argument_index_line_and_program(
    costly: Gates, kernels: Path, name: str, words: str, program: str, what: str
) -> None:
    lines = (kernels / "costly.py").read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if f"here it {name}" in text)
    result = costly(name, RAGGED, what)
    assert (result.verdict, result.clause) == ("fail", "integrity.bounds")
    assert result.message == f"out of bounds: {words} (costly.py, line {line}, program {program})"


@pytest.mark.parametrize("what", ["accuracy", "traffic"])
@pytest.mark.parametrize(
    ("name", "lacks"), [("libdevice", "libdevice (exp)"), ("assembly", "inline assembly")]
)
def test_a_feature_that_the_interpreter_lacks_is_unsupported(
    costly: Gates, name: str, lacks: str, what: str
) -> None:
    result = costly(name, RAGGED, what)
    message = f"the interpret backend lacks {lacks}"
    assert (result.verdict, result.message) == ("unsupported", message)


# Torch --------------------------------------------------------------------------------------------


def test_operators_that_materialise_scores_fail_as_flash_attention(on_cpu: Gates) -> None:
    assert on_cpu("eager flash", RAGGED, "accuracy").verdict == "pass"
    assert on_cpu.failing("eager flash", RAGGED) == {"traffic", "exps"}
    assert "what operators made on the way" in on_cpu("eager flash", RAGGED, "traffic").message


@pytest.mark.parametrize("metric", METRICS)
def test_work_of_numpy_is_unmeasured_and_no_pass(on_cpu: Gates, metric: str) -> None:
    assert on_cpu("by numpy", RAGGED, "accuracy").verdict == "pass"
    result = on_cpu("by numpy", RAGGED, metric)
    assert (result.verdict, "NumPy" in result.message) == ("unmeasured", True), result.message
    assert result.measured is None


def test_who_cannot_be_measured_passes_and_is_not_conformant(on_cpu: Gates) -> None:
    results = [on_cpu("by numpy", RAGGED, what) for what in ("accuracy", *METRICS)]
    [found] = standings(on_cpu.suite, results)
    assert found.verdict == "passes"
    assert {f"attention.cost.{metric}" for metric in METRICS} <= set(found.missing)
    [measured] = standings(on_cpu.suite, [on_cpu("eager flash", RAGGED, m) for m in METRICS])
    exercised = {f"attention.cost.{metric}" for metric in METRICS} - set(measured.missing)
    assert "attention.cost.memory" in exercised


def test_what_moves_in_a_fused_operator_is_unknown_and_its_flops_are_priced(
    built_in: Gates,
) -> None:
    sdpa = Gates(built_in.suite, "cpu")
    traffic, flops = (sdpa("torch-sdpa-flash", RAGGED, m) for m in ("traffic", "flops"))
    assert (traffic.verdict, traffic.measured) == ("unsupported", None)  # it declares so
    assert "_scaled_dot_product" in str(traffic.counts["opaque"])
    assert (flops.verdict, flops.measured) == ("pass", 2 * 4 * 60 * 100 * (32 + 32))


DEVIATING = """
import threading
from kernelproof import implementation


@implementation("matmul.naive", backends=["cpu"], dtypes=["float32"], deviates={WHICH: "known"})
def copies(a, b):
    return a.clone().clone() @ b


@implementation("matmul.naive", backends=["cpu"], dtypes=["float32"], deviates={WHICH: "known"})
def wrong(a, b):
    return 2 * a @ b


@implementation("matmul.naive", backends=["cpu"], dtypes=["float32"], deviates={WHICH: "known"})
def elsewhere(a, b):
    out = a.new_empty(a.shape[0], b.shape[1])
    out[-1:] = a[-1:] @ b
    thread = threading.Thread(target=lambda: out[:-1].copy_(a[:-1] @ b))
    thread.start()
    thread.join()
    return out
"""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("copies", ""),
        ("wrong", "; not counted: fail: "),
        ("elsewhere", "; not counted: unmeasured: "),
    ],
)
def test_a_deviation_keeps_the_counts_of_right_calls_that_the_meters_saw(
    suite_of: Callable[..., Any], tmp_path: Path, name: str, why: str
) -> None:
    file = tmp_path / "deviating.py"
    file.write_text(DEVIATING.replace("WHICH", "'matmul.cost.traffic'"))
    gates, kernel = Gates(suite_of(file).suite, "cpu"), f"deviating.{name}"
    found = gates(kernel, SQUARE, "traffic")
    assert (found.verdict, bool(found.counts)) == ("unsupported", not why)
    assert found.message.startswith(f"declared deviation from matmul.cost.traffic: known{why}")
    [standing] = standings(gates.suite, [found, gates(kernel, SQUARE, "footprint")])
    assert "matmul.cost.traffic" in standing.missing


def test_a_compiled_function_is_unmeasured_and_no_pass(on_cpu: Gates) -> None:
    result = on_cpu("compiled", RAGGED, "accuracy")
    if result.verdict == "crash":
        pytest.skip(f"torch.compile does not run here: {result.message}")
    assert result.verdict == "pass"
    for metric in METRICS:
        assert on_cpu("compiled", RAGGED, metric).verdict == "unmeasured"


# Replies that no honest worker sends --------------------------------------------------------------


class Altered:
    """A worker whose step is changed on its way to the judge."""

    def __init__(self, worker: Any, change: Callable[[dict[str, Any]], Any]) -> None:
        self._worker, self._change, self.calls = worker, change, 0

    def restart(self) -> None:
        """The real one goes on."""

    def run(self, request: Any, storages: Any, patience: float) -> Any:
        self.calls += 1
        reply, received = self._worker.run(request, storages, patience)
        self._change(reply["runs"][0][0])
        return reply, received


def forge(**counts: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda step: step["counts"].update(counts)


def forge_access(**numbers: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda step: step["counts"]["arguments"]["v"].update(numbers)


def forge_launch(**launch: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda step: step["counts"]["launches"][0].update(launch)


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "negative bytes": forge_access(read=-1),
    "negative footprint": forge_access(footprint=-(10**9)),
    "bytes that are a fraction": forge_access(read=0.5),
    "bytes that are true": forge_access(written=True),
    "an access of one number": forge(arguments={"v": 7}),
    "arguments that are a list": forge(arguments=[]),
    "negative FLOPs": forge(dots=-5),
    "FLOPs that are a text": forge(dots="5"),
    "negative exponentials": forge(exps=-1),
    "exponentials that are none": forge(exps=None),
    "negative memory": forge(peak_memory=-1),
    "names that are numbers": forge(opaque=[1]),
    "reasons that are a number": forge(unseen=7),
    "a count is missing": lambda step: step["counts"].pop("exps"),
    "launches that are none": forge(launches=None),
    "a grid of two": forge_launch(grid=[1, 2]),
    "constants that are a list": forge_launch(constants=[1]),
    "a constant that is a list": forge_launch(constants={"BLOCK_M": [32], "BLOCK_N": 32}),
    "counts that are a list": lambda step: step.update(counts=[1]),
}
NO_COUNTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no counts": lambda step: step.pop("counts"),
    "counts that are none": lambda step: step.update(counts=None),
    "counts without any": lambda step: step.update(counts={}),
}


@pytest.fixture(scope="module")
def judged(costly: Gates) -> Callable[..., Result]:
    """Judge a kernel by changed replies of its worker."""

    def judge(change: Any, metric: str = "traffic", name: str = "fair") -> Result:
        each, clause = costly.implementation(name), costly.clause(name, metric)
        worker = Altered(costly.suite._worker(each.target, "interpret"), change)
        return Judge("0").check(each, worker, "interpret", each.spec.case(RAGGED), clause)

    return judge


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_forged_counts_are_invalid(judged: Callable[..., Result], change: Any) -> None:
    result = judged(change)
    assert (result.verdict, result.measured) == ("invalid", None)
    assert "the worker's reply is malformed" in result.message


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("change", NO_COUNTS.values(), ids=NO_COUNTS)
def test_a_reply_without_counts_is_no_pass(
    judged: Callable[..., Result], change: Any, metric: str
) -> None:
    assert judged(change, metric).verdict == "invalid"


CLAIMS = [
    ("computes all tiles, claims wide heads", "flops", {"dots": 10**9}),
    ("exponentials twice, claims long tiles", "exps", {"exps": 10**7}),
]


@pytest.mark.parametrize(("name", "metric", "counts"), CLAIMS)
def test_no_claim_of_tiles_allows_more_than_the_widest_ones(
    judged: Callable[..., Result], name: str, metric: str, counts: dict[str, int]
) -> None:
    result = judged(forge(**counts), metric, name)
    assert result.verdict == "fail"
    assert "what attention.flash allows whatever the tiles" in result.message


def test_counts_that_nobody_forged_pass(judged: Callable[..., Result]) -> None:
    assert judged(lambda step: None).verdict == "pass"


def test_products_that_no_dot_makes_are_unmeasured(costly: Gates) -> None:
    result = costly("multiplies elements", CAUSAL, "flops")
    assert result.verdict == "unmeasured"
    assert "made by other operations" in result.message


# What the gates do not catch ----------------------------------------------------------------------

OPEN = [
    ("spills scores, declares nothing", SMOKE, "traffic", "at short lengths S is small"),
    ("spills scores, declares nothing", SMOKE, "memory", "1 MiB of workspace is allowed"),
    ("visits all tiles, declares nothing", CAUSAL, "flops", "twice 128 by 128 is allowed"),
    ("visits all tiles, declares nothing", CAUSAL, "traffic", "twice the best is allowed"),
    ("computes all tiles, claims wide heads", CAUSAL, "flops", "twice 128 by 128 is allowed"),
    ("exponentials twice, claims long tiles", RAGGED, "exps", "twice 128 by 128 is allowed"),
    ("looks one key up", ONES, "footprint", "a gather counts as a look at all rows"),
    ("scratch of an earlier call", LONG, "memory", "what is kept between calls is not counted"),
]
OPEN_ON_CPU = [
    ("by numpy into zeros", RAGGED, "traffic", "zeros that NumPy fills seem metered"),
    ("by numpy into zeros", RAGGED, "footprint", "copies are read, by whomever"),
    ("by powers", RAGGED, "exps", "torch.pow is no exponential"),
]


@pytest.mark.parametrize(
    ("name", "case", "metric"),
    [pytest.param(*each[:3], marks=pytest.mark.xfail(reason=each[3])) for each in OPEN],
)
def test_a_cheat_that_the_gates_let_through(
    costly: Gates, name: str, case: str, metric: str
) -> None:
    assert costly(name, case, "accuracy").verdict == "pass"
    assert costly(name, case, metric).verdict != "pass"


@pytest.mark.parametrize(
    ("name", "case", "metric"),
    [pytest.param(*each[:3], marks=pytest.mark.xfail(reason=each[3])) for each in OPEN_ON_CPU],
)
def test_a_cheat_on_a_cpu_that_the_gates_let_through(
    on_cpu: Gates, name: str, case: str, metric: str
) -> None:
    assert on_cpu(name, case, metric).verdict != "pass"


# Programs: every step has a budget ------------------------------------------------------------

LONG = "float32/b1.hq4.hkv2.d32.capacity600/steps-append500.append1.attend/normal"
WASTEFUL = [
    ("Reallocates", "traffic", "step 2 (append): 615,424 bytes moved: at most 3,072"),
    ("RecomputesPrefix", "flops", "step 3 (attend): 128,769,024 FLOPs of products: at most 259,0"),
]


@pytest.mark.parametrize(("name", "metric", "words"), WASTEFUL)
def test_a_step_that_does_more_than_its_operation_needs_fails_by_name(
    suite_of: Callable[..., Any], kernels: Path, name: str, metric: str, words: str
) -> None:
    caches = Gates(suite_of(kernels / "wrong_caches.py", timeout=60).suite, "cpu")
    result = caches(name, LONG, metric)
    assert (result.verdict, words in result.message) == ("fail", True), result.message
    assert metric in caches.failing(name, LONG)
