"""Features by the programs that exports are for: python exported.py PROGRAM FILE IMAGES FEATURES SIZE

IMAGES and FEATURES are raw f32, (B, 3, SIZE, SIZE) and (B, D).
"""

import sys

import numpy as np

program, file, images, features, size = sys.argv[1:]
x = np.fromfile(images, "<f4").reshape(-1, 3, int(size), int(size))
if program == "onnx":
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert "preprocessing" in session.get_modelmeta().custom_metadata_map
    one = session.run(["features"], {"images": x[:1]})[0]
    y = session.run(["features"], {"images": x})[0]
    assert np.allclose(one, y[:1], atol=1e-5)  # any number of images
elif program.startswith("torchvision"):
    import torch
    import torchvision
    from safetensors.torch import load_file

    model = torchvision.models.resnet18()
    if program.endswith("cifar"):
        model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = torch.nn.Identity()
    model.fc = torch.nn.Identity()
    model.load_state_dict(load_file(file))
    with torch.no_grad():
        y = model.eval()(torch.from_numpy(x)).numpy()
else:
    import torch
    from transformers import AutoModel

    model, found = AutoModel.from_pretrained(file, output_loading_info=True)
    assert not found["unexpected_keys"] and not found["mismatched_keys"], found
    assert all(name.endswith("num_batches_tracked") for name in found["missing_keys"]), found
    with torch.no_grad():
        y = model.eval()(torch.from_numpy(x)).pooler_output.flatten(1).numpy()
np.ascontiguousarray(y, "<f4").tofile(features)
