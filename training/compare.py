"""Two models side by side, on the same photos, none of which was trained on.

    python compare.py OLD_FOLDER NEW_FOLDER GOLDEN_FOLDER [--json FILE]

GOLDEN_FOLDER holds a folder of photos for each topic and one named `neutral`; the held-out tenth comes from WORK
(prepare.py photos).  Topics: score = best cosine over a few plain prompts, against the neutral photos; ROC-AUC with the
95 % interval of Hanley and McNeil (1982); recall at 1 % and 5 % false positives.  Zero-shot: top-1 of "a photo of a NAME"
among the labels of each held-out source.  Words: which of two texts fits a held-out photo better, the true one or one
that is false by a negation, a number or a thing.
"""
import argparse
import glob
import json
import random

import numpy as np
import onnxruntime as ort
import yaml
from PIL import Image
from tokenizers import Tokenizer

from common import PHOTO, WORK, article, index, other_count, other_thing, phrase
from prepare import decoded

PROMPTS = {
    "alcohol": ["a bottle of beer", "a glass of wine", "liquor"],
    "crash": ["a car crash", "a damaged car"],
    "documents": ["an identity card", "a receipt", "a document", "a page of text"],
    "drawings": ["a drawing", "a painting", "a cartoon"],
    "fire": ["a fire", "flames"],
    "gambling": ["a slot machine", "playing cards", "a casino", "poker chips"],
    "memes": ["a meme", "a picture with text over it"],
    "money": ["banknotes", "coins"],
    "pills": ["pills", "a syringe", "medicine"],
    "screenshots": ["a screenshot", "a chat conversation", "a screenshot of a website"],
    "smoking": ["a person smoking a cigarette", "a cigarette", "a vape pen", "a hookah"],
    "weapons": ["a gun", "a rifle", "a knife used as a weapon"],
    "neutral": ["an ordinary photo", "a person", "an animal", "food", "a room", "a street", "a landscape"],
}


class Model:
    def __init__(self, folder):
        so = ort.SessionOptions()
        so.intra_op_num_threads = 2
        self.vis, self.txt = (ort.InferenceSession(f"{folder}/{n}.onnx", so) for n in ("image", "text"))
        self.tok = Tokenizer.from_file(f"{folder}/tokenizer.json")
        m = yaml.safe_load(open(f"{folder}/model.yaml", encoding="utf-8"))
        self.size, self.mean, self.std = m["image"]["size"], np.array(m["image"]["mean"]), np.array(m["image"]["std"])
        self.scale, self.bias = m["logit_scale"], m["logit_bias"]

    def images(self, pictures):
        """RGB arrays to unit vectors, prepared as the tool does it: stretched, bilinear, antialiased."""
        out = []
        for k in range(0, len(pictures), 32):
            x = np.stack([np.asarray(Image.fromarray(p).resize((self.size, self.size), Image.BILINEAR)) for p in pictures[k : k + 32]])
            x = ((x / 255 - self.mean) / self.std).transpose(0, 3, 1, 2).astype(np.float32)
            out.append(self.vis.run(None, {"pixel_values": np.ascontiguousarray(x)})[0])
        return np.concatenate(out)

    def texts(self, lines):
        ids = np.array([e.ids for e in self.tok.encode_batch(list(lines))], np.int64)
        return np.concatenate([self.txt.run(None, {"input_ids": ids[k : k + 128]})[0] for k in range(0, len(ids), 128)])


def auc(pos, neg):
    """ROC-AUC and its 95 % interval (Hanley and McNeil 1982)."""
    a = (pos[:, None] > neg[None]).mean() + 0.5 * (pos[:, None] == neg[None]).mean()
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    se = np.sqrt((a * (1 - a) + (len(pos) - 1) * (q1 - a * a) + (len(neg) - 1) * (q2 - a * a)) / (len(pos) * len(neg)))
    return [float(a), float(max(0, a - 1.96 * se)), float(min(1, a + 1.96 * se))]


def wilson(hits, n):
    """A share and its 95 % interval (Wilson 1927)."""
    p, z = hits / n, 1.96
    c, h = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [float(p), float(c - h), float(c + h)]


def recall_at(pos, neg, rate):
    """The share of `pos` above the lowest threshold that at most `rate` of `neg` exceed."""
    k = int(np.floor(rate * len(neg)))
    return wilson(int((pos > np.sort(neg)[::-1][k]).sum()), len(pos))


