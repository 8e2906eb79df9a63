"""Reads a run's TensorBoard events with the real readers and compares them with its metrics.csv.

    pip install tensorboard tbparse
    sim run simsiam --scale smoke
    python tests/record/read_events.py runs/simsiam/simsiam/seed-0
"""

import csv
import math
import sys

from tbparse import SummaryReader
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def written(run):
    """(tag, step) -> number of every metric that was measured."""
    numbers = {}
    with open(f"{run}/metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            step = int(row["step"])
            for tag, cell in row.items():
                if "/" in tag and cell:
                    numbers[tag, step] = float(cell)
    return numbers


def by_tensorboard(run):
    events = EventAccumulator(run, size_guidance={"scalars": 0})
    events.Reload()
    return {(tag, e.step): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}


def by_tbparse(run):
    rows = SummaryReader(run).scalars
    return {(row.tag, row.step): row.value for row in rows.itertuples()}


def main(run):
    expected = written(run)
    for name, read in [("tensorboard", by_tensorboard), ("tbparse", by_tbparse)]:
        got = read(run)
        assert expected.keys() <= got.keys(), f"{name} misses {sorted(expected.keys() - got.keys())[:3]}"
        for key, value in expected.items():
            # Events hold f32.
            assert math.isclose(got[key], value, rel_tol=1e-6, abs_tol=1e-30), (name, key, got[key], value)
        print(f"{name}: {len(expected)} numbers agree with metrics.csv")


if __name__ == "__main__":
    main(sys.argv[1])
