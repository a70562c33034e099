"""Our kernels beside FlashAttention-3's and CUTLASS's, by their machine code: writes docs/kernel-comparison.md.

    make compare-fa3

Downloads what requirements.txt pins into a work folder (nothing of it is committed), extracts FA3's cubins, compiles CUTLASS's
and our kernels with NVRTC, each in a process of its own, and runs `zeroforge analyze` on all of them. The model's error on FA3's
published figures goes into docs/analyze.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
LENGTHS = [512, 1024, 2048, 4096, 8192, 16384]
SHOWN = [512, 2048, 16384]
DEVICES = {"h100": "132 SMs", "h200-slice": "60 SMs"}
SIZES = [2048, 4096, 8192]
MARK = "<!-- the rest is written by make compare-fa3 -->"

# cuDNN's open-source SM90 forward: NVIDIA/cudnn-frontend 3929da2, include/cudnn_frontend/generated/sdpa/sm90/prefill/full_seqlens,
# compiled with NVRTC 13.0; counted from its machine code, causal, bf16, tile 128x128. 131 of the 704 instructions are the mask
# block, which all tiles but the last jump over.
CUDNN = {
    "attention bf16 128 causal": {"instructions": "704 (573)", "registers": 168, "spills": "0/0", "mix": "66/130/130/68/32"},
    "attention bf16 64 causal": {"instructions": "632", "registers": 168, "spills": "0/0", "mix": "66/98/130/68/32"},
}


def call(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, **options)


def unpack(work: Path) -> None:
    if (work / "done").exists():
        return
    wheels = work / "wheels"
    call(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes",
         "--only-binary", ":all:", "-r", HERE / "requirements.txt", "-d", wheels)
    for wheel in wheels.glob("*.whl"):
        call(sys.executable, "-m", "zipfile", "-e", wheel, work / "wheel")
    tool = work / "wheel/nvidia/cu13/bin/cuobjdump"
    tool.chmod(0o755)
    (work / "fa3").mkdir(exist_ok=True)
    call(tool, "-xelf", "sm_90a", work / "wheel/fa3_fwd/_C.abi3.so", cwd=work / "fa3", stdout=subprocess.DEVNULL)
    # CUTLASS asks a compiler of CUDA 13 for <cccl/...>, and knows CCCL as of CUDA 12.
    (work / "include").mkdir(exist_ok=True)
    link = work / "include/cccl"
    if not link.exists():
        link.symlink_to(work / "wheel/nvidia/cuda_cccl/include")
    (work / "done").touch()


def nvrtc(library: Path, source: Path, cubin: Path, options: list[str]) -> dict:
    """Compiles, unless it was compiled from the same text with the same options."""
    known = cubin.with_suffix(".json")
    key = [source.read_text(), options]
    if known.exists() and cubin.exists():
        kept = json.loads(known.read_text())
        if kept["key"] == key:
            return kept["cost"]
    cubin.parent.mkdir(parents=True, exist_ok=True)
    done = call(sys.executable, HERE / "nvrtc.py", library, source, cubin, *options, stdout=subprocess.PIPE)
    cost = json.loads(done.stdout)
    known.write_text(json.dumps({"key": key, "cost": cost}))
    return cost


def toml_value(v) -> str:
    return str(v).lower() if isinstance(v, bool) else str(v)


def launches(work: Path, problem: str, sizes: dict, tiling: dict) -> Path:
    """A launch file."""
    lines = [f'device = "{sizes["device"]}"']
    if sizes.get("idle"):
        lines.append("idle_latencies = true")
    lines.append(f"[problem.{problem}]")
    lines += [f"{k} = {toml_value(v)}" for k, v in sizes.items() if k not in ("device", "idle")]
    lines.append("[tiling]")
    lines += [f"{k} = {toml_value(v)}" for k, v in tiling.items()]
    folder = work / "launches"
    folder.mkdir(exist_ok=True)
    file = folder / f"{len(list(folder.iterdir()))}.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def problems(kernel: dict) -> list[tuple[tuple, str, dict]]:
    """What is predicted of a kernel: a key, the kind of problem and its sizes."""
    wanted = []
    if "attention" in kernel:
        a = kernel["attention"]
        # The benchmark of FA3's paper: 16k tokens in all, hidden size 2048.
        for length in LENGTHS:
            sizes = {"batch": 16384 // length, "heads": 2048 // a["head_dim"], "length": length, **a}
            for device in DEVICES:
                if length in SHOWN or device == "h100":
                    wanted.append(((length, device, False), "attention", {"device": device, **sizes}))
                if length in SHOWN:
                    wanted.append(((length, device, True), "attention", {"device": device, "idle": True, **sizes}))
    else:
        for size in SIZES:
            for device in DEVICES:
                sizes = {"device": device, "m": size, "n": size, "k": size}
                wanted.append(((size, device, False), "gemm", sizes))
    return wanted


def analyze(binary: Path, work: Path, cubin: Path, kernel: dict) -> dict:
    wanted = problems(kernel)
    files = [launches(work, problem, sizes, kernel["tiling"]) for _, problem, sizes in wanted]
    command = [binary, "--json", "analyze", cubin, "--kernel", kernel["kernel"], "--shared", kernel["shared"]]
    if "threads" in kernel:
        command += ["--threads", kernel["threads"]]
    for file in files:
        command += ["--launch", file]
    done = call(*command, stdout=subprocess.PIPE)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    found = [e for e in events if e["event"] == "kernel"]
    if len(found) != 1:
        sys.exit(f"{kernel['row']} of {kernel['side']}: {len(found)} kernels match")
    found[0]["by"] = {key: p for (key, _, _), p in zip(wanted, found[0]["predictions"])}
    return found[0]


def percent(p) -> str:
    return "-" if p is None or "none" in p else f"{100 * p['utilisation']:.1f}"


def main_loops(found: dict) -> list[dict]:
    return [l for l in found["report"]["loops"] if l["main"]]


def plain_loop(found: dict) -> dict:
    """Of several main loops the one without a mask: fewest instructions."""
    return min(main_loops(found), key=lambda l: l["hot_instructions"])


def static_table(rows: dict, names: list[str], cell) -> list[str]:
    lines = ["| kernel | side | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for row, sides in rows.items():
        for side, (kernel, found, _) in sides.items():
            lines.append(f"| {row} | {side} | " + " | ".join(cell(kernel, found)) + " |")
        if row in CUDNN and len(names) > 6:
            c = CUDNN[row]
            lines.append(f"| {row} | cuDNN | 128x128 | {c['registers']} | {c['spills']} | {c['instructions']} | - | - | {c['mix']} | - | - |")
    return lines


def attention_cells(kernel: dict, found: dict) -> list[str]:
    r, l = found["report"], plain_loop(found)
    inside, outside = l["shadow"]["inside"], l["shadow"]["outside"]
    both = {k: inside[k] + outside[k] for k in inside}
    spills = [sum(m["spills"][k] for m in main_loops(found)) for k in ("stores", "loads")]
    t = kernel["tiling"]
    steady = found["steady"]
    index = main_loops(found).index(l)
    busy = "-"
    if isinstance(steady, list):
        s = next(s for s in steady if s["main_loop"] == index)
        busy = f"{100 * s['tensor_busy']:.1f}"
    keys = t["tile_n"]
    return [
        f"{t['tile_m']}x{keys}",
        str(r["entry"]["registers"]),
        f"{spills[0]}/{spills[1]}",
        f"{l['instructions']} ({l['hot_instructions']})",
        f"{l['hot_instructions'] / keys:.2f}",
        f"{inside['ex2']}/{outside['ex2']}, {inside['fadd']}/{outside['fadd']}, {inside['f2fp']}/{outside['f2fp']}",
        "/".join(str(both[k]) for k in ("ex2", "fmul", "fadd", "fmnmx", "f2fp")),
        f"{l['bounds']['tensor']:.0f}/{l['bounds']['mufu']:.0f}/{l['bounds']['issue']:.0f}",
        busy,
    ]


def gemm_cells(kernel: dict, found: dict) -> list[str]:
    r, l = found["report"], plain_loop(found)
    t = kernel["tiling"]
    steady = found["steady"]
    busy = f"{100 * steady[0]['tensor_busy']:.1f}" if isinstance(steady, list) and steady else "-"
    bounds = "/".join(f"{l['bounds'][k]:.0f}" for k in ("tensor", "issue", "shared"))
    return [
        f"{t['tile_m']}x{t['tile_n']}x{t['tile_k']}",
        str(r["entry"]["registers"]),
        f"{r['spills']['stores']}/{r['spills']['loads']}",
        f"{l['instructions']} ({l['hot_instructions']})",
        bounds,
        busy,
    ]


def prediction_table(rows: dict, sizes: list[int], idle: bool) -> list[str]:
    columns = [(s, d) for d in DEVICES for s in sizes]
    head = " | ".join(f"{s}, {DEVICES[d]}" for s, d in columns)
    lines = [f"| kernel | side | {head} |", "|---|---|" + "---|" * len(columns)]
    for row, sides in rows.items():
        for side, (_, found, _) in sides.items():
            cells = [percent(found["by"].get((s, d, idle))) for s, d in columns]
            lines.append(f"| {row} | {side} | " + " | ".join(cells) + " |")
    return lines


def error_table(rows: dict) -> list[str]:
    calibrated = {("attention bf16 128 full", 16384), ("attention bf16 256 full", 16384), ("attention bf16 128 causal", 512)}
    lines = ["| kernel | " + " | ".join(str(n) for n in LENGTHS) + " |", "|---|" + "---|" * len(LENGTHS)]
    errors = []
    for row, sides in rows.items():
        if "FA3" not in sides:
            continue
        kernel, found, _ = sides["FA3"]
        if not kernel.get("published"):
            continue
        cells = []
        for length, real in zip(LENGTHS, kernel["published"]):
            p = found["by"].get((length, "h100", False))
            if p is None or "none" in p:
                cells.append("-")
                continue
            if real == 0:
                cells.append(f"{p['tflops']:.0f} / -")
                continue
            error = p["tflops"] / real - 1
            fitted = (row, length) in calibrated
            if not fitted:
                errors.append(error)
            cells.append(f"{p['tflops']:.0f} / {real} ({100 * error:+.0f}%)" + (" *" if fitted else ""))
        lines.append(f"| {row.removeprefix('attention ')} | " + " | ".join(cells) + " |")
    mean = sum(abs(e) for e in errors) / len(errors)
    rms = (sum(e * e for e in errors) / len(errors)) ** 0.5
    bias = sum(errors) / len(errors)
    return [
        f"Over the {len(errors)} points that were not used for calibration (*): mean error {100 * bias:+.1f}%, mean absolute error "
        f"{100 * mean:.1f}%, root mean square {100 * rms:.1f}%, largest {100 * max(errors, key=abs):+.0f}%.",
        "",
        *lines,
    ]


def collect(args) -> dict:
    work = args.work
    listed = tomllib.loads((HERE / "kernels.toml").read_text())["kernel"]
    for file in (work / "launches").glob("*.toml"):
        file.unlink()
    target = ["--gpu-architecture=sm_90a", "--std=c++17"]
    rows: dict = {}

    def add(kernel, cubin, cost):
        print(f"{kernel['row']}: {kernel['side']}", file=sys.stderr)
        rows.setdefault(kernel["row"], {})[kernel["side"]] = (kernel, analyze(args.binary, work, cubin, kernel), cost)

    for ours in json.loads((work / "ours/instances.json").read_text()):
        kernel = {**ours, "side": "zeroforge", "kernel": ours["entry"]}
        words = ours["row"].split()
        if words[0] == "attention":
            dim = int(words[2])
            kernel["attention"] = {"head_dim": dim, "value_dim": dim, "causal": words[3] == "causal"}
        source = work / "ours" / ours["file"]
        cubin = work / "built" / (source.stem + ".cubin")
        options = [*target, f"--include-path={REPO / 'kernels'}", f"--include-path={REPO / 'kernels/include'}"]
        cost = nvrtc(args.nvrtc, source, cubin, options)
        add(kernel, cubin, cost)
    for kernel in listed:
        if "file" in kernel:
            add(kernel, work / "fa3" / kernel["file"], None)
            continue
        include = [work / "wheel/cutlass_library/source/include", work / "include", work / "wheel/nvidia/cuda_cccl/include",
                   work / "wheel/nvidia/cu13/include"]
        options = [*target, *(f"--include-path={i}" for i in include), "-default-device", "-w", "-DNDEBUG",
                   *(f"-D{d}" for d in kernel["defines"])]
        cubin = work / "built" / (kernel["row"].replace(" ", "_") + "_cutlass.cubin")
        cost = nvrtc(args.nvrtc, HERE / kernel["source"], cubin, options)
        add(kernel, cubin, cost)
    return rows


def page(rows: dict) -> str:
    attention = {r: dict(sorted(s.items(), reverse=True)) for r, s in sorted(rows.items()) if r.startswith("attention")}
    gemm = {r: dict(sorted(s.items(), reverse=True)) for r, s in sorted(rows.items()) if r.startswith("gemm")}
    lines = [
        "# Our kernels beside others', by their machine code",
        "",
        "Written by `make compare-fa3`: do not edit. No GPU was used. Static figures are counted in the machine code; everything called",
        "predicted comes from the timeline model of [analyze.md](analyze.md), whose error is stated there, and is no measurement.",
        "",
        "- **zeroforge**: instances of `crates/kernels/examples/instances.rs`, compiled by NVRTC.",
        "- **FA3**: the sm_90a cubins of the `fa3-fwd` 0.0.3 wheel (ptxas 13.0), dense instances without clusters.",
        "- **CUTLASS**: 4.2.0, its ping-pong collective for bf16 (`benches/compare/cutlass_pingpong.cu`), compiled by NVRTC.",
        "- **cuDNN**: its open-source SM90 forward (NVIDIA/cudnn-frontend 3929da2), static figures only, causal only.",
        "",
        "## Attention: the loop over tiles of keys",
        "",
        "The loop without a mask, of one consumer warp. Instructions: all in line, and in parentheses those on the path that is usually",
        "taken. Shadow: exponentials, additions, packings while a group of matrix products of the same warpgroup is in flight / while none",
        "is. Mix: EX2/FMUL/FADD/FMNMX/F2FP. Bounds: cycles an iteration for tensor cores/exponential unit/issue slots.",
        "",
        *static_table(attention, ["tile", "registers", "spills in loops STL/LDL", "instructions (usual path)", "per key", "shadow EX2, FADD, F2FP", "mix", "bounds", "predicted busy %"], attention_cells),
        "",
        "### Predicted utilisation of the tensor cores, %",
        "",
        "Operations that the problem needs, relative to what all tensor cores could do in the predicted cycles; 16k tokens in all, hidden size",
        "2048, by sequence length. With the calibrated model:",
        "",
        *prediction_table(attention, SHOWN, False),
        "",
        "With the published latency of an idle exponential unit instead of the calibrated one (see analyze.md): how far the comparison hangs on",
        "that constant.",
        "",
        *prediction_table(attention, SHOWN, True),
        "",
        "## Matrix products",
        "",
        "bf16, both operands K-major, the loop over K. Bounds: cycles an iteration for tensor cores/issue slots/shared memory.",
        "",
        *static_table(gemm, ["tile", "registers", "spills STL/LDL", "instructions (usual path)", "bounds", "predicted busy %"], gemm_cells),
        "",
        "### Predicted utilisation of the tensor cores, %, square products",
        "",
        *prediction_table(gemm, SIZES, False),
        "",
        "## Compile time",
        "",
        "NVRTC, one process for each kernel, one after the other, in one run. FA3's three dense kernels of head dimension 128 (one translation unit)",
        "took 99 s and 4,669 MiB with nvcc 13.5 on two cores; its kernels with all features 200 s and 5,924 MiB.",
        "",
        "| kernel | side | wall s | CPU s | peak MiB |",
        "|---|---|---|---|---|",
    ]
    for row, sides in {**attention, **gemm}.items():
        for side, (_, _, cost) in sides.items():
            if cost:
                lines.append(f"| {row} | {side} | {cost['seconds']:.1f} | {cost['cpu_seconds']:.1f} | {cost['peak_mib']:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True, help="the zeroforge binary")
    parser.add_argument("--nvrtc", type=Path, required=True, help="NVRTC's library")
    parser.add_argument("--work", type=Path, required=True, help="folder for downloads; holds ours/instances.json")
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    os.chdir(REPO)
    unpack(args.work)
    rows = collect(args)
    (REPO / "docs/kernel-comparison.md").write_text(page(rows))
    analyze_page = REPO / "docs/analyze.md"
    text = analyze_page.read_text()
    if MARK not in text:
        sys.exit(f"{analyze_page} has no line `{MARK}`")
    analyze_page.write_text(text.split(MARK)[0] + MARK + "\n\n" + "\n".join(error_table(rows)) + "\n")


if __name__ == "__main__":
    main()
