"""Colour profiles made by hand: a matrix and a gamma, or a grey curve."""

import struct

D50 = (0.9642, 1.0, 0.8249)
# Red, green and blue in the connection space (D50), columns of the usual matrices.
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))
ADOBE_RGB = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))


def fixed(value):
    return struct.pack('>i', round(value * 65536))


def xyz(values):
    return b'XYZ \0\0\0\0' + b''.join(fixed(value) for value in values)


def gamma(value):
    return b'curv\0\0\0\0' + struct.pack('>IH', 1, round(value * 256))


def curve(points):
    values = [round(max(0, min(1, value)) * 65535) for value in points]
    return b'curv\0\0\0\0' + struct.pack('>I', len(values)) + struct.pack(f'>{len(values)}H', *values)


def text(words):
    return b'desc\0\0\0\0' + struct.pack('>I', len(words) + 1) + words + b'\0' * 79


def profile(space, tags):
    tags = [(b'desc', text(b'made by hand')), (b'cprt', b'text\0\0\0\0none\0'), (b'wtpt', xyz(D50))] + tags
    table, body, at = b'', b'', 128 + 4 + 12 * len(tags)
    for name, value in tags:
        value += b'\0' * (-len(value) % 4)
        table += name + struct.pack('>II', at, len(value))
        body, at = body + value, at + len(value)
    head = struct.pack('>I4sI4s4s4s', at, b'none', 0x02400000, b'mntr', space, b'XYZ ')
    head += struct.pack('>6H', 2026, 1, 1, 0, 0, 0) + b'acsp' + b'\0' * 28
    head += b''.join(fixed(value) for value in D50)
    return head.ljust(128, b'\0') + struct.pack('>I', len(tags)) + table + body


def rgb(primaries, curves):
    tags = [(name, xyz(values)) for name, values in zip((b'rXYZ', b'gXYZ', b'bXYZ'), primaries)]
    return profile(b'RGB ', tags + [(name, curves) for name in (b'rTRC', b'gTRC', b'bTRC')])


def grey(curves):
    return profile(b'GRAY', [(b'kTRC', curves)])
