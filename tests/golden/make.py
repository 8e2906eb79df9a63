"""Makes the small replay cases of this folder with PyTorch: python make.py

`python make.py CASE...` trains on the batches of existing cases instead and writes what PyTorch makes of them in f64
into f64.safetensors.

Independent of the Rust code: plain torch.nn modules, torch.optim.SGD, autograd. Layout of a case: see src/train/case.rs.
8-pixel images, batch 8, networks a few channels wide, so that a case is some tens of kB. Beside the trajectory in f32 lies
that in f64 (`loss.f64`, `std.f64`), and how far PyTorch's own f32 has left it by each step (`loss.error`, `std.error`): the
largest difference so far, in two layouts of memory, with the images of a batch in two orders.
"""

import copy
import math
import pathlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
N, STEPS, SIZE, WIDTH, DIM = 8, 6, 8, 4, 16


class Block(nn.Module):
    def __init__(self, i, width, o, stride, bottleneck):
        super().__init__()
        self.convs = 3 if bottleneck else 2
        shapes = [(i, width, 1, 1), (width, width, 3, stride), (width, o, 1, 1)] if bottleneck else \
            [(i, width, 3, stride), (width, o, 3, 1)]
        for n, (a, b, k, s) in enumerate(shapes, 1):
            self.add_module(f"conv{n}", nn.Conv2d(a, b, k, s, k // 2, bias=False))
            self.add_module(f"bn{n}", nn.BatchNorm2d(b))
        self.downsample = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = x
        for n in range(1, self.convs + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            if n < self.convs:
                y = F.relu(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Encoder(nn.Module):
    """Stages of `widths`, each of so many `blocks`; a projector of two layers whose norm is "all", "hidden" or "none"."""

    def __init__(self, width=WIDTH, widths=None, blocks=(1, 1, 1), bottleneck=False, stem=3, dims=(DIM, DIM), norm="all"):
        super().__init__()
        widths = widths or [width << stage for stage in range(len(blocks))]
        self.pools, self.stages = stem == 7, len(widths)
        self.conv1 = nn.Conv2d(3, width, stem, 2 if self.pools else 1, stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        i = width
        for stage, (w, count) in enumerate(zip(widths, blocks)):
            o, made = w * 4 if bottleneck else w, []
            for block in range(count):
                made.append(Block(i, w, o, 2 if stage > 0 and block == 0 else 1, bottleneck))
                i = o
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        self.fc = projector([i, *dims], norm)

    def features(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.pools:
            x = F.max_pool2d(x, 3, 2, 1)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return x.mean((2, 3))

    def forward(self, x):
        return self.fc(self.features(x))


def projector(widths, norm):
    layers = []
    for layer, (i, o) in enumerate(zip(widths, widths[1:])):
        last = layer + 2 == len(widths)
        normed = norm == "all" or norm == "hidden" and not last
        layers.append(nn.Linear(i, o, bias=not normed))
        if not last:
            layers += [nn.BatchNorm1d(o) if normed else nn.Identity(), nn.ReLU()]
        elif normed:
            layers.append(nn.BatchNorm1d(o, affine=False))
    return nn.Sequential(*layers)


def predictor(dim=DIM, hidden=4):
    return nn.Sequential(nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim))


def models_of(tensors):
    """The networks that the tensors of a case belong to, with their values."""
    shape = {n: tuple(t.shape) for n, t in tensors.items()}
    stages = [s for s in range(1, 9) if f"encoder.layer{s}.0.conv1.weight" in shape]
    count = lambda s: sum(f"encoder.layer{s}.{b}.conv1.weight" in shape for b in range(100))
    linear = [n for n in range(0, 30, 3) if f"encoder.fc.{n}.weight" in shape]
    last = linear[-1] + 1
    norm = "all" if f"encoder.fc.{last}.running_mean" in shape else "hidden" if "encoder.fc.1.running_mean" in shape else "none"
    f = Encoder(shape["encoder.conv1.weight"][0], [shape[f"encoder.layer{s}.0.conv1.weight"][0] for s in stages],
                [count(s) for s in stages], "encoder.layer1.0.conv3.weight" in shape, shape["encoder.conv1.weight"][2],
                [shape[f"encoder.fc.{n}.weight"][0] for n in linear], norm)
    h = None
    if "predictor.0.weight" in shape:
        hidden, dim = shape["predictor.0.weight"]
        h = predictor(dim, hidden)
    for prefix, module in (("encoder.", f), ("predictor.", h)):
        if module:
            state = {n: tensors[prefix + n] for n in module.state_dict() if not n.endswith("num_batches_tracked")}
            assert not module.load_state_dict(state, strict=False).unexpected_keys
    return f, h


def distance(p, eta, meta, queue):
    loss, temperature = meta.get("loss", "cosine"), float(meta.get("temperature", 1))
    if loss == "ce":
        return -(F.softmax(eta, 1) * F.log_softmax(p, 1)).sum(1).mean()
    if loss == "mse":
        return (2 - 2 * F.cosine_similarity(p, eta, dim=1)).mean()
    if loss == "info-nce":
        q, k = F.normalize(p, dim=1), F.normalize(eta, dim=1)
        candidates = torch.cat([(q * k).sum(1, keepdim=True), q @ F.normalize(queue, dim=1).t()], 1)
        return F.cross_entropy(candidates / temperature, torch.zeros(len(p), dtype=torch.long))
    return -F.cosine_similarity(p, eta, dim=1).mean()


def rate(meta, step, steps):
    """The learning rate of a step."""
    if "lr" in meta:
        return float(meta["lr"])
    base, epochs, warmup = float(meta["base_lr"]), int(meta["epochs"]), int(meta.get("warmup_epochs", 0))
    rising = warmup * steps // epochs
    if step < rising:
        return base * (step + 1) / rising
    share = (step - rising) / (steps - rising)
    if meta.get("decay", "cosine-epoch") == "cosine-epoch":
        share = (step * epochs // steps - warmup) / (epochs - warmup)
    return base * 0.5 * (1 + math.cos(math.pi * share))


class Targets:
    """The E-step: what each view of a batch is compared with."""

    def __init__(self, meta, tensors, f, views, steps):
        self.meta, self.f, self.views, self.steps = meta, f, views, steps
        self.kept, self.ids, self.target, self.queue, self.pushed = {}, tensors.get("ids"), None, None, 0
        dtype = views[0].dtype
        if self.ids is not None:
            count, dim = int(self.ids.max()) + 1, f.fc[-1].num_features
            self.bank, self.seen = torch.zeros(count, dim, dtype=dtype), set()
        if "queue" in tensors:
            self.queue = tensors["queue"].to(dtype).clone()

    @torch.no_grad()
    def before(self, step):
        meta, f, views = self.meta, self.f, self.views
        if "k" in meta and step % int(meta["k"]) == 0:
            for s in range(step, min(step + int(meta["k"]), self.steps)):
                self.kept[s] = [f(views[v][s]) for v in (1, 0)]
        if "m" in meta:
            m, z = float(meta["m"]), f(views[1][step])
            for row, i in enumerate(self.ids[step].tolist()):
                self.bank[i] = m * self.bank[i] + (1 - m) * z[row] if i in self.seen else z[row]
                self.seen.add(i)
        if "tau" in meta:
            if self.target is None:
                self.target = copy.deepcopy(f)
            else:
                tau = float(meta["tau"])
                if meta.get("tau_rises", "true") == "true":
                    tau = 1 - (1 - tau) * 0.5 * (1 + math.cos(math.pi * step / self.steps))
                for xi, theta in zip(self.target.parameters(), f.parameters()):
                    xi.copy_(tau * xi + (1 - tau) * theta)

    def of(self, step, z1, z2):
        meta = self.meta
        if "k" in meta:
            return self.kept[step]
        if "m" in meta:
            return [self.bank[self.ids[step]].clone(), None]
        if "tau" in meta:
            with torch.no_grad():
                wanted = (1, 0) if meta["symmetric"] == "true" else (1,)
                return ([self.target(self.views[v][step]) for v in wanted] + [None])[:2]
        return (z2.detach(), z1.detach()) if meta.get("stopgrad", "true") == "true" else (z2, z1)

    def after(self, eta):
        if self.queue is not None:
            for row in eta:
                self.queue[self.pushed % len(self.queue)] = row
                self.pushed += 1


def train(tensors, meta, dtype, channels_last=False):
    """Trains on a case's batches: (loss, std) of each step, the gradients of step 0, the networks and their targets."""
    f, h = models_of(tensors)
    f, h = f.to(dtype), h.to(dtype) if h else None
    views = [tensors[name].to(dtype) for name in ("views.1", "views.2")]
    if channels_last:
        f = f.to(memory_format=torch.channels_last)
        views = [torch.stack([x.contiguous(memory_format=torch.channels_last) for x in view]) for view in views]
    given, steps = len(views[0]), int(meta.get("steps", len(views[0])))
    groups = [{"params": list(f.parameters()), "fix": False}]
    if h:
        groups.append({"params": list(h.parameters()), "fix": meta.get("fix_pred_lr", "false") == "true"})
    sgd = torch.optim.SGD(groups, 1.0, float(meta["momentum"]), weight_decay=float(meta["weight_decay"]))
    targets, trajectory, gradients = Targets(meta, tensors, f, views, steps), [], {}
    bank, symmetric = "m" in meta, meta.get("symmetric", "true" if "m" not in meta else "false") == "true"
    for step in range(given):
        for group in sgd.param_groups:
            group["lr"] = float(meta["base_lr"]) if group["fix"] else rate(meta, step, steps)
        targets.before(step)
        z1 = f(views[0][step])
        # A momentum encoder, as a bank, leaves the second view to its own pass where only one term is trained.
        z2 = None if bank or "tau" in meta and not symmetric else f(views[1][step])
        eta1, eta2 = targets.of(step, z1, z2)
        value = distance(h(z1) if h else z1, eta1, meta, targets.queue)
        if symmetric:
            value = value / 2 + distance(h(z2) if h else z2, eta2, meta, targets.queue) / 2
        targets.after(eta1)
        sgd.zero_grad()
        value.backward()
        if step == 0:
            for prefix, module in (("encoder.", f), ("predictor.", h)):
                for n, p in (module.named_parameters() if module else []):
                    gradients[f"grad0.{prefix}{n}"] = p.grad.clone()
        sgd.step()
        trajectory.append((value.item(), F.normalize(z1.detach(), dim=1).std(0).mean().item()))
    return torch.tensor(trajectory, dtype=torch.float64).t(), gradients, f, h, targets


def backwards(tensors):
    """The same case with the images of each batch in the opposite order, which changes nothing but how sums round; a queue
    would lose other rows."""
    if "queue" in tensors:
        return tensors
    return tensors | {name: tensors[name].flip(1) for name in ("views.1", "views.2", "ids") if name in tensors}


def in_f64(tensors, meta, f32):
    """The trajectory in f64, and how far those in f32 have left it by each step."""
    exact = train(tensors, meta, torch.float64)[0]
    f32 = list(f32)
    for order in (tensors, backwards(tensors)):
        f32 += [train(order, meta, torch.float32, channels_last=last)[0] for last in (False, True)]
    error = torch.stack([(one - exact).abs() for one in f32]).amax(0).cummax(1).values
    return {"loss.f64": exact[0], "std.f64": exact[1], "loss.error": error[0], "std.error": error[1]}


def weights(tensors, prefix, module):
    for name, value in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            tensors[prefix + name] = value.detach().clone().contiguous()


def make(name, predict=True, encoder=None, queue=None, ids=False, **settings):
    torch.manual_seed(sum(map(ord, name)))
    f, h = Encoder(**(encoder or {})), predictor() if predict else None
    base = torch.rand(STEPS, N, 3, SIZE, SIZE)
    views = [(base + 0.3 * torch.randn_like(base)).half() for _ in range(2)]
    tensors = {"views.1": views[0], "views.2": views[1]}
    weights(tensors, "encoder.", f)
    if h:
        weights(tensors, "predictor.", h)
    if queue:
        tensors["queue"] = torch.randn(queue, DIM)
    if ids:
        tensors["ids"] = torch.stack([(torch.arange(N) + 4 * s) % 16 for s in range(STEPS)])
    meta = dict(n=N, steps=STEPS, momentum=0.9, weight_decay=5e-4, symmetric=True, loss="cosine", predictor=predict)
    if "lr" not in settings:
        meta |= dict(base_lr=0.05, epochs=3)
    meta = {n: str(v).lower() for n, v in (meta | settings).items()}
    trajectory, gradients, f, h, targets = train(tensors, meta, torch.float32)
    tensors |= gradients | in_f64(tensors, meta, [])
    tensors["loss"], tensors["std"] = trajectory.float()
    if ids:
        tensors["bank"] = targets.bank
    weights(tensors, "final.encoder.", f)
    images = base[0].clone()
    tensors["images.eval"], tensors["features.eval"] = images, f.eval().features(images).detach()
    path = HERE / f"{name}.safetensors"
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, meta)
    path.chmod(0o644)
    said = ", ".join(f"{v:.4f}" for v in trajectory[0])
    print(f"{path.name}: {path.stat().st_size} bytes; loss {said}; own error {tensors['loss.error'][-1]:.1e}")


def of_existing(paths):
    made = {}
    for path in map(pathlib.Path, paths):
        with safe_open(path, "pt") as case:
            tensors, meta = {n: case.get_tensor(n) for n in case.keys()}, case.metadata()
        theirs = train(tensors, meta, torch.float32)[0]
        for row, key in enumerate(("loss", "std")):
            if key in tensors:
                theirs[row] = tensors[key].double()
        found = in_f64(tensors, meta, [theirs])
        made |= {f"{path.stem}.{key}": value.clone() for key, value in found.items()}
        print(f"{path.stem}: own error " + " ".join(f"{v:.0e}" for v in found["loss.error"]))
    save_file(made, HERE / "f64.safetensors")
    (HERE / "f64.safetensors").chmod(0o644)


if __name__ == "__main__" and len(sys.argv) > 1:
    of_existing(sys.argv[1:])
elif __name__ == "__main__":
    make("simsiam")
    make("simsiam_asymmetric", symmetric=False)
    make("simsiam_cross_entropy", loss="ce", fix_pred_lr=True)
    make("simsiam_no_predictor", predict=False)
    make("simsiam_no_stop_gradient", stopgrad=False)
    make("simsiam_warm_up", warmup_epochs=1, decay="cosine-step")
    make("simsiam_widths", encoder=dict(width=4, widths=[6, 5], blocks=[1, 2]))
    make("simsiam_bottleneck", encoder=dict(width=4, widths=[3, 4], blocks=[1, 1], bottleneck=True))
    make("alternation_k3", k=3, outer=STEPS // 3, lr=0.05)
    make("memory_bank_m08", ids=True, symmetric=False, predict=False, m=0.8, lr=0.05)
    make("byol", encoder=dict(norm="hidden"), tau=0.9, loss="mse", warmup_epochs=1)
    make("moco_v2", encoder=dict(norm="none"), predict=False, tau=0.99, tau_rises=False, queue=20, symmetric=False,
         loss="info-nce", temperature=0.2)
