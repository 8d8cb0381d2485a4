"""A right kernel of ten lines."""

import torch

from kernelproof import implementation


@implementation("attention.scaled_dot_product", name="honest")
def honest(q, k, v):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return torch.softmax(scores, -1) @ v, torch.logsumexp(scores, -1)
