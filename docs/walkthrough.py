"""Records docs/walkthrough.gif and docs/review.png: the real binary in a pseudo-terminal, pictures drawn here.

    python3 -m venv env && env/bin/pip install pyte pillow
    env/bin/python docs/walkthrough.py target/release/modtool

Needs the DejaVu fonts. Nothing is retouched: each frame is what the terminal shows after the keys.
"""
import fcntl, os, pty, random, select, signal, struct, subprocess, sys, tempfile, termios, time
import pyte
from PIL import Image, ImageDraw, ImageFont

FONTS = "/usr/share/fonts/truetype/dejavu/DejaVuSans"
COLUMNS, ROWS, CELL = 110, 30, (8, 17)
COLOURS = {"black": "#2b2b2b", "red": "#cd3c3c", "green": "#3fa34d", "brown": "#d0a030", "blue": "#4a78c8",
           "magenta": "#b060b0", "cyan": "#3aa6b0", "white": "#d8d8d8", "brightblack": "#8a8a8a"}
# Keys, what the viewer is told, seconds on the screen. The first frame waits for the queue.
STEPS = [
    ("", "what the policies flagged, the most pressing first; pictures begin blurred", 3.5),
    ("v", "v: one step less blurred", 1.6), ("vv", "until it is clear", 2.4),
    ("r", "r on a group: first, what will be touched", 3.0),
    ("\r", "Enter: three near-duplicates removed with one key", 2.6),
    ("u", "u: taken back, all three", 2.4), ("U", "U: decided again", 2.0),
    ("v", "the next one", 1.6), ("a", "a: approved, and on to the next", 2.2),
    ("?", "?: every key", 2.6), ("\x1b", "", 0.6),
    ("s", "s: search everything that was judged", 1.4), ("a paper receipt", "in plain words", 1.4),
    ("\r", "the most similar first", 3.2), ("\x1b", "", 0.6),
    ("\t", "Tab: how the queue, the policies and the people do", 3.6),
]


def font(size, kind=""): return ImageFont.truetype(f"{FONTS}{kind}.ttf", size)


def card(folder):
    image = Image.new("RGB", (860, 540), (214, 228, 240)); draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 860, 80), fill=(36, 72, 140)); draw.text((30, 18), "IDENTITY CARD  SPECIMEN", font=font(40), fill="white")
    draw.rectangle((40, 110, 290, 430), fill=(190, 200, 206)); draw.ellipse((105, 150, 225, 300), fill=(222, 184, 150))
    draw.rectangle((95, 135, 235, 190), fill=(70, 45, 30)); draw.rectangle((80, 300, 250, 430), fill=(60, 70, 120)); y = 120
    for name, value in [("Surname", "SAMPLE"), ("Given names", "ALEX"), ("Nationality", "UTOPIA"), ("Date of birth", "01.01.1990"), ("Expires", "31.12.2031")]:
        draw.text((330, y), name, font=font(18), fill=(90, 90, 110)); draw.text((330, y + 20), value, font=font(28), fill=(20, 20, 30)); y += 62
    draw.text((30, 470), "IDUTO<<SAMPLE<<ALEX<<<<<<<<<<<<<<<", font=font(30), fill=(30, 30, 40))
    image.save(f"{folder}/id-front.jpg", quality=90); image.resize((430, 270)).save(f"{folder}/id-front-small.jpg", quality=85)
    image.rotate(180).save(f"{folder}/id-turned.png")


def receipt(folder, name, seed):
    pick = random.Random(seed); image = Image.new("RGB", (480, 900), (246, 245, 240)); draw = ImageDraw.Draw(image)
    draw.text((120, 30), "CORNER SHOP", font=font(34), fill=(20, 20, 20)); y = 110
    for _ in range(18):
        draw.text((40, y), pick.choice(["Bread", "Milk 1l", "Apples", "Coffee", "Soap", "Paper", "Tea"]), font=font(24), fill=(30, 30, 30))
        draw.text((370, y), f"{pick.randrange(1, 20)}.{pick.randrange(10, 99)}", font=font(24), fill=(30, 30, 30)); y += 36
    draw.text((40, y + 20), "TOTAL", font=font(34), fill=(0, 0, 0)); draw.text((350, y + 20), "87.20", font=font(34), fill=(0, 0, 0)); image.save(f"{folder}/{name}", quality=90)


