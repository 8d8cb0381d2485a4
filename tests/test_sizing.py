"""Worksheets: their worked numbers, what holds for any numbers, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import kernelproof.spec
from kernelproof.conformance.cli import app
from kernelproof.conformance.cli import explain as explain_command
from kernelproof.conformance.worksheet import work_out
from kernelproof.spec.catalogue import load_sheet, load_spec, sheet_names, spec_names
from kernelproof.spec.machines import MACHINES
from kernelproof.spec.sheets import Line, Quantity, Sheet

CACHE, MEMORY, ROOF = (
    load_sheet(f"sizing.{stem}") for stem in ("kv_cache", "attention_memory", "roofline")
)
GPT3 = {"layers": 96, "hkv": 96, "d": 128, "bytes": 4, "tokens": 2048}
LAYER = {"b": 2, "t": 1024, "heads": 16, "e": 1024}
EXAMPLES = {"sizing.kv_cache": GPT3, "sizing.attention_memory": LAYER}
EXAMPLES["sizing.roofline"] = {"flops": 2_000_000, "read": 80_000}
SMALL = settings(deadline=None, derandomize=True, max_examples=50)
SIZE = st.integers(1, 10_000)


def words(quantities):
    return [f"{name}={value}" for name, value in quantities.items()]


# Worked numbers -----------------------------------------------------------------------------------


def test_gpt_3_caches_9_million_bytes_per_token_and_19_gb_per_2048_tokens():
    x = CACHE.values(GPT3)
    assert (x["token"], x["total"]) == (9_437_184, 19_327_352_832)
    assert x["multi_head"] == x["total"]


def test_gpt_3_with_one_head_of_keys_caches_98_304_bytes_per_token_and_201_mb():
    x = CACHE.values({**GPT3, "hkv": 1, "hq": 96})
    assert (x["token"], x["total"]) == (98_304, 201_326_592)
    assert x["multi_query"] == x["total"] == CACHE.values(GPT3)["multi_query"]
    assert x["multi_head"] == 96 * x["total"]


def test_keys_and_queries_of_1024_tokens_of_64_float32_take_524_288_bytes():
    x = MEMORY.values({"b": 1, "t": 1024, "heads": 1, "e": 64, "bytes": 4})
    assert x["q"] + x["k"] == 524_288


def test_4096_squared_bfloat16_scores_take_32_mib_and_128_rows_of_them_1_mib():
    x = MEMORY.values({"b": 1, "t": 4096, "heads": 1, "e": 64})
    assert (x["scores"], x["score_block"]) == (32 << 20, 1 << 20)


def test_activations_are_those_of_korthikanti_without_dropout_and_layer_norms():
    x = MEMORY.values({**LAYER, "layers": 3})
    b, t, heads, e = LAYER.values()
    # 34 less two masks of 1 byte and two inputs of layer norms of 2; 5 less a mask and its output
    assert x["standard"] == 3 * (28 * t * b * e + 2 * heads * t * t * b)
    assert x["parameters"] == 3 * 12 * e * e * 2


def test_an_a100_of_108_multiprocessors_at_1_4_ghz_does_155_tera_tf32_operations():
    machine = {"peak": "1024x1.4e9x108", "bandwidth": "2039e9", "multiprocessors": 108}
    x = ROOF.values({"flops": 1, "read": 1, **machine})
    assert (x["peak"], x["each"]) == (154_828_800_000_000, 1_433_600_000_000)


def test_a_hundred_squared_float32_product_lies_above_a_ridge_of_19_by_what_it_reads_alone():
    machine = {"peak": "19e12", "bandwidth": "1e12"}
    given = {"flops": "2x100x100x100", "read": 80_000, "written": 40_000, "dtype": "float32"}
    x = ROOF.values({**given, **machine})
    assert (x["flops"], x["per_byte_read"]) == (2_000_000, 25)
    assert x["per_byte_moved"] == pytest.approx(16.7, abs=0.05)
    assert ROOF.rows(x)["given"] == {"ridge": 19, "seconds": 1.2e-7, "bound": "memory"}
    read_alone = ROOF.values({**given, **machine, "written": 0})
    assert ROOF.rows(read_alone)["given"]["bound"] == "compute"


def test_scaling_a_float32_matrix_does_a_quarter_of_an_operation_per_byte_read():
    x = ROOF.values({"flops": "100x100", "read": "4x100x100"})
    assert x["per_byte_read"] == 0.25


class Counted:
    """A number that counts what is done with it."""

    multiplications = additions = 0

    def __mul__(self, other):
        Counted.multiplications += 1
        return Counted()

    def __add__(self, other):
        Counted.additions += 1
        return Counted()


def test_one_row_of_scores_takes_t_d_multiplications_and_t_times_d_less_one_additions():
    import numpy as np

    t, d = 7, 5
    load_spec("matmul.tiled").reference(
        *(np.array([[Counted() for _ in range(n)] for _ in range(m)]) for m, n in ((1, d), (d, t)))
    )
    assert (Counted.multiplications, Counted.additions) == (t * d, t * (d - 1))


# What holds for any numbers -----------------------------------------------------------------------


@SMALL
@given(tokens=SIZE, window=SIZE, spare=st.integers(0, 100), page=SIZE, batch=SIZE, dv=SIZE)
def test_a_cache_is_linear_in_its_batch_and_wastes_less_than_a_page_per_sequence(
    tokens, window, spare, page, batch, dv
):
    one = {"layers": 3, "hkv": 2, "hq": 6, "d": 16, "dv": dv, "tokens": tokens}
    one |= {"window": window, "capacity": tokens + spare, "page": page}
    x, many = CACHE.values(one), CACHE.values({**one, "batch": batch})
    assert all(many[each.name] == batch * x[each.name] for each in CACHE.lines[1:])
    assert 0 <= x["waste"] < page * x["token"]
    assert x["unused"] == spare * x["token"]
    assert x["windowed"] <= x["total"] <= x["paged"] <= x["total"] + page * x["token"]
    assert x["multi_query"] * 2 == x["total"] == x["multi_head"] // 3


@SMALL
@given(b=SIZE, t=SIZE, heads=st.integers(1, 64), d=SIZE, d_ff=SIZE, layers=SIZE)
def test_activations_are_linear_in_the_batch_and_quadratic_in_the_tokens_but_for_flash(
    b, t, heads, d, d_ff, layers
):
    def at(b, t):
        sizes = {"b": b, "t": t, "heads": heads, "e": heads * d, "d_ff": d_ff, "layers": layers}
        return MEMORY.values(sizes)

    x, longer = at(b, t), at(b, 2 * t)
    for name in ("scores", "standard", "flash"):
        assert x[name] == b * at(1, t)[name]
    assert longer["scores"] == 4 * x["scores"]
    assert longer["flash"] == 2 * x["flash"]
    assert longer["standard"] - 2 * x["standard"] == 2 * layers * x["probabilities"]
    assert longer["parameters"] == x["parameters"] == x["gradients"]


@SMALL
@given(b=SIZE, t=SIZE, d=SIZE)
def test_totals_are_the_sums_of_their_parts(b, t, d):
    x = MEMORY.values({"b": b, "t": t, "heads": 2, "e": 2 * d})
    linear = sum(x[part] for part in ("x", "q", "k", "v", "out", "y", "hidden"))
    kept = {"standard": linear + x["probabilities"], "flash": linear + x["lse"]}
    for way, activations in kept.items():
        assert x[way] == activations
        assert x[f"{way}_total"] == activations + x["parameters"] + x["gradients"]


@SMALL
@given(st.integers(0, 10**15), st.integers(1, 10**12), st.sampled_from(sorted(MACHINES)))
def test_memory_bounds_exactly_what_does_fewer_operations_per_byte_than_the_ridge(
    flops, read, machine
):
    x = ROOF.values({"flops": flops, "read": read})
    row = ROOF.rows(x)[machine]
    peak, bandwidth = MACHINES[machine].flops["float16"], MACHINES[machine].bandwidth
    assert row["seconds"] == max(flops / peak, read / bandwidth)
    assert row["ridge"] == peak / bandwidth
    if abs(x["per_byte_moved"] / row["ridge"] - 1) > 1e-9:
        assert (row["bound"] == "memory") == (x["per_byte_moved"] < row["ridge"])


@pytest.mark.parametrize(
    ("programs", "waves", "idle"), [(1, 1, 131 / 132), (132, 1, 0), (133, 2, 131 / 132)]
)
def test_programs_run_in_waves_of_one_per_multiprocessor(programs, waves, idle):
    rows = ROOF.rows(ROOF.values({"flops": 1, "read": 1, "programs": programs}))
    assert (rows["H100"]["waves"], rows["H100"]["idle"]) == (waves, idle)
    assert "waves" not in ROOF.rows(ROOF.values({"flops": 1, "read": 1}))["H100"]


def test_machines_have_the_multiprocessors_of_their_datasheets():
    counts = {name: machine.multiprocessors for name, machine in MACHINES.items()}
    assert counts == {"A100": 108, "H100": 132, "H200": 132, "B200": 148, "MI300X": 304}


# Sheets, and how they are read --------------------------------------------------------------------


@pytest.mark.parametrize("name", sheet_names())
def test_the_name_of_a_sheet_is_the_path_of_its_file_and_no_spec(name):
    area, stem = name.split(".")
    assert load_sheet(name).name == name
    assert (Path(kernelproof.spec.__path__[0]) / area / f"{stem}.py").is_file()
    assert name not in spec_names()


def test_a_cache_is_of_16_bit_elements_in_pages_of_16_unless_said_otherwise():
    x = CACHE.values({"layers": 1, "hkv": 1, "d": 8, "tokens": 17})
    assert (x["hq"], x["dv"], x["token"]) == (1, 8, 32)
    assert (x["pages"], x["waste"]) == (2, 15 * 32)


@pytest.mark.parametrize("name", sheet_names())
def test_what_is_not_given_leaves_its_lines_out_and_what_is_given_is_used(name):
    sheet, example = load_sheet(name), EXAMPLES[name]
    plain = sheet.values(example)
    optional = [q.name for q in sheet.quantities if q.optional]
    assert all(plain[each] is None for each in optional)
    full = work_out(name, words({**example, **dict.fromkeys(optional, 10**6)}))
    assert len(full["lines"]) == len(sheet.lines)
    assert len(work_out(name, words(example))["lines"]) < len(sheet.lines) or not optional


@pytest.mark.parametrize(("text", "number"), [("2048", 2048), ("1.5e3", 1500), ("2x3x1e2", 600)])
def test_a_number_may_have_an_exponent_and_be_a_product(text, number):
    assert Quantity("n", "a number").read(text) == number


def test_a_formula_uses_only_what_stands_above_it():
    with pytest.raises(ValueError, match=r"^s: twice uses 'm' before it is known$"):
        Sheet("s", "", "", (Quantity("n", ""),), (Line("twice", "2 * m", "", ""),))
    with pytest.raises(ValueError, match=r"^s: two of its quantities and lines are called 'n'$"):
        Sheet("s", "", "", (Quantity("n", ""),), (Line("n", "2", "", ""),))


LARGE = "a whole number from 1 to 1e30"


@pytest.mark.parametrize(
    ("sheet", "change", "sentence"),
    [
        (CACHE, {"layer": 9}, "unknown quantity 'layer': did you mean 'layers'?"),
        (CACHE, {"zzz": 9}, "unknown quantity 'zzz': wanted layers, hkv, hq, d, dv, bytes"),
        (CACHE, {"layers": "x"}, f"layers=x: wanted {LARGE}"),
        (CACHE, {"layers": 1.5}, f"layers=1.5: wanted {LARGE}"),
        (CACHE, {"layers": True}, f"layers=True: wanted {LARGE}"),
        (CACHE, {"layers": "9x"}, f"layers=9x: wanted {LARGE}"),
        (CACHE, {"layers": "1e31"}, f"layers=1e31: wanted {LARGE}"),
        (CACHE, {"layers": 0}, f"layers=0: wanted {LARGE}"),
        (CACHE, {"layers": -1}, f"layers=-1: wanted {LARGE}"),
        (CACHE, {"window": 0}, f"window=0: wanted {LARGE}"),
        (CACHE, {"hkv": 7, "hq": 96}, "hkv=7 does not divide hq=96: wanted groups of equal size"),
        (CACHE, {"capacity": 9}, "capacity=9 is below tokens=2048: wanted room for every token"),
        (MEMORY, {"heads": 3}, "heads=3 does not divide e=1024: wanted heads of one size"),
        (ROOF, {"dtype": "float17"}, "unknown dtype 'float17': did you mean 'float16'?"),
        (ROOF, {"flops": -1}, "flops=-1: wanted a whole number from 0 to 1e30"),
        (ROOF, {"peak": 9}, "peak=9, bandwidth=None: wanted both or none"),
        (ROOF, {"multiprocessors": 9}, "multiprocessors=9: wanted peak and bandwidth, too"),
    ],
)
def test_a_wrong_quantity_is_named_with_its_value_and_what_was_wanted(sheet, change, sentence):
    with pytest.raises(ValueError) as raised:
        sheet.values({**EXAMPLES[sheet.name], **change})
    assert str(raised.value).startswith(f"{sheet.name}: {sentence}")


@pytest.mark.parametrize("sheet", [CACHE, MEMORY, ROOF], ids=lambda sheet: sheet.name)
def test_only_operations_and_bytes_written_may_be_zero(sheet):
    zero = []
    for name in [q.name for q in sheet.quantities if not q.choices]:
        try:
            sheet.values({**EXAMPLES[sheet.name], name: 0})
            zero.append(name)
        except ValueError as error:
            assert f"{name}=0: wanted a whole number from 1" in str(error)
    assert zero == (["flops", "written"] if sheet is ROOF else [])


def test_quantities_that_are_missing_are_named_with_what_they_mean():
    with pytest.raises(ValueError) as raised:
        CACHE.values({"layers": 9, "hkv": 4})
    missing = "d (size of a key), tokens (tokens of a sequence)"
    assert str(raised.value) == f"sizing.kv_cache: wanted {missing}, as in d=64"


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("sizing.kv_cash", [], "unknown spec 'sizing.kv_cash': did you mean 'sizing.kv_cache'?"),
        ("sizing.kv_cache", ["layers"], "sizing.kv_cache: 'layers': wanted name=value, as in"),
        ("sizing.kv_cache", ["layers=9"], "sizing.kv_cache: wanted hkv (heads of keys and values)"),
        ("sizing.kv_cache", words({**GPT3, "d": 0}), "sizing.kv_cache: d=0: wanted"),
        ("sizing.kv_cache", ["d=1", "d=2"], "sizing.kv_cache: d is given twice: wanted it once"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_one_sentence_and_exit_4(name, given, sentence, capsys):
    assert explain_command(name, given) == 4
    assert capsys.readouterr().err.startswith(f"kernelproof: {sentence}")


def test_a_number_beyond_what_float64_holds_is_printed_in_full():
    one = {"hkv": 1, "d": 1, "bytes": 1, "tokens": 1}
    command = ["explain", "sizing.kv_cache", *words({**one, "layers": 2**53 + 1})]
    assert "18,014,398,509,481,986" in CliRunner().invoke(app, command).output


# Pages --------------------------------------------------------------------------------------------


def test_a_page_shows_formulas_and_numbers_and_is_data_with_json():
    command = ["explain", "sizing.kv_cache", *words(GPT3)]
    printed = CliRunner().invoke(app, command).output
    for shown in ("9,437,184", "19,327,352,832", "19.3 GB", "layers * hkv * (d + dv) * bytes"):
        assert shown in printed
    page = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert page["quantities"]["dv"] == 128
    assert page["lines"]["token"]["value"] == 9_437_184


def test_the_page_of_the_roofline_shows_both_intensities_and_every_machine():
    command = ["explain", "sizing.roofline", "flops=2e6", "read=80000", "written=40000"]
    printed = CliRunner().invoke(app, [*command, "programs=1000"]).output
    for shown in (" 25 ", " 16.7 ", "memory", "42%", *MACHINES):
        assert shown in printed
