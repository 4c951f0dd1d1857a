"""A small GIF writer: any screen, any frames, any bytes between the blocks."""

import struct


def compressed(indices, least):
    """LZW that never grows its codes: a clear code in time."""
    clear, out, value, count = 1 << least, bytearray(), 0, 0
    width, room = least + 1, (1 << least) - 2

    def put(code):
        nonlocal value, count
        value, count = value | code << count, count + width
        while count >= 8:
            out.append(value & 0xFF)
            value, count = value >> 8, count - 8

    for number, index in enumerate(indices):
        if number % room == 0:
            put(clear)
        put(index)
    put(clear + 1)
    if count:
        out.append(value & 0xFF)
    blocks = b''.join(bytes([len(out[i:i + 255])]) + out[i:i + 255] for i in range(0, len(out), 255))
    return bytes([least]) + blocks + b'\0'


def table(colours):
    colours = list(colours) + [(0, 0, 0)] * (16 - len(colours))
    return b''.join(bytes(colour) for colour in colours)


def frame(indices, box, colours=None, disposal=0, delay=10, transparent=None, interlaced=False):
    """`box` is left, top, width, height; colours are 16 at most."""
    left, top, width, height = box
    control = b'\x21\xf9\x04' + bytes([disposal << 2 | (transparent is not None)])
    control += struct.pack('<H', delay) + bytes([transparent or 0, 0])
    rows = [indices[y * width:(y + 1) * width] for y in range(height)]
    if interlaced:
        rows = rows[::8] + rows[4::8] + rows[2::4] + rows[1::2]
    packed = (0x83 if colours else 0) | (0x40 if interlaced else 0)
    head = b'\x2c' + struct.pack('<HHHHB', left, top, width, height, packed)
    flat = [index for row in rows for index in row]
    return control + head + (table(colours) if colours else b'') + compressed(flat, 4)


def encode(screen, colours, frames, version=b'89a', loops=0, trailer=b'\x3b'):
    head = b'GIF' + version + struct.pack('<HHBBB', *screen, 0xB3, 0, 0) + table(colours)
    loop = b'' if loops is None else b'\x21\xff\x0bNETSCAPE2.0\x03\x01' + struct.pack('<H', loops) + b'\0'
    return head + loop + b''.join(frames) + trailer