def golden(model, folder):
    topics = sorted(PROMPTS)
    photos = {t: [decoded(open(f, "rb").read(), None) for f in sorted(glob.glob(f"{folder}/{t}/*"))] for t in topics}
    e = {t: model.images(v) for t, v in photos.items()}
    w = {t: model.texts([f"a photo of {p}" for p in PROMPTS[t]]) for t in topics}
    score = {t: {u: (e[u] @ w[t].T).max(1) for u in topics} for t in topics}
    out = {}
    for t in topics:
        if t != "neutral":
            pos, neg = score[t][t], score[t]["neutral"]
            out[t] = {"photos": len(pos), "auc": auc(pos, neg), "recall_1": recall_at(pos, neg, 0.01), "recall_5": recall_at(pos, neg, 0.05)}
    hit = {u: np.stack([score[t][u] for t in topics], 1).argmax(1) == topics.index(u) for u in topics}
    every = np.concatenate(list(hit.values()))
    return {"topics": out, "mean_auc": float(np.mean([v["auc"][0] for v in out.values()])), "mean_recall_1": float(np.mean([v["recall_1"][0] for v in out.values()])), "mean_recall_5": float(np.mean([v["recall_5"][0] for v in out.values()])), "top1_of_13": wilson(int(every.sum()), len(every)), "top1_by_folder": float(np.mean([h.mean() for h in hit.values()]))}


def held_out(model, rows, pictures):
    """Top-1 inside each source with at least two labels and twenty photos."""
    e, out = model.images(pictures), {}
    for source in sorted({r["source"] for r in rows}):
        k = [k for k, r in enumerate(rows) if r["source"] == source and r["kind"] != "caption"]
        names = sorted({rows[q]["texts"][0] for q in k})
        if len(names) < 2 or len(k) < 20:
            continue
        s = e[k] @ model.texts([phrase(article(n), "a photo of {}") for n in names]).T
        out[source] = {"photos": len(k), "labels": len(names), "top1": float((s.argmax(1) == [names.index(rows[q]["texts"][0]) for q in k]).mean())}
    return e, out


def pairs(model, e, rows):
    """Cosines and truth of each photo's first label and of nineteen labels far from all of its own."""
    g = np.random.default_rng(0)
    labels = sorted({t for r in rows if r["kind"] != "caption" for t in r["texts"]})
    w = model.texts([phrase(article(n), "a photo of {}") for n in labels])
    sim = w @ w.T
    c, y = [], []
    for v, r in zip(e, rows):
        if r["kind"] == "caption":
            continue
        gold = [labels.index(t) for t in r["texts"]]
        far = [q for q in g.permutation(len(labels))[:60] if sim[q][gold].max() < 0.7 and q not in gold][:19]
        if len(far) == 19:
            c += [float(v @ w[gold[0]])] + [float(v @ w[q]) for q in far]
            y += [1] + [0] * 19
    return np.array(c), np.array(y)


def ece(scale, bias, c, y):
    """Expected calibration error of sigmoid(scale * cosine + bias) in ten bins."""
    p = 1 / (1 + np.exp(-(scale * c + bias)))
    bins = [(p >= lo) & (p < lo + 0.1) for lo in np.arange(0, 1, 0.1)]
    return float(sum(abs(p[b].mean() - y[b].mean()) * b.mean() for b in bins if b.any()))


def words(model, e, rows):
    """How often the true one of two texts fits better: 50 % is chance."""
    rng = random.Random(5)
    labels = sorted({phrase(t) for r in rows if r["kind"] != "caption" for t in r["texts"]})
    nouns = {l.split()[-1] for l in labels if l.split()[0] in ("a", "an") and len(l.split()) == 2}
    pairs = {"without": [], "not this but that": [], "no other": [], "counts": [], "things": []}
    for k, r in enumerate(rows):
        if r["kind"] == "caption":
            for t in r["texts"]:
                said = phrase(t).split()
                for name, false in (("counts", other_count(said, rng)), ("things", other_thing(said, nouns, rng))):
                    if false:
                        pairs[name].append((k, " ".join(said), false))
            continue
        a = phrase(article(r["texts"][0]))
        b = phrase(article(rng.choice([l for l in rng.sample(labels, 8) if l not in {phrase(t) for t in r["texts"]}])))
        pairs["without"].append((k, f"a photo of {a}", f"a photo without {a}"))
        pairs["not this but that"].append((k, f"{a} without {b}", f"{b} without {a}"))
        pairs["no other"].append((k, f"a photo with no {b}", f"a photo with no {a}"))
    out = {}
    for name, some in pairs.items():
        some = rng.sample(some, min(len(some), 1500))
        p, q = model.texts([s[1] for s in some]), model.texts([s[2] for s in some])
        v = e[[s[0] for s in some]]
        out[name] = wilson(int(((v * p).sum(1) > (v * q).sum(1)).sum()), len(some))
    return out


