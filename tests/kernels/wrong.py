"""Wrong kernels, each in its own way: without scale, of NaN, and with an awkward message."""

import torch

from kernelproof import implementation

SPEC = "attention.scaled_dot_product"


@implementation(SPEC, name="unscaled", returns=["out"])
def unscaled(q, k, v):
    return torch.softmax(q @ k.mT, -1) @ v


@implementation(SPEC, name="all[nan]", returns=["out"])
def all_nan(q, k, v):
    return torch.full((*q.shape[:-1], v.shape[-1]), float("nan"))


@implementation(SPEC, name="awkward", returns=["out"])
def awkward(q, k, v):
    raise ValueError("\x1b[31mred\x00 & <b>]]>\udcff\nand a second line")
