"""A right kernel of ten lines."""

import torch

from kernelproof import implementation


@implementation("attention.scaled_dot_product", name="honest", returns=["out"])
def honest(q, k, v):
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v
