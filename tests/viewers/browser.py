#!/usr/bin/env python3
"""browser.py FOLDER: what Chromium shows of every still in the folder, over white, as NAME.browser (the form
is that of NAME.seen). Many pictures share a page; a screenshot of it is cut up."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from urllib.parse import quote

from PIL import Image

CELL, ACROSS, DOWN = 80, 16, 12


def sizes(folder):
    """Name, width and height of everything that has one reading which fits a cell. Chromium does not turn a
    WebP, so its size is not that of the reading."""
    for name in sorted(os.listdir(folder)):
        if not name.endswith('.seen'):
            continue
        with open(os.path.join(folder, name), 'rb') as file:
            head = file.read(12)
        if struct.unpack('<I', head[:4])[0] == 1:
            width, height = struct.unpack('<II', head[4:])
            path = os.path.join(folder, name.removesuffix('.seen'))
            if turned(path):
                width, height = height, width
            if max(width, height) <= CELL:
                yield name.removesuffix('.seen'), width, height


def turned(path):
    try:
        with Image.open(path) as image:
            return image.format == 'WEBP' and image.getexif().get(0x0112, 1) >= 5
    except Exception:  # What Pillow can't open it does not turn.
        return False


def page(folder, pictures):
    cells = (f'<img style="left:{i % ACROSS * CELL}px;top:{i // ACROSS * CELL}px" '
             f'src="file://{quote(os.path.join(folder, name))}">' for i, (name, _, _) in enumerate(pictures))
    return ('<!doctype html><style>body{margin:0;background:#fff}img{position:absolute;'
            f'max-width:{CELL}px;max-height:{CELL}px}}</style>' + ''.join(cells))


def shoot(browser, html, to):
    subprocess.run([browser, '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--force-color-profile=srgb',
                    '--force-device-scale-factor=1', '--virtual-time-budget=4000', '--allow-file-access-from-files',
                    f'--window-size={CELL * ACROSS},{CELL * DOWN}', f'--screenshot={to}', f'file://{html}'],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)


def main():
    folder = os.path.abspath(sys.argv[1])
    browser = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if browser is None:
        sys.exit('there is no Chromium')
    pictures = list(sizes(folder))
    with tempfile.TemporaryDirectory() as place:
        html, shot = os.path.join(place, 'page.html'), os.path.join(place, 'shot.png')
        for start in range(0, len(pictures), ACROSS * DOWN):
            part = pictures[start:start + ACROSS * DOWN]
            with open(html, 'w') as file:
                file.write(page(folder, part))
            shoot(browser, html, shot)
            with Image.open(shot) as image:
                image = image.convert('RGBA')
            for i, (name, width, height) in enumerate(part):
                left, top = i % ACROSS * CELL, i // ACROSS * CELL
                cut = image.crop((left, top, left + width, top + height))
                with open(os.path.join(folder, name + '.browser'), 'wb') as file:
                    file.write(struct.pack('<III', 1, width, height) + cut.tobytes())


if __name__ == '__main__':
    main()
