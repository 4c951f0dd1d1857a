"""What the stages share: where things lie, the photos' texts, the text tower's embeddings, losses."""
import collections
import json
import os
import random
import re

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from model import TextTower

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.environ.get("WORK", "/tmp/w")
TRAINING = os.environ.get("TRAINING", "archives")
TEXT = os.environ.get("TEXT", f"{TRAINING}/text")
PHOTO, TINY, MAP = 160, 64, 8  # pixels of the cached pictures; places of a photo's teacher map
TEMPLATES = ["{}", "a photo of {}", "a picture of {}", "an image of {}"]
NUMBERS = ["one", "two", "three", "four", "five"]


def phrase(s, tpl="{}"):
    return tpl.format(s.lower().strip(" ."))


def article(n):
    """A bare name as people write it in a prompt: "dog" is "a dog"."""
    n = n.strip().lower()
    return n if re.match(r"(a|an|the|some|two|three|people|someone) ", n) else ("an " if n[0] in "aeiou" else "a ") + n


def lines(path):
    return [l.strip() for l in open(path, encoding="utf-8") if l.strip()]


def imagenet_names():
    return [[article(n) for n in l.split(",")] for l in lines(f"{TRAINING}/teacher/labels.txt")[-1000:]]


def tiny_names():
    return [[article(n) for n in l.split(",")][:3] for l in json.load(open(f"{TRAINING}/tiny_names.json"))]


def index(split=None):
    rows = [json.loads(l) for l in open(f"{WORK}/index.jsonl", encoding="utf-8")]
    return [(i, d) for i, d in enumerate(rows) if split is None or d["split"] == split]


def training_items(rows):
    """The training photos, without the near-duplicates of test photos: their places and records."""
    bad = set(lines(f"{WORK}/exclude.txt")) if os.path.exists(f"{WORK}/exclude.txt") else set()
    return [(i, d) for i, d in enumerate(rows) if d["split"] == "train" and d["path"] not in bad]


_tok = None


def encode_ids(texts):
    global _tok
    _tok = _tok or Tokenizer.from_file(f"{TEXT}/tokenizer.json")
    return torch.from_numpy(np.array([e.ids for e in _tok.encode_batch(list(texts))], np.int64))


def load_text(path=None, device="cpu"):
    c = torch.load(path or f"{TEXT}/text_joint.pt", map_location="cpu", weights_only=True)
    t = TextTower(c["vocab"], c["width"], c["layers"])
    t.load_state_dict({k: v.float() for k, v in c["state"].items()})
    return t.to(device)


def save_text(net, path):
    state = {k: v.detach().cpu().half() for k, v in net.state_dict().items()}
    torch.save({"state": state, "width": net.tok.embedding_dim, "layers": len(net.layers), "vocab": net.tok.num_embeddings}, path)


@torch.no_grad()
def embed_ids(net, ids, bs=1024):
    """Token rows [n, 32] to unit vectors [n, 256] on the tower's device."""
    dev = net.pos.device
    n = (ids > 0).sum(1)
    out = torch.zeros(len(ids), net.proj.out_features, device=dev)
    for k in n.argsort().split(bs):
        out[k.to(dev)] = net(ids[k][:, : max(1, int(n[k].max()))].to(dev)).float()
    return out


def embed_texts(net, texts):
    return embed_ids(net, encode_ids(texts))


def prompt_mean(net, names, templates=("a photo of {}", "{}")):
    return F.normalize(sum(embed_texts(net, [phrase(n, t) for n in names]) for t in templates), dim=-1)


def multi_nce(logits, pos, ignore, extra):
    """Softmax contrastive loss with several positives a row; ignored pairs leave the denominator.
    `extra` [n, m]: further texts that are wrong for the row's picture."""
    logits = logits.masked_fill(ignore & ~pos, -1e4)
    p = pos.float()
    rows = -((F.log_softmax(torch.cat([logits, extra], 1), 1)[:, : logits.shape[1]] * p).sum(1) / p.sum(1)).mean()
    cols = -((F.log_softmax(logits.T, 1) * p.T).sum(1) / p.T.sum(1)).mean()
    return (rows + cols) / 2


