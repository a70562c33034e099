#!/bin/sh
# Everything there is to see on a Hopper GPU, in one file: `make gpu-check`. Exit code 10: a kernel is wrong.
set -u
CHECK=target/release/zeroforge-gpu-check
OUT=${GPU_CHECK_OUT:-gpu-check.ndjson}
"$CHECK" --output "$OUT" "$@"
status=$?
[ $status -eq 0 ] || [ $status -eq 10 ] || exit $status
# compute-sanitizer slows a launch by two orders: a few cases of each family.
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
        log=$(compute-sanitizer --tool $tool --error-exitcode 11 "$CHECK" --no-timing --no-emulator --limit 12 --output /dev/null 2>&1)
        code=$?
        passed=true
        [ $code -eq 0 ] || passed=false
        [ $code -eq 0 ] || { status=10; printf '%s\n' "$log" | tail -40 >&2; }
        failures=[]
        [ $passed = true ] || failures=$(printf '%s\n' "$log" | tail -20 | python3 -c 'import json, sys; print(json.dumps(sys.stdin.read().splitlines()))')
        printf '{"schema":"zeroforge.bench/1","kind":"sanitizer","name":"%s","implementation":"zeroforge","passed":%s,"failures":%s}\n' \
            $tool $passed "$failures" >>"$OUT"
    done
else
    echo "compute-sanitizer is not installed: not run" >&2
fi
python3 benches/gpu_baselines.py "$OUT" || echo "no baselines were timed" >&2
echo "results: $OUT"
exit $status
