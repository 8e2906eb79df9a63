"""Writes tests/golden/parquet/: python parquet.py (needs datasets and pillow; made with datasets 5.2.0, pyarrow 26.0.1)

Two tables as `Dataset.to_parquet` of Hugging Face's datasets writes them: six images of two classes in each half, whose
pixels are (red, x, y).
"""

import io
from pathlib import Path

import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture


def png(red):
    picture = Picture.new("RGB", (30, 20))
    picture.putdata([(red, x, y) for y in range(20) for x in range(30)])
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


to = Path(__file__).parent / "parquet"
to.mkdir(exist_ok=True)
features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
for half, reds in {"train": (10, 90), "test": (150, 230)}.items():
    rows = [(png(red + i), label) for label, red in enumerate(reds) for i in range(3)]
    table = {"image": [{"bytes": b, "path": f"{i}.png"} for i, (b, _) in enumerate(rows)], "label": [label for _, label in rows]}
    Dataset.from_dict(table, features=features).to_parquet(to / f"{half}-00000-of-00001.parquet")

# Pages of the second version, packed, with a dictionary, two rows each: mutants of it reach what
# those above do not.
table = pq.read_table(to / "train-00000-of-00001.parquet")
pq.write_table(table, to / "packed.parquet", compression="snappy", use_dictionary=["image.bytes", "label"], row_group_size=4,
               data_page_version="2.0", data_page_size=1, write_batch_size=2, version="2.6")
