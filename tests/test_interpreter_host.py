"""What stands around kernels: host code that asks for a GPU, operators, decoys, program order."""

from __future__ import annotations

KERNELS = """
import torch, triton, triton.language as tl
from kernelproof import implementation

DEVICE = triton.runtime.driver.active.get_active_torch_device()
SMS = triton.runtime.driver.active.utils.get_device_properties(DEVICE)["multiprocessor_count"]

@triton.jit
def multiply(a, b, out, m, n, k, B: tl.constexpr, K: tl.constexpr):
    i, j = tl.program_id(0) * B + tl.arange(0, B), tl.program_id(1) * B + tl.arange(0, B)
    total = tl.zeros((B, B), tl.float32)
    for start in range(0, k, K):
        p = start + tl.arange(0, K)
        x = tl.load(a + i[:, None] * k + p, mask=(i[:, None] < m) & (p < k), other=0.0)
        y = tl.load(b + p[:, None] * n + j, mask=(p[:, None] < k) & (j < n), other=0.0)
        total = tl.dot(x, y, total, input_precision="ieee")
    tl.store(out + i[:, None] * n + j, total, mask=(i[:, None] < m) & (j < n))

@torch.library.custom_op("kernelproof_host::multiply", mutates_args=())
def operator(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, device=DEVICE)
    multiply[(triton.cdiv(m, 64), triton.cdiv(n, 64))](a, b, out, m, n, k, B=64, K=32)
    return out

@triton.jit
def after_the_last(out, seen, m, n, B: tl.constexpr):
    # adds what the program before left: right only in one order
    i = tl.program_id(0)
    before = tl.load(seen + i)
    j = tl.arange(0, B)
    row = tl.load(out + i * n + j, mask=j < n, other=0.0)
    tl.store(out + i * n + j, row + before - i, mask=j < n)
    tl.store(seen + i + 1, before + 1)

@implementation("matmul.tiled", name="in order", backends=["interpret"])
def in_order(a, b):
    out, seen = operator(a, b), torch.zeros(a.shape[0] + 1)
    after_the_last[(a.shape[0],)](out, seen, *out.shape, B=128)
    return out

@implementation("matmul.tiled", name="decoy", backends=["interpret"])
def decoy(a, b):
    operator(a[:16], b)
    return a @ b

@implementation("softmax.safe", name="decoy softmax", backends=["interpret"])
def decoy_softmax(x):
    operator(x, x.T)
    return torch.softmax(x, -1)

@implementation("matmul.tiled", name="no kernel", backends=["interpret"])
def no_kernel(a, b):
    return (a[:, :, None] * b).sum(1)

@implementation("matmul.tiled", name="behind an operator", backends=["interpret"],
                tiles={"bm": "B", "bn": "B", "bk": "K"})
def behind(a, b):
    assert SMS > 0
    return operator(a, b)
"""
CASE = "float32/m100.k130.n70/default/normal"


def test_a_launcher_that_asks_for_a_gpu_is_described_and_runs(suite_of, tmp_path):
    (tmp_path / "host.py").write_text(KERNELS)
    checker = suite_of(tmp_path / "host.py")
    assert checker.problems()["host.py"].verdict == "pass"
    assert checker("behind an operator", CASE, backend="interpret").verdict == "pass"


def test_a_kernel_behind_a_custom_operator_is_counted_by_what_it_launches(suite_of, tmp_path):
    (tmp_path / "host.py").write_text(KERNELS)
    checker = suite_of(tmp_path / "host.py")
    traffic = checker("behind an operator", CASE, "matmul.cost.traffic", backend="interpret")
    assert (traffic.verdict, traffic.measured) == ("pass", 4 * (2 * 13_000 + 2 * 9_100 + 7_000))
    flops = checker("behind an operator", CASE, "matmul.cost.flops", backend="interpret")
    assert (flops.verdict, flops.measured) == ("pass", 2 * 128 * 128 * 160)


def test_a_result_that_depends_on_the_order_of_programs_is_not_deterministic(suite_of, tmp_path):
    (tmp_path / "host.py").write_text(KERNELS)
    checker = suite_of(tmp_path / "host.py")
    assert checker("in order", CASE, backend="interpret").verdict == "pass"
    result = checker("in order", CASE, "matmul.deterministic", backend="interpret")
    assert result.verdict == "fail"
    assert "alone is wrong (it ran its program instances in reverse order)" in result.message


def test_torch_may_not_do_the_work_of_an_interpreted_kernel(suite_of, tmp_path):
    (tmp_path / "host.py").write_text(KERNELS)
    checker = suite_of(tmp_path / "host.py")
    result = checker("decoy", CASE, backend="interpret")
    assert (result.verdict, result.clause) == ("fail", "integrity.kernels")
    assert "torch operators made 1,820,000 of" in result.message
    result = checker("decoy softmax", "float32/r9.n40/default/normal", backend="interpret")
    assert "torch operators made 1,422 floating-point operations, of 1,071" in result.message
    result = checker("no kernel", CASE, backend="interpret")
    assert "no Triton kernel was launched" in result.message
    assert checker("no kernel", "float32/m5.k0.n7/default/normal", backend="interpret").ratio == 0
