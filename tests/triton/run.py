"""Triton kernels, compiled for sm_90a where there is no GPU, run on the software device.

    python run.py path/to/libcuda.so [kernel ...]

Every kernel is compared with NumPy, and the checkers must have nothing to say.
"""

import struct
import sys

import numpy as np
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import kernels
from cuda import Driver

rng = np.random.default_rng(0)


def i32(value):
    return struct.pack("<i", value)


def i64(value):
    return struct.pack("<q", value)


def f32(value):
    return struct.pack("<f", value)


def compile_kernel(fn, types, constants, warps=4, divisible=()):
    names = fn.arg_names
    source = ASTSource(
        fn=fn,
        signature={n: types.get(n, "constexpr") for n in names},
        constexprs={(names.index(k),): v for k, v in constants.items()},
        attrs={(names.index(n),): [["tt.divisibility", 16]] for n in divisible},
    )
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})


def expect(compiled, *texts):
    """The point of a case is the code that it reaches; a compiler that no longer emits it must not pass."""
    for text in texts:
        assert text in compiled.asm["ptx"], f"the compiled kernel has no {text}"


def vector_add(driver):
    n = 10_000
    compiled = compile_kernel(
        kernels.vector_add, dict(x="*fp32", y="*fp32", out="*fp32", n="i32"), dict(BLOCK=1024),
        divisible=("x", "y", "out"),
    )
    x, y = rng.standard_normal((2, n), np.float32)
    out = driver.allocate(4 * n)
    driver.launch(compiled, (triton.cdiv(n, 1024), 1, 1), [i64(driver.upload(x)), i64(driver.upload(y)), i64(out), i32(n)])
    return driver.download(out, n, np.float32), x + y, 0


def softmax(driver):
    rows, columns = 37, 781
    compiled = compile_kernel(
        kernels.softmax, dict(out="*fp32", x="*fp32", stride="i32", columns="i32"), dict(BLOCK=1024),
        divisible=("x", "out"),
    )
    x = rng.standard_normal((rows, columns)).astype(np.float32) * 4
    out = driver.allocate(x.nbytes)
    driver.launch(compiled, (rows, 1, 1), [i64(out), i64(driver.upload(x)), i32(columns), i32(columns)])
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    return driver.download(out, x.shape, np.float32), e / e.sum(1, keepdims=True), 1e-6


def layer_norm(driver):
    rows, columns = 19, 1500
    compiled = compile_kernel(
        kernels.layer_norm,
        dict(out="*fp16", x="*fp16", weight="*fp32", bias="*fp32", mean="*fp32", rstd="*fp32", stride="i32", columns="i32", eps="fp32"),
        dict(BLOCK=1024), divisible=("out", "x", "weight", "bias"),
    )
    x = (rng.standard_normal((rows, columns)) * 3 + 1).astype(np.float16)
    weight, bias = rng.standard_normal((2, columns), np.float32)
    out, mean, rstd = driver.allocate(x.nbytes), driver.allocate(4 * rows), driver.allocate(4 * rows)
    driver.launch(
        compiled, (rows, 1, 1),
        [i64(out), i64(driver.upload(x)), i64(driver.upload(weight)), i64(driver.upload(bias)), i64(mean), i64(rstd), i32(columns), i32(columns), f32(1e-5)],
    )
    wide = x.astype(np.float64)
    r = 1 / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    expected = (wide - wide.mean(1, keepdims=True)) * r * weight + bias
    got = np.concatenate([driver.download(out, x.shape, np.float16).astype(np.float64).ravel(), driver.download(mean, rows, np.float32), driver.download(rstd, rows, np.float32)])
    return got, np.concatenate([expected.ravel(), wide.mean(1), r.ravel()]), 1e-3


def grouped_matmul(driver):
    m, n, k = 200, 264, 144
    compiled = compile_kernel(
        kernels.grouped_matmul,
        dict(a="*fp16", b="*fp16", c="*fp16", M="i32", N="i32", K="i32", stride_am="i32", stride_bk="i32", stride_cm="i32"),
        dict(BM=128, BN=128, BK=64, GROUP=8), warps=8,
        divisible=("a", "b", "c", "stride_am"),
    )
    expect(compiled, "wgmma.mma_async")
    a, b = rng.standard_normal((m, k)).astype(np.float16), rng.standard_normal((k, n)).astype(np.float16)
    c = driver.allocate(2 * m * n)
    blocks = triton.cdiv(m, 128) * triton.cdiv(n, 128)
    driver.launch(
        compiled, (blocks, 1, 1),
        [i64(driver.upload(a)), i64(driver.upload(b)), i64(c), i32(m), i32(n), i32(k), i32(k), i32(n), i32(n)],
    )
    return driver.download(c, (m, n), np.float16), a.astype(np.float64) @ b.astype(np.float64), 1e-3


