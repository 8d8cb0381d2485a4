"""A right kernel for float16 that declares roundings of its scores."""

import torch

from kernelproof import implementation


@implementation(
    "attention.scaled_dot_product",
    name="eager",
    dtypes=["float16"],
    returns=["out"],
    precision="eager16",
)
def eager(q, k, v):
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
    return (torch.softmax(scores, -1) @ v.float()).half()