def holding(model, e, rows):
    """Held-out captions that say "holding a THING": which of all those things "a person holding a THING" picks."""
    found = []
    for k, r in enumerate(rows):
        if r["kind"] == "caption":
            for t in r["texts"]:
                w = phrase(t).split()
                at = next((i for i, x in enumerate(w) if x == "holding" and i + 2 < len(w) and w[i + 1] in ("a", "an")), None)
                if at is not None:
                    found.append((k, w[at + 2]))
                    break
    things = sorted({t for _, t in found})
    s = e[[k for k, _ in found]] @ model.texts([f"a person holding {article(t)}" for t in things]).T
    rank = [int((row > row[things.index(t)]).sum()) for row, (_, t) in zip(s, found)]
    return {"photos": len(found), "things": len(things), "top1": wilson(sum(r == 0 for r in rank), len(rank)), "top5": wilson(sum(r < 5 for r in rank), len(rank))}


def held_out_photos():
    """The held-out tenth without near-duplicates of training photos (thumbnails of 16 x 16 that correlate by 0.95): pictures and records."""
    img = np.memmap(f"{WORK}/img.u8", np.uint8, "r").reshape(-1, PHOTO, PHOTO, 3)
    thumbs = np.concatenate([img[k : k + 512].reshape(-1, 16, PHOTO // 16, 16, PHOTO // 16, 3).mean((2, 4), dtype=np.float32).reshape(-1, 768) for k in range(0, len(img), 512)])
    thumbs -= thumbs.mean(1, keepdims=True)
    thumbs /= np.linalg.norm(thumbs, axis=1, keepdims=True) + 1e-6
    train, test = thumbs[[i for i, _ in index("train")]], index("test")
    keep = [(i, r) for i, r in test if (train @ thumbs[i]).max() < 0.95]
    print("held-out photos:", len(keep), "of", len(test), "without a near-duplicate among those trained on")
    return [np.array(img[i]) for i, _ in keep], [r for _, r in keep]


def measure(folder, photos, pictures, rows):
    model = Model(folder)
    e, sources = held_out(model, rows, pictures)
    return {
        "golden": golden(model, photos),
        "held_out": {"photos": len(rows), "mean_top1": float(np.mean([v["top1"] for v in sources.values()])), "sources": sources},
        "ece": ece(model.scale, model.bias, *pairs(model, e, rows)),
        "words": words(model, e, rows),
        "holding": holding(model, e, rows),
    }


def show(old, new):
    pc = lambda v: f"{100 * v[0]:.1f} % ({100 * v[1]:.0f} to {100 * v[2]:.0f})" if isinstance(v, list) else f"{100 * v:.1f} %"
    au = lambda v: f"{v[0]:.3f} ({v[1]:.2f} to {v[2]:.2f})"
    row = lambda *c: print("| " + " | ".join(map(str, c)) + " |")
    row("topic", "photos", "ROC-AUC, before", "now", "recall at 1 % false positives, before", "now", "at 5 %, before", "now")
    row(*["---"] * 8)
    for t, n in sorted(new["golden"]["topics"].items(), key=lambda kv: -kv[1]["auc"][0]):
        o = old["golden"]["topics"][t]
        row(t, n["photos"], au(o["auc"]), au(n["auc"]), pc(o["recall_1"]), pc(n["recall_1"]), pc(o["recall_5"]), pc(n["recall_5"]))
    g, h = old["golden"], new["golden"]
    row("**mean**", "", f"{g['mean_auc']:.3f}", f"{h['mean_auc']:.3f}", pc(g["mean_recall_1"]), pc(h["mean_recall_1"]), pc(g["mean_recall_5"]), pc(h["mean_recall_5"]))
    print()
    row("what", "before", "now")
    row("---", "---", "---")
    row("golden photos, the right one of 13 folders", pc(g["top1_of_13"]), pc(h["top1_of_13"]))
    row("the same, mean over folders", pc(g["top1_by_folder"]), pc(h["top1_by_folder"]))
    row(f"held-out photos, top-1 inside each of {len(new['held_out']['sources'])} sources, mean", pc(old["held_out"]["mean_top1"]), pc(new["held_out"]["mean_top1"]))
    row("expected calibration error, one true prompt among twenty", f"{old['ece']:.4f}", f"{new['ece']:.4f}")
    for name in new["words"]:
        row(f"true text over false one: {name}", pc(old["words"][name]), pc(new["words"][name]))
    n = new["holding"]
    row(f"\"a person holding a ...\", {n['photos']} photos, {n['things']} things, top-1", pc(old["holding"]["top1"]), pc(n["top1"]))
    row("the same, top-5", pc(old["holding"]["top5"]), pc(n["top5"]))


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("old"), a.add_argument("new"), a.add_argument("golden"), a.add_argument("--json", default="")
    a = a.parse_args()
    held = held_out_photos()
    old, new = measure(a.old, a.golden, *held), measure(a.new, a.golden, *held)
    if a.json:
        json.dump({"old": old, "new": new}, open(a.json, "w"), indent=1)
    show(old, new)
