"""Prints the golden numbers of tests/evidence.rs: python evidence.py (needs mpmath, scipy and numpy)

Independent of the Rust code: e-values by mpmath's incomplete beta function with 60 digits, Clopper-Pearson by
scipy.stats.binomtest, quartiles by numpy.quantile (type 7).
"""

import numpy as np
from mpmath import betainc, log, mp, mpf
from scipy.stats import binomtest

mp.dps = 60


def ln_e(holds, fails):
    if holds + fails > 2000:
        mp.dps = 8000
    value = log(mpf(2) ** (holds + fails + 1) * betainc(holds + 1, fails + 1, mpf(1) / 2, 1))
    mp.dps = 60
    return float(value)


def power(p, seeds, least=40):
    """(share decided for, against) after at most `seeds` seeds, looking after each, where a seed agrees with chance p."""
    open_, decided, against = {(0, 0): 1.0}, 0.0, 0.0
    for _ in range(seeds):
        following = {}
        for (h, f), chance in open_.items():
            for (a, b), part in (((h + 1, f), p), ((h, f + 1), 1 - p)):
                if part == 0:
                    continue
                if ln_e(a, b) >= float(log(least)):
                    decided += chance * part
                elif ln_e(b, a) >= float(log(least)):
                    against += chance * part
                else:
                    following[a, b] = following.get((a, b), 0) + chance * part
        open_ = following
    return decided, against


print("ln E")
for holds, fails in [(0, 0), (1, 0), (0, 2), (8, 0), (7, 0), (11, 1), (14, 2), (17, 3), (5, 3), (10, 10), (3, 17), (60, 40),
                     (10000, 0), (0, 10000), (5000, 5000), (5300, 4700)]:
    print(f"    ({holds}, {fails}, {ln_e(holds, fails)!r}),")
print("Clopper-Pearson")
for count, every in [(0, 8), (1, 8), (8, 8), (3, 20), (13, 162), (1, 10000)]:
    interval = binomtest(count, every).proportion_ci(0.95, "exact")
    print(f"    ({count}, {every}, {float(interval.low)!r}, {float(interval.high)!r}),")
print("quartiles")
for values in [[3.0], [1.0, 2.0], [0.91, 0.93, 0.92, 0.95, 0.90, 0.99], [93.1, 99.2, 99.6, 99.6, 99.8, 99.0, 64.6]]:
    print(f"    ({values}, {[float(q) for q in np.quantile(values, [0.25, 0.5, 0.75])]}),")
print("chance of a decision within 20 and 40 seeds: for, against")
for p in [0.5, 0.9, 0.95, 1.0]:
    print(f"    ({p}, {power(p, 20)}, {power(p, 40)}),")
print("the same at E >= 5:", power(0.5, 20, 5), power(0.5, 40, 5))