def chat(folder):
    image = Image.new("RGB", (540, 1100), (236, 229, 221)); draw = ImageDraw.Draw(image); draw.rectangle((0, 0, 540, 90), fill=(7, 94, 84))
    draw.text((30, 25), "Group chat", font=font(34), fill="white"); y = 120
    for line in range(10):
        x = 30 if line % 2 else 150; draw.rounded_rectangle((x, y, x + 350, y + 70), 16, fill="white" if line % 2 else (220, 248, 198))
        draw.text((x + 16, y + 20), "Have you seen this?" if line % 2 else "Yes, see you at eight", font=font(22), fill=(20, 20, 20)); y += 92
    image.save(f"{folder}/Screenshot_20261124.png")


def landscape(folder, name, seed):
    pick = random.Random(seed); image = Image.new("RGB", (800, 600)); draw = ImageDraw.Draw(image)
    for y in range(600): draw.line((0, y, 800, y), fill=(120 + y // 8, 170 + y // 10, 235 - y // 9) if y < 330 else (40 + y // 9, 110 + (y - 330) // 9, 50))
    for _ in range(5): x, r = pick.randrange(800), pick.randrange(30, 90); draw.ellipse((x, 330 - r, x + 2 * r, 330 + r), fill=(30, pick.randrange(80, 130), 40))
    image.save(f"{folder}/{name}", quality=88)


def uploads(folder):
    os.mkdir(folder); card(folder); chat(folder)
    for name, seed in [("receipt.jpg", 3), ("bon-2026-11.jpg", 4)]: receipt(folder, name, seed)
    for seed in range(6): landscape(folder, f"holiday-{seed}.jpg", seed)
    with open(f"{folder}/broken.webp", "wb") as broken: broken.write(b"RIFF\x10\x00\x00\x00WEBPVP8 xx")


def draw_screen(screen, caption):
    mono, bold = font(13, "Mono"), font(13, "Mono-Bold"); (wide, high) = CELL
    image = Image.new("RGB", (COLUMNS * wide + 16, (ROWS + (caption is not None) * 2) * high + 16), "#1a1b1e"); draw = ImageDraw.Draw(image)
    colour = lambda name, usual: usual if name == "default" else (COLOURS.get(name) or (name if name.startswith("#") else "#" + name))
    for y in range(ROWS):
        for x in range(COLUMNS):
            cell = screen.buffer[y][x]; ink, paper = colour(cell.fg, "#d8d8d8"), colour(cell.bg, "#1a1b1e")
            if cell.reverse: ink, paper = paper, ink
            left, top = 8 + x * wide, 8 + y * high; draw.rectangle((left, top, left + wide - 1, top + high - 1), fill=paper)
            if cell.data == "▀": draw.rectangle((left, top, left + wide - 1, top + high // 2 - 1), fill=ink)
            elif cell.data == "▄": draw.rectangle((left, top + high // 2, left + wide - 1, top + high - 1), fill=ink)
            elif cell.data == "█": draw.rectangle((left, top, left + wide - 1, top + high - 1), fill=ink)
            elif cell.data.strip(): draw.text((left, top), cell.data, font=bold if cell.bold else mono, fill=ink)
    if caption: draw.text((16, ROWS * high + 20), caption, font=font(15), fill="#f0c060")
    return image


def main(binary):
    binary = os.path.abspath(binary); folder = tempfile.mkdtemp(); uploads(f"{folder}/uploads")
    subprocess.run([binary, "scan", "--quiet", "uploads"], cwd=folder, check=False, stdout=subprocess.DEVNULL)
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder); os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.execv(binary, [binary, "review", "--reviewer", "ana", "--pictures", "halfblocks"])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0)); os.kill(pid, signal.SIGWINCH)
    screen = pyte.Screen(COLUMNS, ROWS); stream = pyte.ByteStream(screen)

    def settle(quiet):
        """Reads until nothing has come for so many seconds."""
        until = time.time() + quiet
        while time.time() < until:
            if select.select([fd], [], [], 0.05)[0]: stream.feed(os.read(fd, 65536)); until = time.time() + quiet

    frames, pauses = [], []; settle(2.5)
    for keys, caption, seconds in STEPS:
        for key in keys: os.write(fd, key.encode()); settle(0.08 if len(keys) > 3 else 0.4)
        settle(1.0); frames.append(draw_screen(screen, caption)); pauses.append(int(seconds * 1000))
        if keys == "vv": draw_screen(screen, None).save("docs/review.png", optimize=True)
    os.write(fd, b"\x1b"); settle(0.3); os.write(fd, b"q"); os.waitpid(pid, 0)
    palette = [frame.quantize(96, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for frame in frames]
    palette[0].save("docs/walkthrough.gif", save_all=True, append_images=palette[1:], duration=pauses, loop=0, optimize=True)


main(sys.argv[1])
