"""Compiles CUDA C++ with NVRTC in a process of its own, to know its time and memory.

    nvrtc.py LIBRARY SOURCE CUBIN [OPTION...]

Prints one JSON object: seconds and peak MiB of this process.
"""

import ctypes
import json
import resource
import sys
import time


def main() -> int:
    library, source, cubin, *options = sys.argv[1:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nvrtc = ctypes.CDLL(library)
    text = open(source, "rb").read()
    program = ctypes.c_void_p()
    start = time.monotonic()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, source.encode(), 0, None, None)
    given = [o.encode() for o in options]
    array = (ctypes.c_char_p * len(given))(*given)
    failed = nvrtc.nvrtcCompileProgram(program, len(given), array)
    seconds = time.monotonic() - start
    size = ctypes.c_size_t()
    if failed:
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        print(log.value.decode(errors="replace"), file=sys.stderr)
        return 1
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, code)
    open(cubin, "wb").write(code.raw[: size.value])
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
        "before_mib": before / 1024,
    }))
    return 0


if __name__ == "__main__":
    sys.exit(main())
