"""Prints the requirements that LibTorch needs beside torch's own wheel, one a line.

    wheel_requirements.py FOLDER cpu|cuda

FOLDER is where pip unpacked torch. cuda: every NVIDIA library that the wheel's METADATA names. cpu: the two that libtorch_cpu.so needs to be linked,
none if the wheel names no NVIDIA library (a CPU wheel). Python's packages (triton, sympy, ...) are never used from C++.
"""
import glob
import re
import sys


def main() -> None:
    folder, flavour = sys.argv[1:]
    found = glob.glob(folder + "/torch-*.dist-info/METADATA")
    if len(found) != 1:
        sys.exit(f"{folder}: expected one torch-*.dist-info/METADATA, found {len(found)}")
    with open(found[0], encoding="utf-8") as file:
        lines = [line.split(":", 1)[1].split(";")[0].strip() for line in file if line.startswith("Requires-Dist:")]
    if not lines:
        sys.exit(f"{found[0]}: names no requirement at all")
    nvidia = [line for line in lines if re.match(r"(nvidia-|cuda-toolkit)", line)]
    if flavour == "cuda":
        print("\n".join(nvidia))
        return
    chosen = [line for line in nvidia if re.match(r"nvidia-cuda-(runtime|cupti)", line)]
    for line in nvidia:  # newer wheels name a bundle instead
        bundle = re.match(r"cuda-toolkit\[[^]]*\](.*)", line)
        if bundle:
            chosen.append("cuda-toolkit[cudart,cupti]" + bundle.group(1))
    if nvidia and not chosen:
        sys.exit(f"{found[0]}: names NVIDIA libraries, but neither the CUDA runtime nor CUPTI, which libtorch_cpu.so is linked with")
    print("\n".join(chosen))


main()
