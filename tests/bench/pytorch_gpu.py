"""The SimSiam step of tests/bench/gpu.rs in PyTorch on a GPU.

    python tests/bench/pytorch_gpu.py [resnet18|resnet50|all] [f32|tf32|bf16|all] [eager|compile|both] [repetitions]

Channels last, cuDNN's benchmark mode, fused SGD; bf16 is autocast. The median over repetitions of ten steps, of which the
last is waited for; memory is what the device reports as taken beyond an idle process, as on the other side.
"""

import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from pytorch import Encoder

# name: (bottleneck blocks, blocks per stage, width, ImageNet stem, d, predictor's hidden width, batch, pixels, projector's layers)
SETTINGS = {
    "resnet18": (False, [2, 2, 2, 2], 64, False, 2048, 512, 512, 32, 2),
    "resnet50": (True, [3, 4, 6, 3], 64, True, 2048, 512, 256, 224, 3),
}
STEPS, WARM_UP = 10, 5


def projector(layers, inputs, dim):
    modules = []
    for layer in range(layers):
        last = layer + 1 == layers
        modules += [nn.Linear(inputs if layer == 0 else dim, dim, bias=False)]
        modules += [nn.BatchNorm1d(dim, affine=not last)] + ([] if last else [nn.ReLU(inplace=True)])
    return nn.Sequential(*modules)


def taken():
    free, total = torch.cuda.mem_get_info()
    return total - free


def measure(name, kind, compiled, repetitions, idle):
    bottleneck, blocks, width, imagenet, dim, hidden, batch, pixels, layers = SETTINGS[name]
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = kind != "f32"
    torch.manual_seed(0)
    f = Encoder(bottleneck, blocks, width, imagenet, dim)
    f.projector = projector(layers, f.projector[0].in_features, dim)
    f = f.cuda().to(memory_format=torch.channels_last)
    h = nn.Sequential(
        nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim)
    ).cuda()
    parameters = list(f.parameters()) + list(h.parameters())
    sgd = torch.optim.SGD(parameters, 0.01, momentum=0.9, weight_decay=1e-4, fused=True)

    def loss(x1, x2):
        with torch.autocast("cuda", torch.bfloat16, enabled=kind == "bf16"):
            z1, z2 = f(x1), f(x2)
            p1, p2 = h(z1), h(z2)
            cosine = F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()
            return -0.5 * cosine

    loss = torch.compile(loss) if compiled else loss
    make = lambda: torch.rand(batch, 3, pixels, pixels, device="cuda").sub_(0.5).contiguous(memory_format=torch.channels_last)
    x1, x2 = make(), make()

    def steps(count):
        for _ in range(count):
            value = loss(x1, x2)
            sgd.zero_grad()
            value.backward()
            sgd.step()
        return value.item()

    steps(WARM_UP)
    seconds = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        last = steps(STEPS)
        seconds.append((time.perf_counter() - begun) / STEPS)
    step = sorted(seconds)[len(seconds) // 2]
    how = "compile" if compiled else "eager"
    print(
        f"PyTorch {name} {kind} {how} batch {batch}: {batch / step:.1f} img/s ({step * 1e3:.2f} ms), "
        f"{(taken() - idle) >> 20} MiB, loss {last:.4f}",
        flush=True,
    )


def main():
    words = sys.argv[1:] + ["all", "all", "both", "5"][len(sys.argv) - 1 :]
    name, kinds, how, repetitions = words[0], words[1], words[2], int(words[3])
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    idle = taken()
    for network in SETTINGS if name == "all" else [name]:
        for kind in ["f32", "tf32", "bf16"] if kinds == "all" else [kinds]:
            for compiled in {"eager": [False], "compile": [True], "both": [False, True]}[how]:
                try:
                    measure(network, kind, compiled, repetitions, idle)
                except Exception as error:  # one engine that fails leaves the others alone
                    print(f"PyTorch {network} {kind} failed: {str(error).splitlines()[0]}", flush=True)
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
