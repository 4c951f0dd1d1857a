"""Caches for training, from the photo archives.

    python prepare.py photos   # TRAINING/photos-*.zip -> WORK/img.u8 [n, 160, 160, 3], index.jsonl
    python prepare.py tiny     # TRAINING/tiny.zip     -> WORK/tin.npy [m, 64, 64, 3], tin_y.npy
    python prepare.py maps     # the teacher's feature maps in 256 numbers: maps_pca.npz, maps.f16 [n, 8, 8, 256], tin_maps.f16 [m, 4, 4, 256]
    python prepare.py features FOLDER FEATURES.npy   # the pooled teacher features of test photos
    python prepare.py twins FEATURES.npy   # WORK/exclude.txt: training photos that look like a test photo (its pooled teacher features, a row each)
"""
import glob
import gzip
import hashlib
import io
import json
import os
import sys
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from augment import MEAN, STD
from common import MAP, PHOTO, TINY, TRAINING, WORK, index
from teacher_net import Teacher

DIM = 256
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DROPPED = {"memegen"}  # mostly blank templates: the label "a meme" is wrong


def held(source, key):
    """Whether a photo belongs to the tenth that is never trained on."""
    return int(hashlib.md5(f"0:{source}:{key}".encode()).hexdigest(), 16) % 10 == 0


def decoded(raw, side):
    """RGB pixels of a picture file, stretched to side x side if that is not None; transparency over white."""
    im = Image.open(io.BytesIO(raw))
    if im.mode in ("P", "RGBA", "LA"):
        im = im.convert("RGBA")
        bg = Image.new("RGBA", im.size, (255, 255, 255, 255))
        bg.alpha_composite(im)
        im = bg
    im = im.convert("RGB")
    return np.asarray(im if side is None or im.size == (side, side) else im.resize((side, side), Image.BILINEAR))


def decode_some(job):
    """(archive, names, side) to pictures [n, side, side, 3]; runs in a process of its own."""
    archive, names, side = job
    with zipfile.ZipFile(archive) as z:
        return np.stack([decoded(z.read(n), side) for n in names])


def decode_all(archive, names, side, pool):
    jobs = [(archive, names[k : k + 64], side) for k in range(0, len(names), 64)]
    return pool.map(decode_some, jobs)


def archive_photos(archive, recs, pool):
    """The usable photos of one archive: pictures [n, 160, 160, 3] and their records with the split."""
    with zipfile.ZipFile(archive) as z:
        names = [m for m in z.namelist() if (r := recs.get(m)) and r["source"] not in DROPPED and r["texts"]]
    names = names[: int(os.environ.get("SOME", len(names)))]
    pictures, rows = np.concatenate(list(decode_all(archive, names, PHOTO, pool))), []
    for name in names:
        r = recs[name]
        r["split"] = "test" if held(r["source"], str(r.get("orig") or name).split("#")[0]) else "train"
        rows.append({k: r.get(k) for k in ("path", "texts", "kind", "source", "split")})
    return pictures, rows


def records():
    return {r["path"]: r for r in map(json.loads, gzip.open(f"{TRAINING}/photos.jsonl.gz", "rt"))}


def photos():
    recs, t0, n = records(), time.time(), 0
    with open(f"{WORK}/index.jsonl", "w") as fi, open(f"{WORK}/img.u8", "wb") as fx, ProcessPoolExecutor() as pool:
        for archive in sorted(glob.glob(f"{TRAINING}/photos-*.zip")):
            pictures, rows = archive_photos(archive, recs, pool)
            fx.write(pictures.tobytes())
            fi.writelines(json.dumps(r) + "\n" for r in rows)
            n += len(rows)
    print("photos", n, f"{time.time() - t0:.0f} s", flush=True)


