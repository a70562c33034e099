#!/bin/sh
# Runs every fuzz target for FUZZ_SECONDS (default 30) from seeds made of the fixtures. Stable Rust is
# enough: coverage comes from LLVM's own pass. Needs a C++ compiler for libFuzzer.
set -eu
cd "$(dirname "$0")"
seconds=${FUZZ_SECONDS:-30}
targets=${*:-"model artifact weights expression tensor graph_text ptx"}
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
export RUSTFLAGS="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
cargo build --release --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir target --bins
binaries=target/$(rustc -vV | sed -n 's/^host: //p')/release
for target in $targets; do
    corpus=corpus/$target
    mkdir -p "$corpus"
    case $target in
        model) find ../fixtures -name '*.pt2' -size -24k -exec cp {} "$corpus" \; ;;
        artifact) cp ../artifacts/v1/*.zfa "$corpus" ;;
        weights) for f in ../fixtures/mlp.safetensors; do { printf '\001'; cat "$f"; } > "$corpus/seed"; done ;;
        expression) printf '3*s0*s1 + floordiv(s0 + 7, 8) - mod(s1, 2) + max(min(s0, 4), 1)' > "$corpus/seed" ;;
        ptx) find ../../crates/ptx/tests/corpus -name '*.ptx' -size -16k -exec cp {} "$corpus" \; ;;
        tensor) printf '[[1, 2.5], [true, -3]]' > "$corpus/seed" ;;
        graph_text)
            for f in mlp tiny_bert kv_cache_index_put sdpa_causal; do
                env -u RUSTFLAGS cargo run --quiet --release --manifest-path ../../Cargo.toml -- \
                    inspect "../fixtures/$f.pt2" --graph text -o "$corpus/$f"
            done ;;
    esac
    echo "== $target: $seconds s"
    "$binaries/$target" "$corpus" -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=512 \
        -max_len=65536 -print_final_stats=1 -verbosity=0 -artifact_prefix="corpus/$target-"
done
