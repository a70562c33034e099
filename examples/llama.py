"""A Llama decoder with a static key-value cache, written to be exported.

Parameter names are those of `LlamaForCausalLM` in Hugging Face transformers. Two entry points share
one cache, which the caller owns: a list of `[1, kv_heads, positions, head_dim]` tensors per layer for the
keys and one for the values, updated in place.

* `Prefill`: a prompt of `n` tokens at positions `0..n`; causal attention among those tokens.
* `Decode`: one token at `position`; attention over the cache up to that position.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a Llama."""

    vocab: int
    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    rope_base: float = 10000.0
    eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


SMOLLM2_135M = LlamaShape(49152, 576, 1536, 30, 9, 3, rope_base=100000.0)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of `x` [1, heads, n, d]: pairs are `(x[i], x[i + d/2])`, as in transformers."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention that writes its keys and values into the cache."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, kv_width, bias=False)
        self.v_proj = nn.Linear(shape.width, kv_width, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x, rope, position, k_cache, v_cache, mask):
        """`mask`: None for causal attention among the new tokens, else over the whole cache."""
        n, d = x.shape[1], self.shape.head_dim
        q = rotate(self.q_proj(x).view(1, n, -1, d).transpose(1, 2), *rope)
        k = rotate(self.k_proj(x).view(1, n, -1, d).transpose(1, 2), *rope)
        v = self.v_proj(x).view(1, n, -1, d).transpose(1, 2)
        if k_cache is not None:
            k_cache.index_copy_(2, position, k)
            v_cache.index_copy_(2, position, v)
        if mask is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            y = F.scaled_dot_product_attention(q, k_cache, v_cache, attn_mask=mask, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(1, n, -1))


class Mlp(nn.Module):
    """Gated SiLU."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down_proj = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and MLP, each behind a norm and around a residual."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.width, eps=shape.eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, eps=shape.eps)
        self.mlp = Mlp(shape)

    def forward(self, x, *attention):
        x = x + self.self_attn(self.input_layernorm(x), *attention)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """Everything but the output projection."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.eps)
        exponent = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
        self.register_buffer("inv_freq", 1.0 / shape.rope_base**exponent, persistent=False)

    def forward(self, input_ids, position, k_cache, v_cache, mask):
        angle = position[:, None].to(torch.float32) * self.inv_freq[None, :]
        angle = torch.cat((angle, angle), dim=-1)
        rope = angle.cos(), angle.sin()
        x = self.embed_tokens(input_ids)
        for i, layer in enumerate(self.layers):
            k, v = (k_cache[i], v_cache[i]) if k_cache else (None, None)
            x = layer(x, rope, position, k, v, mask)
        return self.norm(x)


class Llama(nn.Module):
    """Weights of a Llama whose output projection is the embedding."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.model = Body(shape)

    def logits(self, hidden):
        """f32 `[1, vocab]` of the last token."""
        return F.linear(hidden[:, -1], self.model.embed_tokens.weight)


class Prefill(Llama):
    """`(input_ids: i64 [1, n], k_cache, v_cache)` to the logits after the last token, f32 `[1, vocab]`."""

    def forward(self, input_ids, k_cache: list, v_cache: list):
        position = torch.arange(input_ids.shape[1])
        return self.logits(self.model(input_ids, position, k_cache, v_cache, None))


class Decode(Llama):
    """`(input_ids: i64 [1, 1], position: i64 [1], k_cache, v_cache)` to the next logits, f32 `[1, vocab]`."""

    def forward(self, input_ids, position, k_cache: list, v_cache: list):
        mask = torch.arange(k_cache[0].shape[2])[None, :] <= position[:, None]
        return self.logits(self.model(input_ids, position, k_cache, v_cache, mask))


class NoCache(Llama):
    """`(input_ids: i64 [1, n])` to the logits of every token, f32 `[1, n, vocab]`."""

    def forward(self, input_ids):
        hidden = self.model(input_ids, torch.arange(input_ids.shape[1]), None, None, None)
        return F.linear(hidden, self.model.embed_tokens.weight)


def empty_cache(shape: LlamaShape, positions: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Zeroed keys and values."""
    size = (1, shape.kv_heads, positions, shape.head_dim)
    return [torch.zeros(size) for _ in range(shape.layers)], [torch.zeros(size) for _ in range(shape.layers)]
