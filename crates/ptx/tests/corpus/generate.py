#!/usr/bin/env python3
"""Makes the corpus: CUDA kernels with NVRTC, Triton kernels with Triton; no GPU is needed.

    NVRTC=.../libnvrtc.so.13 CUDA_INCLUDE=... TRITON_DISABLE_LINE_INFO=1 python generate.py

`zf_*.ptx` come from `zeroforge compile --target sm_90a --emit ptx=DIR`; the rest is written by hand.
"""

import ctypes
import os
import pathlib
import re

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

HERE = pathlib.Path(__file__).parent


def nvrtc(source, name, *options):
    lib = ctypes.CDLL(os.environ["NVRTC"])
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
    include = os.environ["CUDA_INCLUDE"]
    flags = [f"-I{include}".encode(), b"-std=c++17", b"--device-int128", *(o.encode() for o in options)]
    failed = lib.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    get_size, get = (lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog) if failed else (lib.nvrtcGetPTXSize, lib.nvrtcGetPTX)
    get_size(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    get(program, text)
    if failed:
        raise SystemExit(text.value.decode())
    return re.sub(r'(\.file\s+\d+\s+")[^"]*/([^"/]*")', r"\1\2", text.value.decode())


def cuda():
    source = (HERE / "kernels.cu").read_text()
    shared, *kernels = re.split(r'(?=extern "C" __global__)', source)
    includes = "".join(line + "\n" for line in shared.splitlines() if line.startswith("#include"))
    for i, kernel in enumerate(kernels):
        name = re.search(r"void (\w+)", kernel).group(1)
        text = (shared if i == 0 else includes) + kernel
        targets = [("sm_90a", "")] + ([("sm_80", "_sm80")] if name in ("halves", "atomics") else [])
        for arch, suffix in targets:
            options = [f"-arch={arch}"] + (["-lineinfo"] if i == 0 else [])
            (HERE / f"{name}{suffix}.ptx").write_text(nvrtc(text, f"{name}.cu", *options))


@triton.jit
def vadd(x,y,z,n,B:tl.constexpr):
    o=tl.program_id(0)*B+tl.arange(0,B); m=o<n
    tl.store(z+o, tl.load(x+o,mask=m)+tl.load(y+o,mask=m),mask=m)
@triton.jit
def softmax(o,i,s,n,B:tl.constexpr):
    r=tl.program_id(0); c=tl.arange(0,B); x=tl.load(i+r*s+c,mask=c<n,other=-float('inf'))
    x=x-tl.max(x,0); e=tl.exp(x); tl.store(o+r*s+c,e/tl.sum(e,0),mask=c<n)
@triton.jit
def matmul(A,Bp,C,M,N,K,sa,sb,sc,BM:tl.constexpr,BN:tl.constexpr,BK:tl.constexpr):
    pm=tl.program_id(0);pn=tl.program_id(1)
    rm=pm*BM+tl.arange(0,BM);rn=pn*BN+tl.arange(0,BN);rk=tl.arange(0,BK)
    acc=tl.zeros((BM,BN),tl.float32)
    for k in range(0,K,BK):
        a=tl.load(A+rm[:,None]*sa+(k+rk)[None,:]); b=tl.load(Bp+(k+rk)[:,None]*sb+rn[None,:])
        acc=tl.dot(a,b,acc)
    tl.store(C+rm[:,None]*sc+rn[None,:],acc.to(tl.float16))
@triton.jit
def tma_matmul(A,Bp,C,M,N,K,BM:tl.constexpr,BN:tl.constexpr,BK:tl.constexpr):
    pm=tl.program_id(0);pn=tl.program_id(1)
    a=tl.make_tensor_descriptor(A,[M,K],[K,1],[BM,BK]); b=tl.make_tensor_descriptor(Bp,[N,K],[K,1],[BN,BK]); c=tl.make_tensor_descriptor(C,[M,N],[N,1],[BM,BN])
    acc=tl.zeros((BM,BN),tl.float32)
    for k in range(0,K,BK):
        acc=tl.dot(a.load([pm*BM,k]),b.load([pn*BN,k]).T,acc)
    c.store([pm*BM,pn*BN],acc.to(tl.float16))
@triton.jit
def atomic(x,y,n,B:tl.constexpr):
    o=tl.program_id(0)*B+tl.arange(0,B); v=tl.load(x+o,mask=o<n,other=0.); tl.atomic_add(y+(o%7),v,mask=o<n); tl.atomic_cas(y.to(tl.pointer_type(tl.int32)),0,1); tl.device_print("v",v)

def go(fn, signature, constants, **options):
    signature = {**signature, **{k: "constexpr" for k in constants}}
    source = ASTSource(fn, signature=signature, constexprs=constants)
    text = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    (HERE / f"triton_{fn.__name__}.ptx").write_text(text)


if __name__ == "__main__":
    cuda()
    f32, f16, i32 = "*fp32", "*fp16", "i32"
    go(vadd, dict(x=f32, y=f32, z=f32, n=i32), dict(B=1024))
    go(softmax, dict(o=f32, i=f32, s=i32, n=i32), dict(B=1024))
    go(matmul, dict(A=f16, Bp=f16, C=f16, M=i32, N=i32, K=i32, sa=i32, sb=i32, sc=i32), dict(BM=64, BN=64, BK=32), num_warps=4)
    go(tma_matmul, dict(A=f16, Bp=f16, C=f16, M=i32, N=i32, K=i32), dict(BM=128, BN=128, BK=64), num_warps=4)
    go(atomic, dict(x=f32, y=f32, n=i32), dict(B=256))
