"""What holds for every spec: its place, clauses, families and costs; and golden numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelproof.impls
import kernelproof.reference
import kernelproof.spec
from kernelproof.reference.matmul.forms import FORMS, recurse
from kernelproof.spec.catalogue import load_spec, sheet_names, spec_names
from kernelproof.spec.contracts.matmul.strassen_costs import levels_of
from kernelproof.spec.language import (
    WORKSPACE,
    Call,
    Clause,
    Program,
    Sizes,
    Word,
    operation,
    parse_tensors,
)

SPECS = {name: load_spec(name) for name in spec_names()}
ATTENTION, CACHE = SPECS["attention.scaled_dot_product"], SPECS["cache.contiguous"]
MATMUL, STRASSEN = SPECS["matmul.tiled"], SPECS["matmul.strassen"]
LAYER = SPECS["attention.multi_head"]
LAYER_POINT = "b1.hq4.hkv2.tq2.tk3.d3.dv5.e7/default/normal"
EACH_SPEC = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
SMALL = settings(deadline=None, derandomize=True, max_examples=40)


def listed(spec):
    sources = (spec.domain, *spec.clauses)
    return [p for s in sources for tier in ("smoke", "core", "full") for p in getattr(s, tier, ())]


@pytest.mark.parametrize("name", SPECS)
def test_the_name_of_a_spec_is_the_path_of_its_file(name):
    area, stem = name.split(".")
    assert SPECS[name].name == name
    assert (Path(kernelproof.spec.__path__[0]) / area / f"{stem}.py").is_file()


@pytest.mark.parametrize("name", SPECS)
def test_reference_and_implementation_have_the_stem_of_their_spec(name):
    area, stem = name.split(".")
    assert (Path(kernelproof.reference.__path__[0]) / area / f"{stem}.py").is_file()
    impls = Path(kernelproof.impls.__path__[0])
    assert any((impls / kind / area / f"{stem}.py").is_file() for kind in ("torch", "triton"))


@EACH_SPEC
def test_the_reference_of_a_spec_lives_in_the_module_of_its_name(spec):
    assert spec.reference.__module__ == f"kernelproof.reference.{spec.name}"


def test_an_unknown_spec_is_refused_with_the_nearest_name():
    with pytest.raises(LookupError) as raised:
        load_spec("matmul.tile")
    assert str(raised.value) == "unknown spec 'matmul.tile': did you mean 'matmul.tiled'?"


def test_a_name_like_no_other_is_refused_with_all_names():
    with pytest.raises(LookupError) as raised:
        load_spec("zzz")
    known = ", ".join((*SPECS, *sheet_names()))
    assert str(raised.value) == f"unknown spec 'zzz': wanted one of {known}"


@pytest.mark.parametrize("name", ["sizing.kv_cache", "sizing.kv*"])
def test_a_worksheet_is_no_spec_and_says_how_it_is_read(name):
    with pytest.raises(LookupError) as raised:
        load_spec(name)
    assert str(raised.value) == (
        "sizing.kv_cache is a worksheet without implementations: kernelproof explain "
        "sizing.kv_cache shows its numbers"
    )


@EACH_SPEC
def test_every_clause_has_a_smoke_case_but_those_that_take_seconds(spec):
    for clause in spec.clauses:
        source = spec.domain if clause.check == "accuracy" else clause
        assert source.core if clause.growth else source.smoke, clause.anchor


@EACH_SPEC
def test_a_spec_with_costs_says_how_they_grow(spec):
    counted = {c.metric for c in spec.clauses if c.metric and not c.growth}
    grown = {c.metric for c in spec.clauses if c.growth}
    assert grown <= counted
    assert grown or not counted


@EACH_SPEC
def test_every_spec_has_one_accuracy_clause_a_layout_clause_and_a_repeat_clause(spec):
    assert [c.check for c in spec.clauses].count("accuracy") == 1
    assert any(c.repeat for c in spec.clauses)
    assert any(c.anchor.endswith(".layout") and c.check == "integrity" for c in spec.clauses)


@EACH_SPEC
def test_anchors_are_unique_and_begin_with_the_area_of_their_spec(spec):
    anchors = [clause.anchor for clause in spec.clauses]
    assert len(anchors) == len(set(anchors))
    assert {anchor.split(".")[0] for anchor in anchors} == {spec.name.split(".")[0]}


def test_two_clauses_of_one_anchor_are_refused():
    clause = Clause("matmul.accuracy", "Twice.", "semantics")
    with pytest.raises(ValueError, match=r"^spec matmul\.tiled: two clauses share an anchor$"):
        type(MATMUL)(**{**vars(MATMUL), "clauses": (*MATMUL.clauses, clause)})


@EACH_SPEC
def test_every_sentence_of_a_clause_ends_with_a_full_stop(spec):
    for clause in spec.clauses:
        assert clause.sentence.endswith("."), clause.anchor


@EACH_SPEC
def test_mutants_and_families_have_names_of_one_word_and_say_what_they_are(spec):
    named = [*spec.mutants, *spec.domain.families.values()]
    for each in named:
        assert each.sentence, each.name
        assert not set(each.name) & set(" /+_"), each.name
    assert len({mutant.name for mutant in spec.mutants}) == len(spec.mutants)
    assert all(name == family.name for name, family in spec.domain.families.items())


def test_every_family_is_used_by_some_case_of_some_spec():
    families = {id(f): f.name for spec in SPECS.values() for f in spec.domain.families.values()}
    used = {
        id(spec.domain.families[spec.case(f"float32/{point}").family])
        for spec in SPECS.values()
        for point in listed(spec)
    }
    assert {families[each] for each in families.keys() - used} == set()


@pytest.mark.parametrize(
    ("prefix", "option"),
    [
        ("attention.mask.", "mask"),
        ("attention.causal.", "causal"),
        ("attention.scale.explicit", "scale"),
        ("attention.dropout", "keep"),
    ],
)
def test_the_clauses_of_an_option_set_it_in_all_their_cases(prefix, option):
    clauses = [clause for clause in ATTENTION.clauses if clause.anchor.startswith(prefix)]
    points = [point for clause in clauses for point in (*clause.smoke, *clause.core)]
    assert points
    for point in points:
        assert option in dict(ATTENTION.case(f"float32/{point}").options), point


@EACH_SPEC
def test_the_domain_covers_every_axis_and_option_of_the_call(spec):
    assert set(spec.domain.sizes) == set(spec.call.axes)
    options = spec.option_names() if isinstance(spec.call, Call) else ("steps",)
    assert set(spec.domain.options) >= set(options)


@EACH_SPEC
def test_every_layout_is_exercised(spec):
    layouts = {spec.case(f"float32/{point}").layout for point in listed(spec)}
    assert layouts >= {"contiguous", "transposed", "sliced", "offset"}


def costs(spec, tiles=None, item=4, **axes):
    """Every closed form of a spec at these sizes."""
    sizes = Sizes(axes, item=item, tiles=tiles or {})
    return {name: form(sizes) for name, form in vars(spec.costs).items() if callable(form)}


@pytest.mark.parametrize(
    ("size", "flops", "words"), [(100, 2_000_000, 30_000), (2, 16, 12), (1, 2, 3)]
)
def test_the_product_of_two_squares_has_the_numbers_of_the_catalogue(size, flops, words):
    got = costs(MATMUL, m=size, k=size, n=size)
    assert got["flops"] == got["useful"] == flops
    assert got["compulsory"] == got["traffic"] == 4 * words
    assert got["memory"] == 4 * words + WORKSPACE


def test_a_hundred_squared_float32_product_does_17_operations_per_byte_and_25_per_byte_read():
    got = costs(MATMUL, m=100, k=100, n=100)
    written = 4 * 100 * 100
    assert got["flops"] / (got["compulsory"] - written) == 25
    assert round(got["flops"] / got["compulsory"], 1) == 16.7


@pytest.mark.parametrize("item", [2, 4, 8])
@pytest.mark.parametrize("n", [32, 256, 1024])
def test_a_tile_of_32_cuts_the_loads_of_a_square_product_32_times(n, item):
    tiled, naive = (
        costs(MATMUL, {"bm": b, "bn": b}, item, m=n, k=n, n=n)["traffic"] for b in (32, 1)
    )
    assert tiled == item * (2 * n**3 // 32 + n**2)
    assert naive == item * (2 * n**3 + n**2)
    assert naive - item * n**2 == 32 * (tiled - item * n**2)


@SMALL
@given(*[st.integers(0, 6)] * 3)
def test_a_product_does_one_multiplication_and_one_addition_per_term(m, k, n):
    count = 0
    for _ in range(m):
        for _ in range(n):
            for _ in range(k):
                count += 2
    got = costs(MATMUL, m=m, k=k, n=n)
    assert got["flops"] == got["useful"] == count


DONE = Counter()


class Counted:
    """A number that counts what is done with it."""

    def __mul__(self, other):
        DONE["*"] += 1
        return self

    def __add__(self, other):
        DONE["+"] += 1
        return self

    __sub__ = __add__


def operations(n, variant=None, levels=0):
    """Multiplications and additions of an n x n product: the definition's, or a form's."""
    DONE.clear()
    x = np.full((n, n), Counted())
    recurse(FORMS[variant], x, x, levels) if variant else x @ x
    return DONE["*"], DONE["+"]


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_naive_product_does_n_cubed_multiplications_and_n_squared_fewer_additions(n):
    assert operations(n) == (n**3, n**3 - n**2)
    got = costs(SPECS["matmul.naive"], m=n, k=n, n=n)
    assert got["useful"] == n**3 + n**3 - n**2
    assert got["operations"] == 2 * n**3  # the first addition is to zero
    assert got["traffic"] == 4 * (2 * n**3 + n**2)


@pytest.mark.parametrize(("variant", "additions"), [("strassen", 18), ("winograd", 15)])
def test_two_by_two_takes_7_multiplications_and_18_additions_or_15(variant, additions):
    assert operations(2, variant, 1) == (7, additions)


@pytest.mark.parametrize("variant", FORMS)
@pytest.mark.parametrize(("n", "products"), [(2, 7), (4, 49), (8, 343)])
def test_down_to_single_numbers_every_doubling_takes_seven_times_the_products(n, products, variant):
    x = Sizes({"m": n, "k": n, "n": n}, {"cutoff": 1, "variant": variant})
    assert operations(n, variant, levels_of(x)) == (products, STRASSEN.costs.additions(x))
    assert STRASSEN.costs.useful(x) == STRASSEN.costs.flops(x) == 2 * products


def test_with_a_fixed_leaf_the_work_grows_with_n_to_the_log_of_7():
    small, large = (
        STRASSEN.costs.useful(Sizes({"m": n, "k": n, "n": n}, {"cutoff": 64})) for n in (1024, 4096)
    )
    assert np.log2(large / small) / 2 == pytest.approx(np.log2(7), rel=1e-12)


def count_attention(b, h, tq, tk, d, dv):
    """FLOPs and exponentials of the two products and the softmax, pair by pair."""
    flops = exps = 0
    for _ in range(b * h * tq):
        for _ in range(tk):
            flops += sum(2 for _ in range(d)) + sum(2 for _ in range(dv))
            exps += 1
    return flops, exps


@SMALL
@given(*[st.integers(1, 3)] * 2, *[st.integers(0, 5)] * 2, *[st.integers(1, 4)] * 2)
def test_attention_does_two_products_and_two_exponentials_per_pair_and_per_row(b, h, tq, tk, d, dv):
    got = costs(ATTENTION, b=b, h=h, tq=tq, tk=tk, d=d, dv=dv)
    flops, exps = count_attention(b, h, tq, tk, d, dv)
    assert got["flops"] == got["useful"] == flops
    rows = b * h * tq if tk else 0
    assert got["exps"] == 2 * (exps + rows)  # one for lse, one for P


@SMALL
@given(*[st.integers(1, 3)] * 2, *[st.integers(1, 9)] * 2, *[st.integers(1, 8)] * 2)
def test_standard_attention_moves_the_scores_five_times_and_scales_the_queries(b, h, tq, tk, d, dv):
    got = costs(ATTENTION, b=b, h=h, tq=tq, tk=tk, d=d, dv=dv)
    scaled = tq * d + tq * d  # read, written
    scores = tq * d + tk * d + tq * tk
    lse = tq * tk + tq
    weights = tq * tk + tq * tk
    values = tq * tk + tk * dv + tq * dv
    assert got["traffic"] == 4 * b * h * (scaled + scores + lse + weights + values)
    beside = got["traffic"] - got["compulsory"]
    assert beside == 4 * b * h * (5 * tq * tk + 2 * tq * d)


@pytest.mark.parametrize(("item", "wide"), [(2, 4), (4, 4), (8, 8)])
def test_16_bit_inputs_are_converted_and_scores_are_at_least_4_bytes_wide(item, wide):
    got = costs(ATTENTION, item=item, b=1, h=1, tq=7, tk=5, d=3, dv=2)
    inputs, output, scores = 7 * 3 + 5 * 3 + 5 * 2, 7 * 2, 7 * 5
    made = inputs + output if item < wide else 7 * 3  # q is scaled in any case
    assert got["compulsory"] == item * (inputs + output) + wide * 7
    assert got["traffic"] == got["compulsory"] + 5 * wide * scores + 2 * wide * made


def test_attention_at_1024_by_64_has_the_numbers_of_the_catalogue():
    got = costs(ATTENTION, item=2, b=1, h=1, tq=1024, tk=1024, d=64, dv=64)
    lse = 4 * 1024
    assert 4 * 2 * 1024 * 64 == 524_288
    assert got["compulsory"] == 524_288 + lse
    assert got["flops"] == 4 * 1024**2 * 64


def test_the_memory_of_standard_attention_grows_with_the_square_and_of_flash_with_the_length():
    def held(spec, t, **heads):
        return costs(spec, b=1, tq=t, tk=t, d=64, dv=64, **heads)["memory"] - WORKSPACE

    standard = [held(ATTENTION, t, h=1) for t in (1 << 16, 1 << 17)]
    flash = [held(SPECS["attention.flash"], t, hq=1, hkv=1) for t in (1 << 16, 1 << 17)]
    assert 3.9 < standard[1] / standard[0] < 4
    assert flash[1] == 2 * flash[0]


@SMALL
@given(*[st.integers(1, 3)] * 4, st.integers(1, 9), st.sampled_from([2, 4, 8]))
def test_one_step_of_a_cache_reads_every_token_once(b, hkv, g, d, tokens, item):
    got = costs(CACHE, item=item, b=b, hq=hkv * g, hkv=hkv, d=d, t=1, tokens=tokens)
    flops = count_attention(b, hkv * g, 1, tokens, d, d)[0]
    assert got["flops"] == got["useful"] == flops
    assert got["exps"] == 2 * b * hkv * g * tokens
    held, query_and_out = 2 * b * hkv * tokens * d * item, 2 * b * hkv * g * d * item
    assert got["compulsory"] == held + query_and_out + b * hkv * g * max(item, 4)
    assert got["traffic"] > got["compulsory"]


def test_an_append_moves_its_own_tokens_however_many_are_held():
    sizes = {"b": 2, "hkv": 3, "d": 16, "t": 5}
    few, many = (Sizes({**sizes, "tokens": tokens}, {}, 2) for tokens in (5, 5000))
    form = CACHE.updates["append"].traffic
    assert form(few) == form(many) == 2 * 2 * (2 * 3 * 5 * 16) * 2


def test_of_an_append_longer_than_a_window_only_what_stays_must_be_moved():
    sizes = {"b": 1, "hkv": 1, "d": 8, "t": 100}
    form = SPECS["cache.rolling"].updates["append"].compulsory
    assert form(Sizes({**sizes, "tokens": 30}, {}, 4)) == 2 * 2 * 30 * 8 * 4


def test_a_decode_step_over_a_cache_shrinks_by_the_group_size():
    sizes = {"b": 1, "hq": 96, "d": 128, "t": 1, "tokens": 2048}
    full, shared = (costs(CACHE, hkv=hkv, **sizes)["compulsory"] for hkv in (96, 1))
    own = costs(CACHE, hkv=1, **sizes | {"tokens": 0})["compulsory"] + 96 * 128 * 4
    assert full - own == 96 * (shared - own)
    assert 96 * (full - own) == 19_327_352_832  # GPT-3: 96 layers of 4-byte numbers, 19.3 GB


def test_an_axis_that_a_formula_lacks_is_named():
    with pytest.raises(AttributeError) as raised:
        costs(MATMUL, m=1, k=2)
    assert str(raised.value) == "no axis 'n': wanted m, k"


@pytest.mark.parametrize(
    ("text", "names", "axes", "dtypes"),
    [
        ("q: b h tq d", ["q"], [("b", "h", "tq", "d")], [None]),
        ("a: m k, b: k n", ["a", "b"], [("m", "k"), ("k", "n")], [None, None]),
        ("lse: b h tq float32", ["lse"], [("b", "h", "tq")], ["float32"]),
        ("table: b n int32", ["table"], [("b", "n")], ["int32"]),
        ("k: b 1 tk d", ["k"], [("b", "1", "tk", "d")], [None]),
    ],
)
def test_tensors_are_read_from_their_line_of_text(text, names, axes, dtypes):
    tensors = parse_tensors(text)
    assert [t.name for t in tensors] == names
    assert [t.axes for t in tensors] == axes
    assert [t.dtype for t in tensors] == dtypes


@pytest.mark.parametrize("text", ["q", "q b h", "q:", "q: b h, k"])
def test_a_tensor_without_axes_is_refused_with_an_example(text):
    with pytest.raises(ValueError) as raised:
        parse_tensors(text)
    assert str(raised.value).endswith("wanted 'name: axis axis ...', as in 'q: b h tq d'")


def test_a_literal_axis_is_its_own_size_and_float32_statistics_are_float64_beside_float64():
    keys, lse = parse_tensors("k: b 1 d, lse: b float32")
    assert keys.shape({"b": 2, "d": 8}) == (2, 1, 8)
    assert [lse.dtype_in(d) for d in ("float64", "float16")] == ["float64", "float32"]
    assert keys.dtype_in("float16") == "float16"


def test_an_axis_that_is_a_product_has_the_size_of_its_factors_multiplied():
    (weight,) = parse_tensors("w: e hq*d")
    assert weight.axes == ("e", "hq*d")
    assert weight.shape({"e": 5, "hq": 3, "d": 4}) == (5, 12)
    assert LAYER.call.axes == ("b", "hq", "hkv", "tq", "tk", "d", "dv", "e")


def test_keywords_that_are_sizes_are_given_in_every_call():
    [step] = LAYER.steps(LAYER.case(f"float32/{LAYER_POINT}"), np.random.default_rng(0))
    assert (step.options["heads"], step.options["kv_heads"]) == (4, 2)
    assert {n: x.shape for n, x in step.inputs.items() if n.startswith("w_")} == {
        "w_q": (7, 4 * 3),
        "w_k": (7, 2 * 3),
        "w_v": (7, 2 * 5),
        "w_o": (4 * 5, 7),
    }
    assert "*, heads: hq, kv_heads: hkv, biases, mask, causal, scale)" in LAYER.signatures[0]


PROGRAM = Program(
    new=("b", "capacity"),
    operations={"append": operation("k: b t d"), "attend": operation("q: b t d")},
    stream="t",
    macros={"decode": ("append", "attend")},
)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("attend", [("attend", 1)]),
        ("append5.attend", [("append", 5), ("attend", 1)]),
        ("decode2", [("append", 1), ("attend", 1)] * 2),
        ("append.decode", [("append", 1), ("append", 1), ("attend", 1)]),
    ],
)
def test_the_steps_of_a_program_are_read_with_their_lengths(text, steps):
    assert PROGRAM.parse_steps(text) == [Word(name, length, {}) for name, length in steps]


NAMED = Program(
    new=("d",),
    operations={
        "append": operation("k: t d", options="sequence"),
        "fork": operation("", options="source, target"),
        "attend": operation("q: t d", outputs="out: t d", options="sequences..."),
    },
    stream="t",
    macros={"decode": ("append", "attend")},
)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("append5@3", [("append", 5, {"sequence": 3})]),
        ("fork@0@1", [("fork", 1, {"source": 0, "target": 1})]),
        ("attend@4@0@4", [("attend", 3, {"sequences": (4, 0, 4)})]),
        ("decode@2", [("append", 1, {"sequence": 2}), ("attend", 1, {"sequences": (2,)})]),
    ],
)
def test_the_numbers_of_a_step_are_its_keywords(text, steps):
    assert NAMED.parse_steps(text) == [Word(*step) for step in steps]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("append5", "append in steps 'append5': numbers none: wanted @sequence"),
        ("fork@1@2@3", "fork in steps 'fork@1@2@3': numbers 1, 2, 3: wanted @source@target"),
        ("append@0.attend", "attend in steps .*: numbers none: wanted @sequences"),
        ("free@1", "unknown operation 'free@1' in steps 'free@1': wanted append, fork"),
    ],
)
def test_a_step_with_other_numbers_than_its_operation_takes_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        NAMED.parse_steps(text)


def test_the_axes_of_a_program_come_in_the_usual_order_without_its_stream():
    assert PROGRAM.axes == ("b", "d", "capacity")
    assert CACHE.call.axes == ("b", "hq", "hkv", "d", "capacity")
    assert ATTENTION.call.axes == ("b", "h", "tq", "tk", "d", "dv")
