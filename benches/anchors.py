"""Python anchors: eager torch, AOTInductor and ONNX Runtime beside zeroforge, measured in one run.

    cargo build --release
    .venv-torch/bin/python benches/anchors.py [--models minilm vit llama52m] [--processes 5] [--runs 20]

(`.venv-torch` is made by `python3 tests/torch/run.py`.) Every sample is a fresh process, engines take
turns so that a slow minute hits all of them, f32, batch 1, two threads. Per model and engine, medians of:

    compile   seconds to build what the engine loads (torch.export not counted; zeroforge: CPU target)
    load      milliseconds from the file to the first output, inside a running process
    start     milliseconds from process start to the first output (zeroforge: to the end of a `run` process)
    latency   milliseconds of one call, after the first
    rss       peak resident megabytes

Absolute times depend on the machine: compare the ratios, which are printed below (engine / zeroforge).
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
EXAMPLES = REPO / "examples"
MODELS = {"minilm": "minilm_s128", "vit": "vit_b16_224", "llama52m": "llama52m_s128"}
ENGINES = ["zeroforge", "eager", "aoti", "ort"]
METRICS = ["compile_s", "load_ms", "start_ms", "latency_ms", "rss_mb"]
THREADS = 2


def example(name: str):
    """The exporting script of a model, its arguments and their names."""
    import torch

    sys.path.insert(0, str(EXAMPLES))
    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)
    if name == "minilm":
        import export_minilm as script

        ids = torch.randint(1000, 30000, (1, 128), generator=torch.Generator().manual_seed(1))
        return script, (ids, torch.ones_like(ids)), ["input_ids", "attention_mask"]
    if name == "vit":
        import export_vit as script

        return script, script.example(), ["pixel_values"]
    import export_llama52m as script

    return script, script.example(), ["input_ids"]


# ---- preparation: once per model and engine, compile time measured ------------------------------


def prepare(name: str, engine: str, folder: Path, binary: Path) -> float:
    """Builds what `engine` loads for the model; returns seconds, 0 for those that compile nothing."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    script, arguments, names = example(name)
    module = script.load()
    if engine == "inputs":
        np.savez(folder / f"{name}-inputs.npz", **{n: a.numpy() for n, a in zip(names, arguments)})
        save_file(dict(zip(names, arguments)), folder / f"{name}-inputs.safetensors")
        save_file(module.state_dict(), folder / f"{name}-weights.safetensors")
        return 0.0
    if engine == "eager":
        return 0.0
    if engine == "zeroforge":
        command = [binary, "compile", EXAMPLES / f"models/{MODELS[name]}.pt2",
                   "--weights", folder / f"{name}-weights.safetensors", "--target", "cpu",
                   "-o", folder / f"{name}.zfa"]  # fmt: skip
        # A cache of its own: nothing compiled before.
        environment = {**os.environ, "ZEROFORGE_CACHE_DIR": tempfile.mkdtemp(dir=folder)}
        start = time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start
    if engine == "aoti":
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
        program = torch.export.export(module, arguments)
        start = time.perf_counter()
        package = str(folder / f"{name}-aoti.pt2")
        torch._inductor.aoti_compile_and_package(program, package_path=package, inductor_configs={"freezing": True})
        return time.perf_counter() - start
    program = torch.onnx.export(module, arguments, dynamo=True, input_names=names, verbose=False)
    program.save(str(folder / f"{name}.onnx"), external_data=True)
    return 0.0


# ---- samples: one fresh process each -----------------------------------------------------------


