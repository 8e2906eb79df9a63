"""Writes tests/golden/tsne.safetensors: python tsne.py (needs scikit-learn, numpy and safetensors)

scikit-learn's exact t-SNE from a given start: places after 5 and 20 steps, at the end (1000 steps), and there the
Kullback-Leibler divergence and the trustworthiness of 12 neighbours. Later steps cannot be compared place by place:
scikit-learn rounds distances to float32, and the descent doubles a difference in every step.
"""

import os

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import make_blobs
from sklearn.manifold import TSNE, trustworthiness
from sklearn.manifold._t_sne import _gradient_descent, _joint_probabilities, _kl_divergence
from sklearn.metrics.pairwise import euclidean_distances

x, _ = make_blobs(n_samples=60, centers=4, n_features=8, cluster_std=2.0, random_state=3)
x = x.astype(np.float32)
u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
start = (u * s)[:, :2]
start = np.ascontiguousarray(start / start[:, 0].std() * 1e-4).astype(np.float32)
wide, begin = x.astype(np.float64), start.astype(np.float64)

p = _joint_probabilities(euclidean_distances(wide, squared=True), 12.0, 0)
early = {
    f"after{steps}": _gradient_descent(
        _kl_divergence, begin.ravel(), 0, steps, momentum=0.5, learning_rate=50.0, args=[12.0 * p, 1, 60, 2]
    )[0].reshape(60, 2)
    for steps in (5, 20)
}
exact = TSNE(
    perplexity=12.0, early_exaggeration=12.0, learning_rate=50.0, max_iter=1000, n_iter_without_progress=10**6, min_grad_norm=0.0,
    init=begin.copy(), method="exact",
)
late = exact.fit_transform(wide)
end = np.array([exact.kl_divergence_, trustworthiness(wide, late, n_neighbors=12)])
print(end)
numbers = {"x": x, "start": start, **early, "late": late, "end": end}
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tsne.safetensors")
save_file({name: np.ascontiguousarray(values).astype(np.float32) for name, values in numbers.items()}, path)
