"""Makes the small replay cases of this folder with PyTorch: python make.py

Independent of the Rust code: plain torch.nn modules, torch.optim.SGD, autograd. Layout of a case: see
src/train/replay.rs. 8-pixel images, batch 8, a resnet8 of width 4, so that a case is some tens of kB.
"""

import math
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

N, STEPS, SIZE, WIDTH, DIM = 8, 6, 8, 4, 16


class Basic(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.downsample = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Encoder(nn.Module):
    def __init__(self, width=WIDTH, dim=DIM):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Basic(width, width, 1))
        self.layer2 = nn.Sequential(Basic(width, 2 * width, 2))
        self.layer3 = nn.Sequential(Basic(2 * width, 4 * width, 2))
        self.fc = nn.Sequential(
            nn.Linear(4 * width, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU(),
            nn.Linear(dim, dim, bias=False), nn.BatchNorm1d(dim, affine=False))

    def features(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))

    def forward(self, x):
        return self.fc(self.features(x))


def predictor():
    return nn.Sequential(nn.Linear(DIM, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, DIM))


def distance(p, eta, loss):
    if loss == "ce":
        return -(F.softmax(eta, 1) * F.log_softmax(p, 1)).sum(1).mean()
    return -F.cosine_similarity(p, eta, dim=1).mean()


def weights(tensors, prefix, module):
    for name, value in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            tensors[prefix + name] = value.detach().clone().contiguous()


def make(name, loss="cosine", symmetric=True, stopgrad=True, predict=True, fix=False, k=None, m=None):
    torch.manual_seed(sum(map(ord, name)))
    f, h = Encoder(), predictor() if predict else None
    lr0, momentum, decay, epochs = 0.05, 0.9, 5e-4, 3
    groups = [{"params": list(f.parameters()), "fix": False}]
    if h:
        groups.append({"params": list(h.parameters()), "fix": fix})
    sgd = torch.optim.SGD(groups, lr0, momentum, weight_decay=decay)
    base = torch.rand(STEPS, N, 3, SIZE, SIZE)
    views = [(base + 0.3 * torch.randn_like(base)).half() for _ in range(2)]
    tensors = {"views.1": views[0], "views.2": views[1]}
    weights(tensors, "encoder.", f)
    if h:
        weights(tensors, "predictor.", h)
    meta = dict(n=N, steps=STEPS, momentum=momentum, weight_decay=decay, symmetric=symmetric, loss=loss)
    if k:
        meta |= dict(k=k, outer=STEPS // k, lr=lr0)
    elif m is not None:
        meta |= dict(m=m, lr=lr0)
        ids = torch.stack([(torch.arange(N) + 4 * s) % 16 for s in range(STEPS)])
        tensors["ids"] = ids
        bank, seen = torch.zeros(16, DIM), torch.zeros(16, dtype=torch.bool)
    else:
        meta |= dict(base_lr=lr0, epochs=epochs, fix_pred_lr=fix, stopgrad=stopgrad, predictor=predict)
    losses, stds, kept = [], [], {}
    for step in range(STEPS):
        x1, x2 = views[0][step].float(), views[1][step].float()
        epoch = step * epochs // STEPS
        lr = lr0 if (k or m is not None) else lr0 * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        for group in sgd.param_groups:
            group["lr"] = lr0 if group["fix"] else lr
        if k and step % k == 0:
            with torch.no_grad():
                for s in range(step, min(step + k, STEPS)):
                    kept[s] = [f(views[v][s].float()) for v in (1, 0)]
        if m is not None:
            with torch.no_grad():
                z = f(x2)
                for row, i in enumerate(ids[step].tolist()):
                    bank[i] = m * bank[i] + (1 - m) * z[row] if seen[i] else z[row]
                    seen[i] = True
            z1 = f(x1)
            value = distance(z1, bank[ids[step]].clone(), loss)
        else:
            z1, z2 = f(x1), f(x2)
            eta1, eta2 = kept[step] if k else ((z2.detach(), z1.detach()) if stopgrad else (z2, z1))
            p1 = h(z1) if h else z1
            value = distance(p1, eta1, loss)
            if symmetric:
                value = value / 2 + distance(h(z2) if h else z2, eta2, loss) / 2
        sgd.zero_grad()
        value.backward()
        if step == 0:
            for n, p in f.named_parameters():
                tensors["grad0.encoder." + n] = p.grad.clone()
            for n, p in (h.named_parameters() if h else []):
                tensors["grad0.predictor." + n] = p.grad.clone()
        sgd.step()
        losses.append(value.item())
        stds.append(F.normalize(z1.detach(), dim=1).std(0).mean().item())
    tensors["loss"], tensors["std"] = torch.tensor(losses), torch.tensor(stds)
    if m is not None:
        tensors["bank"] = bank
    weights(tensors, "final.encoder.", f)
    tensors["images.eval"] = base[0].clone()
    tensors["features.eval"] = f.eval().features(base[0]).detach()
    path = pathlib.Path(__file__).parent / f"{name}.safetensors"
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, {n: str(v).lower() for n, v in meta.items()})
    print(path.name, path.stat().st_size, [round(v, 4) for v in losses])


if __name__ == "__main__":
    make("simsiam")
    make("simsiam_asymmetric", symmetric=False)
    make("simsiam_cross_entropy", loss="ce", fix=True)
    make("simsiam_no_predictor", predict=False)
    make("simsiam_no_stop_gradient", stopgrad=False)
    make("alternation_k3", k=3)
    make("memory_bank_m08", symmetric=False, predict=False, m=0.8)