def sample(name: str, engine: str, folder: Path, runs: int) -> dict:
    """Loads, calls once, calls `runs` times; times in milliseconds."""
    import numpy as np

    feed = dict(np.load(folder / f"{name}-inputs.npz"))
    if engine == "ort":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        begin = time.perf_counter()
        session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, ["CPUExecutionProvider"])
        call = lambda: session.run(None, feed)  # noqa: E731
    else:
        import torch

        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)
        arguments = [torch.from_numpy(value) for value in feed.values()]
        if engine == "aoti":
            begin = time.perf_counter()
            model = torch._inductor.aoti_load_package(str(folder / f"{name}-aoti.pt2"))
        else:
            from safetensors.torch import load_file

            # Building the module is not counted as load: nobody would time random initialisation.
            model = example(name)[0].load()
            begin = time.perf_counter()
            model.load_state_dict(load_file(folder / f"{name}-weights.safetensors"), strict=False, assign=True)
        call = lambda: model(*arguments)  # noqa: E731
    call()
    done, wall = time.perf_counter(), time.time()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return {
        "load_ms": (done - begin) * 1e3,
        "start_ms": (wall - float(os.environ["ANCHORS_SPAWNED"])) * 1e3,
        "latency_ms": statistics.median(times),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def spawn(name: str, engine: str, folder: Path, runs: int, binary: Path) -> dict:
    """One sample in a process of its own."""
    if engine == "zeroforge":
        return spawn_zeroforge(name, folder, runs, binary)
    environment = {**os.environ, "ANCHORS_SPAWNED": repr(time.time()), "OMP_NUM_THREADS": str(THREADS)}
    command = [sys.executable, "-W", "ignore", __file__, "--sample", name, engine, str(folder), str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{engine} on {name}: {done.stderr.strip()[-1500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def spawn_zeroforge(name: str, folder: Path, runs: int, binary: Path) -> dict:
    """`bench` gives load, latency and memory; a whole `run` is the time from start to output."""
    given = [folder / f"{name}.zfa", "--input", folder / f"{name}-inputs.safetensors", "--threads", str(THREADS)]
    begin = time.perf_counter()
    subprocess.run([binary, "run", *given, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    whole = time.perf_counter() - begin
    child = subprocess.Popen([binary, "--json", "bench", *given, "--runs", str(runs)], stdout=subprocess.PIPE)
    line = child.stdout.read().strip().splitlines()[-1:]
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"zeroforge on {name} ended with status {status}")
    event = json.loads(line[0])
    return {
        "load_ms": event["open_to_first_output"] * 1e3,
        "start_ms": whole * 1e3,
        "latency_ms": event["median"] * 1e3,
        "rss_mb": usage.ru_maxrss / 1024,
    }


def measure(args, folder: Path) -> dict:
    """Medians per model and engine."""
    results = {}
    for name in args.models:
        rows = {engine: {} for engine in args.engines}
        for engine in ["inputs", *args.engines]:
            command = [sys.executable, "-W", "ignore", __file__, "--prepare", name, engine, folder, args.binary]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"preparing {engine} for {name}: {done.stderr.strip()[-1500:]}")
            if engine in rows:
                rows[engine]["compile_s"] = float(done.stdout.strip().splitlines()[-1])
        samples = {engine: [] for engine in args.engines}
        for _ in range(args.processes):
            for engine in args.engines:
                samples[engine].append(spawn(name, engine, folder, args.runs, args.binary))
        for engine in args.engines:
            for metric in METRICS[1:]:
                rows[engine][metric] = statistics.median(s[metric] for s in samples[engine])
        results[name] = rows
        show(name, rows)
    return results


def show(name: str, rows: dict) -> None:
    """Prints medians, then ratios to zeroforge."""
    print(f"\n{name:12}" + "".join(f"{metric:>12}" for metric in METRICS))
    for engine, row in rows.items():
        print(f"  {engine:10}" + "".join(f"{row[m]:12.1f}" if row[m] else f"{'-':>12}" for m in METRICS))
    ours = rows.get("zeroforge")
    for engine, row in rows.items() if ours else ():
        if engine != "zeroforge":
            ratios = (f"{row[m] / ours[m]:11.2f}x" if row[m] and ours[m] else f"{'-':>12}" for m in METRICS)
            print(f"  {engine + ' / zf':10}" + "".join(ratios))
    sys.stdout.flush()


def main() -> None:
    if sys.argv[1:2] == ["--prepare"]:
        name, engine, folder, binary = sys.argv[2:]
        print(prepare(name, engine, Path(folder), Path(binary)))
        return
    if sys.argv[1:2] == ["--sample"]:
        name, engine, folder, runs = sys.argv[2:]
        print(json.dumps(sample(name, engine, Path(folder), int(runs))))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--binary", type=Path, default=REPO / "target/release/zeroforge")
    parser.add_argument("--json", type=Path, help="store the medians here")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="zeroforge-anchors-"))
    try:
        results = measure(args, folder)
        if args.json:
            args.json.write_text(json.dumps(results, indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
