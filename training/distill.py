"""The image tower, from random initialisation, by distillation.

Every step mixes photos (random crops), Tiny-ImageNet pictures and cut-and-pasted pairs of them, and adds
  * dense: the teacher's feature map inside the crop, predicted from the maps of stride 32 and 16,
  * pool:  the same for the mean of the crop,
  * kl:    the teacher's class distribution for the crop (temperature 2),
  * head:  the embedding that text.py's head gives the teacher's mean feature,
  * bank:  soft classification over text embeddings: gold labels, and the teacher's classes by their names,
  * nce:   contrast with the photo's own texts (several positives, near-synonyms ignored, false texts beside them).
One cosine over the wall-clock budget of --phases SIZE:SECONDS,...; EMA; a checkpoint every minute (--resume goes on from it).
"""
import argparse
import os
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from augment import normalised, sample, views
from common import WORK, Texts, embed_ids, imagenet_names, load_text, multi_nce, padded, phrase, prompt_mean, source_weights, tiny_names, training_items
from model import Ema, Student
from prepare import DIM, arriving, load
from text import Head, ground

a = argparse.ArgumentParser()
a.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
a.add_argument("--size", default="medium")
a.add_argument("--phases", default="96:210,128:110")
a.add_argument("--bs", type=int, default=2048)
a.add_argument("--tiny", type=float, default=0.25)
a.add_argument("--mixed", type=float, default=0.2)
a.add_argument("--lr", type=float, default=2.5e-3)
a.add_argument("--warm", type=float, default=0.05)
a.add_argument("--out", default=f"{WORK}/distilled.pt")
a.add_argument("--resume", default="", help="go on from OUT.resume after a stop")
a.add_argument("--start-from", default="", help="take the image tower's weights from another checkpoint of the same size")
a.add_argument("--arriving", action="store_true", help="read archives while they are being copied, for a machine that is lent for minutes")
a.add_argument("--head", type=float, default=0, help="train text.py's head for so many seconds instead of reading WORK/head.pt")
a = a.parse_args()
dev = a.device
if dev == "cuda":
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True

data = arriving() if a.arriving else load()
img, maps, tin, tmaps, tiny_y = data.img, data.maps, data.tin, data.tin_maps, data.tin_y
sd, weight, bias = data.z["sd"].view(1, DIM, 1, 1), data.z["weight"], data.z["bias"]
items = training_items(data.rows)
sel = torch.tensor([i for i, _ in items], device=dev)

text = load_text(f"{WORK}/text_joint.pt", dev).eval()
texts = Texts(items)
R = embed_ids(text, texts.ids)
rows_of, nrows = (t.to(dev) for t in padded(texts.rows))
wrong_of, nwrong = (t.to(dev) for t in padded(texts.wrong))
key = texts.key.to(dev)
labels, at = texts.labels, {t: k for k, t in enumerate(texts.labels)}
named = lambda names: F.normalize(sum(prompt_mean(text, [n[min(k, len(n) - 1)] for n in names]) for k in range(2)), dim=-1)
bank = torch.cat([prompt_mean(text, labels), named(imagenet_names()), named(tiny_names())])
nl = len(labels)
ft = nl + 1000
near = bank @ bank.T > 0.8
near[:, nl:] = False
gold, ngold = (t.to(dev) for t in padded([[at[phrase(t)] for t in d["texts"]] if d["kind"] != "caption" else [len(bank)] for _, d in items], len(bank)))  # places in the bank; len(bank) is the bin for none
if a.head:
    teacher_head = ground(a.head, data, text)
else:
    teacher_head = Head().to(dev).eval()
    teacher_head.load_state_dict(torch.load(f"{WORK}/head.pt", map_location=dev, weights_only=True))
weights = source_weights(items).to(dev)
print("photos", len(items), "tiny", len(tin), "labels", nl, "bank", len(bank), "texts", len(R), flush=True)


