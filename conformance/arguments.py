"""What the commands that run pytest share: their targets, and how options become arguments."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TARGET]",
        help="kernels.py, package.module, or either with :callable. Default: what is installed, "
        "the built-in implementations among it.",
    ),
]
Specs = Annotated[
    list[str] | None,
    typer.Option("--spec", metavar="GLOB", help="Only these specs; of a :callable, its spec."),
]
Implementations = Annotated[
    str | None, typer.Option("--impl", metavar="GLOB", help="Only these implementations.")
]
Backends = Annotated[
    list[str] | None, typer.Option("--backend", metavar="B", help="cpu, interpret, cuda.")
]
Dtypes = Annotated[
    list[str] | None, typer.Option("--dtype", metavar="D", help="Only this input dtype.")
]
Cases = Annotated[list[str] | None, typer.Option("--case", metavar="ID", help="Only this case.")]
Returns = Annotated[
    str | None, typer.Option("--returns", metavar="NAMES", help="Outputs of a :callable.")
]
Map = Annotated[
    str | None,
    typer.Option("--map", metavar="MAP", help="Keywords of a :callable: mask=attn_mask,..."),
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="S", help="Seconds per call (60).", show_default=False),
]
ImportTimeout = Annotated[
    str | None,
    typer.Option(
        "--import-timeout", metavar="S", help="Seconds per import (60).", show_default=False
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory", metavar="GIB", help="Address space per worker (8).", show_default=False
    ),
]

QUIET = (
    *("--kp-console", "-q", "--no-header", "--tb=no", "-rN", "--import-mode=prepend"),
    # pytest wants to rewrite the assertions of a plugin that this process has imported already
    *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
)
"""Arguments of pytest with which the suite alone prints."""


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """Targets, and what stands behind ``--``: click has dropped the dashes themselves."""
    if "--" not in sys.argv:
        return words, []
    behind = sys.argv[sys.argv.index("--") + 1 :]
    return words[: len(words) - len(behind)], behind


def plugin_arguments(given: Mapping[str, Any]) -> list[str]:
    """Options of the plugin from values by name; of a list one for each, of None none."""
    return [
        f"--kp-{name}={each}"
        for name, value in given.items()
        for each in (
            value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        )
        if each is not None
    ]
