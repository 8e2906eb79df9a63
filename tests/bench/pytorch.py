"""The SimSiam step of tests/bench/step.rs in PyTorch, for a comparison on one machine.

Two views forwarded separately, backward, SGD with momentum and weight decay; channels last; once in fp32
and once under bfloat16 autocast. Needs torch only; an epoch of a folder needs torchvision.

    python tests/bench/pytorch.py [resnet8|resnet18|resnet50|laptop|all] [repetitions] [threads]
                                  [fp32|bf16|both] [eager|compile]
    python tests/bench/pytorch.py epoch DIR [steps] [threads] [fp32|bf16] [workers]
"""

import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

# name: (bottleneck blocks, blocks per stage, width, ImageNet stem, d, predictor's hidden width, batch, pixels)
SETTINGS = {
    "resnet8": (False, [1, 1, 1], 32, False, 512, 128, 64, 32),
    "resnet18": (False, [2, 2, 2, 2], 64, False, 2048, 512, 64, 32),
    "resnet50": (True, [3, 4, 6, 3], 64, True, 2048, 512, 16, 64),
    "laptop": (False, [1, 1, 1], 16, False, 256, 128, 32, 16),
}


class Block(nn.Module):
    """A residual block: convolutions of (kernel, stride), batch norm after each, ReLU between."""

    def __init__(self, inputs, width, stride, bottleneck):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        geometry = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        channels = [inputs] + [width] * (len(geometry) - 1) + [outputs]
        layers = []
        for i, (kernel, step) in enumerate(geometry):
            layers += [nn.Conv2d(channels[i], channels[i + 1], kernel, step, kernel // 2, bias=False)]
            layers += [nn.BatchNorm2d(channels[i + 1]), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers[:-1])
        self.residual = nn.Identity()
        if stride != 1 or inputs != outputs:
            down = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.residual = nn.Sequential(down, nn.BatchNorm2d(outputs))
        self.outputs = outputs

    def forward(self, x):
        return F.relu(self.body(x) + self.residual(x), inplace=True)


class Encoder(nn.Module):
    """Backbone, average pooling, projector of two layers."""

    def __init__(self, bottleneck, blocks, width, imagenet, dim):
        super().__init__()
        stem = [nn.Conv2d(3, width, 7, 2, 3, bias=False) if imagenet else nn.Conv2d(3, width, 3, 1, 1, bias=False)]
        stem += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        if imagenet:
            stem.append(nn.MaxPool2d(3, 2, 1))
        channels, body = width, []
        for stage, count in enumerate(blocks):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                body.append(Block(channels, width << stage, stride, bottleneck))
                channels = body[-1].outputs
        self.backbone = nn.Sequential(*stem, *body)
        self.projector = nn.Sequential(
            nn.Linear(channels, dim, bias=False),
            nn.BatchNorm1d(dim),
            nn.ReLU(inplace=True),
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim, affine=False),
        )

    def forward(self, x):
        return self.projector(self.backbone(x).mean((2, 3)))


def step(name, bf16, compiled):
    """A function that makes one SimSiam step on two views."""
    bottleneck, blocks, width, imagenet, dim, hidden, _, _ = SETTINGS[name]
    torch.manual_seed(0)
    f = Encoder(bottleneck, blocks, width, imagenet, dim).to(memory_format=torch.channels_last)
    h = nn.Sequential(
        nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim)
    )
    parameters = list(f.parameters()) + list(h.parameters())
    sgd = torch.optim.SGD(parameters, 0.01, momentum=0.9, weight_decay=1e-4)

    def loss(x1, x2):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            z1, z2 = f(x1), f(x2)
            p1, p2 = h(z1), h(z2)
            cosine = F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()
            return -0.5 * cosine

    loss = torch.compile(loss) if compiled else loss

    def one(x1, x2):
        value = loss(x1, x2)
        sgd.zero_grad()
        value.backward()
        sgd.step()

    return one


def measure(name, repetitions, bf16, compiled):
    """Seconds of each step after those that warm up, and the batch."""
    _, _, _, _, _, _, batch, pixels = SETTINGS[name]
    one = step(name, bf16, compiled)
    views = [torch.rand(batch, 3, pixels, pixels) - 0.5 for _ in range(2)]
    x1, x2 = [x.contiguous(memory_format=torch.channels_last) for x in views]
    seconds = []
    for _ in range(repetitions + 2):
        begun = time.perf_counter()
        one(x1, x2)
        seconds.append(time.perf_counter() - begun)
    return seconds[2:], batch


class TwoViews:
    """Two random views of an image, as a class so that workers can be handed it."""

    def __init__(self):
        import torchvision.transforms as T

        jitter = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
        crop = T.RandomResizedCrop(32, scale=(0.2, 1.0))
        normalize = T.Normalize([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616])
        self.view = T.Compose(
            [crop, T.RandomHorizontalFlip(), jitter, T.RandomGrayscale(0.2), T.ToTensor(), normalize]
        )

    def __call__(self, image):
        return self.view(image), self.view(image)


def epoch(folder, steps, bf16, workers):
    """Images per second of resnet8 over `steps` steps, decoding and augmentation included."""
    import torchvision

    data = torchvision.datasets.ImageFolder(folder + "/train", TwoViews())
    settings = {"persistent_workers": True} if workers else {}
    loader = torch.utils.data.DataLoader(data, 64, shuffle=True, num_workers=workers, drop_last=True, **settings)
    one = step("resnet8", bf16, False)
    seconds = []
    begun = time.perf_counter()
    for number, ((x1, x2), _) in enumerate(loader):
        one(x1.contiguous(memory_format=torch.channels_last), x2.contiguous(memory_format=torch.channels_last))
        now = time.perf_counter()
        seconds.append(now - begun)
        begun = now
        if number + 1 == steps:
            break
    return 64 / sorted(seconds)[len(seconds) // 2]


def main():
    if sys.argv[1:2] == ["epoch"]:
        folder, steps, threads, precision, workers = (sys.argv[2:] + ["100", "2", "fp32", "2"][len(sys.argv) - 3 :])[:5]
        torch.set_num_threads(int(threads))
        rate = epoch(folder, int(steps), precision == "bf16", int(workers))
        print(f"resnet8 end to end, {precision}, {workers} workers: median {rate:.1f} img/s", flush=True)
        return
    wanted = sys.argv[1] if len(sys.argv) > 1 else "all"
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    precision = sys.argv[4] if len(sys.argv) > 4 else "both"
    compiled = sys.argv[5:6] == ["compile"]
    torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {threads} threads", flush=True)
    for name in SETTINGS if wanted == "all" else [wanted]:
        for label in ["fp32", "bf16"] if precision == "both" else [precision]:
            seconds, batch = measure(name, repetitions, label == "bf16", compiled)
            median = sorted(seconds)[len(seconds) // 2]
            print(
                f"{name} {label} batch {batch} median {batch / median:.1f} img/s ({median * 1e3:.1f} ms)", flush=True
            )


if __name__ == "__main__":
    main()
