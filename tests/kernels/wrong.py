"""A kernel that forgets the scale."""

import torch

from kernelproof import implementation


@implementation("attention.scaled_dot_product", name="unscaled", returns=["out"])
def unscaled(q, k, v):
    return torch.softmax(q @ k.mT, -1) @ v
