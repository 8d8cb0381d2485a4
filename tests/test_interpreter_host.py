"""Host code that asks for a GPU when it is imported, and kernels behind custom operators."""

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
