"""What others take for the launches that zeroforge-gpu-check times, as lines of docs/benchmark-schema.md.

Usage: gpu_baselines.py RESULTS.ndjson   (appends; reads the names and sizes from the lines that are there)

Runs what is installed: torch's scaled_dot_product_attention with its flash and cuDNN back ends, torch.matmul,
FlashAttention-3 (`flash_attn_interface`). Says on standard error what is not.
"""

import json
import re
import sys

SCHEMA = "zeroforge.bench/1"
SAMPLES = 20
ATTENTION = re.compile(
    r"attention/(?P<dtype>bf16|f16)_d(?P<d>\d+)_(?P<mask>full|causal)/b(?P<b>\d+)_h(?P<h>\d+)_kv(?P<kv>\d+)_q(?P<q>\d+)_k(?P<k>\d+)$"
)
GEMM = re.compile(r"gemm/[^/]+/(?P<dtype>bf16|f16|f32) (?P<m>\d+)x(?P<n>\d+)x(?P<k>\d+)$")


def main(path):
    with open(path) as lines:
        timed = [line for line in map(json.loads, lines) if line["kind"] == "throughput"]
    try:
        import torch
    except ImportError:
        sys.exit("torch is not installed: nothing to compare with")
    if not torch.cuda.is_available():
        sys.exit("torch finds no GPU: nothing to compare with")
    device = timed[0]["device"] if timed else {}

    def least(function):
        """Least time of SAMPLES runs in seconds, by the GPU's clock, after two runs that warm up."""
        function()
        function()
        best = float("inf")
        for _ in range(SAMPLES):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            torch.cuda.synchronize()
            best = min(best, start.elapsed_time(end) / 1e3)
        return best

    with open(path, "a") as out:

        def record(line, implementation, version, function):
            try:
                seconds = least(function)
            except (RuntimeError, TypeError, ValueError) as error:
                print(f"{implementation} cannot run {line['name']}: {error}", file=sys.stderr)
                return
            result = {
                "schema": SCHEMA,
                "kind": "throughput",
                "name": line["name"],
                "implementation": implementation,
                "version": version,
                "device": device,
                "seconds": seconds,
                "statistic": "least",
                "samples": SAMPLES,
                "flops": line["flops"],
                "bytes": line["bytes"],
                "tflops": line["flops"] / seconds / 1e12,
                "gigabytes_per_second": line["bytes"] / seconds / 1e9,
                "inputs": "normal, seed 1",
            }
            print(json.dumps(result), file=out)

        torch.manual_seed(1)
        dtypes = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
        for line in timed:
            if match := ATTENTION.match(line["name"]):
                attention(torch, line, match, dtypes, record)
            elif match := GEMM.match(line["name"]):
                m, n, k = (int(match[s]) for s in "mnk")
                a = torch.randn(m, k, device="cuda", dtype=dtypes[match["dtype"]])
                b = torch.randn(n, k, device="cuda", dtype=dtypes[match["dtype"]])
                record(line, "torch-matmul", torch.__version__, lambda: a @ b.T)


def attention(torch, line, match, dtypes, record):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    batch, heads, kv, queries, keys, dim = (int(match[s]) for s in ("b", "h", "kv", "q", "k", "d"))
    dtype, causal = dtypes[match["dtype"]], match["mask"] == "causal"

    def draw(count, length):
        return torch.randn(batch, length, count, dim, device="cuda", dtype=dtype)

    q, k, v = draw(heads, queries), draw(kv, keys), draw(kv, keys)
    transposed = [x.transpose(1, 2) for x in (q, k, v)]
    # torch aligns a causal mask at the top left: the same thing where the lengths are equal.
    if queries == keys or not causal:
        for name, backend in (
            ("torch-sdpa-flash", SDPBackend.FLASH_ATTENTION),
            ("torch-sdpa-cudnn", SDPBackend.CUDNN_ATTENTION),
        ):

            def call(backend=backend):
                with sdpa_kernel(backend):
                    torch.nn.functional.scaled_dot_product_attention(
                        *transposed, is_causal=causal, enable_gqa=heads != kv
                    )

            record(line, name, torch.__version__, call)
    try:
        import flash_attn_interface
    except ImportError:
        print("flash_attn_interface (FlashAttention-3) is not installed", file=sys.stderr)
        return
    version = getattr(flash_attn_interface, "__version__", "unknown")
    record(
        line,
        "flash-attn-3",
        version,
        lambda: flash_attn_interface.flash_attn_func(q, k, v, causal=causal),
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
