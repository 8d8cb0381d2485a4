"""Closed forms of work against loops that count it: programs that visit tiles, sets of elements."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelproof.reference.matmul.forms import FORMS, recurse
from kernelproof.reference.matmul.strassen import filled, halvings
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.contracts.attention.costs import (
    first_tiles,
    keys_outside_traffic,
    row_blocks,
    visited_tiles,
)
from kernelproof.spec.contracts.performer.costs import CHUNK
from kernelproof.spec.language import ON_CHIP, WORKSPACE, Sizes

FLASH, SHARED = load_spec("attention.flash").costs, load_spec("attention.grouped_query").costs
ONE_KEY_HEAD = load_spec("attention.multi_query").costs
STANDARD = load_spec("attention.scaled_dot_product").costs
FUSED, DOT_PRODUCT = (load_spec(f"attention.{name}").costs for name in ("fused", "dot_product"))
LAYER = load_spec("attention.multi_head").costs
UPTRAIN = load_spec("attention.uptrain").costs
FEATURES = load_spec("approximate.features").costs
PERFORMER = load_spec("approximate.performer").costs
LINFORMER = load_spec("approximate.linformer").costs
BACKWARD = load_spec("attention.flash_backward").costs
MATMUL, STRASSEN = load_spec("matmul.tiled").costs, load_spec("matmul.strassen").costs
NAIVE = load_spec("matmul.naive").costs
DECODING = load_spec("attention.flash_decoding").costs
PAGED = load_spec("cache.paged").costs
ADDITIVE = load_spec("attention.additive").costs
HASHED = load_spec("approximate.lsh").costs
SAFE, ONLINE = load_spec("softmax.safe").costs, load_spec("softmax.online").costs
ATTENTIONS = (FLASH, SHARED, ONE_KEY_HEAD, STANDARD, FUSED)
SMALL = settings(deadline=None, derandomize=True, max_examples=150)
FEW = settings(deadline=None, derandomize=True, max_examples=40)

# Tiled attention ----------------------------------------------------------------------------------


def sees(i, j, tq, tk, causal):
    """Whether query i may attend to key j: the clauses' own words."""
    return {None: True, "top-left": j <= i, "bottom-right": j <= i + tk - tq}[causal]


