"""Number formats, Higham's gamma, and the roundings that implementations declare."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelproof.spec.rounding import (
    DEFAULT_PRESET,
    DTYPES,
    FORMATS,
    PRESETS,
    Precision,
    compose,
    gamma,
    reference_rounding,
    resolve_precision,
)

NUMPY = {name: np.dtype(getattr(ml_dtypes, name, name)) for name in FORMATS if name != "tf32"}
SMALL = [name for name in NUMPY if name != "float64"]
KINDS = "input, float64, float32, tf32, float16, bfloat16, float8_e4m3fn, float8_e5m2"


def rounded(x: float, name: str) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float64(x).astype(NUMPY[name]).astype(np.float64))


@pytest.mark.parametrize("name", NUMPY)
def test_the_unit_roundoff_is_half_the_spacing_of_the_format_at_one(name):
    assert FORMATS[name].unit == float(ml_dtypes.finfo(NUMPY[name]).eps) / 2


@pytest.mark.parametrize("name", SMALL)
def test_eta_is_half_the_smallest_subnormal(name):
    assert FORMATS[name].eta == float(ml_dtypes.finfo(NUMPY[name]).smallest_subnormal) / 2


def test_eta_of_float64_is_its_smallest_subnormal_since_half_of_it_is_no_float():
    assert FORMATS["float64"].eta == np.finfo(np.float64).smallest_subnormal


@pytest.mark.parametrize("name", NUMPY)
def test_tiny_and_largest_are_the_ends_of_the_normal_range(name):
    info = ml_dtypes.finfo(NUMPY[name])
    assert (FORMATS[name].tiny, FORMATS[name].largest) == (float(info.tiny), float(info.max))


def test_tf32_has_the_exponents_of_float32_and_the_significand_of_float16():
    tf32 = FORMATS["tf32"]
    assert tf32.unit == FORMATS["float16"].unit
    assert tf32.tiny == FORMATS["float32"].tiny
    assert tf32.largest == (2 - 2.0**-10) * 2.0**127


def test_every_dtype_of_the_specs_is_a_format_with_a_default_preset():
    assert set(DTYPES) <= set(DEFAULT_PRESET) <= set(FORMATS)
    assert {PRESETS[name].name for name in DEFAULT_PRESET.values()} <= set(PRESETS)


@pytest.mark.parametrize("name", SMALL)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(significand=st.floats(1, 2), place=st.floats(0, 1))
def test_rounding_a_normal_number_moves_it_by_at_most_the_unit(name, significand, place):
    form = FORMATS[name]
    low, high = math.log2(form.tiny), math.log2(form.largest) - 1
    x = significand * 2.0 ** math.floor(low + place * (high - low))
    assert abs(rounded(x, name) - x) <= form.unit * x


@pytest.mark.parametrize("name", SMALL)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(part=st.floats(0, 1))
def test_rounding_below_the_normal_range_moves_a_number_by_at_most_eta(name, part):
    form = FORMATS[name]
    x = part * form.tiny
    assert abs(rounded(x, name) - x) <= form.eta


@pytest.mark.parametrize("name", SMALL)
def test_the_unit_and_eta_are_attained_so_that_no_smaller_ones_would_do(name):
    form = FORMATS[name]
    tie = 1 + form.unit
    assert abs(rounded(tie, name) - tie) == form.unit
    assert abs(rounded(form.eta, name) - form.eta) == form.eta


@pytest.mark.parametrize("n", [0, 1, 64, 4096])
def test_gamma_is_n_u_over_one_minus_n_u(n):
    u = 2.0**-24
    assert gamma(n, u) == n * u / (1 - n * u)


@pytest.mark.parametrize(("n", "unit"), [(3, 2.0**-8), (100, 2.0**-11), (10_000, 2.0**-24)])
def test_gamma_bounds_n_roundings_that_all_go_the_same_way(n, unit):
    assert math.expm1(n * math.log1p(unit)) <= gamma(n, unit)
    assert -math.expm1(n * math.log1p(-unit)) <= gamma(n, unit)


@pytest.mark.parametrize("n", [2**8, 2**8 + 1, 2**30])
def test_gamma_is_infinite_once_n_roundings_may_lose_everything(n):
    assert gamma(n, 2.0**-8) == math.inf


@pytest.mark.parametrize("unit", [2.0**-8, 2.0**-24, 2.0**-53, 2.0**-64, 2.0**-113])
def test_composing_small_errors_adds_them_and_their_products(unit):
    exact = 3 * Fraction(unit) + 3 * Fraction(unit) ** 2 + Fraction(unit) ** 3
    assert math.isclose(compose(unit, unit, unit), float(exact), rel_tol=1e-12)
    assert math.isclose(compose(unit), unit, rel_tol=1e-12)


def test_composing_with_an_infinite_error_is_infinite_and_with_none_is_nothing():
    assert compose(math.inf, 2.0**-24) == math.inf
    assert compose() == compose(0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("float64", "strict64"),
        ("float32", "strict32"),
        ("float16", "mixed16"),
        ("bfloat16", "mixed16"),
        ("float8_e4m3fn", "fp8"),
        ("float8_e5m2", "fp8"),
    ],
)
def test_without_a_declaration_a_dtype_has_its_default_preset(dtype, name):
    assert resolve_precision(None, dtype) == PRESETS[name]


@pytest.mark.parametrize(
    ("declared", "names"),
    [
        ("strict64", ("strict64", "strict32", "mixed16", "mixed16")),
        ("strict32", ("strict64", "strict32", "strict32", "strict32")),
        ("mixed16", ("strict64", "strict32", "mixed16", "mixed16")),
        ("eager16", ("strict64", "strict32", "eager16", "eager16")),
        ("tf32", ("strict64", "tf32", "mixed16", "mixed16")),
        ("fp8", ("strict64", "strict32", "mixed16", "mixed16")),
    ],
)
def test_a_preset_applies_to_the_dtypes_that_it_is_meant_for(declared, names):
    dtypes = ("float64", "float32", "float16", "bfloat16")
    assert tuple(resolve_precision(declared, dtype).name for dtype in dtypes) == names


def test_a_declaration_per_dtype_leaves_the_other_dtypes_at_their_default():
    declared = {"float16": "eager16", "float32": {"weights": "bfloat16"}}
    assert resolve_precision(declared, "float16") == PRESETS["eager16"]
    assert resolve_precision(declared, "bfloat16") == PRESETS["mixed16"]
    assert resolve_precision(declared, "float32") == Precision(weights="bfloat16")


def test_a_mapping_of_fields_is_a_custom_precision_for_every_dtype():
    declared = {"accumulate": "float64", "scores": "input"}
    for dtype in DTYPES:
        precision = resolve_precision(declared, dtype)
        assert (precision.name, precision.accumulate, precision.scores) == (
            "custom",
            "float64",
            "input",
        )


def test_input_stands_for_the_dtype_of_the_inputs():
    precision = Precision(weights="input", scores="bfloat16")
    rounding = precision.rounding("float16")
    assert (rounding.weights, rounding.scores) == (FORMATS["float16"], FORMATS["bfloat16"])
    assert rounding.operands is rounding.scaled_query is None


def test_truncating_accumulation_doubles_the_unit():
    assert Precision().rounding("float16").accumulate == 2.0**-24
    assert Precision(truncating=True).rounding("float16").accumulate == 2.0**-23


@pytest.mark.parametrize(
    ("dtype", "statistics"),
    [("float64", "float64"), ("float32", "float32"), ("bfloat16", "float32")],
)
def test_statistics_are_float32_beside_all_inputs_but_float64(dtype, statistics):
    rounding = resolve_precision(None, dtype).rounding(dtype)
    assert rounding.statistics == FORMATS[statistics]
    assert rounding.out == FORMATS[dtype]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_presets_of_16_bit_inputs_loosen_one_by_one(dtype):
    order = [PRESETS[name] for name in ("strict64", "strict32", "mixed16", "eager16")]
    for place, tight in enumerate(order):
        assert [p.looser_than(tight, dtype) is None for p in order] == [
            other <= place for other in range(len(order))
        ]


@pytest.mark.parametrize(
    ("declared", "required", "dtype", "words"),
    [
        (PRESETS["tf32"], "strict32", "float32", "accumulation in truncating float32"),
        (PRESETS["strict32"], "strict64", "float32", "accumulation in float32"),
        (PRESETS["eager16"], "mixed16", "bfloat16", "scores in bfloat16"),
        (Precision(operands="tf32"), "strict32", "float32", "operands in tf32"),
        (Precision(scaled_query="input"), "mixed16", "float16", "scaled query in float16"),
        (Precision(weights="bfloat16"), "mixed16", "float16", "weights in bfloat16"),
        (Precision(intermediates="input"), "strict32", "float16", "intermediates in float16"),
        (Precision(tanh="float16"), "mixed16", "bfloat16", "tanh in float16"),
        (
            Precision(weights="input", normalised=True),
            "mixed16",
            "float16",
            "weights rounded after normalisation",
        ),
    ],
)
def test_a_looser_precision_is_told_by_the_first_rounding_that_is_too_much(
    declared, required, dtype, words
):
    assert declared.looser_than(PRESETS[required], dtype) == words


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_preset_is_looser_than_itself(preset, dtype):
    assert preset.looser_than(preset, dtype) is None


def test_a_format_of_equal_unit_and_smaller_range_is_looser():
    assert Precision(weights="float16").looser_than(PRESETS["tf32"], "float32")


def test_rounding_to_a_finer_format_than_allowed_is_not_looser():
    assert Precision(weights="tf32").looser_than(PRESETS["mixed16"], "bfloat16") is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            "mixed32",
            "unknown precision 'mixed32': wanted one of strict64, strict32, mixed16, eager16, "
            "tf32, fp8",
        ),
        (
            {"weight": "input"},
            "unknown precision field 'weight': wanted accumulate, intermediates, "
            "normalised, operands, projections, scaled_query, scores, tanh, truncating, weights",
        ),
        ({"weights": "half"}, f"precision weights='half': wanted {KINDS}"),
        ({"scores": 16}, f"precision scores=16: wanted {KINDS}"),
        ({"operands": "fp32"}, "precision operands='fp32': wanted tf32 or bfloat16"),
        ({"operands": "float16"}, "precision operands='float16': wanted tf32 or bfloat16"),
        ({"scaled_query": ""}, f"precision scaled_query='': wanted {KINDS}"),
        ({"truncating": "no"}, "precision truncating='no': wanted true or false"),
        ({"normalised": 1}, "precision normalised=1: wanted true or false"),
    ],
)
def test_a_precision_that_does_not_exist_is_refused_with_what_was_wanted(given, sentence):
    with pytest.raises(ValueError) as raised:
        Precision.from_json(given)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("format", ["tf32", "float16", "bfloat16", "float8_e4m3fn", "input", None])
def test_an_accumulator_below_float32_cannot_be_declared(format):
    with pytest.raises(ValueError) as raised:
        Precision.from_json({"accumulate": format})
    assert str(raised.value) == (
        f"precision accumulate={format!r}: every spec wants accumulators of at least float32, "
        "so declare float32 or float64"
    )


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_is_one_that_could_be_declared_field_by_field(preset):
    fields = {name: value for name, value in vars(preset).items() if name != "name"}
    assert vars(Precision.from_json(fields)) == {**vars(preset), "name": "custom"}


@pytest.mark.parametrize("significand", [53, 64, 113])
def test_a_reference_has_the_roundings_of_its_own_arithmetic_only(significand):
    rounding = reference_rounding("float16", significand)
    assert rounding.accumulate == rounding.out.unit == 2.0**-significand
    assert rounding.statistics.unit == 2.0**-significand
    assert not (rounding.operands or rounding.scores or rounding.scaled_query or rounding.weights)
