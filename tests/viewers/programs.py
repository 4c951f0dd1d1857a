#!/usr/bin/env python3
"""programs.py FOLDER: what other reference programs show of the stills in the folder, as NAME.PROGRAM (the
form is that of NAME.seen): djpeg of libjpeg-turbo, dwebp of libwebp, gif2rgb of giflib. A program that is
not installed is named on standard error and left out."""

import io
import os
import shutil
import struct
import subprocess
import sys

from PIL import Image


def djpeg(path):
    """It neither turns a picture nor looks at its profile."""
    with Image.open(path) as image:
        if 'icc_profile' in image.info or image.getexif().get(0x0112, 1) != 1:
            return None
    return shown(['djpeg', path])


def dwebp(path):
    with Image.open(path) as image:
        if 'icc_profile' in image.info or image.getexif().get(0x0112, 1) != 1:
            return None
    return shown(['dwebp', '-quiet', path, '-o', '-'])


def gif2rgb(path):
    """Red, green and blue without a head. What no frame covers it fills by a rule of its own."""
    with Image.open(path) as image:
        size, frames = image.size, getattr(image, 'n_frames', 1)
        covered = image.tile and image.tile[0][1] == (0, 0, *size)
        plain = frames == 1 and covered and 'transparency' not in image.info
    if not plain:
        return None
    done = subprocess.run(['gif2rgb', '-1', path], capture_output=True, timeout=60)
    if done.returncode or len(done.stdout) != size[0] * size[1] * 3:
        return None
    return Image.frombytes('RGB', size, done.stdout)


def shown(command):
    done = subprocess.run(command, capture_output=True, timeout=60)
    if not done.stdout:
        return None
    with Image.open(io.BytesIO(done.stdout)) as image:
        return image.convert('RGBA')


PROGRAMS = [('djpeg', djpeg, b'\xff\xd8\xff'), ('dwebp', dwebp, b'RIFF'), ('gif2rgb', gif2rgb, b'GIF8')]


def main():
    folder = sys.argv[1]
    installed = [program for program in PROGRAMS if shutil.which(program[0])]
    for name, _, _ in PROGRAMS:
        if not shutil.which(name):
            print(f'there is no {name}', file=sys.stderr)
    for name in sorted(os.listdir(folder)):
        if not name.endswith('.seen'):
            continue
        path = os.path.join(folder, name.removesuffix('.seen'))
        with open(path, 'rb') as file:
            head = file.read(4)
        for program, show, magic in installed:
            if head.startswith(magic):
                write(f'{path}.{program}', show, path)


def write(to, show, path):
    try:
        reading = show(path)
    except Exception:  # What a program does not like, it does not show.
        return
    if reading is not None:
        reading = reading.convert('RGBA')
        with open(to, 'wb') as file:
            file.write(struct.pack('<III', 1, *reading.size) + reading.tobytes())


if __name__ == '__main__':
    main()
