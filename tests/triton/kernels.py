"""Triton kernels of the kinds that its tutorials show, in our own words."""

import triton
import triton.language as tl


@triton.jit
def vector_add(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.store(out + at, tl.load(x + at, mask=inside) + tl.load(y + at, mask=inside), mask=inside)


@triton.jit
def softmax(out, x, stride, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + row * stride + at, mask=inside, other=-float("inf"))
    values = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row * stride + at, values / tl.sum(values, axis=0), mask=inside)


@triton.jit
def layer_norm(out, x, weight, bias, mean, rstd, stride, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    x += row * stride
    out += row * stride
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(x + at, mask=at < columns, other=0.0).to(tl.float32)
    m = tl.sum(total, axis=0) / columns
    square = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        d = tl.load(x + at, mask=at < columns, other=0.0).to(tl.float32) - m
        d = tl.where(at < columns, d, 0.0)
        square += d * d
    r = 1 / tl.sqrt(tl.sum(square, axis=0) / columns + eps)
    tl.store(mean + row, m)
    tl.store(rstd + row, r)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < columns
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        w = tl.load(weight + at, mask=inside)
        b = tl.load(bias + at, mask=inside)
        tl.store(out + at, (v - m) * r * w + b, mask=inside)


@triton.jit
def grouped_matmul(
    a, b, c, M, N, K, stride_am, stride_bk, stride_cm,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):
    """C = A B with blocks in groups of rows, so that neighbours share operands in L2."""
    pid = tl.program_id(0)
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    in_group = GROUP * columns
    first = pid // in_group * GROUP
    size = min(rows - first, GROUP)
    pm = first + (pid % in_group) % size
    pn = (pid % in_group) // size
    m = (pm * BM + tl.arange(0, BM)) % M
    n = (pn * BN + tl.arange(0, BN)) % N
    k = tl.arange(0, BK)
    pa = a + m[:, None] * stride_am + k[None, :]
    pb = b + k[:, None] * stride_bk + n[None, :]
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for step in range(0, tl.cdiv(K, BK)):
        left = K - step * BK
        va = tl.load(pa, mask=k[None, :] < left, other=0.0)
        vb = tl.load(pb, mask=k[:, None] < left, other=0.0)
        acc = tl.dot(va, vb, acc)
        pa += BK
        pb += BK * stride_bk
    m = pm * BM + tl.arange(0, BM)
    n = pn * BN + tl.arange(0, BN)
    inside = (m[:, None] < M) & (n[None, :] < N)
    tl.store(c + m[:, None] * stride_cm + n[None, :], acc.to(tl.float16), mask=inside)


@triton.jit
def persistent_matmul(
    a, b, c, M, N, K,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, PROGRAMS: tl.constexpr,
):
    """C = A B^T through tensor maps; each program takes tiles until none is left."""
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    in_group = GROUP * columns
    for tile in tl.range(tl.program_id(0), rows * columns, PROGRAMS, flatten=True):
        first = tile // in_group * GROUP
        size = min(rows - first, GROUP)
        m = (first + (tile % in_group) % size) * BM
        n = ((tile % in_group) // size) * BN
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(tl.cdiv(K, BK)):
            va = a.load([m, k * BK])
            vb = b.load([n, k * BK])
            acc = tl.dot(va, vb.T, acc)
        c.store([m, n], acc.to(tl.float16))


@triton.jit
def attention(
    q, k, v, out, lse, scale, stride_head, stride_row, length,
    HEAD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, CAUSAL: tl.constexpr,
):
    """Fused attention with the running softmax; heads are grid axis 1."""
    start = tl.program_id(0) * BM
    head = tl.program_id(1).to(tl.int64) * stride_head
    m = start + tl.arange(0, BM)
    d = tl.arange(0, HEAD)
    n = tl.arange(0, BN)
    vq = tl.load(q + head + m[:, None] * stride_row + d[None, :])
    highest = tl.full([BM], -float("inf"), dtype=tl.float32)
    total = tl.zeros([BM], dtype=tl.float32)
    acc = tl.zeros([BM, HEAD], dtype=tl.float32)
    end = start + BM if CAUSAL else length
    for at in range(0, end, BN):
        vk = tl.load(k + head + (at + n)[None, :] * stride_row + d[:, None])
        scores = tl.dot(vq, vk) * (scale * 1.44269504)
        if CAUSAL:
            scores = tl.where(m[:, None] >= (at + n)[None, :], scores, -float("inf"))
        new = tl.maximum(highest, tl.max(scores, 1))
        p = tl.exp2(scores - new[:, None])
        correction = tl.exp2(highest - new)
        total = total * correction + tl.sum(p, 1)
        vv = tl.load(v + head + (at + n)[:, None] * stride_row + d[None, :])
        acc = tl.dot(p.to(tl.float16), vv, acc * correction[:, None])
        highest = new
    acc = acc / total[:, None]
    tl.store(lse + tl.program_id(1) * length + m, highest + tl.log2(total))
    tl.store(out + head + m[:, None] * stride_row + d[None, :], acc.to(tl.float16))
