"""The command line as a user meets it: exit codes, sentences, records, and what passes through."""

from __future__ import annotations

import json
import os
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kernelproof.conformance import record
from kernelproof.conformance.report import Progress
from kernelproof.spec.catalogue import sheet_names

Run = Callable[..., Any]
ATTENTION = "attention.scaled_dot_product"
SMALL = "float32/b1.h1.tq3.tk5.d16/default/normal"
UNBOUNDED = "float16/b1.h2.tq17.tk64.d16/default/beyond-65504"

# Mistakes on the command line: exit 4 and one sentence -----------------------------------------

MISTAKES = {
    "no command": ([], "Usage"),
    "an unknown command": (["tset"], "No such command 'tset'. Did you mean 'test'?"),
    "an unknown option": (["test", "--teir", "smoke"], "No such option: --teir"),
    "an option without its value": (["test", "--tier"], "Option '--tier' requires an argument"),
    "an unknown tier": (["test", "--tier", "smole"], "--tier smole: wanted one of smoke, core"),
    "an unknown backend": (["test", "--backend", "gpu"], "--backend gpu: wanted one of cpu"),
    "a later backend": (
        ["test", "--backend", "compile"],
        "this release runs on cpu, interpret, cuda",
    ),
    "an unknown dtype": (["test", "--dtype", "half"], "--dtype half: wanted one of float64"),
    "a misspelt spec": (
        ["test", "--spec", "attention.scaled_dot_prodct"],
        f"unknown spec 'attention.scaled_dot_prodct': did you mean '{ATTENTION}'?",
    ),
    "a pattern of no spec": (["test", "--spec", "nope*"], "unknown spec 'nope*': wanted one of"),
    "a worksheet": (
        ["test", "--spec", "sizing.kv_cache"],
        "sizing.kv_cache is a worksheet without implementations: kernelproof explain",
    ),
    "quantities that are missing": (
        ["explain", "sizing.kv_cache"],
        "sizing.kv_cache: wanted layers",
    ),
    "a misspelt random seed": (["test", "--seed", "randm"], "--seed randm: wanted"),
    "an unknown preset": (["test", "--require", "strict33"], "--require strict33: wanted one of"),
    "no time": (["test", "--timeout", "0"], "--timeout 0: wanted"),
    "a time in words": (["test", "--timeout", "long"], "--timeout long: wanted"),
    "a negative time": (["test", "--import-timeout", "-1"], "--import-timeout -1: wanted"),
    "endless time": (["test", "--timeout", "inf"], "--timeout inf: wanted"),
    "no memory": (["test", "--memory", "nan"], "--memory nan: wanted"),
    "too little memory": (["test", "--memory", "0.01"], "--memory 0.01: wanted at least"),
    "processes in words": (["test", "-n", "x"], "-n"),
    "negative processes": (["test", "-n", "-1"], "-n"),
    "a record without folder": (["test", "--json", "no/r.json"], "no does not exist"),
    "a record that is a folder": (["test", "--json", "."], "--json .: wanted a file"),
    "a folder as XML": (["test", "--junitxml", "."], "--junitxml must be a filename, given: ."),
    "what pytest does not know": (["test", "--", "--frob"], "unrecognized arguments: --frob"),
    "an unknown option of list": (["list", "--jsn"], "No such option: --jsn"),
    "a missing target of list": (["list", "gone.py"], "target gone.py: gone.py does not exist"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_on_the_command_line_is_one_sentence_and_exit_4(
    run_cli: Run, tmp_path: Path, what: str
) -> None:
    words, sentence = MISTAKES[what]
    ran = run_cli(*words, cwd=tmp_path)
    assert (ran.code, sentence in ran.text) == (4, True), ran.text
    assert "Traceback" not in ran.text
    assert "INTERNALERROR" not in ran.text


UNFIT = {
    "an implementation of another name": (
        ["--impl", "nobody"],
        "--impl nobody: no such implementation: wanted one of honest",
    ),
    "a case of another spec": (
        ["--case", "float32/m4.k4.n4/default/normal"],
        "unknown axis 'm4': wanted b, h, tq, tk, d, dv",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_fits_no_implementation_is_one_sentence_and_exit_4(
    run_cli: Run, kernels: Path, tmp_path: Path, what: str
) -> None:
    words, sentence = UNFIT[what]
    ran = run_cli("test", kernels / "honest.py", *words, cwd=tmp_path)
    assert (ran.code, sentence in ran.text) == (4, True), ran.text


@pytest.mark.parametrize("words", [["--dtype", "float16"], ["--", "-k", "nothing_of_it"]])
def test_nothing_selected_is_exit_5_and_never_called_a_pass(
    run_cli: Run, kernels: Path, tmp_path: Path, words: list[str]
) -> None:
    ran = run_cli("test", kernels / "honest.py", "--tier", "smoke", *words, cwd=tmp_path)
    assert ran.code == 5, ran.text
    assert "nothing run" in ran.text or "nothing selected" in ran.text
    assert not any(w in ran.out for w in ("all pass", "passes ", "conformant "))


def test_a_worker_that_cannot_start_is_exit_9(run_cli: Run, kernels: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch is broken here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ran = run_cli("test", kernels / "honest.py", "--case", SMALL, cwd=tmp_path, PYTHONPATH=path)
    assert ran.code == 9, ran.text
    assert "the worker process cannot start: ImportError: torch is broken here" in ran.text
    assert "INTERNALERROR" not in ran.text


def test_a_log_gets_a_line_per_minute_before_any_implementation_is_finished(
    suite_of: Any, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, now = [], [0.0]

    class Log:
        hasmarkup = False

        def write(self, line: str, *, flush: bool) -> None:
            assert flush
            written.append(line)

    checker = suite_of(kernels / "honest.py")
    monkeypatch.setattr("kernelproof.conformance.report.time.monotonic", lambda: now[0])
    plan = checker.suite.plan()[0][:5]
    progress, result = Progress(Log(), plan), checker("honest")
    for seconds in (1.0, 59.0, 61.0, 62.0, 63.0):
        now[0] = seconds
        progress.show(result)
    name = "honest  attention.scaled_dot_product  cpu  ok"
    assert written == [f"    3/5  {name}, 2 to go\n", f"    5/5  {name}\n"]


@pytest.mark.parametrize(
    ("words", "variable", "code"), [([], "0", 0), ([], "1", 7), (["--strict"], "0", 7)]
)
def test_unmeasured_is_no_failure_but_exit_7_under_strict(
    run_cli: Run, kernels: Path, tmp_path: Path, words: list[str], variable: str, code: int
) -> None:
    words = [kernels / "sixteen.py", "--case", UNBOUNDED, *words]
    ran = run_cli("test", *words, cwd=tmp_path, KERNELPROOF_STRICT=variable)
    assert ran.code == code, ran.text
    assert "unmeasured: 544 elements have no finite bound" in ran.text


def test_a_looser_precision_than_required_fails_by_name(
    run_cli: Run, kernels: Path, tmp_path: Path
) -> None:
    words = ["test", kernels / "sixteen.py", "--tier", "smoke", "--require"]
    ran = run_cli(*words, "mixed16", cwd=tmp_path)
    assert ran.code == 1, ran.text
    assert "declares scores in float16 at float16: --require mixed16 forbids it" in ran.text
    assert "not conformant eager" in ran.text
    assert run_cli(*words, "eager16", cwd=tmp_path).code == 0


# One run of right and wrong kernels, read in every way --------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


def mixed(run_cli: Run, kernels: Path, folder: Path, name: str, *more: str) -> Any:
    words = [kernels / "honest.py", kernels / "wrong.py", "--tier", "smoke"]
    outputs = ["--json", f"{name}.json", "--junitxml", f"{name}.xml"]
    return run_cli("test", *words, *outputs, *more, cwd=folder)


@pytest.fixture(scope="module")
def ran(run_cli: Run, kernels: Path, folder: Path) -> Any:
    return mixed(run_cli, kernels, folder, "alone")


@pytest.fixture(scope="module")
def recorded(ran: Any, folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "alone.json").read_text())
    return document


def verdicts(document: dict[str, Any]) -> dict[Any, Any]:
    keys = ("spec", "implementation", "backend", "clause", "case")
    return {
        tuple(c[k] for k in keys): (c["verdict"], c["ratio"], c["worst"])
        for c in document["checks"]
    }


def test_a_failing_check_is_exit_1_and_the_right_kernel_is_conformant(ran: Any) -> None:
    assert ran.code == 1
    assert "conformant honest" in ran.text
    assert "not conformant unscaled" in ran.text


def test_a_failure_shows_what_the_design_promises(ran: Any) -> None:
    words = ("case", "clause", "worst", "got", "want", "error", "bound", "ratio", "like", "replay")
    assert not [word for word in words if f"{word} " not in ran.out]
    assert "scale-missing" in ran.out


def test_control_characters_of_a_kernel_do_not_reach_the_terminal(ran: Any) -> None:
    assert not {c for c in ran.out if not c.isprintable()} - {"\n"}
    assert "red" in ran.out


def test_the_record_follows_its_schema(recorded: dict[str, Any]) -> None:
    text = (files("kernelproof.conformance") / "record.schema.json").read_text()
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(recorded, schema, jsonschema.Draft202012Validator)


def test_the_record_has_infinite_ratios_but_no_literal_that_json_lacks(
    recorded: dict[str, Any], folder: Path
) -> None:
    def refuse(literal: str) -> None:
        raise AssertionError(literal)

    json.loads((folder / "alone.json").read_text(), parse_constant=refuse)
    assert "inf" in [check["ratio"] for check in recorded["checks"]]


def test_the_record_says_what_was_run_and_what_came_out(recorded: dict[str, Any]) -> None:
    assert (recorded["exit_code"], recorded["tier"], recorded["seed"]) == (1, "smoke", "0")
    assert {c["verdict"] for c in recorded["checks"]} == {"pass", "fail", "crash", "unsupported"}
    assert [i["name"] for i in recorded["implementations"]] == [
        "honest",
        "unscaled",
        "all[nan]",
        "awkward",
    ]


def test_junit_xml_parses_and_counts_the_failures(
    ran: Any, recorded: dict[str, Any], folder: Path
) -> None:
    (suite,) = ElementTree.parse(folder / "alone.xml").getroot().iter("testsuite")
    failing = [c for c in recorded["checks"] if c["verdict"] in ("fail", "crash")]
    assert int(suite.attrib["failures"]) == len(failing)
    assert int(suite.attrib["errors"]) == 0


def test_two_processes_give_the_same_verdicts_and_ratios(
    run_cli: Run, kernels: Path, folder: Path, recorded: dict[str, Any]
) -> None:
    ran = mixed(run_cli, kernels, folder, "two", "-n", "2")
    assert ran.code == 1
    assert verdicts(json.loads((folder / "two.json").read_text())) == verdicts(recorded)


def replay(run_cli: Run, ran: Any, name: str, folder: Path) -> dict[str, Any]:
    """Run the replay line of an implementation's first failure; the one check it records."""
    lines = [shlex.split(x.strip()) for x in ran.out.splitlines() if x.strip()[:6] == "replay"]
    words = next(words for words in lines if name in words or any(name in w for w in words))
    assert words[:3] == ["replay", "kernelproof", "test"]
    run_cli(*words[2:], "--json", "replay.json", cwd=folder)
    return judged(json.loads((folder / "replay.json").read_text()))


def judged(document: dict[str, Any]) -> dict[str, Any]:
    """The one check of a record that ran, beside that of the target."""
    (check,) = [c for c in document["checks"][1:] if c["verdict"] != "unsupported"]
    return dict(check)


@pytest.mark.parametrize("name", ["unscaled", "all[[]nan]"])
def test_the_replay_line_reproduces_the_ratio(
    run_cli: Run, ran: Any, recorded: dict[str, Any], folder: Path, name: str
) -> None:
    check = replay(run_cli, ran, name, folder)
    key = tuple(check[k] for k in ("spec", "implementation", "backend", "clause", "case"))
    assert (check["verdict"], check["ratio"], check["worst"]) == verdicts(recorded)[key]


def test_a_random_seed_is_recorded_changes_the_inputs_and_is_replayed(
    run_cli: Run, kernels: Path, folder: Path, recorded: dict[str, Any]
) -> None:
    case = "float32/b2.h2.tq64.tk64.d64/default/normal"
    words = [kernels / "wrong.py", "--impl", "unscaled", "--case", case, "--seed", "random"]
    ran = run_cli("test", *words, "--json", "random.json", cwd=folder)
    document = json.loads((folder / "random.json").read_text())
    check = judged(document)
    assert document["seed"] not in ("0", "random")
    assert f"seed {document['seed']}" in ran.text
    known = verdicts(recorded)[ATTENTION, "unscaled", "cpu", "attention.accuracy", case]
    assert check["ratio"] != known[1]
    again = replay(run_cli, ran, "unscaled", folder)
    assert (again["case"], again["ratio"]) == (check["case"], check["ratio"])


# What goes to pytest ------------------------------------------------------------------------------


def test_collect_only_lists_what_k_selects_and_runs_nothing(
    run_cli: Run, kernels: Path, tmp_path: Path
) -> None:
    words = [kernels / "wrong.py", "--impl", "unscaled", "--tier", "smoke"]
    ran = run_cli("test", *words, "--", "--collect-only", "-k", "attention.layout", cwd=tmp_path)
    assert ran.code == 0, ran.text
    listed = [line for line in ran.out.splitlines() if "::" in line]
    start = f"test_integrity.py::test_integrity[{ATTENTION}/unscaled/cpu/attention.layout/float32/"
    assert listed
    assert not [line for line in listed if start not in line]
    assert "FAIL" not in ran.out


def test_x_stops_at_the_first_failure_and_lf_runs_the_failed_again(
    run_cli: Run, kernels: Path, tmp_path: Path
) -> None:
    # a cache of its own: pytest keeps one per root, and a root may lie above tmp_path
    cache = ("-o", f"cache_dir={tmp_path / 'cache'}")
    words = [kernels / "wrong.py", "--impl", "unscaled", "--tier", "smoke", "--", *cache]
    assert "1 failed" in run_cli("test", *words, "-x", cwd=tmp_path).text
    again = run_cli("test", *words, "--lf", cwd=tmp_path)
    assert (again.code, "1 failed" in again.text) == (1, True), again.text


# Records in awkward places ------------------------------------------------------------------------

FULL_DISK = """
import resource, signal
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from kernelproof.conformance.cli import main
main()
"""


def test_a_record_that_does_not_fit_is_exit_9_and_leaves_the_old_one(
    run_python: Run, kernels: Path, tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text("old")
    words = ["test", kernels / "honest.py", "--case", SMALL, "--json", "r.json"]
    ran = run_python(*("-P", "-c", FULL_DISK), *words, "--", "-p", "no:cacheprovider", cwd=tmp_path)
    assert ran.code == 9, ran.text
    assert "the record was not written to r.json: File too large" in ran.text
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "old"


def test_a_record_goes_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    record.write(tmp_path / "link", {"a": 1})
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "file").read_text()) == {"a": 1}


def test_a_device_is_written_to_and_never_replaced() -> None:
    reader, device = os.openpty()
    record.write(Path(os.ttyname(device)), {"a": 1})
    assert Path(os.ttyname(device)).is_char_device()
    assert json.loads(os.read(reader, 1000)) == {"a": 1}
    os.close(reader)
    os.close(device)


# Targets of all kinds ---------------------------------------------------------------------------


def test_torchs_own_operator_runs_by_its_name(run_cli: Run, tmp_path: Path) -> None:
    target = "torch.nn.functional:scaled_dot_product_attention"
    mapping = "causal:top-left=is_causal,mask=attn_mask,scale=scale"
    words = ["--spec", ATTENTION, "--returns", "out", "--map", mapping, "--dtype", "float32"]
    ran = run_cli("test", target, *words, "--tier", "smoke", "--json", "r.json", cwd=tmp_path)
    assert ran.code == 0, ran.text
    checks = json.loads((tmp_path / "r.json").read_text())["checks"]
    passed = {c["clause"] for c in checks if c["verdict"] == "pass"}
    outside = {c["message"] for c in checks if c["verdict"] == "unsupported"}
    assert passed >= {"attention.causal.top-left", "attention.mask.boolean", "attention.nan.query"}
    assert outside == {
        "option causal=bottom-right",
        "option keep",
        "output lse is not returned",
        "gradients are not declared at float32",
    }
    assert "not returned, so not judged: lse" in ran.text
    assert "conformant" not in ran.text


def test_gradients_of_torchs_own_operator_are_judged_where_they_are_asked_for(
    run_cli: Run, tmp_path: Path
) -> None:
    target = "torch.nn.functional:scaled_dot_product_attention"
    case = "float32/b2.h2.tq64.tk64.d64/default/normal"
    words = ["--spec", ATTENTION, "--returns", "out", "--case", case, "--json", "r.json"]
    ran = run_cli("test", target, *words, "--gradients", cwd=tmp_path)
    assert ran.code == 0, ran.text
    checks = json.loads((tmp_path / "r.json").read_text())["checks"]
    verdicts = {c["clause"]: c["verdict"] for c in checks}
    assert verdicts["attention.gradients"] == "pass"
    ran = run_cli("test", "torch", "--gradients", cwd=tmp_path)
    assert ran.code == 4
    assert "--gradients describe a target module:callable; torch is none" in ran.text


def test_a_nan_query_with_few_keys_shows_torchs_known_bug_and_replays(
    run_cli: Run, tmp_path: Path
) -> None:
    """https://github.com/pytorch/pytorch/issues/141128"""
    case = "float32/b1.h2.tq4.tk4.d16/default/nan-query"
    target = "torch.nn.functional:scaled_dot_product_attention"
    words = ["--spec", ATTENTION, "--returns", "out", "--map", "mask=attn_mask", "--case", case]
    ran = run_cli("test", target, *words, cwd=tmp_path)
    assert ran.code == 1, ran.text
    assert "want nan" in ran.text
    assert replay(run_cli, ran, target, tmp_path)["ratio"] == "inf"


def test_targets_may_lie_anywhere_and_be_called_what_they_like(
    run_cli: Run, kernels: Path, tmp_path: Path
) -> None:
    folder, source = tmp_path / "mine", (kernels / "honest.py").read_text()
    folder.mkdir()
    targets = ["../above.py", "torch.py", "./numpy.py", "kernelproof.py", "module"]
    for target in targets:
        name = Path(target).stem
        path = folder / target if ".py" in target else folder / f"{target}.py"
        path.write_text(source.replace('"honest"', f'"from-{name}"'))
    ran = run_cli("test", *targets, "--case", SMALL, cwd=folder)
    assert ran.code == 0, ran.text
    found = [t for t in targets if f"passes from-{Path(t).stem} {ATTENTION}" in ran.text]
    assert found == targets


# Options from the ini file and the environment ----------------------------------------------------

SOURCES = {
    "the ini file": ({"tier": "from-ini"}, {}, [], "--tier from-ini"),
    "the environment": ({}, {"KERNELPROOF_TIER": "from-env"}, [], "--tier from-env"),
    "the ini file before the environment": (
        {"tier": "from-ini"},
        {"KERNELPROOF_TIER": "from-env"},
        [],
        "--tier from-ini",
    ),
    "the command line before both": (
        {"tier": "from-ini"},
        {"KERNELPROOF_TIER": "from-env"},
        ["--tier", "from-cli"],
        "--tier from-cli",
    ),
    "a list in the ini file": ({"dtype": "float32 half"}, {}, [], "--dtype half"),
    "a list in the environment": ({}, {"KERNELPROOF_DTYPE": "float32 half"}, [], "--dtype half"),
    "a dash in the ini file": ({"import_timeout": "soon"}, {}, [], "--import-timeout soon"),
    "a dash in the environment": (
        {},
        {"KERNELPROOF_IMPORT_TIMEOUT": "soon"},
        [],
        "--import-timeout soon",
    ),
    "targets in the ini file": ({"implementations": "gone.py"}, {}, [], "target gone.py"),
    "targets in the environment": (
        {},
        {"KERNELPROOF_IMPLEMENTATIONS": "gone.py"},
        [],
        "target gone.py",
    ),
}


@pytest.mark.parametrize("what", SOURCES)
def test_options_come_from(run_cli: Run, tmp_path: Path, what: str) -> None:
    ini, environment, words, refused = SOURCES[what]
    lines = [f"kernelproof_{name} = {value}" for name, value in ini.items()]
    (tmp_path / "pytest.ini").write_text("\n".join(["[pytest]", *lines]))
    ran = run_cli("test", *words, cwd=tmp_path, **environment)
    assert (ran.code, refused in ran.text) == (4, True), ran.text


# list ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listed(run_cli: Run, folder: Path) -> dict[str, Any]:
    ran = run_cli("list", "--json", cwd=folder)
    assert ran.code == 0, ran.text
    document: dict[str, Any] = json.loads(ran.out)
    return document


def test_list_as_json_has_every_spec_with_its_clauses(listed: dict[str, Any]) -> None:
    specs = {spec["name"]: spec for spec in listed["specs"]}
    assert set(specs) >= {ATTENTION, "cache.contiguous", "matmul.tiled"}
    assert "attention.nan.query" in specs[ATTENTION]["clauses"]
    assert specs["cache.contiguous"]["kind"] == "program"


def test_list_as_json_has_every_built_in_with_what_it_claims(listed: dict[str, Any]) -> None:
    names = {each["name"]: each for each in listed["implementations"]}
    assert set(names) >= {"torch-eager", "torch-sdpa", "torch-contiguous", "torch-tiled"}
    assert names["torch-eager"]["options"] == ["causal", "keep", "mask", "scale"]
    assert "attention.nan.query" in names["torch-sdpa"]["deviates"]


def test_list_as_json_has_every_worksheet_with_its_quantities(listed: dict[str, Any]) -> None:
    sheets = {sheet["name"]: sheet for sheet in listed["sheets"]}
    assert set(sheets) == set(sheet_names())
    quantities = sheets["sizing.kv_cache"]["quantities"]
    assert quantities["hq"]["default"] == "hkv"
    assert quantities["layers"] == {
        "words": "layers of the model",
        "default": None,
        "optional": False,
        "choices": [],
    }


def test_list_of_worksheets_alone_shows_their_quantities(run_cli: Run, tmp_path: Path) -> None:
    ran = run_cli("list", "--spec", "sizing.kv*", cwd=tmp_path)
    assert ran.code == 0, ran.text
    assert "tokens reserved per sequence" in ran.text
    assert "sizing.roofline" not in ran.text
    assert ATTENTION not in ran.text


def test_list_shows_what_there_is_and_what_cannot_be_used(
    run_cli: Run, kernels: Path, tmp_path: Path
) -> None:
    (tmp_path / "raises.py").write_text("raise RuntimeError('no luck')")
    words = [kernels / "honest.py", "raises.py", "--spec", "attention.*"]
    ran = run_cli("list", *words, cwd=tmp_path)
    assert ran.code == 1
    for wanted in ("honest", "attention.nan.query", "RuntimeError: no luck (line 1)"):
        assert wanted in ran.text
    assert "cache.contiguous" not in ran.text