def walk(x, pack):
    """Visited tiles, bytes read of q, k and v, and bytes written, program by program.

    A program holds br rows of a key head, ``pack`` query heads to a position, and visits each
    tile of bc keys of which some row of its may attend to some key.
    """
    tq, tk, causal = x.tq, x.tk, x.options.get("causal")
    rows = [i for i in range(tq) for _ in range(pack)]
    br, bc = x.tiles.get("br", max(len(rows), 1)), x.tiles.get("bc", max(tk, 1))
    tiles = read = written = 0
    for _ in range(x.b * x.hq // pack):
        for first in range(0, len(rows), br):
            block = rows[first : first + br]
            read += len(block) * x.d
            for start in range(0, tk, bc):
                keys = range(start, min(start + bc, tk))
                if any(sees(i, j, tq, tk, causal) for i in block for j in keys):
                    tiles += 1
                    read += len(keys) * (x.d + x.dv)
            written += len(block) * (x.dv * x.item + max(4, x.item))
    return tiles, read * x.item, written


@st.composite
def tiled_sizes(draw, *roles):
    """Sizes of flash attention with the tiles of some roles, ragged and too large ones too."""
    group = draw(st.integers(1, 4))
    hkv = draw(st.integers(1, 2))
    axes = {"b": draw(st.integers(1, 2)), "hq": group * hkv, "hkv": hkv}
    axes |= {n: draw(st.integers(0, 14)) for n in ("tq", "tk")}
    axes |= {n: draw(st.integers(1, 5)) for n in ("d", "dv")}
    options = {"causal": draw(st.sampled_from([None, "top-left", "bottom-right"]))}
    tiles = {role: draw(st.integers(1, 20)) for role in roles}
    if draw(st.booleans()):
        tiles["pack"] = group
    return Sizes(axes, options, draw(st.sampled_from([2, 4, 8])), tiles)


@SMALL
@given(tiled_sizes("br", "bc"))
def test_the_traffic_of_flash_is_what_its_programs_load_and_store(x):
    _, read, written = walk(x, x.tiles.get("pack", 1))
    assert FLASH.traffic(x) == read + written


@SMALL
@given(tiled_sizes("br", "bc", "bd", "bdv"))
def test_flash_computes_the_tiles_that_its_programs_visit_in_full(x):
    tiles, _, _ = walk(x, x.tiles.get("pack", 1))
    br, bc = x.tiles["br"], x.tiles["bc"]
    assert FLASH.flops(x) == tiles * 2 * br * bc * (x.tiles["bd"] + x.tiles["bdv"])
    assert FLASH.exps(x) == tiles * (br * bc + br)


@SMALL
@given(tiled_sizes())
def test_without_tiles_one_tile_is_all_queries_and_all_keys(x):
    pack = x.tiles.get("pack", 1)
    tiles, read, written = walk(x, pack)
    assert FLASH.traffic(x) == read + written
    assert FLASH.flops(x) == tiles * 2 * x.tq * pack * x.tk * (x.d + x.dv)


@SMALL
@given(tiled_sizes("br", "bc"))
def test_grouped_and_multi_query_attention_pack_all_heads_of_a_group(x):
    group = x.hq // x.hkv
    tiles, read, written = walk(x, group)
    assert SHARED.traffic(x) == read + written
    assert SHARED.flops(x) == tiles * 2 * x.tile("br", 0) * x.tile("bc", 0) * (x.d + x.dv)
    axes = {name: size for name, size in x.axes.items() if name != "hkv"}
    one = Sizes({**axes, "hq": group}, x.options, x.item, x.tiles)
    like = Sizes({**axes, "hq": group, "hkv": 1}, x.options, x.item, x.tiles)
    assert ONE_KEY_HEAD.traffic(one) == SHARED.traffic(like)


@pytest.mark.parametrize("pack", [1, 2, 4])
def test_heads_that_share_a_program_share_the_keys_it_reads(pack):
    x = Sizes({"b": 3, "hq": 8, "hkv": 2, "tq": 1, "tk": 300, "d": 5, "dv": 7})
    once = 3 * 2 * 300 * (5 + 7) * 4
    queries_and_outputs = 3 * 8 * (5 + 7 + 1) * 4
    tiled = x.with_tiles(br=16, bc=32, pack=pack)
    assert FLASH.traffic(tiled) == 4 // pack * once + queries_and_outputs


def test_the_grid_of_the_catalogue_has_4_row_blocks_and_8_column_blocks():
    x = Sizes({"b": 1, "hq": 1, "hkv": 1, "tq": 128, "tk": 128, "d": 16, "dv": 16})
    x = x.with_tiles(br=32, bc=16)
    assert list(row_blocks(x, 1)) == [128] * 4
    assert visited_tiles(x, 1) == 4 * 8
    assert FLASH.flops(x) == 4 * 128 * 128 * 16
    assert FLASH.traffic(x) == 4 * (128 * 16 + 4 * 2 * 128 * 16 + 128 * 16 + 128)


def test_under_causal_the_grid_of_the_catalogue_skips_the_tiles_above_the_diagonal():
    x = Sizes({"b": 1, "hq": 1, "hkv": 1, "tq": 128, "tk": 128, "d": 16, "dv": 16})
    x = Sizes(x.axes, {"causal": "top-left"}, 4, {"br": 32, "bc": 16})
    assert list(row_blocks(x, 1)) == [32, 64, 96, 128]
    assert visited_tiles(x, 1) == 2 + 4 + 6 + 8


@pytest.mark.parametrize("t", [512, 2048])
def test_flash_loads_keys_in_proportion_to_t_squared_over_the_rows_of_a_tile(t):
    def key_bytes(t, br):
        x = Sizes({"b": 1, "hq": 1, "hkv": 1, "tq": t, "tk": t, "d": 64, "dv": 64})
        return FLASH.traffic(x.with_tiles(br=br, bc=64)) - 4 * (2 * t * 64 + t)

    assert key_bytes(t, 32) == 4 * 2 * t * 64 * t // 32
    assert key_bytes(2 * t, 32) == 4 * key_bytes(t, 32) == 4 * 2 * key_bytes(t, 64)


# Fused attention ----------------------------------------------------------------------------------


def walk_rows(x, bc):
    """Scores held, elements read of k and v, and elements of S moved if every step is an operator,
    block by block: each of the keys up to the last that some row of it sees."""
    held = keys = passed = 0
    for first in range(0, x.tq, x.tiles["br"]):
        rows = range(first, min(first + x.tiles["br"], x.tq))
        causal = x.options.get("causal")
        seen = [j for j in range(x.tk) if any(sees(i, j, x.tq, x.tk, causal) for i in rows)]
        held += x.tiles["br"] * bc
        keys += len(seen) * (x.d + x.dv)
        passed += len(rows) * len(seen)
    return held, keys, passed


@st.composite
def fused_sizes(draw):
    """Sizes of fused attention, in blocks of a few rows."""
    axes = {n: draw(st.integers(1, 2)) for n in "bh"}
    axes |= {n: draw(st.integers(0, 14)) for n in ("tq", "tk")}
    axes |= {n: draw(st.integers(1, 5)) for n in ("d", "dv")}
    options = {"causal": draw(st.sampled_from([None, "top-left", "bottom-right"]))}
    return Sizes(axes, options, draw(st.sampled_from([2, 4, 8])), {"br": draw(st.integers(1, 20))})


@SMALL
@given(fused_sizes(), st.sampled_from([2, 4, 8]))
def test_fused_attention_reads_keys_once_per_block_and_holds_whole_rows_of_scores(x, step):
    bc = max(x.tk, 1) + 3
    wide = x.with_tiles(**x.tiles, bc=bc, bd=step, bdv=step)
    held, keys, _ = walk_rows(wide, bc)
    queries_and_out = x.tq * (x.d + x.dv) * x.item + x.tq * x.wide
    assert FUSED.traffic(wide) == x.b * x.h * (keys * x.item + queries_and_out)
    assert FUSED.exps(wide) == x.b * x.h * held
    depth = sum(step * -(-size // step) for size in (x.d, x.dv))
    assert FUSED.flops(wide) == 2 * x.b * x.h * held * depth


@SMALL
@given(fused_sizes())
def test_operators_on_blocks_of_rows_move_their_scores_eight_times(x):
    if x.options["causal"] or x.item < 4:
        return
    _, keys, passed = walk_rows(x, 1)
    moved = OPERATORS(x) - FUSED.compulsory(x.with_tiles())
    rows = x.tq if x.tk else 0
    scaled, divided, statistics = 2 * rows * x.d, 4 * rows * x.dv, 14 * rows
    read_again = keys - (x.tk * (x.d + x.dv) if rows else 0)
    words = 8 * passed + scaled + divided + statistics + read_again
    assert moved == x.b * x.h * x.wide * words


OPERATORS = FUSED.variants["operators on 64 rows at a time"]


@pytest.mark.parametrize("tk", [250, 1000])
def test_longer_rows_of_scores_leave_room_for_fewer_of_them(tk):
    """tq tk^2 (d + dv) / M words, where flash moves tq tk d (d + dv) / M."""

    def rows(tk):
        x = Sizes({"b": 1, "h": 1, "tq": 4096, "tk": tk, "d": 16, "dv": 16}, item=4)
        return FUSED.best_tiles(x)["br"]

    assert 8 * rows(8 * tk) == rows(tk)


def test_fused_attention_holds_no_scores_in_memory_or_those_of_64_rows():
    x = Sizes({"b": 2, "h": 3, "tq": 4096, "tk": 2048, "d": 64, "dv": 64}, item=2)
    scores = 2 * 3 * 4096 * 2048 * 4
    assert FUSED.memory(x.with_tiles(br=16)) == FUSED.compulsory(x) + WORKSPACE
    assert FUSED.memory(x) < scores / 2 < STANDARD.memory(x)


# Attention within buckets -------------------------------------------------------------------------


@st.composite
def hashed_sizes(draw):
    """Sizes of LSH attention with tiles, chunks and blocks of any length."""
    axes = {n: draw(st.integers(1, 2)) for n in "bh"}
    axes |= {n: draw(st.integers(1, 5)) for n in ("d", "dv", "rounds", "half")}
    axes["t"] = draw(st.integers(0, 30))
    tiles = {role: draw(st.integers(1, 9)) for role in ("br", "bc", "bd", "bdv", "bt", "bk")}
    options = {"duplicates": draw(st.sampled_from(["once", "counted"]))}
    return Sizes(axes, options, draw(st.sampled_from([2, 4, 8])), tiles)


def walk_chunks(x):
    """Multiplied elements, exponentials and bytes moved of hashing, attending and merging, program
    by program; sorting beside them."""
    t, wide, size = x.t, x.wide, max(-(-x.t // x.half), 1)
    br, bc, bt, bk = (x.tiles[role] for role in ("br", "bc", "bt", "bk"))
    flops = exps = moved = 0
    for turn, _ in product(range(x.rounds), range(x.b * x.h)):
        earlier = turn if x.options["duplicates"] == "once" else 0
        for first in range(0, t, bt):
            tokens = range(first, min(first + bt, t))
            moved += len(tokens) * (x.d * x.item + 4) + x.d * x.half * x.item
            flops += 2 * bt * bk * x.tiles["bd"] * len(range(0, x.half, bk))
            exps += 2 * bt  # when they are merged
        for start in range(0, t, size):
            end, begin = min(start + size, t), max(start - size, 0)
            for first in range(start, end, br):
                rows = len(range(first, min(first + br, end)))
                moved += rows * (8 + x.d * x.item + (x.dv + 1) * wide)
                for key in range(begin, end, bc):
                    keys = min(key + bc, end) - key
                    moved += keys * (8 + (x.d + x.dv) * x.item) + 4 * earlier * (rows + keys)
                    flops += 2 * br * bc * (x.tiles["bd"] + x.tiles["bdv"])
                    exps += br * (bc + 1)
        moved += t * (x.dv + 1) * wide + t * (9 * 8 + 5 * 4)
    each = (x.d + x.dv) * x.item + x.dv * x.item + wide
    return flops, exps, moved + x.b * x.h * t * each


@SMALL
@given(hashed_sizes())
def test_hashed_attention_moves_and_computes_what_its_programs_do(x):
    flops, exps, moved = walk_chunks(x)
    assert (HASHED.flops(x), HASHED.exps(x), HASHED.traffic(x)) == (flops, exps, moved)


@pytest.mark.parametrize("t", [512, 4096])
def test_with_chunks_of_one_length_attention_is_linear_and_hashing_is_not(t):
    def work(t):
        axes = {"b": 1, "h": 1, "t": t, "d": 64, "dv": 64, "rounds": 4, "half": t // 64}
        x = Sizes(axes)
        return HASHED.exps(x), HASHED.flops(x) - 2 * 4 * t * 64 * (t // 64)

    (exps, attended), (twice, attended_twice) = work(t), work(2 * t)
    assert (twice, attended_twice) == (2 * exps, 2 * attended)


# Self-attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("b", "t", "d"), [(2, 5, 3), (1, 1, 1), (1, 40, 7)])
def test_self_attention_needs_one_half_of_its_symmetric_scores(b, t, d):
    x = Sizes({"b": b, "t": t, "d": d})
    pairs = sum(1 for i, j in product(range(t), range(t)) if i <= j)
    assert DOT_PRODUCT.useful(x) == b * (2 * pairs * d + 2 * t * t * d)
    assert DOT_PRODUCT.flops(x) == b * 4 * t * t * d
    assert DOT_PRODUCT.exps(x) == b * t * t


@pytest.mark.parametrize(("item", "wide"), [(2, 4), (4, 4), (8, 8)])
def test_self_attention_reads_x_three_times_and_moves_its_scores_four_times(item, wide):
    got = DOT_PRODUCT.traffic(Sizes({"b": 2, "t": 9, "d": 5}, item=item))
    tokens, scores = 2 * 9 * 5, 2 * 9 * 9
    converted = tokens * (item + wide) + tokens * 2 * wide if item < wide else 0
    assert got == 3 * tokens * wide + 4 * scores * wide + tokens * item + converted
    assert DOT_PRODUCT.compulsory(Sizes({"b": 2, "t": 9, "d": 5}, item=item)) == 2 * tokens * item


# Its backward pass --------------------------------------------------------------------------------


def walk_backward(x):
    """Visited tiles of one pass, bytes moved, and FLOPs, program by program.

    A program of the first pass holds bc keys, and visits each tile of br rows, of each head of the
    group, of which some row may attend to some key; one of the second holds br rows of a head.
    """
    tq, tk, passes, wide = x.tq, x.tk, x.tiles["passes"], max(4, x.item)
    br, bc, causal = x.tiles["br"], x.tiles["bc"], x.options.get("causal")
    rows = [range(first, min(first + br, tq)) for first in range(0, tq, br)]
    keys = [range(first, min(first + bc, tk)) for first in range(0, tk, bc)]
    together = [
        (i, j)
        for i, j in product(range(len(rows)), range(len(keys)))
        if any(sees(r, c, tq, tk, causal) for r in rows[i] for c in keys[j])
    ]
    row, heads = (x.d + x.dv) * x.item, x.b * x.hq
    moved = heads * tq * (2 * x.dv * x.item + wide)  # out and d_out read, delta written
    for _ in range(x.b * x.hkv):
        moved += 2 * tk * row  # k and v read, dk and dv written
    for i, _ in together:
        moved += heads * len(rows[i]) * (row + 2 * wide)
        if passes == 1:
            moved += heads * len(rows[i]) * x.d * wide * 2  # added to the buffer
    if passes == 1:
        moved += heads * tq * x.d * wide  # the buffer zeroed
        moved += heads * tq * x.d * (wide + x.item) if x.item < wide else 0  # and converted
    else:
        moved += heads * sum(len(keys[j]) for _, j in together) * row
        moved += heads * tq * (row + 2 * wide + x.d * x.item)
    per_pair = 6 * x.tiles["bd"] + 4 * x.tiles["bdv"]
    per_pair += (passes - 1) * 2 * (x.tiles["bd"] + x.tiles["bdv"])
    tiles = heads * len(together)
    return tiles, moved, tiles * br * bc * per_pair


@SMALL
@given(tiled_sizes("br", "bc", "bd", "bdv"), st.sampled_from([1, 2]))
def test_the_backward_pass_moves_and_computes_what_its_programs_do(x, passes):
    x = x.with_tiles(**x.tiles, passes=passes)
    tiles, moved, flops = walk_backward(x)
    assert BACKWARD.traffic(x) == moved
    assert BACKWARD.flops(x) == flops
    assert BACKWARD.exps(x) == passes * tiles * x.tiles["br"] * x.tiles["bc"]


def backward_dependencies(x):
    """Elements of q, k, v and d_out that some gradient changes with, row by row.

    P of a row that sees one key is 1, whatever q, k and v are: of its inputs d_out alone counts.
    """
    found = {"q": set(), "k": set(), "v": set(), "d_out": set()}
    for b, h, i in product(range(x.b), range(x.hq), range(x.tq)):
        seen = [j for j in range(x.tk) if sees(i, j, x.tq, x.tk, x.options.get("causal"))]
        if seen:
            found["d_out"].update((b, h, i, c) for c in range(x.dv))
        if len(seen) > 1:
            found["q"].update((b, h, i, c) for c in range(x.d))
            for j, c in product(seen, range(x.d)):
                found["k"].add((b, h // (x.hq // x.hkv), j, c))
            for j, c in product(seen, range(x.dv)):
                found["v"].add((b, h // (x.hq // x.hkv), j, c))
    return {name: len(elements) for name, elements in found.items()}


@SMALL
@given(tiled_sizes())
def test_what_a_backward_pass_must_read_is_what_some_gradient_depends_on(x):
    needed = backward_dependencies(x)
    assert BACKWARD.reads(x) == needed
    outputs = x.b * (x.hq * x.tq * x.d + x.hkv * x.tk * (x.d + x.dv))
    assert BACKWARD.compulsory(x) == (sum(needed.values()) + outputs) * x.item
    pairs = sum(
        sees(i, j, x.tq, x.tk, x.options.get("causal"))
        for i, j in product(range(x.tq), range(x.tk))
    )
    assert BACKWARD.useful(x) == x.b * x.hq * pairs * (6 * x.d + 4 * x.dv)


def test_a_backward_pass_does_two_and_a_half_times_the_products_of_a_forward_pass():
    x = Sizes({"b": 2, "hq": 4, "hkv": 2, "tq": 100, "tk": 130, "d": 64, "dv": 64})
    assert BACKWARD.useful(x) == 5 / 2 * FLASH.useful(x)
    assert BACKWARD.flops(x.with_tiles(passes=2)) == 7 / 2 * FLASH.useful(x)


@SMALL
@given(tiled_sizes("br", "bc"), st.sampled_from([1, 2]))
def test_no_tiles_of_a_backward_pass_move_less_than_what_gradients_depend_on(x, passes):
    x = x.with_tiles(**x.tiles, passes=passes)
    assert BACKWARD.compulsory(x) <= BACKWARD.traffic(x)
    best = x.with_tiles(**BACKWARD.best_tiles(x))
    assert BACKWARD.traffic(best) <= BACKWARD.cap(x) / 2
    assert BACKWARD.lower(x) <= BACKWARD.traffic(best)


def test_the_memory_of_a_backward_pass_grows_with_the_length_alone():
    def held(t):
        x = Sizes({"b": 1, "hq": 2, "hkv": 1, "tq": t, "tk": t, "d": 64, "dv": 64})
        return BACKWARD.memory(x) - WORKSPACE

    assert held(1 << 17) == 2 * held(1 << 16)


# What outputs depend on ---------------------------------------------------------------------------


def dependencies(x):
    """Elements of q, k and v, one by one, that some element of out or lse depends on."""
    hq, hkv = x.axes.get("hq", x.axes.get("h")), x.axes.get("hkv", x.axes.get("h", 1))
    shape = (x.b, hq, x.tq, x.tk)
    mask = np.broadcast_to(True if (m := x.options.get("mask")) is None else m, shape)
    keep = np.broadcast_to(True if (k := x.options.get("keep")) is None else k[0], shape)
    found = {"q": set(), "k": set(), "v": set()}
    for b, h, i, j in product(*map(range, shape)):
        if mask[b, h, i, j] and sees(i, j, x.tq, x.tk, x.options.get("causal")):
            head = h // (hq // hkv)
            found["q"].update((b, h, i, c) for c in range(x.d))  # lse needs q and k though not v
            found["k"].update((b, head, j, c) for c in range(x.d))
            if keep[b, h, i, j]:
                found["v"].update((b, head, j, c) for c in range(x.dv))
    return {name: len(elements) for name, elements in found.items()}


@st.composite
def masked_sizes(draw, heads):
    """Sizes with any of causal, a mask of a shape that broadcasts, and a keep-mask."""
    group, hkv = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    heads = {"h": {"h": hkv}, "hq": {"hq": group}, "": {"hq": group * hkv, "hkv": hkv}}[heads]
    axes = {"b": draw(st.integers(1, 2)), **heads}
    axes |= {n: draw(st.integers(0, 6)) for n in ("tq", "tk")} | {"d": 2, "dv": 3}
    shape = (axes["b"], axes.get("hq", axes.get("h")), axes["tq"], axes["tk"])
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    options = {"causal": draw(st.sampled_from([None, "top-left", "bottom-right"]))}
    if draw(st.booleans()):
        kept = [n if draw(st.booleans()) else 1 for n in shape]
        options["mask"] = rng.random(kept) < draw(st.sampled_from([0.2, 0.7]))
    if draw(st.booleans()):
        options["keep"] = (rng.random(shape) < 0.5, 0.5)
    return Sizes(axes, options, draw(st.sampled_from([2, 4, 8])))


@pytest.mark.parametrize(
    ("costs", "heads"),
    [(STANDARD, "h"), (FUSED, "h"), (ONE_KEY_HEAD, "hq"), (SHARED, ""), (FLASH, "")],
)
def test_what_must_be_read_is_what_some_output_depends_on(costs, heads):
    @SMALL
    @given(masked_sizes(heads))
    def check(x):
        needed = dependencies(x)
        assert costs.reads(x) == needed
        hq = x.axes.get("hq", x.axes.get("h"))
        outputs = x.b * hq * x.tq * (x.dv * x.item + max(4, x.item))
        assert costs.compulsory(x) == sum(needed.values()) * x.item + outputs

    check()


@pytest.mark.parametrize("option", ["mask", "keep", "causal"])
def test_without_keys_nothing_is_needed_under_any_option(option):
    keep = np.ones((2, 4, 3, 0), bool)
    value = {"mask": keep, "keep": (keep, 0.5), "causal": "top-left"}[option]
    axes = {"b": 2, "hq": 4, "hkv": 2, "tq": 3, "tk": 0, "d": 5, "dv": 7}
    assert FLASH.reads(Sizes(axes, {option: value})) == {"q": 0, "k": 0, "v": 0}


@SMALL
@given(masked_sizes(""))
def test_useful_flops_are_those_of_pairs_that_causal_allows(x):
    count = 0
    for _ in range(x.b * x.hq):
        for i, j in product(range(x.tq), range(x.tk)):
            count += sees(i, j, x.tq, x.tk, x.options.get("causal"))
    assert FLASH.useful(x) == STANDARD.useful(x) == 2 * count * (x.d + x.dv)


@FEW
@given(*[st.integers(0, 5)] * 3)
def test_a_product_without_outputs_or_terms_reads_nothing(m, k, n):
    a = {(i, p) for i, j, p in product(range(m), range(n), range(k))}
    b = {(p, j) for i, j, p in product(range(m), range(n), range(k))}
    x = Sizes({"m": m, "k": k, "n": n})
    assert MATMUL.reads(x) == {"a": len(a), "b": len(b)}
    assert MATMUL.compulsory(x) == 4 * (len(a) + len(b) + m * n)


# Layers -------------------------------------------------------------------------------------------


@st.composite
def layer_sizes(draw):
    """Sizes of an attention layer, with any of causal and a mask."""
    group, hkv = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    axes = {"b": draw(st.integers(1, 2)), "hq": group * hkv, "hkv": hkv, "d": 2, "dv": 3, "e": 4}
    axes |= {n: draw(st.integers(0, 5)) for n in ("tq", "tk")}
    options = {"causal": draw(st.sampled_from([None, "top-left", "bottom-right"]))}
    if draw(st.booleans()):
        shape = (axes["b"], axes["hq"], axes["tq"], axes["tk"])
        rng = np.random.default_rng(draw(st.integers(0, 10**6)))
        options["mask"] = rng.random(shape) < draw(st.sampled_from([0.1, 0.6]))
    return Sizes(axes, options, draw(st.sampled_from([2, 4, 8])))


@SMALL
@given(layer_sizes())
def test_a_layer_must_read_what_some_output_depends_on(x):
    mask, group = x.options.get("mask"), x.hq // x.hkv
    found = {name: set() for name in ("x_q", "x_kv", "w_q", "w_k", "w_v", "w_o")}
    for b, h, i, j in product(range(x.b), range(x.hq), range(x.tq), range(x.tk)):
        if (mask is None or mask[b, h, i, j]) and sees(i, j, x.tq, x.tk, x.options["causal"]):
            for p in range(x.e):
                found["x_q"].add((b, i, p))
                found["x_kv"].add((b, j, p))
                found["w_q"].update((p, h, c) for c in range(x.d))
                found["w_k"].update((p, h // group, c) for c in range(x.d))
                found["w_v"].update((p, h // group, c) for c in range(x.dv))
                found["w_o"].update((h, c, p) for c in range(x.dv))
    needed = {name: len(elements) for name, elements in found.items()}
    assert LAYER.reads(x) == needed
    assert LAYER.compulsory(x) == (sum(needed.values()) + x.b * x.tq * x.e) * x.item
    assert LAYER.compulsory(x) <= LAYER.traffic(x) <= LAYER.cap(x)
    assert LAYER.useful(x) <= LAYER.flops(x)


@SMALL
@given(*[st.integers(1, 3)] * 3, *[st.integers(0, 5)] * 2, *[st.integers(1, 4)] * 3)
def test_a_layer_computes_its_projections_and_its_attention(b, hkv, group, tq, tk, d, dv, e):
    axes = {"b": b, "hq": hkv * group, "hkv": hkv, "tq": tq, "tk": tk, "d": d, "dv": dv}
    x = Sizes({**axes, "e": e})
    products = [(b * tq, e, x.hq * d), (b * tk, e, hkv * d), (b * tk, e, hkv * dv)]
    products += [(b * tq, x.hq * dv, e)]
    of_projections = sum(2 * m * k * n for m, k, n in products)
    assert LAYER.flops(x) == of_projections + SHARED.flops(x)
    # of equal lengths, the formula of the catalogue
    if tq == tk:
        t = b * tq
        assert of_projections == 2 * t * e * (x.hq * d + hkv * (d + dv)) + 2 * t * x.hq * dv * e


@SMALL
@given(*[st.integers(1, 5)] * 4, st.sampled_from([2, 4, 8]))
def test_uptraining_reads_every_weight_once_and_adds_all_but_one_per_group(e, hkv, group, d, item):
    x = Sizes({"e": e, "hq": hkv * group, "hkv": hkv, "d": d}, {}, item)
    assert UPTRAIN.traffic(x) == UPTRAIN.compulsory(x) == item * e * d * hkv * (group + 1)
    assert UPTRAIN.useful(x) == e * d * hkv * (group - 1)
    assert UPTRAIN.operations(x) == UPTRAIN.useful(x) + e * d * hkv


@SMALL
@given(st.integers(0, 40), st.integers(1, 9), st.sampled_from([2, 4, 8]))
def test_features_take_a_dot_product_and_a_subtraction_per_pair_of_rows_of_a_block(r, d, item):
    x = Sizes({"r": r, "d": d}, {}, item)
    pairs = sum(i // d == j // d for i in range(r) for j in range(i))
    assert FEATURES.useful(x) == pairs * 4 * d
    assert FEATURES.compulsory(x) == item * (r * d + r + r * d) <= FEATURES.traffic(x)


@FEW
@given(*[st.integers(1, 2)] * 2, st.integers(0, 150), *[st.integers(1, 9)] * 3, st.booleans())
def test_attention_through_features_takes_a_state_and_under_causal_chunks(
    b, h, t, d, dv, r, causal
):
    options = {"causal": "top-left"} if causal else {}
    axes = {"b": b, "h": h, "t": t, "d": d, "dv": dv, "r": r}
    x = Sizes(axes, options, 4)
    flops = 0
    for i in range(t):
        flops += 2 * 2 * r * d  # W x of its query and its key
        flops += 2 * 2 * r * (dv + 1)  # into the state, and out of it
        same = [j for j in range(t) if causal and i // CHUNK == j // CHUNK]
        flops += len(same) * 2 * (r + dv + 1)
    assert PERFORMER.flops(x) == b * h * flops
    assert PERFORMER.exps(x) == 2 * b * h * t * r


@st.composite
def lifted_sizes(draw):
    """Sizes of attention through features with tiles, and spans of at least one chunk each."""
    axes = {n: draw(st.integers(1, 2)) for n in "bh"}
    axes |= {n: draw(st.integers(1, 5)) for n in ("d", "dv")}
    axes |= {"t": draw(st.integers(1, 40)), "r": draw(st.integers(1, 12))}
    kind = draw(st.sampled_from(["positive", "hyperbolic", "trig", "relu"]))
    options = {"kind": kind, "causal": draw(st.sampled_from([None, "top-left"]))}
    tiles = {role: draw(st.integers(1, 9)) for role in ("chunk", "br", "bd", "bdv")}
    held = tiles["chunk"] * draw(st.integers(1, 4))
    tiles["spans"] = -(-axes["t"] // held)
    return Sizes(axes, options, draw(st.sampled_from([2, 4])), tiles), held


def walk_spans(x, held):
    """Multiplied elements, exponentials and bytes moved of summing keys, adding spans and
    multiplying queries, program by program."""
    kind, causal, c, br = x.options["kind"], x.options["causal"], x.tiles["chunk"], x.tiles["br"]
    functions = 2 if kind in ("hyperbolic", "trig") else 1
    lowered, lanes = kind != "relu", functions * br
    made = {"trig": c, "relu": 0}.get(kind, c * lanes)
    along, state = 2 * c * br * x.tiles["bd"], 2 * c * lanes * x.tiles["bdv"]
    words = [functions * len(range(f, min(f + br, x.r))) * (x.dv + 1) for f in range(0, x.r, br)]
    spans = [range(first, min(first + held, x.t)) for first in range(0, x.t, held)]
    flops = exps = narrow = wide = 0
    for span, m in product(spans, words):
        narrow += m // functions // (x.dv + 1) * x.d + len(span) * (x.d + x.dv)
        wide += m + lowered  # left by the program that sums
        wide += m * (2 if causal else 1) + 3 * lowered  # added up, and its exponent found
        exps += lowered
        for _ in range(0, len(span), c):
            flops += along + state
            exps += made + lowered
    wide += lowered + (0 if causal else sum(words))
    for span in spans:
        for first in range(0, len(span), c):
            rows = len(span[first : first + c])
            narrow += x.r * x.d + rows * (x.d + x.dv)
            wide += sum(words)
            exps += sum(made + c for _ in words) if kind in ("positive", "hyperbolic") else 0
            flops += len(words) * (along + state)
            if causal:
                more = first + c < len(span)
                narrow += rows * (x.d + x.dv)
                wide += lowered + more * sum(words)
                exps += made * (1 if kind == "trig" else len(words))
                flops += len(words) * (along + 2 * c * c * lanes + more * state)
                flops += 2 * c * c * x.tiles["bdv"]
    each = x.b * x.h
    return each * flops, each * exps, each * (narrow * x.item + wide * x.wide)


@SMALL
@given(lifted_sizes())
def test_attention_through_features_moves_and_computes_what_its_programs_do(drawn):
    x, held = drawn
    got = (PERFORMER.flops(x), PERFORMER.exps(x), PERFORMER.traffic(x))
    assert got == walk_spans(x, held)


def test_attention_through_features_holds_a_state_per_span_whatever_the_length():
    def held(t):
        x = Sizes({"b": 1, "h": 2, "t": t, "d": 64, "dv": 64, "r": 256}, {"causal": "top-left"})
        return PERFORMER.memory(x.with_tiles(**{**PERFORMER.best_tiles(x), "spans": 4}))

    assert held(1 << 16) == held(1 << 10) < WORKSPACE + 4 * 2 * 4 * 257 * 65


def test_the_work_and_the_memory_of_attention_through_features_grow_with_the_length():
    def grown(form, **options):
        short, long = (
            form(Sizes({"b": 1, "h": 1, "t": t, "d": 64, "dv": 64, "r": 256}, options))
            for t in (1 << 15, 1 << 16)
        )
        return long / short

    for options in ({}, {"causal": "top-left"}, {"kind": "trig"}):
        for form in (PERFORMER.flops, PERFORMER.traffic, PERFORMER.memory):
            assert 1.9 < grown(form, **options) <= 2


@FEW
@given(*[st.integers(1, 2)] * 2, *[st.integers(1, 9)] * 4)
def test_attention_over_projected_keys_mixes_them_and_attends_the_mixtures(b, h, t, d, dv, r):
    x = Sizes({"b": b, "h": h, "t": t, "d": d, "dv": dv, "r": r})
    pairs = sum(1 for _ in product(range(b), range(h), range(r), range(t)))
    assert LINFORMER.flops(x) == 2 * pairs * (d + dv) + 2 * pairs * (d + dv)
    assert LINFORMER.exps(x) == pairs
    inputs = b * h * t * (2 * d + dv) + 2 * r * t
    if r > 1:
        assert sum(LINFORMER.reads(x).values()) == inputs


# Bounds around the closed forms -------------------------------------------------------------------


def sizes_of(costs, axes, options, item):
    """The same sizes by the axis names of a variant."""
    if costs in (STANDARD, FUSED):
        axes = {**{n: s for n, s in axes.items() if n not in ("hq", "hkv")}, "h": axes["hq"]}
    if costs is ONE_KEY_HEAD:
        axes = {n: s for n, s in axes.items() if n != "hkv"}
    return Sizes(axes, options, item)


@st.composite
def large_sizes(draw):
    """Axes as of models, from none to thousands of positions."""
    hkv = draw(st.integers(1, 4))
    axes = {"b": draw(st.integers(1, 3)), "hq": hkv * draw(st.integers(1, 4)), "hkv": hkv}
    axes |= {n: draw(st.one_of(st.integers(0, 40), st.integers(0, 3000))) for n in ("tq", "tk")}
    axes |= {n: draw(st.sampled_from([1, 16, 64, 80, 128, 256])) for n in ("d", "dv")}
    causal = draw(st.sampled_from([None, "top-left", "bottom-right"]))
    return axes, {"causal": causal}, draw(st.sampled_from([2, 4, 8]))


@pytest.mark.parametrize("costs", ATTENTIONS)
def test_what_is_needed_is_at_most_what_best_tiles_move_and_that_at_most_the_cap(costs):
    @SMALL
    @given(large_sizes())
    def check(drawn):
        x = sizes_of(costs, *drawn)
        tiled = x.with_tiles(**costs.best_tiles(x))
        assert costs.compulsory(x) <= costs.traffic(tiled) <= costs.cap(tiled) <= costs.cap(x)
        assert costs.lower(x) <= costs.traffic(tiled)
        assert costs.useful(x) <= costs.flops(tiled)

    check()


@SMALL
@given(tiled_sizes("br", "bc"))
def test_no_tiles_move_less_than_what_is_needed(x):
    for costs in (FLASH, SHARED):
        assert costs.traffic(x) >= costs.compulsory(x)
        assert costs.flops(x) >= costs.useful(x)


def bytes_on_chip(x, br, bc):
    """Tiles of q, k and v as they are stored, of S and out as they are accumulated."""
    inputs, wide = br * x.d + bc * x.d + bc * x.dv, br * bc + br * x.dv
    return inputs * x.item + wide * max(4, x.item)


POWERS = [2**n for n in range(4, 15)]
EDGES = [(1, 300), (700, 5), (300, 1), (5, 5), (0, 9), (9, 0)]


def least_traffic(costs, x, fits):
    """Of all pairs of powers of two that fit, the fewest bytes."""
    first, second = costs.tiles[:2]
    choices = [(s, t) for s, t in product(POWERS, POWERS) if fits(x, s, t)]
    return min(
        (costs.traffic(x.with_tiles(**{first: s, second: t})) for s, t in choices), default=inf
    )


@pytest.mark.parametrize("costs", [FLASH, SHARED])
@pytest.mark.parametrize("item", [2, 4, 8])
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize(("tq", "tk"), [(100, 130), (40, 2000), (2000, 40), (700, 700), *EDGES])
def test_best_tiles_fit_on_chip_and_none_that_fits_moves_less(costs, item, causal, tq, tk):
    for d in (16, 64, 256 if item < 8 else 128):  # of float64 no tile of 256 fits
        axes = {"b": 1, "hq": 4, "hkv": 2, "tq": tq, "tk": tk, "d": d, "dv": d}
        x = Sizes(axes, {"causal": causal}, item)
        best = costs.best_tiles(x)
        assert bytes_on_chip(x, **best) <= ON_CHIP
        assert best["br"] <= 128 and best["bc"] <= 128

        def fits(x, br, bc):
            return max(br, bc) <= 128 and bytes_on_chip(x, br, bc) <= ON_CHIP

        assert costs.traffic(x.with_tiles(**best)) == least_traffic(costs, x, fits)


# Decoding -----------------------------------------------------------------------------------------


def deal(held, splits, tile):
    """The keys of each split, tile by tile: whole tiles, as evenly as that goes."""
    tiles = [range(start, min(start + tile, held)) for start in range(0, held, tile)]
    each = max(1, -(-len(tiles) // splits))
    return [tiles[first : first + each] for first in range(0, len(tiles), each)]


def decode(x):
    """Bytes moved, FLOPs and exponentials, split by split, and those of merging them."""
    splits, bc, group = x.options.get("splits") or x.tiles["splits"], x.tiles["bc"], x.hq // x.hkv
    lengths, wide = x.options.get("lengths"), max(4, x.item)
    launched = min(splits, max(1, -(-x.tk // bc)))
    moved = flops = exps = 0
    for sequence in range(x.b):
        dealt = deal(x.tk if lengths is None else int(lengths[sequence]), splits, bc)
        assert len(dealt) <= launched
        for _ in range(x.hkv):
            for tiles in dealt:
                moved += group * x.d * x.item + group * (x.dv + 1) * wide
                for keys in tiles:
                    moved += len(keys) * (x.d + x.dv) * x.item
                    flops += 2 * x.tiles["br"] * bc * (x.tiles["bd"] + x.tiles["bdv"])
                    exps += x.tiles["br"] * (bc + 1)
            moved += group * (len(dealt) * (x.dv + 1) * wide + x.dv * x.item + wide)
            exps += group * 2 * len(dealt)
            moved += 0 if lengths is None else 4 * (launched + group)
    return moved, flops, exps


@st.composite
def decoding_sizes(draw):
    """Sizes of decoding, with and without lengths, more splits than keys among them."""
    hkv, b, tk = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(0, 40))
    axes = {"b": b, "hq": hkv * draw(st.integers(1, 3)), "hkv": hkv, "tk": tk}
    axes |= {n: draw(st.integers(1, 5)) for n in ("d", "dv")}
    options = {}
    if draw(st.booleans()):
        options["lengths"] = np.array([draw(st.integers(0, tk)) for _ in range(b)], np.int32)
    if draw(st.booleans()):
        options["splits"] = draw(st.integers(1, 50))
    tiles = {n: draw(st.integers(1, 20)) for n in ("br", "bc", "bd", "bdv", "splits")}
    return Sizes(axes, options, draw(st.sampled_from([2, 4, 8])), tiles)


@SMALL
@given(decoding_sizes())
def test_decoding_moves_and_computes_what_its_splits_and_their_merge_do(x):
    assert (DECODING.traffic(x), DECODING.flops(x), DECODING.exps(x)) == decode(x)
    assert DECODING.compulsory(x) <= DECODING.traffic(x)
    assert DECODING.useful(x) <= DECODING.flops(x.with_tiles(bc=x.tiles["bc"]))


@SMALL
@given(decoding_sizes())
def test_decoding_depends_on_the_keys_that_exist_and_on_queries_that_see_one(x):
    lengths = x.options.get("lengths", [x.tk] * x.b)
    found = {"q": 0, "k": 0, "v": 0}
    for held in map(int, lengths):
        found["q"] += x.hq * x.d if held else 0
        found["k"] += x.hkv * held * x.d
        found["v"] += x.hkv * held * x.dv
    assert DECODING.reads(x) == found
    outputs = x.b * x.hq * (x.dv * x.item + max(4, x.item))
    assert DECODING.compulsory(x) == sum(found.values()) * x.item + outputs
    assert DECODING.useful(x) == 2 * x.hq * int(sum(lengths)) * (x.d + x.dv)


@SMALL
@given(decoding_sizes())
def test_no_way_to_decode_by_operators_or_best_tiles_is_beyond_the_cap(x):
    best = x.with_tiles(**DECODING.best_tiles(x), splits=x.tiles["splits"])
    assert DECODING.traffic(best) <= DECODING.cap(best)
    plain = x.with_tiles()
    assert DECODING.compulsory(x) <= DECODING.traffic(plain) <= DECODING.cap(plain)
    assert DECODING.useful(x) <= DECODING.flops(plain)


def test_decoding_holds_partial_results_alone_and_none_of_splits_that_no_tile_can_fill():
    axes = {"b": 2, "hq": 8, "hkv": 2, "tk": 4096, "d": 64, "dv": 128}
    x = Sizes(axes, {"splits": 4}, 2, {"bc": 64})
    assert DECODING.memory(x) == 2 * 8 * 4 * (128 + 1) * 4 + WORKSPACE
    many = Sizes(axes, {"splits": 1000}, 2, {"bc": 64})
    assert DECODING.memory(many) == 2 * 8 * 64 * (128 + 1) * 4 + WORKSPACE


# Paged attention ----------------------------------------------------------------------------------


@st.composite
def paged_sizes(draw):
    """Sizes of paged attention, with tables in which sequences may share pages."""
    hkv, b, n = draw(st.integers(1, 2)), draw(st.integers(0, 3)), draw(st.integers(0, 5))
    page, pages = draw(st.integers(1, 9)), draw(st.integers(n, 12))
    axes = {"b": b, "hq": hkv * draw(st.integers(1, 3)), "hkv": hkv, "d": draw(st.integers(1, 5))}
    axes |= {"pages": pages, "page": page, "n": n}
    lengths = [draw(st.integers(0, n * page)) for _ in range(b)]
    rows = [draw(st.permutations(range(pages)))[:n] for _ in range(b)]
    options = {"lengths": np.array(lengths, np.int32)}
    options["page_table"] = np.array(rows, np.int32).reshape(b, n)
    if draw(st.booleans()):
        options["splits"] = draw(st.integers(1, 50))
    tiles = {name: draw(st.integers(1, 20)) for name in ("br", "bc", "bd", "bdv", "splits")}
    return Sizes(axes, options, draw(st.sampled_from([2, 4, 8])), tiles)


def contiguous(x):
    """The same sequences, tokens one behind the other."""
    axes = {n: x.axes[n] for n in ("b", "hq", "hkv", "d")} | {"dv": x.d, "tk": x.n * x.page}
    return Sizes(axes, x.options, x.item, x.tiles)


@SMALL
@given(paged_sizes())
def test_paged_attention_does_the_work_of_decoding_and_looks_up_each_page_of_each_tile(x):
    moved, flops, exps = decode(contiguous(x))
    for held in map(int, x.options["lengths"]):
        for tile in range(0, held, x.tiles["bc"]):
            keys = range(tile, min(tile + x.tiles["bc"], held))
            moved += x.hkv * 4 * len({key // x.page for key in keys})
    assert (PAGED.traffic(x), PAGED.flops(x), PAGED.exps(x)) == (moved, flops, exps)


@SMALL
@given(paged_sizes())
def test_paged_attention_depends_on_each_slot_that_some_sequence_holds_once(x):
    table, lengths = x.options["page_table"], x.options["lengths"]
    slots = {
        (table[i, j // x.page], j % x.page) for i in range(x.b) for j in range(int(lengths[i]))
    }
    queries = x.hq * x.d * sum(1 for held in lengths if held)
    numbers = len(slots) * x.hkv * x.d
    assert PAGED.reads(x) == {"q": queries, "k_pages": numbers, "v_pages": numbers}
    assert PAGED.compulsory(x) == x.item * (queries + 2 * numbers + x.b * x.hq * x.d) + (
        x.b * x.hq * max(4, x.item)
    )
    assert PAGED.compulsory(x) <= PAGED.traffic(x)


@SMALL
@given(paged_sizes())
def test_no_way_to_attend_to_pages_by_operators_or_best_tiles_is_beyond_the_cap(x):
    best = x.with_tiles(**PAGED.best_tiles(x), splits=x.tiles["splits"])
    assert PAGED.traffic(best) <= PAGED.cap(best)
    plain = x.with_tiles()
    assert PAGED.compulsory(x) <= PAGED.traffic(plain) <= PAGED.cap(plain)


def test_a_pool_costs_nothing_where_no_sequence_holds_it():
    axes = {"b": 2, "hq": 8, "hkv": 2, "d": 64, "page": 16, "n": 10}
    small, large = (
        Sizes({**axes, "pages": pages}, {"splits": 2}, 2, {"bc": 64}) for pages in (20, 20_000)
    )
    for form in ("traffic", "compulsory", "memory", "cap", "flops"):
        assert getattr(PAGED, form)(small) == getattr(PAGED, form)(large), form


# Additive attention -------------------------------------------------------------------------------

WIDTHS = ("dq", "dk", "dv", "h")


@st.composite
def additive_sizes(draw):
    """Sizes of additive attention with any of a mask of a shape that broadcasts and a decoder."""
    axes = {n: draw(st.integers(0, 4)) for n in ("b", "tq", "tk")}
    axes |= {n: draw(st.integers(1, 4)) for n in WIDTHS}
    rng, options = np.random.default_rng(draw(st.integers(0, 10**6))), {}
    if draw(st.booleans()):
        kept = [axes[n] if draw(st.booleans()) else 1 for n in ("b", "tq")]
        options["mask"] = rng.random((*kept, axes["tk"])) < draw(st.sampled_from([0.2, 0.7]))
    if draw(st.booleans()):
        options["form"] = "decoder"
    return Sizes(axes, options, draw(st.sampled_from([2, 4, 8])))


@SMALL
@given(additive_sizes())
def test_additive_attention_needs_what_some_output_depends_on(x):
    shape = (x.b, x.tq, x.tk)
    mask = np.broadcast_to(x.options.get("mask", True), shape)
    found = {name: set() for name in ADDITIVE.reads(x)}
    for b, i, j in product(*map(range, shape)):
        if mask[b, i, j]:
            found["query"].update((b, i, c) for c in range(x.dq))
            found["key"].update((b, j, c) for c in range(x.dk))
            found["value"].update((b, j, c) for c in range(x.dv))
            for c in range(x.h):
                found["w_query"].update((r, c) for r in range(x.dq))
                found["w_key"].update((r, c) for r in range(x.dk))
                found["bias"].add(c)
                found["w_score"].add(c)
    beside = 0
    if "form" in x.options:
        found["query"].update(product(range(x.b), range(x.tq), range(x.dq)))
        beside = x.dq
    assert ADDITIVE.reads(x) == {name: len(elements) for name, elements in found.items()}
    outputs = x.b * x.tq * (x.dv + beside + x.tk)
    assert ADDITIVE.compulsory(x) == (sum(map(len, found.values())) + outputs) * x.item
    assert ADDITIVE.compulsory(x) <= ADDITIVE.traffic(x) <= ADDITIVE.cap(x)


@FEW
@given(*[st.integers(1, 4)] * 7)
def test_additive_attention_projects_each_row_once_and_takes_a_tanh_per_unit_and_pair(
    b, tq, tk, dq, dk, dv, h
):
    x = Sizes({"b": b, "tq": tq, "tk": tk, "dq": dq, "dk": dk, "dv": dv, "h": h})
    flops = sums = exps = 0
    for _ in range(b):
        flops += sum(2 * dq for _ in product(range(tq), range(h)))
        flops += sum(2 * dk for _ in product(range(tk), range(h)))
        for _ in product(range(tq), range(tk)):
            flops, sums, exps = flops + 2 * dv, sums + 2 * h, exps + h + 1
    assert (ADDITIVE.useful(x), ADDITIVE.flops(x), ADDITIVE.exps(x)) == (flops, flops + sums, exps)


def test_the_hidden_units_of_all_pairs_are_more_than_additive_attention_may_hold():
    x = Sizes({"b": 1, "tq": 512, "tk": 512, "dq": 64, "dk": 64, "dv": 64, "h": 64})
    assert 4 * ADDITIVE.memory(x) < 4 * 512 * 512 * 64
    twice = Sizes({**x.axes, "h": 128})
    assert ADDITIVE.memory(twice) - ADDITIVE.memory(x) < 4 * 512 * 512 * 64 / 10


@pytest.mark.parametrize("axis", ["tq", "tk", "h", "dq", "dk", "dv"])
def test_tiles_of_additive_attention_are_computed_whole(axis):
    axes = {"b": 2, "tq": 5, "tk": 7, "dq": 3, "dk": 6, "dv": 9, "h": 10}
    role = {"tq": "br", "tk": "bc"}.get(axis, f"b{axis}")
    whole = Sizes({**axes, axis: 16})
    tiled = Sizes(axes).with_tiles(**{role: 16})
    assert ADDITIVE.flops(tiled) == ADDITIVE.flops(whole) > ADDITIVE.flops(Sizes(axes))


# Products -----------------------------------------------------------------------------------------


def count_product(m, k, n, bm, bn, bk):
    """Elements moved and FLOPs, per tile of out: its rows of a, its columns of b, itself."""
    moved = flops = 0
    for i, j in product(range(0, m, bm), range(0, n, bn)):
        rows, columns = min(bm, m - i), min(bn, n - j)
        for start in range(0, k, bk):
            depth = min(bk, k - start)
            moved += (rows + columns) * depth
            flops += 2 * bm * bn * bk
        moved += rows * columns
    return moved, flops


@SMALL
@given(*[st.integers(0, 40)] * 3, *[st.integers(1, 50)] * 3, st.sampled_from([2, 4, 8]))
def test_a_tiled_product_moves_and_computes_what_its_tiles_do(m, k, n, bm, bn, bk, item):
    x = Sizes({"m": m, "k": k, "n": n}, {}, item, {"bm": bm, "bn": bn, "bk": bk})
    moved, flops = count_product(m, k, n, bm, bn, bk)
    assert MATMUL.traffic(x) == moved * item
    assert MATMUL.flops(x) == flops
    assert MATMUL.traffic(x) >= MATMUL.compulsory(x)


@FEW
@given(*[st.integers(0, 9)] * 3, st.integers(1, 5), st.sampled_from([2, 4, 8]))
def test_a_naive_product_reads_a_row_and_a_column_per_output(m, k, n, depth, item):
    moved = operations = 0
    for _ in range(m * n):
        for _ in range(0, k, depth):
            operations += 2 * depth
        moved += k + k + 1
    x = Sizes({"m": m, "k": k, "n": n}, {}, item, {"depth": depth})
    assert NAIVE.traffic(x) == moved * item
    assert NAIVE.operations(x) == operations
    assert NAIVE.useful(x) <= operations
    assert NAIVE.traffic(x) <= NAIVE.cap(x)


def walk_blocks(x, levels):
    """What the recursion on zeros does: bytes and FLOPs of leaves, elements and bytes of sums."""
    leaf = {"flops": 0, "moved": 0, "summed": 0}

    def multiply(a, b):
        (m, k), n = a.shape, b.shape[1]
        inner = Sizes({"m": m, "k": k, "n": n}, {}, x.wide if levels else x.item, x.tiles)
        leaf["flops"] += MATMUL.flops(inner)
        leaf["moved"] += MATMUL.traffic(inner)
        return np.zeros((m, n))

    def add(one, other):
        leaf["summed"] += one.size
        return one

    a, b = (filled(np.zeros(shape), levels) for shape in ((x.m, x.k), (x.k, x.n)))
    form = FORMS[x.options["variant"]]
    out = recurse(form, a, b, levels, mul=multiply, add=add, sub=add)
    copied = 0
    for own, whole in (((x.m, x.k), a.shape), ((x.k, x.n), b.shape)):
        if levels and (own != whole or x.item < 4):
            copied += own[0] * own[1] * x.item + whole[0] * whole[1] * x.wide
    if levels and ((x.m, x.n) != out.shape or x.item < 4):
        copied += x.m * x.n * (x.wide + x.item)
    return leaf["flops"], leaf["summed"], leaf["moved"] + 3 * x.wide * leaf["summed"] + copied


@SMALL
@given(
    *[st.integers(0, 20)] * 3,
    st.integers(0, 3),
    st.sampled_from(["strassen", "winograd"]),
    st.sampled_from([2, 4, 8]),
    st.sampled_from([{}, {"bm": 4, "bn": 2, "bk": 3}]),
)
def test_a_fast_product_computes_adds_and_moves_what_its_recursion_does(
    m, k, n, levels, variant, item, tiles
):
    x = Sizes({"m": m, "k": k, "n": n}, {"levels": levels, "variant": variant}, item, tiles)
    flops, summed, moved = walk_blocks(x, levels)
    assert STRASSEN.flops(x) == flops
    assert STRASSEN.additions(x) == summed
    assert STRASSEN.traffic(x) == moved
    assert STRASSEN.useful(x) <= flops
    assert moved <= STRASSEN.cap(x) or tiles


@pytest.mark.parametrize(("variant", "counts"), [("strassen", (5, 5, 8)), ("winograd", (4, 4, 7))])
def test_the_additions_of_all_levels_add_up_to_a_geometric_sum(variant, counts):
    m, k, n, levels = 64, 32, 96, 3
    x = Sizes({"m": m, "k": k, "n": n}, {"levels": levels, "variant": variant})
    weighted = counts[0] * m * k + counts[1] * k * n + counts[2] * m * n
    assert STRASSEN.additions(x) == (Fraction(7, 4) ** levels - 1) / 3 * weighted


def test_the_buffers_of_a_fast_product_are_less_than_a_third_of_its_sizes():
    x = Sizes({"m": 512, "k": 256, "n": 1024}, {"levels": 5})
    held = STRASSEN.memory(x) - WORKSPACE
    assert 0.33 < held / STRASSEN.compulsory(x) < 1 / 3


@given(st.integers(0, 3000), st.sampled_from([1, 2, 3, 16, 64, 65]))
def test_blocks_are_halved_while_a_side_exceeds_the_cutoff(shortest, cutoff):
    side, count = shortest, 0
    while side > cutoff:
        side, count = (side + 1) // 2, count + 1
    assert halvings(shortest, None, cutoff) == count
    assert halvings(shortest, 2, None) == 2


def test_one_tile_as_large_as_the_product_moves_the_compulsory_bytes_only():
    x = Sizes({"m": 40, "k": 70, "n": 50}, {}, 4, {"bm": 64, "bn": 64})
    assert MATMUL.traffic(x) == MATMUL.compulsory(x) == 4 * (40 * 70 + 70 * 50 + 40 * 50)


@pytest.mark.parametrize("item", [2, 4, 8])
@pytest.mark.parametrize("m", [1, 40, 300, 2048])
@pytest.mark.parametrize("n", [7, 300, 2048])
def test_best_tiles_of_a_product_fit_on_chip_and_none_that_fits_moves_less(item, m, n):
    def fits(x, bm, bn):
        return bm * bn * max(4, item) + (bm + bn) * 32 * item <= ON_CHIP

    x = Sizes({"m": m, "k": 500, "n": n}, {}, item)
    best = MATMUL.best_tiles(x)
    assert fits(x, best["bm"], best["bn"])
    assert MATMUL.traffic(x.with_tiles(**best)) == least_traffic(MATMUL, x, fits)


@SMALL
@given(*[st.integers(0, 3000)] * 3, st.sampled_from([2, 4, 8]))
def test_a_product_needs_at_most_what_best_tiles_move_and_that_is_at_most_the_cap(m, k, n, item):
    x = Sizes({"m": m, "k": k, "n": n}, {}, item)
    tiled = x.with_tiles(**MATMUL.best_tiles(x))
    assert MATMUL.compulsory(x) <= MATMUL.traffic(tiled) <= MATMUL.cap(tiled) <= MATMUL.cap(x)
    assert item == 2 or MATMUL.cap(tiled) == MATMUL.cap(x)  # 16-bit operands may be copied
    assert MATMUL.lower(x) <= MATMUL.traffic(tiled)
    assert MATMUL.memory(x) == MATMUL.compulsory(x) + WORKSPACE


def test_the_cap_is_twice_the_traffic_of_128_by_128_tiles_at_512():
    x = Sizes({"m": 512, "k": 512, "n": 512})
    assert MATMUL.cap(x) == 2 * 4 * (2 * 512**3 // 128 + 512**2)


@pytest.mark.parametrize(
    ("tq", "tk", "d", "dv", "item"), [(300, 500, 64, 64, 4), (7, 40, 16, 24, 2)]
)
def test_the_first_loop_order_of_flash_moves_what_its_loops_move(tq, tk, d, dv, item):
    x = Sizes({"b": 2, "hq": 3, "hkv": 3, "tq": tq, "tk": tk, "d": d, "dv": dv}, {}, item)
    tiles = first_tiles(ON_CHIP // item, d)
    moved = tq * (dv * item + 2 * 4)
    for start in range(0, tk, tiles["bc"]):
        moved += min(tiles["bc"], tk - start) * (d + dv) * item
        for first in range(0, tq, tiles["br"]):
            rows = min(tiles["br"], tq - first)
            moved += rows * (d + 2 * dv) * item + rows * 4 * 4
    assert keys_outside_traffic(x) == 6 * moved


def test_the_tile_rule_of_the_paper_gives_100_and_64_for_100_kib_of_float32():
    assert first_tiles((100 << 10) // 4, 64) == {"bc": 100, "br": 64}


# Softmax ------------------------------------------------------------------------------------------


def sweep(x, *, online):
    """Elements read and written, and exponentials, row block by row block and tile by tile."""
    moved = exps = 0
    br, bn = x.tiles["br"], x.tiles["bn"]
    for first in range(0, x.r, br):
        rows = min(br, x.r - first)
        for start in range(0, x.n, bn):
            columns = min(bn, x.n - start)
            moved += rows * columns * (2 if online else 3) + rows * columns
            exps += 2 * br * bn + (br if online else 0)
    return moved, exps


SOFTMAX_SIZES = given(*[st.integers(0, 40)] * 2, *[st.integers(1, 50)] * 2)


@SMALL
@SOFTMAX_SIZES
def test_safe_softmax_reads_three_times_and_writes_once_whatever_the_tiles(r, n, br, bn):
    x = Sizes({"r": r, "n": n}, tiles={"br": br, "bn": bn})
    moved, exps = sweep(x, online=False)
    assert SAFE.traffic(x) == 4 * moved == 4 * 4 * r * n
    assert SAFE.exps(x) == exps
    assert SAFE.compulsory(x) == 4 * 2 * r * n <= SAFE.traffic(x) <= SAFE.cap(x)


@SMALL
@SOFTMAX_SIZES
def test_online_softmax_reads_twice_writes_once_and_rescales_once_per_tile(r, n, br, bn):
    x = Sizes({"r": r, "n": n}, tiles={"br": br, "bn": bn})
    moved, exps = sweep(x, online=True)
    assert ONLINE.traffic(x) == 4 * (moved + r) == 4 * (3 * r * n + r)
    assert ONLINE.exps(x) == exps
    assert ONLINE.compulsory(x) == 4 * (2 * r * n + r) <= ONLINE.traffic(x) <= ONLINE.cap(x)


@pytest.mark.parametrize("costs", [SAFE, ONLINE])
@pytest.mark.parametrize("item", [2, 4, 8])
def test_a_softmax_that_names_tiles_holds_statistics_of_rows_and_no_copy_of_x(costs, item):
    x = Sizes({"r": 500, "n": 10**6}, item=item)
    wide = max(4, item)
    assert costs.memory(x.with_tiles(bn=1024)) == 2 * 500 * wide + WORKSPACE
    assert costs.memory(x) == 3 * 500 * 10**6 * wide + WORKSPACE
    assert costs.flops(x) == 0
    assert 0 < costs.useful(x) <= costs.operations(x)
