"""What `modtool eval` must answer, computed apart from it: NumPy, Pillow, onnxruntime, tokenizers.

    MODTOOL_KEEP_PICTURES=/tmp/pictures cargo test --test it eval::the_figures_are_those_of_python
    python tests/data/eval/reference.py /tmp/pictures > tests/data/eval/expected.json

The folder is the one that the test draws: a folder for each class, `templates.txt`, `queries.jsonl`.
Any other folder with the same layout can be compared with `modtool eval --format json` likewise.
"""

import json
import os
import re
import sys

import numpy as np
import onnxruntime
import tokenizers
from PIL import Image, ImageOps

MODEL = os.path.join(os.path.dirname(__file__), "../../../models/builtin")
SCALE, BIAS = 32.0475, -7.9833
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

image_tower = onnxruntime.InferenceSession(f"{MODEL}/image.onnx")
text_tower = onnxruntime.InferenceSession(f"{MODEL}/text.onnx")
tokenizer = tokenizers.Tokenizer.from_file(f"{MODEL}/tokenizer.json")
tokenizer.no_padding()
tokenizer.no_truncation()


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def texts(lines):
    ids = [tokenizer.encode(line).ids for line in lines]
    ids = np.array([line + [0] * (32 - len(line)) for line in ids], np.int64)
    return unit(text_tower.run(None, {text_tower.get_inputs()[0].name: ids})[0])


def picture(path):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    pixels = np.asarray(image.resize((128, 128), Image.BILINEAR), np.float32) / 255
    pixels = ((pixels - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)[None]
    return unit(image_tower.run(None, {image_tower.get_inputs()[0].name: pixels})[0][0])


def calibration_error(confidence, right):
    """Guo et al. 2017, 15 bins, each open below and closed above."""
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    each = [abs(right[bins == b].sum() - confidence[bins == b].sum()) for b in range(15)]
    return sum(each) / len(right)


def classification(vectors, truth, classes, templates):
    means = [texts([t.replace("{}", c.replace("_", " ")) for t in templates]) for c in classes]
    weights = unit(np.array([one.mean(0) for one in means]))
    logits = SCALE * vectors @ weights.T + BIAS
    order = np.argsort(-logits, axis=1, kind="stable")
    predicted = order[:, 0]
    confidence = 1 / (1 + np.exp(-logits[np.arange(len(truth)), predicted]))
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (truth, predicted), 1)
    return {
        "top1": float((predicted == truth).mean()),
        "top5": float((order[:, :5] == truth[:, None]).any(1).mean()),
        "ece": float(calibration_error(confidence, predicted == truth)),
        "mean_confidence": float(confidence.mean()),
        "confusion": confusion.tolist(),
    }


def retrieval(vectors, paths, queries, ks=(1, 5, 10)):
    precision, recall = {k: [] for k in ks}, {k: [] for k in ks}
    for query in queries:
        order = np.argsort(-(vectors @ texts([query["query"]])[0]), kind="stable")
        hits = [paths[place] in query["relevant"] for place in order]
        for k in ks:
            precision[k].append(sum(hits[:k]) / k)
            recall[k].append(sum(hits[:k]) / len(query["relevant"]))
    mean = lambda by_k: {str(k): float(np.mean(one)) for k, one in by_k.items()}
    return {"precision_at": mean(precision), "recall_at": mean(recall)}


def main(folder):
    classes = sorted(d for d in os.listdir(folder) if os.path.isdir(f"{folder}/{d}"))
    paths = [f"{c}/{f}" for c in classes for f in sorted(os.listdir(f"{folder}/{c}"))]
    vectors = np.array([picture(f"{folder}/{path}") for path in paths])
    truth = np.array([classes.index(path.split("/")[0]) for path in paths])
    lines = open(f"{folder}/templates.txt").read().splitlines()
    ensemble = [line.strip() for line in lines if re.match(r"\s*[^#\s]", line)]
    sets = {"{}": ["{}"], "a photo of a {}": ["a photo of a {}"], "templates.txt": ensemble}
    queries = [json.loads(line) for line in open(f"{folder}/queries.jsonl")]
    told = {name: classification(vectors, truth, classes, one) for name, one in sets.items()}
    told["retrieval"] = retrieval(vectors, paths, queries)
    json.dump(told, sys.stdout, indent=1)
    print()


main(sys.argv[1])
