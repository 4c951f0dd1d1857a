#!/usr/bin/env python3
"""draw.py FOLDER COUNT SEED: draws COUNT pictures of every kind that decoders disagree about, each with
what the reference program (Pillow: libjpeg-turbo, libpng's rules, its own GIF, libwebp) shows of it.

For each picture: NAME and NAME.seen, which is the number of readings (4 bytes, little-endian) and for
each its width, height and red, green, blue and alpha of every pixel. NAME begins with its kind; a kind
that ends with ! is one that people's programs write, which must be judged without a doubt."""

import io
import os
import random
import struct
import sys

from PIL import Image, ImageCms, ImageDraw, ImageFile, ImageOps

import gifs
import jpegs
import pngs
import profiles

ImageFile.LOAD_TRUNCATED_IMAGES = True


def scene(dice, size, colours=None):
    """Smooth colours with some shapes: nothing that a codec can't keep."""
    width, height = size
    corners = [[dice.randrange(256) for _ in range(3)] for _ in range(4)]
    image = Image.new('RGB', (2, 2))
    image.putdata([tuple(corner) for corner in corners])
    image = image.resize(size, Image.BILINEAR)
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = dice.randrange(width), dice.randrange(height)
        box = (x, y, x + width // 3 + 1, y + height // 3 + 1)
        shape = dice.choice((draw.ellipse, draw.rectangle))
        shape(box, fill=tuple(dice.randrange(256) for _ in range(3)))
    return image.quantize(colours) if colours else image


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def any_size(dice):
    return dice.randrange(17, 72), dice.randrange(17, 72)


def seen(data):
    """Every frame as Pillow shows it; nothing when it shows none."""
    frames = []
    try:
        with Image.open(io.BytesIO(data)) as image:
            for number in range(getattr(image, 'n_frames', 1)):
                image.seek(number)
                frames.append(ImageOps.exif_transpose(image).convert('RGBA'))
    except Exception:  # Whatever Pillow does not like, it shows what it has shown so far.
        pass
    return frames


def exif(orientation, prefix=b''):
    tag = struct.pack('<HHIHH', 0x0112, 3, 1, orientation, 0)
    return prefix + b'II*\0\x08\0\0\0' + struct.pack('<H', 1) + tag + b'\0\0\0\0'


# JPEG

def jpeg_usual(dice):
    image = scene(dice, any_size(dice))
    options = {'quality': dice.randrange(60, 96), 'subsampling': dice.randrange(3),
               'progressive': dice.random() < 0.4, 'optimize': dice.random() < 0.5}
    if dice.random() < 0.3:
        options['restart_marker_blocks'] = dice.randrange(1, 5)
    if dice.random() < 0.3:
        options['exif'] = exif(dice.randrange(1, 9), b'Exif\0\0')
    if dice.random() < 0.2:
        image = image.convert('L')
    return saved(image, 'JPEG', **options)


def jpeg_large(dice):
    image = scene(dice, (dice.randrange(1500, 1900), dice.randrange(1400, 1700)))
    rgb = dice.random() < 0.3
    return saved(image, 'JPEG', quality=85, subsampling=0 if rgb else dice.randrange(3),
                 progressive=dice.random() < 0.3, keep_rgb=rgb)


def planes_of(image):
    pixels = image.load()
    count = len(image.getbands())
    return [lambda x, y, c=c: pixels[x, y][c] for c in range(count)]


def jpeg_sampling(dice):
    """4:1:1, 4:4:0, three to one, and any others that divide."""
    image = scene(dice, (dice.randrange(17, 41), dice.randrange(17, 41))).convert('YCbCr')
    luma = (dice.choice((1, 2, 4)), dice.choice((1, 2)))
    chroma = lambda: (dice.choice([n for n in (1, 2, 4) if luma[0] % n == 0]),
                      dice.choice([n for n in (1, 2) if luma[1] % n == 0]))
    sampling = [luma, chroma(), chroma()]
    while sum(h * v for h, v in sampling) > 10:  # The most blocks of a unit.
        sampling = [luma, chroma(), chroma()]
    return jpegs.encode(image.size, planes_of(image), sampling, restart=dice.choice((0, 0, 3)))


def jpeg_scans(dice):
    """A scan for each colour, or two and one, in any order."""
    image = scene(dice, (dice.randrange(17, 41), dice.randrange(17, 41))).convert('YCbCr')
    scans = dice.choice(([[0], [1], [2]], [[2], [0], [1]], [[0, 1], [2]], [[0], [1, 2]]))
    sampling = [dice.choice(((1, 1), (2, 1), (2, 2))), (1, 1), (1, 1)]
    return jpegs.encode(image.size, planes_of(image), sampling, scans, restart=dice.choice((0, 0, 2)))


def jpeg_markers(dice):
    """Every combination of what tells how colours are stored."""
    image = scene(dice, (24, 24))
    markers = dice.choice((b'', jpegs.JFIF)) + dice.choice((b'', b'', jpegs.adobe(0), jpegs.adobe(1), jpegs.adobe(2)))
    if dice.random() < 0.2:
        markers = jpegs.adobe(dice.randrange(3)) + jpegs.JFIF
    ids = dice.choice(([1, 2, 3], [0, 1, 2], list(b'RGB'), [7, 8, 9]))
    source = image if dice.random() < 0.5 else image.convert('YCbCr')
    return jpegs.encode(image.size, planes_of(source), [(1, 1)] * 3, ids=ids, markers=markers)


def jpeg_four(dice):
    """Four colours, plain, inverted or as luma and chroma."""
    image = scene(dice, (24, 24)).convert('CMYK')
    markers = dice.choice((b'', jpegs.adobe(0), jpegs.adobe(2), jpegs.JFIF))
    return jpegs.encode(image.size, planes_of(image), [(1, 1)] * 4, markers=markers)


def jpeg_damaged(dice):
    data = bytearray(saved(scene(dice, any_size(dice)), 'JPEG', quality=85, restart_marker_blocks=dice.choice((0, 2)),
                           progressive=dice.random() < 0.3))
    start = data.index(b'\xff\xda') + 14
    for _ in range(dice.randrange(1, 9)):
        data[dice.randrange(start, len(data) - 2)] = dice.randrange(255)
    return bytes(data)


def jpeg_cut(dice):
    data = saved(scene(dice, any_size(dice)), 'JPEG', quality=90, progressive=dice.random() < 0.5)
    return data[:dice.randrange(data.index(b'\xff\xda') + 20, len(data) - 2)] + dice.choice((b'', b'\xff\xd9'))


def jpeg_unfinished(dice):
    """A progressive picture without its last passes."""
    data = saved(scene(dice, any_size(dice)), 'JPEG', quality=90, progressive=True)
    scans = jpegs.scans_of(data)
    return data[:scans[dice.randrange(1, len(scans))][0]] + b'\xff\xd9'


# PNG

def png_usual(dice):
    kind, depth = dice.choice(((0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8),
                               (4, 8), (6, 8), (6, 16)))
    size = any_size(dice)
    pixels = scene(dice, size).load()
    top = (1 << depth) - 1

    def sample(x, y):
        red, green, blue = pixels[x, y]
        grey, alpha = (red + green + blue) // 3, min(255, 4 * x)
        wide = {0: [grey], 2: [red, green, blue], 3: [grey], 4: [grey, alpha], 6: [red, green, blue, alpha]}[kind]
        return [value * 257 if depth == 16 else value * top // 255 for value in wide]

    before = b''
    if kind == 3:
        before += pngs.chunk(b'PLTE', bytes(dice.randrange(256) for _ in range(3 << depth)))
        if dice.random() < 0.4:
            before += pngs.chunk(b'tRNS', bytes(dice.randrange(256) for _ in range(dice.randrange(1, 1 << depth))))
    elif kind == 0 and depth == 8 and dice.random() < 0.4:
        # Pillow takes the value for one of 8 bits whatever the depth is.
        before += pngs.chunk(b'tRNS', struct.pack('>H', dice.randrange(256)))
    if dice.random() < 0.3:
        before += pngs.chunk(b'sRGB', b'\0')
    if dice.random() < 0.2:
        before += pngs.chunk(b'gAMA', struct.pack('>I', 45455))
    return pngs.encode(sample, size, kind, depth, dice, before, interlaced=dice.random() < 0.4)


def rgb_sample(image):
    pixels = image.load()
    return lambda x, y: pixels[x, y]


def png_gamma(dice):
    """Old Macintosh files (1.8) and ones for printers."""
    image, size = scene(dice, (48, 40)), (48, 40)
    exponent = dice.choice((1 / 1.8, 1 / 2.0, 1 / 2.6))
    before = pngs.chunk(b'gAMA', struct.pack('>I', round(100000 * exponent)))
    if dice.random() < 0.5:
        before += pngs.chunk(b'cHRM', struct.pack('>8I', 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
    curve = [round(255 * encoded((value / 255) ** (1 / exponent))) for value in range(256)]
    return (pngs.encode(rgb_sample(image), size, 2, 8, dice, before), [image.point(curve * 3).convert('RGBA')])


def encoded(linear):
    """sRGB's curve (IEC 61966-2-1)."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def managed(image, profile):
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    shown = ImageCms.profileToProfile(image, source, ImageCms.createProfile('sRGB'), outputMode='RGB',
                                      renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC)
    return shown.convert('RGBA')


def profile_usual(dice):
    """What cameras, telephones and paint programs write, in every container."""
    image = scene(dice, (48, 40))
    primaries = dice.choice((profiles.SRGB, profiles.DISPLAY_P3, profiles.ADOBE_RGB))
    profile = profiles.rgb(primaries, profiles.gamma(dice.choice((1.8, 2.2))))
    if dice.random() < 0.25:
        image, profile = image.convert('L'), profiles.grey(profiles.gamma(dice.choice((1.8, 2.2))))
    container = dice.choice(('PNG', 'JPEG', 'WEBP') if image.mode == 'RGB' else ('PNG', 'JPEG'))
    options = {'PNG': {}, 'JPEG': {'quality': 92}, 'WEBP': {'lossless': True}}[container]
    data = saved(image, container, icc_profile=profile, **options)
    with Image.open(io.BytesIO(data)) as plain:
        return data, [managed(plain.copy(), profile)]


def profile_hiding(dice):
    """A curve that makes another picture."""
    image = scene(dice, (48, 40))
    steep = profiles.curve([0.0] * 128 + [i / 127 for i in range(128)])
    profile = profiles.rgb(profiles.SRGB, steep)
    if dice.random() < 0.4:
        image, profile = image.convert('L'), profiles.grey(steep)
    data = saved(image, dice.choice(('PNG', 'JPEG')), icc_profile=profile)
    with Image.open(io.BytesIO(data)) as plain:
        return data, [managed(plain.copy(), profile)]


def turned(dice):
    """An orientation in every container that has one."""
    image, orientation = scene(dice, any_size(dice)), dice.randrange(1, 9)
    container = dice.choice(('JPEG', 'WEBP', 'PNG'))
    if container == 'WEBP':
        return saved(image, 'WEBP', lossless=True, exif=exif(orientation, dice.choice((b'', b'Exif\0\0'))))
    if container == 'JPEG':
        return saved(image, 'JPEG', quality=92, exif=exif(orientation, b'Exif\0\0'))
    return saved(image, 'PNG', exif=exif(orientation, b'Exif\0\0'))


# Animations and canvases

PALETTE = [(20, 20, 20), (250, 250, 250), (220, 30, 30), (30, 200, 40), (40, 60, 220), (240, 220, 40), (130, 40, 160), (120, 120, 120)]


def indices(dice, width, height):
    image = scene(dice, (width, height)).quantize(palette=palette_image(), dither=Image.Dither.NONE)
    return list(image.tobytes())


def palette_image():
    image = Image.new('P', (1, 1))
    image.putpalette([value for colour in PALETTE for value in colour] + [0, 0, 0] * 248)
    return image


def laid(screen, frames):
    """What browsers show of frames (index values, box, disposal, transparent index): what is cleared becomes
    transparent. Pillow fills it with a colour."""
    canvas, shown = Image.new('RGBA', screen), []
    colours = PALETTE + [(0, 0, 0)] * (16 - len(PALETTE))
    for values, (left, top, width, height), disposal, transparent in frames:
        before = canvas.copy()
        picture = Image.new('RGBA', (width, height))
        picture.putdata([(0, 0, 0, 0) if value == transparent else (*colours[value], 255) for value in values])
        canvas.alpha_composite(picture, (left, top))
        shown.append(canvas.copy())
        if disposal == 2:
            canvas.paste((0, 0, 0, 0), (left, top, left + width, top + height))
        elif disposal == 3:
            canvas = before
    return shown


def gif_frames(dice, screen, count, beyond=0, disposals=(0, 1)):
    frames, described = [], []
    for number in range(count):
        if number == 0 and not beyond:
            box = (0, 0, *screen)
        else:
            width, height = dice.randrange(8, screen[0] + 1), dice.randrange(8, screen[1] + 1)
            box = (dice.randrange(screen[0] - width + 1 + beyond), dice.randrange(screen[1] - height + 1 + beyond), width, height)
        values, disposal, transparent = indices(dice, box[2], box[3]), dice.choice(disposals), dice.choice((None, None, 3))
        described.append((values, box, disposal, transparent))
        frames.append(gifs.frame(values, box, colours=PALETTE if dice.random() < 0.3 else None, disposal=disposal,
                                 delay=dice.randrange(3, 60), transparent=transparent, interlaced=dice.random() < 0.2))
    return frames, described


def gif_usual(dice):
    screen = any_size(dice)
    frames, described = gif_frames(dice, screen, dice.choice((1, 1, 2, 4, 6)), disposals=(0, 1, 1, 2, 3))
    return gifs.encode(screen, PALETTE, frames), laid(screen, described)


def gif_screen(dice):
    """A screen that is too small, too large or empty, and frames that reach beyond it."""
    screen = any_size(dice)
    frames, described = gif_frames(dice, screen, dice.choice((1, 2, 3)), beyond=dice.randrange(20))
    claimed = dice.choice((screen, (screen[0] // 2, screen[1]), (1, 1), (screen[0] * 2, screen[1] + 9), (0, 0)))
    data = gifs.encode(claimed, PALETTE, frames, version=dice.choice((b'87a', b'89a')))
    boxes = [box for _, box, _, _ in described]
    if all(left + width <= claimed[0] and top + height <= claimed[1] for left, top, width, height in boxes):
        return data, laid(claimed, described)
    return data


def gif_between(dice):
    """Bytes between the blocks, and blocks behind the end."""
    screen = any_size(dice)
    frames, _ = gif_frames(dice, screen, 3)
    frames.insert(dice.randrange(1, 3), dice.choice((b'\x01', b'\0', b'\x3b', b'\xff\0\x11')))
    return gifs.encode(screen, PALETTE, frames)


def gif_cut(dice):
    screen = any_size(dice)
    frames, _ = gif_frames(dice, screen, dice.choice((1, 3)))
    data = gifs.encode(screen, PALETTE, frames)
    return data[:dice.randrange(120, len(data))]


def film(dice):
    """The usual animations of Pillow's writers."""
    size = any_size(dice)
    frames = [scene(dice, size) for _ in range(dice.randrange(2, 7))]
    if dice.random() < 0.3:
        frames = [frame.convert('RGBA') for frame in frames]
        for frame in frames:
            frame.putalpha(Image.linear_gradient('L').resize(size))
    kind = dice.choice(('PNG', 'WEBP'))
    options = {'save_all': True, 'append_images': frames[1:], 'duration': dice.randrange(40, 500), 'loop': 0}
    if kind == 'PNG':
        # Pillow clears what has no alpha to black, and browsers to nothing.
        disposals = (0, 2) if frames[0].mode == 'RGB' else (0, 1, 2)
        # And it lays transparent frames over one another by a rule of its own.
        blends = (0, 1) if frames[0].mode == 'RGB' else (0,)
        options |= {'disposal': dice.choice(disposals), 'blend': dice.choice(blends)}
    else:
        options |= {'lossless': dice.random() < 0.5}
    return saved(frames[0], kind, **options)


def webp_usual(dice):
    image = scene(dice, any_size(dice))
    if dice.random() < 0.4:
        image = image.convert('RGBA')
        image.putalpha(Image.linear_gradient('L').resize(image.size))
    return saved(image, 'WEBP', lossless=dice.random() < 0.5, quality=dice.randrange(60, 100), exact=True)


def webp_canvas(dice):
    """The canvas in the extended header is not the picture's size."""
    data = bytearray(saved(scene(dice, (40, 40)), 'WEBP', lossless=True, exif=exif(1)))
    data[24:27] = (dice.choice((19, 39, 63)) ).to_bytes(3, 'little')
    return bytes(data)


KINDS = {
    'jpeg-usual!': (jpeg_usual, 'jpg', 6), 'jpeg-large!': (jpeg_large, 'jpg', 0.1), 'jpeg-sampling!': (jpeg_sampling, 'jpg', 2),
    'jpeg-scans!': (jpeg_scans, 'jpg', 2), 'jpeg-markers': (jpeg_markers, 'jpg', 4), 'jpeg-four': (jpeg_four, 'jpg', 2),
    'jpeg-damaged': (jpeg_damaged, 'jpg', 4), 'jpeg-cut': (jpeg_cut, 'jpg', 2), 'jpeg-unfinished': (jpeg_unfinished, 'jpg', 1),
    'png-usual!': (png_usual, 'png', 6), 'png-gamma!': (png_gamma, 'png', 2), 'profile-usual!': (profile_usual, 'png', 4),
    'profile-hiding': (profile_hiding, 'png', 2), 'turned': (turned, 'png', 4), 'gif-usual!': (gif_usual, 'gif', 6),
    'gif-screen': (gif_screen, 'gif', 4), 'gif-between': (gif_between, 'gif', 3), 'gif-cut': (gif_cut, 'gif', 2),
    'film!': (film, 'webp', 4), 'webp-usual!': (webp_usual, 'webp', 4), 'webp-canvas': (webp_canvas, 'webp', 1),
}


def main():
    folder, count, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    weights = sum(weight for _, _, weight in KINDS.values())
    for kind, (draw, suffix, weight) in KINDS.items():
        for number in range(max(2, round(count * weight / weights))):
            drawn = draw(random.Random(f'{seed} {kind} {number}'))
            data, readings = drawn if isinstance(drawn, tuple) else (drawn, None)
            write(os.path.join(folder, f'{kind} {number:05}.{suffix}'), data, seen(data) if readings is None else readings)


def write(path, data, readings):
    with open(path, 'wb') as file:
        file.write(data)
    with open(path + '.seen', 'wb') as file:
        file.write(struct.pack('<I', len(readings)))
        for reading in readings:
            file.write(struct.pack('<II', *reading.size) + reading.tobytes())


if __name__ == '__main__':
    main()
