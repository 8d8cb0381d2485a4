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
