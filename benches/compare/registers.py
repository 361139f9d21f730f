"""Registers and spills of the kernels that CubeCL wrote in CUDA C++, without a GPU.

    CUBECL_DEBUG_LOG=kernels.log backends/emulator/run PROGRAM ...
    python3 benches/compare/registers.py kernels.log --nvrtc libnvrtc.so --include DIR --ptxas ptxas [--arch sm_90a] [--name flash]

Compiles every different kernel of the log whose path has the name in it, with NVRTC and then ptxas of a CUDA toolkit;
both come without a driver (PyPI: nvidia-cuda-nvrtc, nvidia-cuda-nvcc, nvidia-cuda-crt and nvidia-cuda-runtime).
"""

import argparse
import ctypes
import pathlib
import re
import subprocess
import tempfile

KERNEL = re.compile(r"\[START_KERNEL_COMPILATION\]\nname: (\S+)\n(.*?)```cpp\n(.*?)```", re.DOTALL)


def kernels(log, name):
    """Path, comptime width and source of each different kernel."""
    found = {}
    for path, facts, source in KERNEL.findall(log):
        if name in path:
            width = re.search(r"\bwidth: (\d+)", facts)
            found[source] = (path, width and width.group(1))
    return [(*what, source) for source, what in found.items()]


def to_ptx(nvrtc, source, options):
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    words = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), words)
    what = "ProgramLog" if failed else "PTX"
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, text)
    if failed:
        raise SystemExit(text.value.decode())
    return text.value


def facts(given, ptx):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "kernel.ptx")
        path.write_bytes(ptx)
        command = [given.ptxas, "-v", f"-arch={given.arch}", path, "-o", path.with_suffix(".cubin")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said).group(1)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", said).groups()
    return f"{registers} registers, {spills[0]} and {spills[1]} bytes spilled and loaded again"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("log", type=pathlib.Path)
    parser.add_argument("--nvrtc", required=True)
    parser.add_argument("--include", required=True)
    parser.add_argument("--ptxas", required=True)
    parser.add_argument("--arch", default="sm_90a")
    parser.add_argument("--name", default="")
    given = parser.parse_args()
    nvrtc = ctypes.CDLL(given.nvrtc)
    include = pathlib.Path(given.include)
    options = [f"--gpu-architecture={given.arch}", f"-I{include}", f"-I{include / 'cccl'}"]
    for path, width, source in kernels(given.log.read_text(), given.name):
        of = f", width {width}" if width else ""
        print(f"{path}{of}: {facts(given, to_ptx(nvrtc, source, options))}", flush=True)


if __name__ == "__main__":
    main()
