"""Fast products in place: the schedules are those of the papers, and bad input is told."""

from __future__ import annotations

import pytest
import torch

from kernelproof.impls.halving import CUTOFF, STEPS, Operations, count_levels, multiply
from kernelproof.impls.torch.matmul import strassen as torch_strassen
from kernelproof.impls.torch.matmul import tiled as torch_tiled
from kernelproof.impls.torch.matmul.strassen import strassen
from kernelproof.impls.triton.matmul import naive as triton_naive
from kernelproof.impls.triton.matmul import strassen as triton_strassen
from kernelproof.impls.triton.matmul import tiled as triton_tiled
from kernelproof.reference.matmul.forms import FORMS, recurse
from kernelproof.reference.matmul.strassen import CUTOFF as PINNED


def whole(*shape, seed=0):
    """Small whole numbers, whose products float32 holds exactly."""
    return torch.randint(-9, 9, shape, generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("variant", STEPS)
@pytest.mark.parametrize("levels", range(4))
@pytest.mark.parametrize(
    ("m", "k", "n"), [(8, 16, 24), (1, 1, 1), (5, 7, 3), (9, 1, 2), (3, 0, 4), (0, 5, 2)]
)
def test_products_of_whole_numbers_are_exact(variant, levels, m, k, n):
    a, b = whole(m, k), whole(k, n, seed=1)
    for dtype in (torch.float64, torch.float32):
        out = strassen(a.to(dtype), b.to(dtype), levels=levels, variant=variant)
        assert out.dtype == dtype
        assert torch.equal(out.float(), a @ b)


@pytest.mark.parametrize("variant", STEPS)
def test_a_schedule_adds_in_the_order_of_the_paper(variant):
    a, b = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(2))
    rows = lambda blocks: torch.cat([torch.cat(row, 1) for row in blocks])  # noqa: E731
    want = recurse(FORMS[variant], a, b, 3, join=rows)  # down to single numbers
    assert torch.equal(strassen(a, b, levels=3, variant=variant), want)


@pytest.mark.parametrize("variant", STEPS)
def test_no_operation_reads_what_it_or_the_one_before_has_not_written(variant):
    made = []

    def note(x, y, out):
        assert not (x.isnan().any() or y.isnan().any())
        made.append(out.shape)
        return out.copy_(torch.ones_like(out))

    operations = Operations(note, note, note, lambda x, out: x)
    fill = torch.utils.deterministic.fill_uninitialized_memory
    assert fill
    torch.use_deterministic_algorithms(True)  # torch.empty then gives NaN
    try:
        multiply(operations, whole(4, 4), whole(4, 4), levels=2, variant=variant)
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(made) == 49 + 8 * {"strassen": 18, "winograd": 15}[variant]


@pytest.mark.parametrize(
    ("shapes", "options", "sentence"),
    [
        (((2, 3), (4, 2)), {}, "a has 3 columns, b has 4 rows: wanted a: m k and b: k n"),
        (((2, 3, 3), (3, 2)), {}, "a has shape (2, 3, 3), b (3, 2): wanted matrices, a: m k and"),
        (((2, 2), (2, 2)), {"levels": -1}, "levels=-1: wanted a number from 0"),
        (((2, 2), (2, 2)), {"cutoff": 0}, "cutoff=0: wanted a number from 1"),
        (((2, 2), (2, 2)), {"levels": 2, "cutoff": 8}, "levels=2 and cutoff=8: wanted one of them"),
        (((2, 2), (2, 2)), {"variant": "karatsuba"}, "variant 'karatsuba': wanted one of strassen"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_sentence(shapes, options, sentence):
    a, b = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError) as raised:
        strassen(a, b, **options)
    assert sentence in str(raised.value)


def test_the_cutoff_is_the_one_that_the_spec_pins():
    assert CUTOFF == PINNED
    sizes = [count_levels(*torch.empty(2, n, n), None, None) for n in (1, 64, 65, 128, 129)]
    assert sizes == [0, 0, 1, 1, 2]


# Factors ------------------------------------------------------------------------------------------

BY_TORCH = (torch_tiled.tiled, torch_strassen.strassen)
BY_KERNELS = (triton_tiled.tiled, triton_naive.naive, triton_strassen.strassen)


@pytest.mark.parametrize("product", [*BY_TORCH, *BY_KERNELS], ids=lambda p: p.__module__)
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(2, 6), torch.ones(3, 2), "a has 6 columns, b has 3 rows: wanted a: m k and"),
        (torch.ones(6), torch.ones(6, 2), "a has shape (6,), b (6, 2): wanted matrices"),
        (torch.ones(2, 3), torch.ones(3, 2).half(), "a is torch.float32, b is torch.float16: want"),
        (torch.ones(2, 3).int(), torch.ones(3, 2).int(), "a is torch.int32, b is torch.int32: wan"),
    ],
)
def test_factors_that_do_not_go_together_are_refused_with_both(product, a, b, message):
    with pytest.raises(ValueError) as raised:
        product(a, b)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("product", BY_KERNELS)
def test_a_kernel_that_sums_in_float32_refuses_float64(product):
    x = torch.ones(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError) as raised:
        product(x, x)
    wanted = "wanted float32, float16, bfloat16, convert them"
    assert str(raised.value) == f"a and b are torch.float64: {wanted}"
