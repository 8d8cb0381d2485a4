"""All that differs between the versions of Triton (3.6 to 3.9) that the interpreter layer runs.

What 3.6 cannot do, in its compiler too, and what kernels hear about it here:

- chained comparisons, ``a < b < c``: its interpreter computes ``b < c``; here they are lacking;
- constants of fp8 other than zero (``tl.full``, ``x + 0.5``): lacking;
- fp8 of AMD (e4m3fnuz, e5m2fnuz): ValueError;
- ``tl.clamp`` of integers: TypeError. A quotient of fp8 tensors is fp8, where 3.9 gives float32;
- ``-x`` is ``0 - x``: of 0 it is 0, where 3.9 gives -0.

What it can do and 3.9 cannot: block pointers (``tl.make_block_ptr``, ``tl.advance``).
"""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import triton
import triton.language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter

from kernelproof.conformance.interpreter.formats import InterpreterLacks

VERSION = tuple(int(number) for number in triton.__version__.split(".")[:2])
IS_3_6 = VERSION < (3, 7)
MINIMA = (np.nanmin, np.min)
"""What upstream asks for where a minimum is wanted: the second in 3.6."""


def adapt(builder: Any) -> None:
    """Make a builder that of the language; 3.6 makes the semantics anew for each function."""
    interpreter.interpreter_builder = builder
    interpreter.interpreter_semantic = TritonSemantic(builder)
    if not hasattr(interpreter, "_InterpreterComparison"):
        interpreter.FunctionRewriter.ast_transformer = _NoChains()


def as_argument(value: Any) -> Any:
    """An argument of a launch as upstream makes it; 3.6 makes int1 of 32 bits of a bool."""
    if isinstance(value, bool):
        return tl.tensor(interpreter.TensorHandle(np.array([value]), tl.int1), tl.int1)
    return _upstream_implicit_cvt(value)


_upstream_implicit_cvt = interpreter._implicit_cvt


def patch_language(scope: Any) -> None:
    """What a version's own patching of the language lacks.

    In 3.6 a tensor of one element is no bound of a loop, because NumPy 2.4 refuses ``int()`` of
    it, and dot_scaled wants its formats as the compiler has them.
    """
    scope.set_attr(tl.tensor, "__index__", lambda self: int(self.handle.data.squeeze()))
    if IS_3_6:
        for lang in (tl, tl.core):
            scope.set_attr(lang, "dot_scaled", _with_constexprs(lang.dot_scaled))


def _with_constexprs(function: Any) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        words = {n: tl.constexpr(v) if isinstance(v, str) else v for n, v in named.items()}
        return function(*(tl.constexpr(a) if isinstance(a, str) else a for a in arguments), **words)

    return call


def lanes_of(mask: Any) -> Any:
    """The lanes of a mask; block pointers and descriptors of 3.6 bring a bare array."""
    return mask if isinstance(mask, np.ndarray) else mask.data


class _NoChains(interpreter.ASTTransformer):  # type: ignore[misc]
    """Python would drop the first half of a chained comparison of tensors."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Refuse ``a < b < c``."""
        if len(node.ops) > 1:
            raise InterpreterLacks("chained comparisons (Triton 3.6)")
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        """Upstream's does not look at the right side of an assignment."""
        self.visit(node.value)
        return super().visit_Assign(node)
