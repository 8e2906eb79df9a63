"""Images a second of one run on 1 and 2 ranks, and what cutting a batch into shards costs on one.

Runs `sim run STUDY` by turns in every setting and reads the seconds between two rows of its metrics.csv that
nothing was measured for; prints medians over the rounds and their ratios to one rank with two threads. Needs
MPICH's mpiexec on PATH and a built program.

    python tests/bench/ranks.py [--program target/release/sim] [--study simsiam] [--arm simsiam] [--scale laptop]
                                [--rounds 5] [--epochs 6] [--device cpu] [--set KEY=VALUE …]
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile

SETTINGS = [  # shards, ranks, threads of each
    (1, 1, 2),
    (2, 1, 2),
    (4, 1, 2),
    (2, 2, 1),
    (4, 2, 1),
    (1, 1, 1),
]


def images_per_second(arguments, shards, ranks, threads):
    with tempfile.TemporaryDirectory() as out:
        command = [] if ranks == 1 else ["mpiexec", "-n", str(ranks)]
        command += [os.path.abspath(arguments.program), "run", arguments.study, "--scale", arguments.scale]
        command += ["--seeds", "1", "--quiet", "--out", out, "--threads", str(threads)]
        command += ["--device", arguments.device, "--epochs", str(arguments.epochs), "--set", "measure.every=1000000"]
        # One shard cannot be left unsynchronised, and is what the recipe has.
        command += ["--set", f"schedule.shards={shards}"] if shards > 1 else []
        for assignment in arguments.set:
            command += ["--set", assignment]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in (0, 3):
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
        run = os.path.join(out, arguments.study, arguments.arm)
        (seed,) = os.listdir(run)
        with open(os.path.join(run, seed, "metrics.csv")) as file:
            rows = [(float(row["samples"]), float(row["wall_s"])) for row in csv.DictReader(file)]
        # Before the first epoch and after the last the model is measured.
        (first, begun), (last, ended) = rows[1], rows[-2]
        return (last - first) / (ended - begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/sim")
    parser.add_argument("--study", default="simsiam")
    parser.add_argument("--arm", default="simsiam")
    parser.add_argument("--scale", default="laptop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--device", default="cpu", help="cuda:auto on a machine with two GPUs")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    rates = {setting: [] for setting in SETTINGS}
    for _ in range(arguments.rounds):
        for setting in SETTINGS:
            rates[setting].append(images_per_second(arguments, *setting))
    whole = statistics.median(rates[SETTINGS[0]])
    print("| shards | ranks | threads of each | images/s | to one rank |\n|---|---|---|---|---|")
    for setting, values in rates.items():
        shards, ranks, threads = setting
        median = statistics.median(values)
        print(f"| {shards} | {ranks} | {threads} | {median:.0f} | {median / whole:.2f} |")


if __name__ == "__main__":
    main()
