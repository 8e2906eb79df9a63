"""Reads what TensorBoard is to show of a run and of a map's projector, with TensorBoard's own code.

    pip install tensorboard
    python tests/record/read_tensorboard.py RUN PROJECTOR

Prints one JSON value: the hyperparameters of the run, how it ended, the names of its scalars; the
projector's shape, labels and picture.
"""

import csv
import json
import os
import sys

from google.protobuf import text_format
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig


def hparams(run):
    events = EventMultiplexer()
    events.AddRunsFromDirectory(run)
    events.Reload()
    (name, tags), = events.PluginRunToTagToContent(metadata.PLUGIN_NAME).items()
    began = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG])
    ended = metadata.parse_session_end_info_plugin_data(tags[metadata.SESSION_END_INFO_TAG])
    values = {key: getattr(value, value.WhichOneof("kind")) for key, value in began.hparams.items()}
    status = api_pb2.Status.Name(ended.status)
    scalars = events.PluginRunToTagToContent("scalars")
    return {"hparams": values, "status": status, "scalars": sorted(scalars[name])}


def projector(folder):
    with open(os.path.join(folder, "projector_config.pbtxt")) as file:
        (embedding,) = text_format.Parse(file.read(), ProjectorConfig()).embeddings
    with open(os.path.join(folder, embedding.tensor_path)) as file:
        tensors = [[float(cell) for cell in line.split("\t")] for line in file.read().splitlines()]
    with open(os.path.join(folder, embedding.metadata_path), newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    with open(os.path.join(folder, embedding.sprite.image_path), "rb") as file:
        png = file.read(24)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return {
        "shape": [len(tensors), len(tensors[0])],
        "told_shape": list(embedding.tensor_shape),
        "labels": [row["label"] for row in rows],
        "sprite": [int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")],
        "single": list(embedding.sprite.single_image_dim),
    }


if __name__ == "__main__":
    print(json.dumps({"run": hparams(sys.argv[1]), "projector": projector(sys.argv[2])}))
