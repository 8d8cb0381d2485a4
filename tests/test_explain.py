"""`kernelproof explain`: a spec as a page with numbers."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from kernelproof.conformance.cli import app
from kernelproof.conformance.explain import explain
from kernelproof.spec.catalogue import load_spec, spec_names
from kernelproof.spec.machines import MACHINES

LONG = ["tq=4096", "tk=4096", "d=64"]


def run(*words):
    return CliRunner().invoke(app, ["explain", *words])


SIZES = {"attention.uptrain": ["hq=8"]}
"""Sizes of which something is computed, where those by default leave nothing to do."""


@pytest.mark.parametrize("name", spec_names())
def test_every_spec_has_a_page_with_its_call_clauses_and_numbers(name):
    page = explain(name, SIZES.get(name, []))
    spec = load_spec(name)
    assert list(page["clauses"]) == [clause.anchor for clause in spec.clauses]
    assert page["definition"] and page["call"]
    assert 0 < page["costs"]["compulsory"] <= page["costs"]["traffic"] <= page["costs"]["cap"]
    assert page["costs"]["useful"] > 0
    assert page["costs"]["useful"] <= max(page["costs"]["flops"], page["costs"]["operations"])


def test_the_numbers_of_flash_at_4096_are_its_closed_forms():
    costs = explain("attention.flash", LONG)["costs"]
    assert costs["useful"] == 4 * 4096 * 4096 * 64
    assert costs["compulsory"] == 4 * 4096 * 64 * 2 + 4096 * 4  # q k v out in float16, lse
    keys = 4096 // 128 * 4096  # rows of k and of v that 32 row blocks read
    assert costs["traffic"] == (2 * 4096 + 2 * keys) * 64 * 2 + 4096 * 4


def test_tiles_that_are_given_take_the_place_of_the_best():
    page = explain("attention.flash", [*LONG, "br=64"])
    assert page["tiles"]["br"] == 64
    assert page["costs"]["traffic"] > explain("attention.flash", LONG)["costs"]["traffic"]
    assert page["costs"]["cap"] == explain("attention.flash", LONG)["costs"]["cap"]


def test_causal_halves_the_work_and_leaves_what_is_compulsory():
    whole = explain("attention.flash", LONG)["costs"]
    half = explain("attention.flash", [*LONG, "causal=top-left"])["costs"]
    assert half["useful"] == 4 * 64 * (4096 * 4097 // 2)
    assert half["compulsory"] == whole["compulsory"]


def test_an_option_that_is_a_number_changes_the_work():
    costs = explain("matmul.strassen", ["levels=2", "dtype=float32"])["costs"]
    assert costs["useful"] == 2 * 49 * 256**3
    assert costs["additions"] == (49 / 16 - 1) / 3 * 18 * 1024**2
    by_default = explain("matmul.strassen", ["variant=winograd"])
    assert by_default["options"] == {"variant": "winograd"}
    assert by_default["costs"]["useful"] == 2 * 7**4 * 64**3


def test_a_roofline_takes_the_slower_of_compute_and_compulsory_bytes():
    roof = explain("attention.flash", ["tq=1", "tk=4096", "d=64"])["roofline"]["H100"]
    moved = explain("attention.flash", ["tq=1", "tk=4096", "d=64"])["costs"]["compulsory"]
    assert roof == {"seconds": moved / MACHINES["H100"].bandwidth, "bound": "memory"}
    square = explain("matmul.tiled", ["m=4096", "n=4096", "k=4096"])["roofline"]["H100"]
    assert square["bound"] == "compute"


def test_the_work_of_a_product_is_set_against_bytes_read_needed_and_moved():
    words = ["m=100", "n=100", "k=100", "dtype=float32"]
    page = explain("matmul.tiled", words)
    assert page["costs"]["useful"] == 2_000_000
    assert page["intensity"]["read"] == 25
    assert page["intensity"]["compulsory"] == pytest.approx(16.7, abs=0.05)
    printed = run("matmul.tiled", *words).output
    assert "FLOP per byte read" in printed and "25.0" in printed


def test_keys_that_heads_share_are_read_once():
    words = ["hq=8", "hkv=2", "tq=1", "tk=1000", "d=64", "dtype=float16"]
    moved = 2 * 64 * (8 + 2 * 2 * 1000)
    assert explain("attention.flash", words)["intensity"]["read"] == 4 * 8 * 1000 * 64 / moved


def test_finer_formats_are_allowed_smaller_errors():
    accuracy = explain("attention.flash", [])["accuracy"]
    median = {dtype: found["bound"]["out"]["median"] for dtype, found in accuracy.items()}
    assert median["float64"] < median["float32"] < median["float16"] < median["bfloat16"]


def test_the_page_is_printed_with_separated_thousands_and_as_json():
    printed = run("attention.flash", *LONG).output
    for words in ("4,294,967,296", "compute-bound", "attention.nan.key"):
        assert words in printed
    assert json.loads(run("attention.flash", *LONG, "--json").output)["axes"]["tq"] == 4096


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["attention.flsh"], "unknown spec 'attention.flsh': did you mean 'attention.flash'?"),
        (["attention.flash", "qk=3"], "unknown axis or option 'qk': wanted b, hq, hkv, tq, tk"),
        (["attention.flash", "causl=top-left"], "'causl': did you mean 'causal'?"),
        (["attention.flash", "tq"], "'tq': wanted axis=value, as in dv=64"),
        (["attention.flash", "tq=x"], "tq=x: wanted a whole number above 0"),
        (["attention.flash", "tq=0"], "tq=0: wanted a whole number above 0"),
        (["attention.flash", "hq=5", "hkv=2"], "hq5 is not a multiple of hkv2"),
        (["matmul.strassen", "levels=two"], "levels is 'two': wanted 0, 1, 2, 3"),
        (["matmul.strassen", "levels=1", "cutoff=2"], "levels 1 and cutoff 2: wanted one of them"),
        (["attention.flash", "dtype=float17"], "unknown dtype 'float17': did you mean"),
        (
            ["attention.flash", "causal=left"],
            "causal is 'left': wanted top-left, bottom-right",
        ),
    ],
)
def test_a_wrong_word_is_answered_in_one_sentence(words, sentence, capsys):
    from kernelproof.conformance import cli

    assert cli.explain(words[0], words[1:]) == 4
    assert sentence in capsys.readouterr().err
