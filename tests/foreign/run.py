"""Runs programs that were not written for the software device against it, and prints what passes.

usage: run.py [cudarc|cust|python ...]     (all by default)

cudarc: the tests of its driver module, from the crate's own source.
cust: the tests of the crate, linked against our library.
python: cuda_python.py with cuda-bindings from PyPI.

Everything is made under target/foreign. Results go to target/foreign/results.json.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORK = TARGET / "foreign"
LIBRARIES = WORK / "cuda" / "lib64"
CARGO = os.environ.get("CARGO", "cargo")
CUDARC = "0.19.10"
CUST = "0.3.2"
# NVRTC of the CUDA version that the driver says it has.
WHEELS = ["cuda-bindings==13.1.1", "nvidia-cuda-nvrtc==13.1.80", "numpy==2.3.5"]

# Tests that cannot pass, and why. A test that fails and is not here fails the run; so does one that is here and passes.
EXPECTED = json.loads((Path(__file__).parent / "expected.json").read_text())


def run(command, **options):
    print("+", " ".join(str(c) for c in command), flush=True)
    return subprocess.run([str(c) for c in command], check=True, **options)


def library():
    """Builds the driver and puts it where programs look for it."""
    run([CARGO, "build", "--locked", "-p", "zeroforge-driver"], cwd=ROOT)
    LIBRARIES.mkdir(parents=True, exist_ok=True)
    for name in ["libcuda.so", "libcuda.so.1"]:
        link = LIBRARIES / name
        link.unlink(missing_ok=True)
        link.symlink_to(TARGET / "debug" / "libcuda.so")


def python():
    """The virtual environment with the wheels; its interpreter."""
    interpreter = WORK / "venv" / "bin" / "python"
    if not interpreter.exists():
        run([sys.executable, "-m", "venv", WORK / "venv"])
    run([interpreter, "-m", "pip", "install", "--quiet", *WHEELS])
    return interpreter


def environment(interpreter):
    """Variables with which programs find our driver and NVRTC."""
    find = "import nvidia, pathlib; print(*[p for b in nvidia.__path__ for p in pathlib.Path(b).glob('*/lib')], sep=':')"
    wheels = subprocess.run([interpreter, "-c", find], check=True, capture_output=True, text=True).stdout.strip()
    env = dict(os.environ)
    env["LD_LIBRARY_PATH"] = f"{LIBRARIES}:{wheels}"
    env["CUDA_LIBRARY_PATH"] = str(WORK / "cuda")
    env["CARGO_TARGET_DIR"] = str(WORK / "target")
    env["ZEROFORGE_SOFTWARE_LOG"] = "error"
    return env


def source(crate, version):
    """The crate's source as crates.io has it, as a workspace of its own."""
    folder = WORK / crate
    if not (folder / "Cargo.toml").exists():
        stub = WORK / f"{crate}-vendor"
        (stub / "src").mkdir(parents=True, exist_ok=True)
        (stub / "src" / "lib.rs").write_text("")
        features = ', default-features = false, features = ["cuda-13010", "driver"]' if crate == "cudarc" else ""
        (stub / "Cargo.toml").write_text(
            f'[package]\nname = "vendor"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n'
            f'[dependencies]\n{crate} = {{ version = "={version}"{features} }}\n'
        )
        run([CARGO, "vendor", "--quiet", "--versioned-dirs"], cwd=stub, stdout=subprocess.DEVNULL)
        (stub / "vendor" / f"{crate}-{version}").rename(folder)
        (folder / ".cargo-checksum.json").unlink()
        with open(folder / "Cargo.toml", "a") as manifest:
            manifest.write("\n[workspace]\n")
    return folder


def cargo_tests(name, folder, arguments, env, more=()):
    """Runs tests one at a time and gives each one's verdict."""
    command = [CARGO, "test", *arguments, "--no-fail-fast", "--", "--test-threads=1", *more]
    print("+", " ".join(command), flush=True)
    done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (WORK / f"{name}.log").write_text(done.stdout)
    verdicts = {}
    # What the driver prints may come between a test's name and its verdict.
    running = None
    for line in done.stdout.splitlines():
        if start := re.match(r"test (\S+)( - should panic)? \.\.\. ?(.*)", line):
            running, line = start[1], start[3]
        if running and (verdict := re.search(r"\b(ok|FAILED|ignored)$", line)):
            verdicts[running] = verdict[1]
            running = None
    if running:
        verdicts[running] = "FAILED"
    if not verdicts:
        print(done.stdout[-4000:])
        raise SystemExit(f"{name}: no test ran")
    return verdicts


# Tests of cudarc that ask to be run by themselves or with several devices.
ALONE = [
    "driver::result::tests::peer_transfer_contexts",
    "driver::result::tests::re_associate_context_for_memory_op",
    "driver::safe::core::tests::test_post_alloc_memory",
    "driver::safe::launch::tests::test_device_side_assert",
    "driver::safe::launch::tests::test_peer_memcpy_waits_for_src_stream",
]


def cudarc(env):
    features = "std,dynamic-loading,cuda-13010,driver,nvrtc,f16"
    arguments = ["--lib", "--no-default-features", "--features", features]
    folder = source("cudarc", CUDARC)
    # Its slow kernel runs 1,024 threads that all write the sum that each computes to one place: a race, and 32 million
    # warp iterations, which take minutes. Here it is not about the kernels.
    env = dict(env, ZEROFORGE_SOFTWARE_CHECKS="off")
    verdicts = cargo_tests("cudarc", folder, [*arguments, "driver::"], env)
    env.update(ZEROFORGE_SOFTWARE_DEVICE="h200", ZEROFORGE_SOFTWARE_DEVICE_COUNT="2")
    for test in ALONE:
        verdicts |= cargo_tests("cudarc-alone", folder, [*arguments, test], env, ["--exact", "--ignored"])
    return verdicts


def cust(env):
    return cargo_tests("cust", source("cust", CUST), ["--lib"], env)


def cuda_python(env, interpreter):
    script = Path(__file__).parent / "cuda_python.py"
    done = subprocess.run([interpreter, script], env=env, capture_output=True, text=True)
    (WORK / "python.log").write_text(done.stdout + done.stderr)
    verdicts = dict(re.findall(r"^(\w+): (ok|FAILED)", done.stdout, re.M))
    if not verdicts:
        raise SystemExit(done.stdout + done.stderr)
    return verdicts


def main():
    wanted = sys.argv[1:] or ["cudarc", "cust", "python"]
    WORK.mkdir(parents=True, exist_ok=True)
    library()
    interpreter = python()
    env = environment(interpreter)
    results, wrong = {}, []
    for name in wanted:
        verdicts = {"cudarc": lambda: cudarc(env), "cust": lambda: cust(env), "python": lambda: cuda_python(env, interpreter)}[name]()
        results[name] = verdicts
        expected = EXPECTED.get(name, {})
        for test, verdict in verdicts.items():
            if (verdict == "FAILED") != (test in expected) and verdict != "ignored":
                wrong.append(f"{name}: {test}: {verdict}")
        counts = {v: sum(x == v for x in verdicts.values()) for v in ["ok", "FAILED", "ignored"]}
        print(f"{name}: {counts['ok']} pass, {counts['FAILED']} cannot, {counts['ignored']} ignored by their authors")
    (WORK / "results.json").write_text(json.dumps(results, indent=1))
    if wrong:
        raise SystemExit("not as expected:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