def tiny_pictures(pool):
    """Tiny-ImageNet in a mixed order: pictures [m, 64, 64, 3] and classes [m]."""
    archive = f"{TRAINING}/tiny.zip"
    with zipfile.ZipFile(archive) as z:
        names = sorted(z.namelist(), key=lambda m: hashlib.md5(m.encode()).hexdigest())
    names = names[: int(os.environ.get("SOME", len(names)))]
    return np.concatenate(list(decode_all(archive, names, TINY, pool))), np.array([int(n[:3]) for n in names])


def tiny():
    with ProcessPoolExecutor() as pool:
        x, y = tiny_pictures(pool)
    np.save(f"{WORK}/tin.npy", x)
    np.save(f"{WORK}/tin_y.npy", y)
    print("tiny", len(y), flush=True)


def normalised(u8, size):
    x = torch.from_numpy(np.array(u8)).to(DEVICE).permute(0, 3, 1, 2).float() / 255
    x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False)
    return ((x - torch.tensor(MEAN, device=DEVICE).view(1, 3, 1, 1)) / torch.tensor(STD, device=DEVICE).view(1, 3, 1, 1)).contiguous(memory_format=torch.channels_last)


def seen(net, u8, size):
    """The teacher's map of a picture and of its mirror image, averaged: [n, g, g, 1280]."""
    x = normalised(u8, size)
    return ((net.maps(x) + net.maps(x.flip(3)).flip(3)) / 2).permute(0, 2, 3, 1)


def teacher():
    return Teacher(f"{TRAINING}/teacher/mobilenet_v2_quant.onnx", DEVICE)


def reduction(net, pictures):
    """The main directions of the teacher's features, and its classifier on the reduced ones: mean, basis, sd, weight, bias."""
    sample = np.sort(np.random.default_rng(0).choice(len(pictures), min(len(pictures), 1600), replace=False))
    f = torch.cat([seen(net, pictures[sample[k : k + 64]], 32 * MAP).reshape(-1, 1280)[::3] for k in range(0, len(sample), 64)])
    mean = f.mean(0)
    basis = torch.linalg.eigh(torch.cov((f - mean).T))[1].flip(1)[:, :DIM].contiguous()
    y = (f - mean) @ basis
    kept = 1 - ((f - mean - y @ basis.T) ** 2).sum() / ((f - mean) ** 2).sum()
    print(f"{DIM} numbers keep {kept:.3f} of the variance", flush=True)
    return {"mean": mean, "basis": basis, "sd": y.std(0), "weight": basis.T @ net.weight, "bias": mean @ net.weight + net.bias}


def reduced(net, z, pictures, size):
    """The teacher's maps of pictures in DIM numbers a place, batch by batch, float16."""
    for k in range(0, len(pictures), 128):
        yield ((seen(net, pictures[k : k + 128], size) - z["mean"]) @ z["basis"]).half()


def maps():
    net, t0 = teacher(), time.time()
    img = np.memmap(f"{WORK}/img.u8", np.uint8, "r").reshape(-1, PHOTO, PHOTO, 3)
    z = reduction(net, img)
    np.savez(f"{WORK}/maps_pca.npz", **{k: v.cpu() for k, v in z.items()})
    for path, pictures, size in ((f"{WORK}/maps.f16", img, 32 * MAP), (f"{WORK}/tin_maps.f16", np.load(f"{WORK}/tin.npy", mmap_mode="r"), 128)):
        with open(path, "wb") as out:
            for block in reduced(net, z, pictures, size):
                out.write(block.cpu().numpy().tobytes())
        print(path, len(pictures), f"{time.time() - t0:.0f} s", flush=True)


@dataclass
class Data:
    """All that training reads, on the device."""

    img: torch.Tensor  # photos [n, 160, 160, 3] uint8
    maps: torch.Tensor  # the teacher's maps of them [n, 8, 8, 256] float16
    rows: list  # their records
    tin: torch.Tensor  # Tiny-ImageNet [m, 64, 64, 3] uint8
    tin_maps: torch.Tensor  # [m, 4, 4, 256] float16
    tin_y: torch.Tensor  # classes [m]
    z: dict  # the reduction: mean, basis, sd, weight, bias


