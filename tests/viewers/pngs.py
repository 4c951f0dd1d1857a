"""A small PNG writer for any kind of pixels and any chunks."""

import struct
import zlib

SIGNATURE = b'\x89PNG\r\n\x1a\n'
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(name, body, broken=False):
    check = zlib.crc32(name + body) ^ (1 if broken else 0)
    return struct.pack('>I', len(body)) + name + body + struct.pack('>I', check)


def rows_of(sample, size, kind, depth, place=(0, 0, 1, 1)):
    """Packed rows; `sample(x, y)` answers the channels of a pixel, of `depth` bits each."""
    left, top, step_x, step_y = place
    rows = []
    for y in range(top, size[1], step_y):
        bits, count = 0, 0
        for x in range(left, size[0], step_x):
            for value in sample(x, y):
                bits, count = bits << depth | value, count + depth
        if count:
            padding = -count % 8
            rows.append((bits << padding).to_bytes((count + padding) // 8, 'big'))
    return rows


def filtered(rows, unit, dice):
    """Every row with a filter of its own."""
    out, before = bytearray(), None
    for row in rows:
        kind = dice.randrange(5)
        above = before or bytes(len(row))
        out.append(kind)
        for i, value in enumerate(row):
            a = row[i - unit] if i >= unit else 0
            b = above[i]
            c = above[i - unit] if i >= unit else 0
            guess = [0, a, b, (a + b) // 2, min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]][kind]
            out.append((value - guess) & 0xFF)
        before = row
    return bytes(out)


def encode(sample, size, kind, depth, dice, before=b'', interlaced=False, after=b''):
    header = struct.pack('>IIBBBBB', *size, depth, kind, 0, 0, int(interlaced))
    unit = max(1, CHANNELS[kind] * depth // 8)
    places = PASSES if interlaced else [(0, 0, 1, 1)]
    data = b''.join(filtered(rows_of(sample, size, kind, depth, place), unit, dice) for place in places)
    return (SIGNATURE + chunk(b'IHDR', header) + before + chunk(b'IDAT', zlib.compress(data))
            + after + chunk(b'IEND', b''))