net = Student(a.size, DIM).to(dev, memory_format=torch.channels_last).train()
if a.start_from:
    c = torch.load(a.start_from, map_location=dev, weights_only=True)
    net.tower.load_state_dict({k: v.float() if v.dtype == torch.float16 else v for k, v in c["state"].items()})
    print("weights of", a.start_from, flush=True)
scale = nn.Parameter(torch.tensor(2.8, device=dev))
params = [*net.parameters(), scale]
opt = torch.optim.AdamW([{"params": [p for p in params if p.ndim > 1], "weight_decay": 0.05}, {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0}], a.lr, betas=(0.9, 0.99), fused=True)
ema = Ema(net.tower, 0.9985)
start = 0.0
if a.resume:
    c = torch.load(a.resume, map_location=dev, weights_only=True)
    net.load_state_dict(c["live"])
    scale.data.fill_(c["scale"])
    opt.load_state_dict(c["opt"])
    ema.state, ema.n, start = {k: v.float() if v.dtype == torch.float16 else v for k, v in c["state"].items()}, 10**6, c["done"]
    print("goes on from", a.resume, start, flush=True)


def crop(u8, target, size, min_scale, whole):
    """Views of pictures, and the teacher's map inside each at stride 16."""
    x, theta = views(u8, size, min_scale, whole, 0.4)
    return x, sample(target.float().permute(0, 3, 1, 2), theta, size // 16, "border")


def pasted(x, t, n):
    """The last `n` of a batch get a box of others of it, in the picture and in the teacher's map (the box lies on the map's places)."""
    g = t.shape[-1]
    h, w = np.random.randint(1, g, 2)
    top, left = np.random.randint(0, g - h + 1), np.random.randint(0, g - w + 1)
    k = torch.randint(0, len(x), (n,), device=dev)
    t[-n:, :, top : top + h, left : left + w] = t[k, :, top : top + h, left : left + w]
    s = slice(top * 16, (top + h) * 16), slice(left * 16, (left + w) * 16)
    x[-n:, :, s[0], s[1]] = x[k][:, :, s[0], s[1]]
    return x, t


def batch(size, min_scale, whole):
    """Photos, Tiny-ImageNet pictures, pasted photos: their numbers, views [bs, 3, size, size], maps."""
    nt, nm = int(a.bs * a.tiny), int(a.bs * a.mixed)
    j = torch.multinomial(weights, a.bs - nt, replacement=True)
    k = torch.randint(0, len(tin), (nt,), device=dev)
    xp, tp = crop(img[sel[j]], maps[sel[j]], size, min_scale, whole)
    xt, tt = crop(tin[k], tmaps[k], size, max(min_scale, 0.4), whole)
    clean = a.bs - nt - nm
    x, t = torch.cat([xp[:clean], xt, xp[clean:]]), torch.cat([tp[:clean], tt, tp[clean:]])
    x, t = pasted(x, t, nm)
    return j[:clean], k, normalised(x), t


def step(size, min_scale, whole):
    j, k, x, t = batch(size, min_scale, whole)
    n, nt = len(j), len(k)
    with torch.autocast(dev, torch.bfloat16):
        e, last, mid, cls = net(x)
    e, last, mid, cls = F.normalize(e.float(), dim=-1), last.float(), mid.float(), cls.float()
    tl, tm, pool = F.adaptive_avg_pool2d(t, last.shape[-1]), F.adaptive_avg_pool2d(t, mid.shape[-1]), t.mean((2, 3))
    unit = lambda u: F.normalize(u / sd.sqrt(), dim=1)
    dense = (1 - (unit(last) * unit(tl)).sum(1)).mean() + 0.5 * (1 - (unit(mid) * unit(tm)).sum(1)).mean() + F.smooth_l1_loss(last / sd, tl / sd)
    poolc = (1 - (unit(last.mean((2, 3), keepdim=True)) * unit(pool[..., None, None])).sum(1)).mean()
    logits = pool @ weight + bias
    kl = F.kl_div(F.log_softmax(cls / 2, 1), F.softmax(logits / 2, 1), reduction="batchmean") * 4
    with torch.no_grad():
        v = teacher_head(pool / sd[..., 0, 0])
    headc = (1 - (e * v).sum(1)).mean()
    # Soft labels over the bank: half gold, half the teacher's; pasted pictures have the teacher's alone.
    q = torch.zeros(a.bs, len(bank) + 1, device=dev)
    q[:n].scatter_add_(1, gold[j], (0.5 / ngold[j])[:, None].expand(-1, gold.shape[1]).contiguous())
    q = q[:, :-1].contiguous()
    y = ft + tiny_y[k]
    q[n : n + nt].scatter_(1, y[:, None], 0.7)
    q[:, nl:ft] += 0.5 * torch.softmax(logits, 1)
    hide = torch.zeros(a.bs, len(bank), dtype=torch.bool, device=dev)
    hide[:n, ft:] = True
    hide[n + nt :, ft:] = True
    hide[n : n + nt] = near[y]
    q = q.masked_fill(hide, 0.0)
    q = q / q.sum(1, keepdim=True).clamp(min=1e-6)
    s = scale.exp().clamp(max=60)
    bankl = -(F.log_softmax((s * e @ bank.T).masked_fill(hide, -1e4), 1) * q).sum(1).mean()
    rows = rows_of[j, (torch.rand(n, device=dev) * nrows[j]).long()]
    bad = wrong_of[j, (torch.rand(n, device=dev) * nwrong[j]).long()]
    tx = R[rows]
    pos = (key[j][:, None] == key[j][None]) | (rows[:, None] == rows[None])
    own = s * (e[:n] * R[bad]).sum(1, keepdim=True)
    nce = multi_nce(s * e[:n] @ tx.T, pos, tx @ tx.T > 0.8, own)
    loss = 1.5 * dense + 1.0 * poolc + 0.5 * kl + 1.0 * headc + 1.0 * bankl + 0.5 * nce
    return loss, torch.stack([dense, poolc, kl, headc, bankl, nce]).detach()


def save(u):
    half = {k: v.cpu().half() if v.dtype == torch.float32 else v.cpu() for k, v in ema.state.items()}
    torch.save({"size": a.size, "state": half, "done": u}, f"{a.out}.tmp")
    os.replace(f"{a.out}.tmp", a.out)
    torch.save({"state": half, "live": net.state_dict(), "opt": opt.state_dict(), "scale": scale.item(), "done": u}, f"{a.out}.resume.tmp")
    os.replace(f"{a.out}.resume.tmp", f"{a.out}.resume")


phases = [(int(p.split(":")[0]), float(p.split(":")[1])) for p in a.phases.split(",")]
budget = sum(m for _, m in phases)
spent, it, seen, saved, edge = start * budget, 0, 0, time.time(), 0.0
for size, seconds in phases:
    edge += seconds
    if spent >= edge:
        continue
    t0 = last_t = time.time()
    base, log = spent, []
    while base + time.time() - t0 < edge:
        u = (base + time.time() - t0) / budget
        lr = a.lr * (u / a.warm if u < a.warm else 0.5 * (1 + np.cos(np.pi * (u - a.warm) / (1 - a.warm))) + 0.002)
        for g in opt.param_groups:
            g["lr"] = lr
        # Small crops teach the teacher's maps; towards the end whole pictures, as the tool will show them.
        loss, parts = step(size, 0.3 + 0.2 * u, 0.1 + 0.3 * u)
        log.append(parts)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 5.0)
        opt.step()
        it += 1
        seen += a.bs
        if it % 4 == 0:
            ema.update()
        if it % (200 if dev == "cuda" else 5) == 0:
            parts = torch.stack(log).mean(0).cpu().numpy().round(3)
            print(f"{size}px u {u:.3f} step {it} seen {seen} {len(log) * a.bs / (time.time() - last_t):.0f} img/s lr {lr:.1e} scale {scale.exp().item():.1f} dense/pool/kl/head/bank/nce {parts}", flush=True)
            log, last_t = [], time.time()
        if time.time() - saved > 60:
            save(u)
            saved = time.time()
    spent = base + time.time() - t0
    save(spent / budget)
print("stopped at", spent / budget, "seen", seen, flush=True)