def persistent_matmul(driver):
    m, n, k, programs = 300, 400, 200, 4
    compiled = compile_kernel(
        kernels.persistent_matmul,
        dict(a="tensordesc<fp16[128,64]>", b="tensordesc<fp16[128,64]>", c="tensordesc<fp16[128,128]>", M="i32", N="i32", K="i32"),
        dict(BM=128, BN=128, BK=64, GROUP=8, PROGRAMS=programs), warps=8,
    )
    expect(compiled, "wgmma.mma_async", "cp.async.bulk.tensor.2d.shared", "cp.async.bulk.tensor.2d.global", "mbarrier.try_wait")
    a, b = rng.standard_normal((m, k)).astype(np.float16), rng.standard_normal((n, k)).astype(np.float16)
    c = driver.allocate(2 * m * n)
    args = []
    arrays = [(driver.upload(a), (m, k)), (driver.upload(b), (n, k)), (c, (m, n))]
    for meta, (address, shape) in zip(compiled.metadata.tensordesc_meta, arrays):
        args += [driver.tensor_map(meta, address, shape), i32(shape[0]), i32(shape[1]), i64(shape[1]), i64(1)]
    driver.launch(compiled, (programs, 1, 1), [*args, i32(m), i32(n), i32(k)])
    return driver.download(c, (m, n), np.float16), a.astype(np.float64) @ b.astype(np.float64).T, 1e-3


def attention(driver):
    heads, length, size = 2, 256, 64
    worst = []
    for causal in (True, False):
        compiled = compile_kernel(
            kernels.attention,
            dict(q="*fp16", k="*fp16", v="*fp16", out="*fp16", lse="*fp32", scale="fp32", stride_head="i64", stride_row="i32", length="i32"),
            dict(HEAD=size, BM=128, BN=64, CAUSAL=causal), warps=8,
            divisible=("q", "k", "v", "out", "lse", "stride_head", "stride_row", "length"),
        )
        expect(compiled, "wgmma.mma_async", "ex2.approx")
        q, k, v = rng.standard_normal((3, heads, length, size)).astype(np.float16)
        out, lse = driver.allocate(q.nbytes), driver.allocate(4 * heads * length)
        scale = size**-0.5
        driver.launch(
            compiled, (length // 128, heads, 1),
            [i64(driver.upload(q)), i64(driver.upload(k)), i64(driver.upload(v)), i64(out), i64(lse), f32(scale), i64(length * size), i32(size), i32(length)],
        )
        scores = q.astype(np.float64) @ k.astype(np.float64).transpose(0, 2, 1) * scale
        if causal:
            scores = np.where(np.tril(np.ones((length, length), bool)), scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        expected = p / p.sum(-1, keepdims=True) @ v.astype(np.float64)
        expected_lse = (np.log(p.sum(-1)) + scores.max(-1)) * np.log2(np.e)
        got = [driver.download(out, q.shape, np.float16).astype(np.float64).ravel(), driver.download(lse, heads * length, np.float32)]
        worst.append((np.concatenate(got), np.concatenate([expected.ravel(), expected_lse.ravel()])))
    return np.concatenate([w[0] for w in worst]), np.concatenate([w[1] for w in worst]), 4e-4


CASES = [vector_add, softmax, layer_norm, grouped_matmul, persistent_matmul, attention]


def main():
    driver = Driver(sys.argv[1])
    wanted = sys.argv[2:]
    print(f"Triton {triton.__version__} on {driver.name}")
    failed = 0
    for case in CASES:
        if wanted and case.__name__ not in wanted:
            continue
        got, expected, tolerance = case(driver)
        error = np.abs(got.astype(np.float64) - expected).max()
        bound = tolerance * max(1, np.abs(expected).max())
        findings = [f for f in driver.findings() if f["severity"] == "error"]
        good = error <= bound and not findings and np.isfinite(error)
        failed += not good
        print(f"{'ok' if good else 'FAILED':7} {case.__name__:18} largest difference {error:.2e} (allowed {bound:.2e}), {len(findings)} findings")
        for finding in findings:
            print(f"        {finding}")
    print(f"{len(wanted or CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
