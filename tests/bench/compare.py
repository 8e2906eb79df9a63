"""The SimSiam step here and in PyTorch, side by side in one run.

Builds the benches once, then runs them and tests/bench/pytorch.py by turns, so that whatever else the machine
does falls on all alike; prints versions, cores, each one's median over the rounds, the ratios to PyTorch, and
the highest memory of each process.

    python tests/bench/compare.py [--networks resnet8,resnet18,resnet50,laptop] [--rounds 5] [--repetitions 5]
                                  [--threads 2] [--compile] [--variants] [--epoch DIR] [--csv FILE]

Where the processor has AVX512-BF16, this program's own bf16 products (encoder.precision = "bf16") and PyTorch's bf16
are among the engines. --compile adds torch.compile, --variants this program on one thread and without AVX-512, --epoch DIR an epoch of
resnet8 on JPEG files (DIR/train/CLASS, DIR/test/CLASS) with augmentation, beside torchvision's with 0, 1, 2
and 4 workers. Run it with the Python that has torch.
"""

import argparse
import csv
import os
import platform
import re
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PYTORCH = [sys.executable, os.path.join(HERE, "pytorch.py")]

BF16 = {"SIM_PRECISION": "bf16"}


def bench(name, *arguments):
    return ["cargo", "bench", "--quiet", "--bench", name, "--", *arguments]


def run(command, environment=None):
    """What `command` prints, and the most memory of it and its children in MiB."""
    settings = {**os.environ, **(environment or {})}
    with subprocess.Popen(
        command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        text, errors = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{errors}")
    return text, usage.ru_maxrss / 1024


def processor():
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
            return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def has_bf16():
    try:
        with open("/proc/cpuinfo") as lines:
            return any("avx512_bf16" in line for line in lines if line.startswith("flags"))
    except OSError:
        return False


def precisions():
    """PyTorch's: bf16 where the processor has it. Elsewhere PyTorch emulates it, at a tenth of fp32's speed."""
    return ["fp32", "bf16"] if has_bf16() else ["fp32"]


def images_per_second(text, what):
    found = re.search(r"median ([0-9.]+) img/s", text)
    if not found:
        sys.exit(f"{what} printed no median:\n{text}")
    return float(found.group(1))


def step_commands(a, network):
    """Engine → (command, environment) for one network."""

    def sim(threads, environment=None):
        return bench("step", network, str(a.repetitions), str(threads)), environment

    def torch(precision, how="eager"):
        return PYTORCH + [network, str(a.repetitions), str(a.threads), precision, how], None

    commands = {"sim": sim(a.threads)}
    if has_bf16():
        commands["sim bf16"] = sim(a.threads, BF16)
    for precision in precisions():
        commands[f"torch {precision}"] = torch(precision)
        if a.compile:
            commands[f"{precision} compiled"] = torch(precision, "compile")
    if a.variants:
        commands["sim, 1 thread"] = sim(1)
        commands["sim, avx2"] = sim(a.threads, {"SIM_KERNEL": "avx2"})
    return commands


def epoch_commands(a):
    folder, steps = os.path.abspath(a.epoch), "60"
    sim = bench("epoch", folder, steps, str(a.threads))
    commands = {"sim": (sim, None)}
    if has_bf16():
        commands["sim bf16"] = (sim, BF16)
    for precision in precisions():
        for workers in ["0", "1", "2", "4"]:
            command = PYTORCH + ["epoch", folder, steps, str(a.threads), precision, workers]
            commands[f"{precision}, {workers} workers"] = (command, None)
    return commands


def compare(what, commands, rounds):
    """Runs `commands` by turns and prints a line for each engine; its rows for the CSV."""
    rates, memory = {key: [] for key in commands}, {key: 0.0 for key in commands}
    for _ in range(rounds):
        for key, (command, environment) in commands.items():
            text, most = run(command, environment)
            rates[key].append(images_per_second(text, key))
            memory[key] = max(memory[key], most)
    medians = {key: statistics.median(values) for key, values in rates.items()}
    for key, rate in medians.items():
        ratios = [medians[sim] / rate if sim in medians else float("nan") for sim in ("sim", "sim bf16")]
        print(f"{what:10} {key:18} {rate:9.1f} {ratios[0]:9.2f} {ratios[1]:13.2f} {memory[key]:9.0f}", flush=True)
    return [
        {"network": what, "engine": key, "round": i, "images_per_second": rate, "peak_mib": round(memory[key])}
        for key, values in rates.items()
        for i, rate in enumerate(values)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet8,resnet18,resnet50,laptop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--epoch", metavar="DIR")
    parser.add_argument("--csv", metavar="FILE")
    a = parser.parse_args()
    run(["cargo", "bench", "--quiet", "--bench", "step", "--bench", "epoch", "--no-run"])
    torch = run([sys.executable, "-c", "import torch; print(torch.__version__)"])[0].strip()
    revision = run(["git", "rev-parse", "--short", "HEAD"])[0].strip()
    rustc = run(["rustc", "--version"])[0].strip()
    print(f"sim {revision}, {rustc}; torch {torch}; {processor()}, {os.cpu_count()} cores, {a.threads} threads")
    print(f"median of {a.rounds} rounds by turns, each a median of {a.repetitions} steps (60 where epochs are compared)")
    header = [f"{'network':10}", f"{'engine':18}", f"{'images/s':>9}", f"{'sim / it':>9}"]
    print(" ".join(header + [f"{'sim bf16 / it':>13}", f"{'peak MiB':>9}"]))
    rows = []
    for network in filter(None, a.networks.split(",")):
        rows += compare(network, step_commands(a, network), a.rounds)
    if a.epoch:
        rows += compare("epoch", epoch_commands(a), a.rounds)
    if a.csv and rows:
        with open(a.csv, "w", newline="") as file:
            table = csv.DictWriter(file, fieldnames=list(rows[0]))
            table.writeheader()
            table.writerows(rows)


if __name__ == "__main__":
    main()
