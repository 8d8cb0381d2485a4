"""The shipped activations: what their README promises of them."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import numpy as np
import pytest

from kernelproof.conformance.expectation import draw
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.contracts.captured import (
    HEADS,
    LAYERS,
    TOKENS,
    WIDTH,
    captured_head,
    captured_layer,
    captured_windows,
    check_captured,
    load_captured,
)

FOLDER = files("kernelproof.spec") / "captured"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
SHAPES = {
    "x": (256, 384),
    **dict.fromkeys(("q", "k", "v"), (4, 256, 32)),
    **dict.fromkeys(("w_q", "w_k", "w_v"), (384, 128)),
    **dict.fromkeys(("b_q", "b_k", "b_v"), (128,)),
    "w_o": (128, 384),
}
U = 2.0**-11

EACH_LAYER = pytest.mark.parametrize("layer", LAYERS)
EACH_ROLE = pytest.mark.parametrize("role", ["q", "k", "v"])


@pytest.fixture(scope="module")
def stored():
    with (FOLDER / "minilm.npz").open("rb") as file, np.load(file) as npz:
        return dict(npz)


def test_the_file_is_the_one_that_the_readme_names():
    content = (FOLDER / "minilm.npz").read_bytes()
    assert f"`{hashlib.sha256(content).hexdigest()}` ({len(content):,} bytes)" in README


def test_it_holds_the_arrays_of_the_readme_in_float16(stored):
    expected = {f"{layer}.{name}": shape for layer in LAYERS for name, shape in SHAPES.items()}
    assert {name: array.shape for name, array in stored.items()} == expected
    assert {array.dtype for array in stored.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(array).all() for array in stored.values())


def test_the_constants_are_the_sizes_of_the_arrays(stored):
    assert stored["layer0.x"].shape == (TOKENS, WIDTH)
    assert stored["layer0.q"].shape == (HEADS, TOKENS, 32)


@pytest.mark.parametrize("name", SHAPES)
def test_the_readme_tells_the_shape_of_every_array(name):
    [row] = [
        line
        for line in README.splitlines()
        if line.startswith("| `") and f"`{name}`" in line.split("|")[1]
    ]
    assert f"| {SHAPES[name]} |" in row


def test_loading_widens_the_stored_numbers_to_float64_and_changes_none(stored):
    loaded = load_captured()
    assert loaded.keys() == stored.keys()
    for name, array in stored.items():
        assert loaded[name].dtype == np.float64
        assert np.array_equal(loaded[name], array)


@EACH_LAYER
@EACH_ROLE
def test_x_times_w_plus_b_gives_the_heads_within_what_storing_in_float16_allows(layer, role):
    data = load_captured()
    x, w, b = (data[f"{layer}.{name}"] for name in ("x", f"w_{role}", f"b_{role}"))
    projected = (x @ w + b).reshape(TOKENS, HEADS, 32).swapaxes(0, 1)
    roundings = ((2 * U + U**2) * abs(x) @ abs(w) + U * abs(b)).reshape(TOKENS, HEADS, 32)
    allowed = roundings.swapaxes(0, 1) + U * abs(projected) + 2.0**-24
    assert (abs(projected - data[f"{layer}.{role}"]) / allowed).max() < 0.43


@EACH_LAYER
def test_the_heads_are_in_the_order_of_their_columns(layer):
    data = load_captured()
    projected = (data[f"{layer}.x"] @ data[f"{layer}.w_q"]).reshape(TOKENS, HEADS, 32)
    for head in range(HEADS):
        errors = [abs(projected[:, i] - data[f"{layer}.q"][head]).mean() for i in range(HEADS)]
        assert int(np.argmin(errors)) == head


@EACH_LAYER
def test_a_layer_of_fewer_key_heads_has_the_means_of_its_groups(layer):
    data, whole, shared = load_captured(), captured_layer(layer, 4), captured_layer(layer, 2)
    assert set(whole) == {*(f"{kind}_{role}" for kind in "wb" for role in "qkv"), "w_o"}
    assert all(np.array_equal(array, data[f"{layer}.{name}"]) for name, array in whole.items())
    heads = data[f"{layer}.w_v"].reshape(384, 4, 32)
    assert np.array_equal(shared["w_v"][:, 32:], (heads[:, 2] + heads[:, 3]) / 2)
    assert shared["b_k"].shape == (64,)
    assert np.array_equal(shared["w_q"], whole["w_q"])


@pytest.mark.parametrize("head", range(4))
def test_a_head_of_64_is_two_heads_of_32_whose_logits_add(head):
    q, k = (captured_head(role, head, 64) for role in "qk")
    first, layer = head // 2 * 2, LAYERS[head % 2]
    data = load_captured()
    parts = [data[f"{layer}.q"][i] @ data[f"{layer}.k"][i].T for i in (first, first + 1)]
    assert np.allclose(q @ k.T, sum(parts), rtol=0, atol=1e-12 * abs(parts[0]).max())


def test_heads_of_32_alternate_between_the_layers_and_are_all_different():
    heads = [captured_head("q", head, 32) for head in range(8)]
    for number, head in enumerate(heads):
        layer = LAYERS[number % 2]
        assert np.array_equal(head, load_captured()[f"{layer}.q"][number // 2])
    assert len({head.tobytes() for head in heads}) == 8


@pytest.mark.parametrize(
    ("t", "d", "ends"), [(256, 32, [256]), (9, 64, [9, 256, 40]), (0, 32, [7])]
)
def test_a_window_holds_the_tokens_of_its_heads_up_to_its_end(t, d, ends):
    got = captured_windows("k", 4, t, d, np.array(ends))
    assert got.shape == (len(ends), 4, t, d)
    for window, end in zip(got, ends, strict=True):
        for head, rows in enumerate(window):
            assert np.array_equal(rows, captured_head("k", head, d)[end - t : end])


def drawn(name, point):
    spec = load_spec(name)
    return draw(spec, spec.case(f"float16/{point}/captured"), "0")


def ends_of(rows, head):
    """After which tokens of a head these rows end."""
    t = len(rows)
    return {end for end in range(t, TOKENS + 1) if np.array_equal(head[end - t : end], rows)}


def test_queries_keys_and_values_of_a_batch_end_with_the_same_token():
    [step] = drawn("attention.scaled_dot_product", "b3.h2.tq5.tk70.d32/default")
    for batch in range(3):
        ends = [ends_of(step.inputs[r][batch, 1], captured_head(r, 1, 32)) for r in "qkv"]
        assert set.intersection(*ends)


def test_windows_reach_from_the_first_token_to_the_last():
    [step] = drawn("attention.scaled_dot_product", "b20.h1.tq1.tk255.d32/default")
    head = captured_head("k", 0, 32)
    assert {end for rows in step.inputs["k"][:, 0] for end in ends_of(rows, head)} == {255, 256}


def test_keys_of_a_group_are_the_mean_over_the_heads_of_its_queries():
    append, _ = drawn("cache.contiguous", "b1.hq4.hkv2.d32.capacity255/steps-append255.attend")
    for group in range(2):
        heads = [captured_head("k", 2 * group + part, 32) for part in range(2)]
        mean = ((heads[0] + heads[1]) / 2).astype(np.float16)
        assert ends_of(append.inputs["k"][0, group], mean)


@EACH_LAYER
@pytest.mark.parametrize("head", range(4))
def test_the_ranges_of_the_readme_are_those_of_the_arrays(layer, head):
    data = load_captured()
    logits = data[f"{layer}.q"][head] @ data[f"{layer}.k"][head].T / np.sqrt(32)
    exps = np.exp(logits - logits.max(1, keepdims=True))
    largest = float(np.median(exps.max(1) / exps.sum(1)))
    row = f"| {layer[-1]} | {head} | {logits.min():.2f} to {logits.max():.2f} | {largest:.3f} |"
    assert row in README


def test_the_previous_token_takes_77_percent_of_a_head_of_layer_0():
    data = load_captured()
    logits = data["layer0.q"][2] @ data["layer0.k"][2].T / np.sqrt(32)
    exps = np.exp(logits - logits.max(1, keepdims=True))
    weights = exps / exps.sum(1, keepdims=True)
    assert round(100 * float(np.diagonal(weights, -1).mean())) == 77
    assert "puts 77 % of its weight" in re.sub(r"\s+", " ", README)


@pytest.mark.parametrize(
    ("sizes", "tokens", "sentence"),
    [
        ({"b": 1, "h": 1, "d": 16}, 9, "head size d16: wanted 32 or 64, and dv = d"),
        ({"b": 1, "h": 1, "d": 128}, 9, "head size d128: wanted 32 or 64, and dv = d"),
        ({"b": 1, "h": 1, "d": 32, "dv": 64}, 9, "head size d32: wanted 32 or 64, and dv = d"),
        ({"b": 1, "h": 9, "d": 32}, 9, "9 heads: wanted 1 to 8 of size 32, and b from 1"),
        ({"b": 1, "h": 5, "d": 64}, 9, "5 heads: wanted 1 to 4 of size 64, and b from 1"),
        ({"b": 1, "hq": 5, "d": 64}, 9, "5 heads: wanted 1 to 4 of size 64, and b from 1"),
        ({"b": 1, "h": 0, "d": 32}, 9, "0 heads: wanted 1 to 8 of size 32, and b from 1"),
        ({"b": 0, "h": 2, "d": 32}, 9, "2 heads: wanted 1 to 8 of size 32, and b from 1"),
        ({"b": 1, "h": 1, "d": 32}, 257, "257 tokens: it has 256"),
    ],
)
def test_sizes_that_the_activations_cannot_fill_are_refused(sizes, tokens, sentence):
    with pytest.raises(ValueError) as raised:
        check_captured(sizes, tokens)
    assert str(raised.value) == f"family captured: {sentence}"


@pytest.mark.parametrize(
    "sizes", [{"h": 8, "d": 32}, {"h": 4, "d": 64, "dv": 64}, {"hq": 1, "d": 32}]
)
def test_sizes_that_they_can_fill_are_accepted_to_the_last_token(sizes):
    check_captured({"b": 1, **sizes}, 256)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ("hq8.hkv2.tq9.tk9.d32.e384", "hq8.d32.dv32.e384: wanted hq4.d32.dv32.e384"),
        ("hq4.hkv2.tq9.tk9.d32.e64", "hq4.d32.dv32.e64: wanted hq4.d32.dv32.e384"),
        ("hq4.hkv4.tq9.tk257.d32.e384", "it has 256 tokens"),
    ],
)
def test_a_layer_that_is_not_of_the_captured_sizes_is_refused(sizes, words):
    with pytest.raises(ValueError) as raised:
        load_spec("attention.multi_head").case(f"float32/b1.{sizes}/default/captured-layer0")
    assert str(raised.value) == f"family captured-layer0: {words}"


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("attention.scaled_dot_product", "b1.h1.tq257.tk9.d32/default"),
        ("attention.scaled_dot_product", "b1.h1.tq9.tk257.d32/default"),
        ("attention.additive", "b1.h9.tq257.tk9.dq32/default"),
        ("attention.additive", "b1.h9.tq9.tk9.dq385/default"),
        ("attention.additive", "b1.h129.tq9.tk9.dq32/default"),
        ("attention.additive", "b0.h9.tq9.tk9.dq32/default"),
        ("cache.contiguous", "b1.hq1.hkv1.d32.capacity300/steps-append256.decode1"),
        ("matmul.tiled", "m257.k384.n128/default"),
        ("matmul.tiled", "m256.k385.n128/default"),
        ("matmul.tiled", "m256.k384.n129/default"),
    ],
)
def test_every_spec_refuses_a_captured_case_that_is_too_large(name, sizes):
    with pytest.raises(ValueError, match="family captured"):
        load_spec(name).case(f"float32/{sizes}/captured")
