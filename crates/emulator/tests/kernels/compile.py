"""Compiles the kernels of this folder to PTX for sm_90a with line information.

Usage: compile.py LIBNVRTC [NAME...]: the path of libnvrtc.so (the PyPI package nvidia-cuda-nvrtc has it).
"""

import ctypes
import pathlib
import sys

HERE = pathlib.Path(__file__).parent


def compile_kernel(nvrtc, source):
    header = (HERE / "hopper.cuh").read_bytes()
    program = ctypes.c_void_p()
    headers = (ctypes.c_char_p * 1)(header)
    names = (ctypes.c_char_p * 1)(b"hopper.cuh")
    code = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.read_bytes(), source.name.encode(), 1, headers, names)
    assert code == 0, code
    options = [b"-arch=sm_90a", b"-lineinfo", b"-std=c++17", b"-DINFINITY=__int_as_float(0x7f800000)"]
    code = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if log.value:
        print(f"{source.name}:\n{log.value.decode()}")
    assert code == 0, code
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    lines = [line.rstrip() for line in ptx.value.decode().splitlines()]
    lines = [strip(line) if line.startswith("\t.file") else line for line in lines]
    return "\n".join(lines).rstrip() + "\n"


def strip(line):
    """Leaves only the name of a file."""
    before, path, after = line.split('"', 2)
    return f'{before}"{pathlib.PurePosixPath(path).name}"'


def main():
    nvrtc = ctypes.CDLL(sys.argv[1])
    for source in sorted(HERE.glob("*.cu")):
        if not sys.argv[2:] or source.stem in sys.argv[2:]:
            source.with_suffix(".ptx").write_text(compile_kernel(nvrtc, source))


main()