def other_count(words, rng):
    """The caption with another number in it, or None if it holds none."""
    at = [k for k, w in enumerate(words) if w.lower() in NUMBERS[1:]]
    if not at:
        return None
    k = rng.choice(at)
    return " ".join(words[:k] + [rng.choice([n for n in NUMBERS[1:] if n != words[k].lower()])] + words[k + 1 :])


def other_thing(words, nouns, rng):
    """The caption with one thing in it replaced by another, or None if it names none of `nouns`."""
    at = [k for k, w in enumerate(words) if w.lower() in nouns]
    if not at:
        return None
    k = rng.choice(at)
    return " ".join(words[:k] + [rng.choice([n for n in rng.sample(sorted(nouns), 3) if n != words[k].lower()])] + words[k + 1 :])


def true_and_false(d, labels, nouns, rng):
    """Two more texts that are true of an item and three that are false: negations for labels, other counts and things for captions.

    The false ones hold the true one's words, so that a tower that reads words without their order or a "no" is wrong.
    """
    if d["kind"] == "caption":
        false = []
        for t in d["texts"]:
            words = phrase(t).split()
            false += [f for f in (other_count(words, rng), other_thing(words, nouns, rng)) if f]
        rng.shuffle(false)
        false += [f"a photo without {phrase(t)}" for t in d["texts"]]
        return [f"{phrase(d['texts'][0])}, no {rng.choice(labels)}"], false[:3]
    mine = {phrase(t) for t in d["texts"]}
    words = {w for t in mine for w in t.split()[-1:]}
    far = [l for l in rng.sample(labels, 12) if l not in mine and not words & set(l.split())]
    a, b = phrase(rng.choice(d["texts"])), rng.choice(far)
    true = [rng.choice(["a photo of {a} without {b}", "{a}, no {b}", "{a} but no {b}", "{a}, not {b}"]).format(a=a, b=b), rng.choice(["a photo without {b}", "a picture with no {b}", "{a} without any {b}"]).format(a=a, b=b)]
    false = [rng.choice(["a photo without {a}", "no {a}", "a picture with no {a}", "not {a}"]).format(a=a), rng.choice(["{b} without {a}", "a photo of {b}, no {a}", "{b}, not {a}", "{b} but no {a}"]).format(a=a, b=b), rng.choice([f"{b} and {a}", f"{b} with {a}", f"a photo of {b}"])]
    return true, false


class Texts:
    """Token rows for every photo: rows[i] lists the texts that are true of item i, wrong[i] three that are false."""

    def __init__(self, items, seed=0):
        rng = random.Random(seed)
        labels = sorted({phrase(t) for _, d in items if d["kind"] != "caption" for t in d["texts"]})
        nouns = {w for l in labels for w in [re.sub(r"^(a|an|the) ", "", l)] if w.isalpha()}
        table, keys = {}, {}
        add = lambda s: table.setdefault(s, len(table))
        self.rows, self.wrong, key = [], [], []
        for _, d in items:
            cap = d["kind"] == "caption"
            true, false = true_and_false(d, labels, nouns, rng)
            self.rows.append([add(phrase(t, tpl)) for t in d["texts"] for tpl in (TEMPLATES[:1] if cap else TEMPLATES)] + [add(t) for t in true])
            self.wrong.append([add(f) for f in false])
            key.append(keys.setdefault(d["path"] if cap else "|".join(sorted(d["texts"])), len(keys)))
        self.strings, self.labels = list(table), labels
        self.ids = encode_ids(self.strings)
        self.key = torch.tensor(key)


def padded(lists, fill=0):
    """Lists of numbers as one padded tensor [n, longest], and their lengths [n]."""
    out = torch.full((len(lists), max(map(len, lists))), fill)
    for k, l in enumerate(lists):
        out[k, : len(l)] = torch.tensor(l, dtype=torch.long)
    return out, torch.tensor([len(l) for l in lists])


def source_weights(items, power=0.6):
    """How often to draw each item: big sources are drawn more, but less than their size says."""
    n = collections.Counter(d["source"] for _, d in items)
    return torch.tensor([n[d["source"]] ** (power - 1.0) for _, d in items])
