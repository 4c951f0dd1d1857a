"""A small baseline JPEG encoder for what ordinary encoders never write: any sampling factors, any
order of scans, any markers. Every code of a table has the same length, which is legal and short."""

import math
import struct

ZIGZAG = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
]
QUANTUM = 6
COSINE = [[math.cos((2 * x + 1) * u * math.pi / 16) * (math.sqrt(1 / 8) if u == 0 else 0.5)
           for x in range(8)] for u in range(8)]
DC_SYMBOLS = list(range(12))
AC_SYMBOLS = [0x00, 0xF0] + [run << 4 | size for run in range(16) for size in range(1, 11)]


def segment(marker, body):
    return struct.pack('>BBH', 0xFF, marker, len(body) + 2) + body


JFIF = segment(0xE0, b'JFIF\0\1\1\0\0\1\0\1\0\0')


def adobe(transform):
    return segment(0xEE, b'Adobe\0\x64\0\0\0\0' + bytes([transform]))


class Bits:
    def __init__(self):
        self.out, self.value, self.count = bytearray(), 0, 0

    def put(self, value, length):
        self.value, self.count = self.value << length | value, self.count + length
        while self.count >= 8:
            byte = self.value >> (self.count - 8) & 0xFF
            self.out += b'\xff\0' if byte == 0xFF else bytes([byte])
            self.count -= 8
            self.value &= (1 << self.count) - 1

    def pad(self):
        if self.count:
            self.put((1 << (8 - self.count)) - 1, 8 - self.count)


def sized(value):
    size = abs(value).bit_length()
    return size, value if value >= 0 else value + (1 << size) - 1


def transformed(block):
    rows = [[sum(COSINE[u][x] * row[x] for x in range(8)) for u in range(8)] for row in block]
    return [round(sum(COSINE[v][y] * rows[y][u] for y in range(8)) / QUANTUM)
            for v in range(8) for u in range(8)]


def plane_blocks(plane, width, height, h, v, h_max, v_max):
    """Blocks of a component in rows, filled up to whole units; `plane(x, y)` is at full size."""
    across, down = -(-width // (8 * h_max)) * h, -(-height // (8 * v_max)) * v
    step_x, step_y = h_max / h, v_max / v

    def value(x, y):
        left, top = min(int(x * step_x), width - 1), min(int(y * step_y), height - 1)
        right, bottom = min(int((x + 1) * step_x), width), min(int((y + 1) * step_y), height)
        cells = [plane(i, j) for j in range(top, max(bottom, top + 1))
                 for i in range(left, max(right, left + 1))]
        return sum(cells) / len(cells) - 128

    blocks = {}
    for by in range(down):
        for bx in range(across):
            block = [[value(8 * bx + x, 8 * by + y) for x in range(8)] for y in range(8)]
            blocks[bx, by] = transformed(block)
    return blocks


def encode(size, planes, sampling, scans=None, ids=None, markers=JFIF, restart=0, repeats=()):
    """`planes` are functions of x and y at full size; `scans` lists of component indices."""
    width, height = size
    count = len(planes)
    ids = ids or list(range(1, count + 1))
    scans = scans or [list(range(count))]
    h_max, v_max = max(h for h, _ in sampling), max(v for _, v in sampling)
    blocks = [plane_blocks(plane, width, height, h, v, h_max, v_max)
              for plane, (h, v) in zip(planes, sampling)]
    out = bytearray(b'\xff\xd8') + markers
    out += segment(0xDB, b'\0' + bytes([QUANTUM] * 64))
    frame = struct.pack('>BHHB', 8, height, width, count)
    frame += b''.join(bytes([i, h << 4 | v, 0]) for i, (h, v) in zip(ids, sampling))
    out += segment(0xC0, frame)
    counts = lambda at, number: bytes(number if length == at else 0 for length in range(1, 17))
    out += segment(0xC4, b'\0' + counts(4, 12) + bytes(DC_SYMBOLS))
    out += segment(0xC4, b'\x10' + counts(8, len(AC_SYMBOLS)) + bytes(AC_SYMBOLS))
    if restart:
        out += segment(0xDD, struct.pack('>H', restart))
    for scan in scans:
        head = bytes([len(scan)]) + b''.join(bytes([ids[c], 0]) for c in scan) + b'\0\x3f\0'
        out += segment(0xDA, head)
        out += scan_data(scan, blocks, sampling, size, (h_max, v_max), restart)
    return bytes(out + b'\xff\xd9')


def scan_data(scan, blocks, sampling, size, most, restart):
    width, height = size
    if len(scan) == 1:
        h, v = sampling[scan[0]]
        across = -(-(-(-width * h // most[0])) // 8)
        down = -(-(-(-height * v // most[1])) // 8)
        units = [[(scan[0], x, y)] for y in range(down) for x in range(across)]
    else:
        across, down = -(-width // (8 * most[0])), -(-height // (8 * most[1]))
        units = [[(c, x * sampling[c][0] + i, y * sampling[c][1] + j) for c in scan
                  for j in range(sampling[c][1]) for i in range(sampling[c][0])]
                 for y in range(down) for x in range(across)]
    out, bits, last = bytearray(), Bits(), {}
    for number, unit in enumerate(units):
        if restart and number and number % restart == 0:
            bits.pad()
            out += bits.out + bytes([0xFF, 0xD0 + (number // restart - 1) % 8])
            bits, last = Bits(), {}
        for component, x, y in unit:
            put_block(bits, blocks[component][x, y], last, component)
    bits.pad()
    return out + bits.out


def put_block(bits, block, last, component):
    size, value = sized(block[0] - last.get(component, 0))
    last[component] = block[0]
    bits.put(DC_SYMBOLS.index(size), 4)
    bits.put(value, size)
    run = 0
    for place in ZIGZAG[1:]:
        if block[place] == 0:
            run += 1
            continue
        while run > 15:
            bits.put(AC_SYMBOLS.index(0xF0), 8)
            run -= 16
        size, value = sized(block[place])
        bits.put(AC_SYMBOLS.index(run << 4 | size), 8)
        bits.put(value, size)
        run = 0
    if run:
        bits.put(AC_SYMBOLS.index(0), 8)


def scans_of(data):
    """(start, end) of every scan of a JPEG, its header included."""
    found, at = [], 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xD9:
            break
        length = struct.unpack('>H', data[at + 2:at + 4])[0]
        start, at = at, at + 2 + length
        if marker == 0xDA:
            while data[at] != 0xFF or data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7:
                at += 1
            found.append((start, at))
    return found
