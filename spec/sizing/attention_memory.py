"""What layers of attention and feed-forward hold in training.

That is parameters, their gradients, and the activations that the forward pass
keeps for the backward one.

Standard attention keeps its probabilities, quadratic in t; scores stand beside
them while the softmax runs, and are not kept. FlashAttention keeps lse instead,
linear in t (Dao 2023, Alg. 1). Feed-forward keeps its hidden layer before and
after the activation function. What an optimizer holds is left out.

Biases, layer norms and dropout are left out: of the sbh (34 + 5 as/h) bytes per
layer of Korthikanti et al. 2022 (section 4.1; 16 bit, d_ff = 4e), sbh (28 + 2 as/h)
remain; their s b h a are t b e heads here.
"""

from __future__ import annotations

from kernelproof.spec.sheets import Line, Quantity, Rule, Sheet

sheet = Sheet(
    name="sizing.attention_memory",
    title="Memory of attention layers in training",
    source="Korthikanti et al. 2022; Dao 2023",
    quantities=(
        Quantity("b", "sequences of a batch"),
        Quantity("t", "tokens of a sequence"),
        Quantity("heads", "heads of queries, and of keys"),
        Quantity("e", "size of a token's embedding"),
        Quantity("d_ff", "size of the hidden layer of feed-forward", default="4 * e"),
        Quantity("layers", "layers of attention and feed-forward", default=1),
        Quantity("bytes", "bytes of an element", default=2),
        Quantity("block", "rows of a block of scores", default=128),
    ),
    rules=(
        Rule("e % heads == 0", "heads={heads} does not divide e={e}: wanted heads of one size"),
    ),
    lines=(
        Line("x", "b * t * e * bytes", "bytes", "input of a layer"),
        Line("q", "b * t * e * bytes", "bytes", "queries"),
        Line("k", "b * t * e * bytes", "bytes", "keys"),
        Line("v", "b * t * e * bytes", "bytes", "values"),
        Line("scores", "b * heads * t * t * bytes", "bytes", "standard, while the softmax runs"),
        Line("score_block", "block * t * bytes", "bytes", "block rows of one head's scores"),
        Line("probabilities", "b * heads * t * t * bytes", "bytes", "standard keeps them"),
        Line("lse", "b * heads * t * max(bytes, 4)", "bytes", "flash keeps it instead"),
        Line("out", "b * t * e * bytes", "bytes", "heads, before their projection"),
        Line("y", "b * t * e * bytes", "bytes", "input of feed-forward"),
        Line("hidden", "2 * b * t * d_ff * bytes", "bytes", "before and after its function"),
        Line(
            "linear", "layers * (x + q + k + v + out + y + hidden)", "bytes", "activations of both"
        ),
        Line("standard", "linear + layers * probabilities", "bytes", "with probabilities"),
        Line("flash", "linear + layers * lse", "bytes", "with lse"),
        Line(
            "parameters",
            "layers * (4 * e * e + 2 * e * d_ff) * bytes",
            "bytes",
            "w_q w_k w_v w_o, feed-forward's two",
        ),
        Line("gradients", "parameters", "bytes", "one per parameter"),
        Line("standard_total", "parameters + gradients + standard", "bytes", "all of these"),
        Line("flash_total", "parameters + gradients + flash", "bytes", "all of these"),
    ),
)