def load():
    """The caches that `photos`, `tiny` and `maps` wrote."""
    on = lambda v: torch.from_numpy(v).to(DEVICE)
    return Data(
        img=on(np.fromfile(f"{WORK}/img.u8", np.uint8).reshape(-1, PHOTO, PHOTO, 3)),
        maps=on(np.fromfile(f"{WORK}/maps.f16", np.float16).reshape(-1, MAP, MAP, DIM)),
        rows=[r for _, r in index()],
        tin=on(np.load(f"{WORK}/tin.npy")),
        tin_maps=on(np.fromfile(f"{WORK}/tin_maps.f16", np.float16).reshape(-1, 4, 4, DIM)),
        tin_y=on(np.load(f"{WORK}/tin_y.npy")),
        z={k: on(v) for k, v in np.load(f"{WORK}/maps_pca.npz").items()},
    )


def arriving():
    """The same straight from archives that are still being copied: each is there once a file ARCHIVE.ok is."""

    def wait(name):
        while not os.path.exists(f"{TRAINING}/{name}.zip.ok"):
            time.sleep(0.05)

    on = lambda v: torch.from_numpy(v).to(DEVICE)
    img, maps, rows, z, t0 = [], [], [], None, time.time()
    with ProcessPoolExecutor() as pool:
        list(pool.map(abs, range(64)))  # its processes start before this one holds a GPU
        net = teacher()
        for name in ("photos-0", "photos-1", "photos-2", "photos-3"):
            wait(name)
            pictures, some = archive_photos(f"{TRAINING}/{name}.zip", records(), pool)
            z = z or reduction(net, pictures)
            maps += list(reduced(net, z, pictures, 32 * MAP))
            img.append(on(pictures))
            rows += some
            print(name, len(some), f"{time.time() - t0:.0f} s", flush=True)
        wait("tiny")
        x, y = tiny_pictures(pool)
    data = Data(torch.cat(img), torch.cat(maps), rows, on(x), torch.cat(list(reduced(net, z, x, 128))), on(y), z)
    print("tiny", len(y), f"{time.time() - t0:.0f} s", flush=True)
    return data


def pooled_maps():
    """A unit vector for each photo: the mean of its teacher map, in the 1280 numbers of the teacher."""
    z = np.load(f"{WORK}/maps_pca.npz")
    m = np.fromfile(f"{WORK}/maps.f16", np.float16).reshape(-1, MAP * MAP, DIM)
    p = np.concatenate([m[k : k + 4096].astype(np.float32).mean(1) for k in range(0, len(m), 4096)]) @ z["basis"].T + z["mean"]
    return p / np.linalg.norm(p, axis=1, keepdims=True)


def features(folder, path):
    """The pooled teacher features of every picture below a folder, for `twins`."""
    net = teacher()
    names = sorted(n for n in glob.glob(f"{folder}/**/*", recursive=True) if n.lower().endswith((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")))
    rows = [seen(net, decoded(open(n, "rb").read(), PHOTO)[None], 32 * MAP).mean((0, 1, 2)).cpu() for n in names]
    np.save(path, torch.stack(rows).half().numpy())
    print("features of", len(names), "test photos")


def twins(features):
    """Training photos whose teacher features are nearer than 0.97 to a test photo's are not used."""
    z = np.load(f"{WORK}/maps_pca.npz")
    t = (np.load(features).astype(np.float32) - z["mean"]) @ z["basis"] @ z["basis"].T + z["mean"]
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    best = (pooled_maps() @ t.T).max(1)
    rows = [d["path"] for i, d in index("train") if best[i] > 0.97]
    open(f"{WORK}/exclude.txt", "w").write("\n".join(rows))
    print("left out as near-duplicates of test photos:", len(rows), flush=True)


if __name__ == "__main__":
    os.makedirs(WORK, exist_ok=True)
    args = sys.argv[1:]
    if args[0] in ("features", "twins"):
        globals()[args[0]](*args[1:])
    else:
        for what in args:
            globals()[what]()
