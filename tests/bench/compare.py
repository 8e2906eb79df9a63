"""The SimSiam step here and in PyTorch, side by side in one run.

Builds the bench once, then runs it and tests/bench/pytorch.py (both precisions) by turns, so that whatever
else the machine does falls on all alike; prints versions, cores, each one's median over the rounds, and the
ratio to PyTorch's fp32.

    python tests/bench/compare.py [--networks resnet8,resnet18,laptop] [--rounds 5] [--repetitions 5]
                                  [--threads 2] [--csv FILE]

Run it with the Python that has torch.
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


def output(command):
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{run.stderr}")
    return run.stdout


def processor():
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
            return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def images_per_second(text, what):
    found = re.search(r"median ([0-9.]+) img/s", text)
    if not found:
        sys.exit(f"{what} printed no median:\n{text}")
    return float(found.group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet8,resnet18,laptop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv")
    a = parser.parse_args()
    bench = ["cargo", "bench", "--quiet", "--bench", "step"]
    output(bench + ["--no-run"])
    torch = output([sys.executable, "-c", "import torch; print(torch.__version__)"]).strip()
    revision = output(["git", "rev-parse", "--short", "HEAD"]).strip()
    rustc = output(["rustc", "--version"]).strip()
    print(f"sim {revision}, {rustc}; torch {torch}; {processor()}, {os.cpu_count()} cores, {a.threads} threads")
    print(f"images/s of one SimSiam step; median of {a.rounds} rounds by turns, each a median of {a.repetitions}")
    print(f"{'network':10} {'sim':>9} {'torch fp32':>11} {'torch bf16':>11} {'sim / fp32':>11} {'sim / bf16':>11}")
    rows = []
    for name in a.networks.split(","):
        settings = [name, str(a.repetitions), str(a.threads)]
        torch_step = [sys.executable, os.path.join(HERE, "pytorch.py")] + settings
        commands = {
            "sim": bench + ["--"] + settings,
            "fp32": torch_step + ["fp32"],
            "bf16": torch_step + ["bf16"],
        }
        rates = {key: [] for key in commands}
        for _ in range(a.rounds):
            for key, command in commands.items():
                rates[key].append(images_per_second(output(command), key))
        sim, fp32, bf16 = (statistics.median(rates[key]) for key in ("sim", "fp32", "bf16"))
        print(f"{name:10} {sim:9.1f} {fp32:11.1f} {bf16:11.1f} {sim / fp32:11.2f} {sim / bf16:11.2f}", flush=True)
        rows += [
            {"network": name, "engine": key, "round": i, "images_per_second": rate}
            for key in commands
            for i, rate in enumerate(rates[key])
        ]
    if a.csv:
        with open(a.csv, "w", newline="") as file:
            table = csv.DictWriter(file, fieldnames=list(rows[0]))
            table.writeheader()
            table.writerows(rows)


if __name__ == "__main__":
    main()
