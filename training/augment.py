"""Whole-batch augmentation in torch: uint8 NHWC in, normalised float NCHW (channels_last) out."""
import functools

import torch
import torch.nn.functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def crops(n, min_scale, whole, device):
    """Affine maps [n, 2, 3] of random crops: of at least `min_scale` of the area, mirrored half of the time, the `whole` picture with that chance."""
    area = torch.empty(n, device=device).uniform_(min_scale, 1).sqrt()
    ratio = torch.empty(n, device=device).uniform_(-0.25, 0.25).exp()
    sx, sy = (area * ratio.sqrt()).clamp(max=1), (area / ratio.sqrt()).clamp(max=1)
    full = torch.rand(n, device=device) < whole
    sx, sy = torch.where(full, 1.0, sx), torch.where(full, 1.0, sy)
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 2], theta[:, 1, 2] = (torch.rand(n, device=device) * 2 - 1) * (1 - sx), (torch.rand(n, device=device) * 2 - 1) * (1 - sy)
    theta[:, 0, 0], theta[:, 1, 1] = sx * (torch.randint(0, 2, (n,), device=device) * 2.0 - 1), sy
    return theta


def sample(x, theta, size, padding):
    return F.grid_sample(x, F.affine_grid(theta, (len(x), x.shape[1], size, size), align_corners=False).to(x.dtype), "bilinear", padding, False)


def coloured(x, colour):
    """Random gains of the channels, brightness, contrast; 8 % grey; 8 % seen through 32 pixels."""
    n, dev = len(x), x.device
    rnd = lambda *s: torch.rand(*s, device=dev) - 0.5
    gain = (1 + rnd(n, 3, 1, 1) * colour * 0.6) * (1 + rnd(n, 1, 1, 1) * 2 * colour)
    contrast = 1 + rnd(n, 1, 1, 1) * 2 * colour
    mid = x.mean((1, 2, 3), keepdim=True)
    x = (((x * gain - mid) * contrast) + mid).clamp_(0, 1)
    grey = (torch.rand(n, 1, 1, 1, device=dev) < 0.08) * 1.0
    x = x + grey * (x.mean(1, keepdim=True) - x)
    k = max(1, n // 12)  # the batch is in random order
    x[:k] = F.interpolate(F.interpolate(x[:k], (32, 32), mode="bilinear", antialias=True), x.shape[2:], mode="bilinear")
    return x


@functools.cache
def constants(device):
    """Mean and deviation, shaped for NCHW; kept, because each copy to a GPU would make it wait."""
    return tuple(torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))


def normalised(x):
    m, s = constants(x.device)
    return ((x - m) / s).contiguous(memory_format=torch.channels_last)


def views(u8, size, min_scale, whole, colour):
    """Square uint8 pictures [n, h, w, 3] to random views [n, 3, size, size] in 0..1, and the affine maps that made them."""
    x = u8.permute(0, 3, 1, 2).float().div_(255)
    theta = crops(len(x), min_scale, whole, x.device)
    if x.shape[-1] >= 2 * size:
        x = F.avg_pool2d(x, 2)
    return coloured(sample(x, theta, size, "reflection"), colour), theta
