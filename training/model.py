"""The two towers of the built-in model.

Image tower: a plain-convolution residual network (BN, ReLU), fully convolutional, so it can be trained at 64 px and
used at 96 or 128 px.  Basic blocks while channels are few, bottlenecks where they are many: at the same number of
parameters a bottleneck network is deeper.  Text tower: a small pre-norm transformer over WordPiece ids with masked
mean pooling.  Both end in an L2-normalised embedding of the same width.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

SIZES = {  # name: (stem, (kind, channels, blocks) per stage)
    "medium": ("patch", (("basic", 64, 1), ("basic", 128, 2), ("basic", 256, 3), ("basic", 512, 1))),  # 8.1 M parameters, 270 M multiply-adds at 96 px
    "deep": ("steps", (("basic", 64, 2), ("basic", 128, 3), ("neck", 512, 11), ("neck", 1024, 3))),  # 8.1 M parameters, 640 M multiply-adds at 128 px
}


def conv_bn(i, o, k, s=1, p=None):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2 if p is None else p, bias=False), nn.BatchNorm2d(o))


def shortcut(i, o, stride, patch):
    """The way past a block: nothing, or a projection; with a stride the mean of 2 x 2 places, or (`patch`) a convolution over them."""
    if i == o and stride == 1:
        return None
    if stride == 2 and patch:
        return conv_bn(i, o, 2, 2, 0)
    return nn.Sequential(nn.AvgPool2d(2), *conv_bn(i, o, 1)) if stride == 2 else conv_bn(i, o, 1)


class Block(nn.Module):
    def __init__(self, i, o, stride, patch):
        super().__init__()
        self.a, self.b = conv_bn(i, o, 3, stride), conv_bn(o, o, 3)
        self.skip = shortcut(i, o, stride, patch)
        nn.init.zeros_(self.b[1].weight)  # every residual block starts as the identity

    def forward(self, x):
        y = self.b(F.relu(self.a(x)))
        return F.relu(y + (x if self.skip is None else self.skip(x)))


class Neck(nn.Module):
    def __init__(self, i, o, stride, patch):
        super().__init__()
        m = o // 4
        self.a, self.b, self.c = conv_bn(i, m, 1), conv_bn(m, m, 3, stride), conv_bn(m, o, 1)
        self.skip = shortcut(i, o, stride, patch)
        nn.init.zeros_(self.c[1].weight)

    def forward(self, x):
        y = self.c(F.relu(self.b(F.relu(self.a(x)))))
        return F.relu(y + (x if self.skip is None else self.skip(x)))


class ImageTower(nn.Module):
    def __init__(self, size="deep", dim=256):
        super().__init__()
        stem, stages = SIZES[size]
        i = stages[0][1]
        patch = stem == "patch"
        layers = [conv_bn(3, i, 6, 4, 1), nn.ReLU()] if patch else [conv_bn(3, 32, 3, 2), nn.ReLU(), conv_bn(32, i, 3, 2), nn.ReLU()]
        for k, (kind, w, d) in enumerate(stages):
            for j in range(d):
                layers.append({"basic": Block, "neck": Neck}[kind](i, w, 2 if j == 0 and k else 1, patch))
                i = w
        self.trunk, self.width, self.mid = nn.Sequential(*layers), i, stages[-2][1]
        self.cut = len(layers) - stages[-1][2]  # what comes before has stride 16
        self.proj = nn.Linear(i, dim)

    def maps(self, x):
        """The feature maps of stride 16 and of stride 32."""
        for k, layer in enumerate(self.trunk):
            x = layer(x)
            if k == self.cut - 1:
                mid = x
        return mid, x

    def forward(self, x):
        return F.normalize(self.proj(self.trunk(x).mean((2, 3))), dim=-1)


class Student(nn.Module):
    """The image tower with what only training needs: guesses of the teacher's maps (`dim` numbers a place) and classes."""

    def __init__(self, size, dim):
        super().__init__()
        self.tower = ImageTower(size)
        self.dense, self.mid, self.cls = nn.Conv2d(self.tower.width, dim, 1), nn.Conv2d(self.tower.mid, dim, 1), nn.Linear(self.tower.width, 1000)

    def forward(self, x):
        mid, last = self.tower.maps(x)
        f = last.mean((2, 3))
        return self.tower.proj(f), self.dense(last), self.mid(mid), self.cls(f)


class TextLayer(nn.Module):
    def __init__(self, d, heads, mlp=3):
        super().__init__()
        self.h = heads
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.o = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, mlp * d), nn.Linear(mlp * d, d)

    def forward(self, x, bias):
        b, n, d = x.shape
        q, k, v = self.qkv(self.n1(x)).reshape(b, n, 3, self.h, d // self.h).permute(2, 0, 3, 1, 4).unbind(0)
        a = torch.softmax(q @ k.transpose(-1, -2) * (d // self.h) ** -0.5 + bias, -1)
        x = x + self.o((a @ v).transpose(1, 2).reshape(b, n, d))
        return x + self.down(F.gelu(self.up(self.n2(x)), approximate="tanh"))


class TextTower(nn.Module):
    PAD = 0

    def __init__(self, vocab, width=256, layers=2, heads=4, dim=256, length=32):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, width), nn.Parameter(torch.randn(length, width) * 0.01)
        self.layers = nn.ModuleList(TextLayer(width, heads) for _ in range(layers))
        self.norm, self.proj = nn.LayerNorm(width), nn.Linear(width, dim)
        nn.init.normal_(self.tok.weight, std=0.05)
        for l in self.layers:
            for p in (l.o.weight, l.o.bias, l.down.weight, l.down.bias):  # every layer starts as the identity
                nn.init.zeros_(p)

    def forward(self, ids):
        mask = (ids != self.PAD).to(self.pos.dtype)
        x = self.tok(ids) + self.pos[: ids.shape[1]]
        bias = (mask - 1.0)[:, None, None, :] * 1e4
        for l in self.layers:
            x = l(x, bias)
        x = self.norm(x) * mask[..., None]
        x = x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1.0)
        return F.normalize(self.proj(x), dim=-1)


class Ema:
    """Exponential moving average of a module's whole state (buffers too)."""

    def __init__(self, m, decay):
        self.m, self.decay, self.state, self.n = m, decay, {k: v.detach().clone() for k, v in m.state_dict().items()}, 0

    @torch.no_grad()
    def update(self):
        self.n += 1
        d = min(self.decay, (1 + self.n) / (10 + self.n))
        live = self.m.state_dict()
        pairs = [(self.state[k], v) for k, v in live.items() if v.dtype.is_floating_point]
        torch._foreach_lerp_([p for p, _ in pairs], [v for _, v in pairs], 1 - d)
        for k, v in live.items():
            if not v.dtype.is_floating_point:
                self.state[k].copy_(v)
