"""Makes checkpoints/ with PyTorch: python checkpoints.py

One small residual network in the ways in which people have weights, and its features of a few images. All
numbers are exact in bf16, so that every file holds the same weights.
"""

import pathlib

import torch
from safetensors.torch import save_file

from make import Encoder

FOLDER = pathlib.Path(__file__).parent / "checkpoints"


def exact(tensor):
    return tensor.bfloat16().float() if tensor.is_floating_point() else tensor


def save(name, value, **how):
    torch.save(value, FOLDER / name, **how)
    print(name, (FOLDER / name).stat().st_size)


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


FOLDER.mkdir(exist_ok=True)
torch.manual_seed(0)
encoder = Encoder(width=2, dims=(4, 4))
encoder(torch.rand(64, 3, 8, 8))  # running statistics
encoder.load_state_dict({name: exact(value) for name, value in encoder.state_dict().items()})
encoder.eval()
state = encoder.state_dict()
backbone = {name: value for name, value in state.items() if not name.startswith("fc.")}
images = exact(torch.rand(3, 3, 8, 8))
save_file({"images": images, "features": encoder.features(images).detach(), "z": encoder(images).detach()},
          FOLDER / "expected.safetensors")

save("state_dict.pth", state)
save("protocol_4.pth", state, pickle_protocol=4)
save("before_1.6.pth", {"epoch": 3, "state_dict": prefixed("module.encoder_q.", state)},
     _use_new_zipfile_serialization=False)
save("model_f16.pth", {"model": {name: value.half() if value.is_floating_point() else value
                                 for name, value in prefixed("_orig_mod.backbone.", backbone).items()}})
strided = {name: value.to(memory_format=torch.channels_last) if value.dim() == 4 else value
           for name, value in state.items()}
strided["fc.0.weight"] = strided["fc.0.weight"].t().contiguous().t()
save("model_state_dict_f64.pth", {"model_state_dict": {name: value.double() if value.is_floating_point() else value
                                                       for name, value in strided.items()}, "loss": 0.5})
save("parameters_bf16.pth", {"net": {name: torch.nn.Parameter(value.bfloat16()) if value.is_floating_point() else value
                                     for name, value in prefixed("module.model.", state).items()}})
classifier = backbone | {"fc.weight": torch.rand(10, 8), "fc.bias": torch.rand(10)}
save_file(prefixed("model.", classifier), FOLDER / "classifier.safetensors")
save("whole_model.pth", encoder)
