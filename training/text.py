"""The text tower.

    python text.py teach SECONDS    # WORK/text_taught.pt: MiniLM's embeddings of the phrases, from TEXT/text_joint.pt's weights
    python text.py ground SECONDS   # WORK/text_joint.pt, head.pt: contrast of a photo's texts with the teacher's features of it

`ground` is where negations, counts and "holding a ..." are learnt: each photo has texts that are false of it and hold
the words of its true ones (common.true_and_false).  A head on the teacher's features takes the image tower's place.
"""
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from common import MAP, WORK, Texts, embed_ids, encode_ids, imagenet_names, load_text, multi_nce, padded, phrase, save_text, source_weights, tiny_names, training_items
from model import Ema
from prepare import DIM, load

DEV = "cuda" if torch.cuda.is_available() else "cpu"
BIG = DEV == "cuda"


def phrases():
    """Token rows and targets; every fiftieth is kept for a check."""
    ids, y = (torch.from_numpy(np.load(f"{WORK}/phrases_{n}.npy")) for n in ("ids", "y"))
    test = torch.arange(len(ids)) % 50 == 0
    return ids.long()[~test].to(DEV), y.float()[~test].to(DEV), ids.long()[test].to(DEV), y.float()[test].to(DEV)


def short(ids):
    """Token rows without the padding that none of them needs."""
    return ids[:, : max(1, int((ids > 0).sum(1).max()))]


def schedule(opt, lr, u, warm=0.03):
    for g in opt.param_groups:
        g["lr"] = lr * (u / warm if u < warm else 0.5 * (1 + np.cos(np.pi * (u - warm) / (1 - warm))) + 0.002)


def check(net, ids, y):
    net.eval()
    e = embed_ids(net, ids)
    net.train()
    s, t = e @ e.T, y @ y.T
    off = ~torch.eye(len(e), dtype=torch.bool, device=DEV)
    return f"held-out phrases: cosine {(e * y).sum(1).mean():.3f}, their similarities correlate {torch.corrcoef(torch.stack([s[off], t[off]]))[0, 1]:.3f}"


def teach(seconds):
    ids, y, tids, ty = phrases()
    net = load_text(device=DEV)
    e = embed_ids(net, ids[::8])
    fit = torch.linalg.lstsq(torch.cat([e, torch.ones(len(e), 1, device=DEV)], 1), y[::8]).solution  # the old space turned into the new one
    with torch.no_grad():
        net.proj.bias.copy_(net.proj.bias @ fit[:-1] + fit[-1])
        net.proj.weight.copy_(fit[:-1].T @ net.proj.weight)
    print("at the start:", check(net, tids[:2000], ty[:2000]), flush=True)
    opt, ema, bs = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.01, fused=True), Ema(net, 0.999), 4096 if BIG else 512
    net.train()
    t0 = time.time()
    it = 0
    while (u := (time.time() - t0) / seconds) < 1:
        schedule(opt, 1.5e-3 if BIG else 7e-4, u)
        k = torch.randint(0, len(ids), (bs,), device=DEV)
        with torch.autocast(DEV, torch.bfloat16):
            e = net(short(ids[k]))
        e, t = e.float(), y[k]
        n = 1024
        loss = (1 - (e * t).sum(1)).mean() + 8 * F.mse_loss(e[:n] @ e[:n].T, t[:n] @ t[:n].T)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        ema.update()
        it += 1
        if it % 400 == 0:
            print(f"teach u {u:.2f} step {it} seen {it * bs} loss {loss.item():.4f}", flush=True)
    net.load_state_dict(ema.state)
    print("teach:", check(net, tids[:2000], ty[:2000]), "seen", it * bs, flush=True)
    save_text(net, f"{WORK}/text_taught.pt")


