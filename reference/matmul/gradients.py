"""Gradients of a matrix product, for the cotangent d_out of out = a b:

da = d_out bᵀ        db = aᵀ d_out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernelproof.reference.matmul.tiled import Array, Product


@dataclass(frozen=True)
class ProductGradients:
    """The factors and the cotangent; da: m k, db: k n."""

    a: Array
    b: Array
    d_out: Array
    da: Array
    db: Array

    @property
    def products(self) -> Mapping[str, Product]:
        """Each gradient as the product that it is."""
        return {
            "da": Product(self.d_out, self.b.T, self.da),
            "db": Product(self.a.T, self.d_out, self.db),
        }


def product_gradients(
    exact: Product, d_out: Array, inputs: Mapping[str, Array]
) -> ProductGradients:
    """Gradients with regard to a: m k and b: k n, for d_out: m n."""
    a, b = exact.a, exact.b
    return ProductGradients(a, b, d_out, d_out @ b.T, a.T @ d_out)