class Head(nn.Module):
    """The teacher's mean feature in 256 numbers (divided by their deviations) to the text tower's space."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(DIM, 1024), nn.GELU(), nn.Dropout(0.2), nn.Linear(1024, 256))

    def forward(self, x):
        return F.normalize(self.net(x), dim=-1)


def ground(seconds, data=None, tower=None):
    """Trains tower and head; with a `tower` given, that stays as it is and only the head is trained, and returned."""
    data = data or load()
    sd, weight, bias = data.z["sd"], data.z["weight"], data.z["bias"]
    items = training_items(data.rows)
    sel = torch.tensor([i for i, _ in items], device=DEV)
    crops, h = [], MAP * 3 // 4  # the mean over the whole map and over four of its quarters, as crops would show
    for some in sel.split(4096):
        m = data.maps[some].float()
        crops.append(torch.stack([m.mean((1, 2))] + [m[:, a : a + h, b : b + h].mean((1, 2)) for a in (0, MAP - h) for b in (0, MAP - h)], 1))
    pool = torch.cat(crops)
    texts = Texts(items)
    rows, nrows = (t.to(DEV) for t in padded(texts.rows))
    wrong, _ = (t.to(DEV) for t in padded(texts.wrong))
    tids, key = texts.ids.to(DEV), texts.key.to(DEV)
    # ImageNet's names, for what the teacher sees in a photo, and Tiny-ImageNet's with its pictures.
    inet = encode_ids([phrase(n[0], "a photo of {}") for n in imagenet_names()]).to(DEV)
    tnames = encode_ids([phrase(n[0], "a photo of {}") for n in tiny_names()]).to(DEV)
    tmaps, ty = data.tin_maps.float().mean((1, 2)), data.tin_y
    net, head = tower or load_text(f"{WORK}/text_taught.pt", DEV), Head().to(DEV)
    ids, y, vids, vy = phrases() if tower is None else (None, None, None, None)
    scale = nn.Parameter(torch.tensor(2.8, device=DEV))
    opt = torch.optim.AdamW([{"params": list(net.parameters()), "weight_decay": 0.01}, {"params": list(head.parameters()), "weight_decay": 0.03}, {"params": [scale], "weight_decay": 0}], 1e-3, fused=True)
    ema, hema, bs = Ema(net, 0.999), Ema(head, 0.999), 1024 if BIG else 96
    w = source_weights(items).to(DEV)
    print("ground: photos", len(items), "texts", len(texts.strings), flush=True)
    net.train(tower is None).requires_grad_(tower is None), head.train()
    nk = int(key.max()) + 1
    t0, it, log = time.time(), 0, []
    while (u := (time.time() - t0) / seconds) < 1:
        schedule(opt, 5e-4, u)
        opt.param_groups[1]["lr"] *= 2
        j = torch.multinomial(w, bs, replacement=True)
        v = pool[j, torch.randint(0, 5, (bs,), device=DEV)]
        r = rows[j, (torch.rand(bs, device=DEV) * nrows[j]).long()]
        t, k, wr = tids[r], key[j], tids[wrong[j, torch.randint(0, wrong.shape[1], (bs,), device=DEV)]]
        n = bs // 4
        cls = torch.multinomial(torch.softmax(v[:n] @ weight + bias, 1), 1)[:, 0]  # a quarter by what the teacher sees
        t = torch.cat([inet[cls], t[n:]])
        k = torch.cat([nk + cls, k[n:]])
        m = torch.randint(0, len(ty), (n,), device=DEV)
        v, t, k = torch.cat([v, tmaps[m]]), torch.cat([t, tnames[ty[m]]]), torch.cat([k, nk + 1000 + ty[m]])
        p = torch.randint(0, len(ids), (bs,), device=DEV) if tower is None else None
        with torch.autocast(DEV, torch.bfloat16):
            e = net(short(torch.cat([t, wr] if tower else [t, wr, ids[p]])))
            q = head(v / sd)
        e, q = e.float(), q.float()
        et, ew = e[: len(t)], e[len(t) : len(t) + bs]
        s = scale.exp().clamp(max=60)
        with torch.no_grad():
            near = et @ et.T > 0.8
        # A photo's own false texts stand beside the true ones; a quarter's texts come from the teacher, whose false ones are not known.
        own = (q[n:bs] * ew[n:]).sum(1, keepdim=True)
        extra = torch.full((len(t), 1), -1e4, device=DEV)
        extra[n:bs] = s * own
        nce = multi_nce(s * q @ et.T, k[:, None] == k[None], near, extra)
        tie = (1 - (e[-bs:] * y[p]).sum(1)).mean() if tower is None else torch.zeros((), device=DEV)
        loss = nce + 3.0 * tie
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*net.parameters(), *head.parameters()], 1.0)
        opt.step()
        ema.update(), hema.update()
        it += 1
        log.append(torch.stack([nce.detach(), tie.detach(), ((q[n:bs] * et[n:bs]).sum(1) > own[:, 0]).float().mean()]))
        if it % 200 == 0:
            print(f"ground u {u:.2f} step {it} scale {s.item():.1f} nce/tie/true over false", torch.stack(log).mean(0).cpu().numpy().round(3), flush=True)
            log = []
    head.load_state_dict(hema.state)
    head.eval()
    if tower:
        return head
    net.load_state_dict(ema.state)
    print("ground:", check(net, vids[:2000], vy[:2000]), flush=True)
    save_text(net, f"{WORK}/text_joint.pt")
    torch.save(head.cpu().state_dict(), f"{WORK}/head.pt")


if __name__ == "__main__":
    globals()[sys.argv[1]](float(sys.argv[2]))
