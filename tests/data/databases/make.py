#!/usr/bin/env python3
"""Makes a database with the program of some version: make.py MODTOOL OUT.db

Needs root (for /srv/uploads, whose name stands in the database) and Pillow. It watches drawn pages of text, decides some
of them on the command line and some in a dashboard (which takes leases), undoes, bans, removes; two hooks are told."""
import json, os, pty, random, shutil, sqlite3, subprocess, sys, tempfile, threading, time
from PIL import Image, ImageDraw

BIN, OUT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
UPLOADS, WORK = '/srv/uploads', tempfile.mkdtemp()
WS = f'{WORK}/workspace'
ENV = {k: v for k, v in os.environ.items() if not k.startswith('MODTOOL_')} | {'MODTOOL_DATA_DIR': f'{WORK}/data', 'TERM': 'xterm-256color'}
TOLD = f'{WORK}/told'


def page(seed):
    """Lines of drawn words, each page in its own layout."""
    dice, image = random.Random(seed), Image.new('RGB', (240, 320), 'white')
    draw = ImageDraw.Draw(image)
    for line in range(dice.randrange(2, 9), dice.randrange(14, 30)):
        words = ' '.join(''.join(dice.choices('abcdefghijklmnopqrstuvwxyz', k=dice.randrange(2, 9))) for _ in range(dice.randrange(2, 6)))
        draw.text((dice.randrange(4, 60), 10 * line), words, fill='black')
    return image


def modtool(*args, code=None):
    ran = subprocess.run([BIN, *args, '--workspace', WS], env=ENV, capture_output=True, text=True)
    assert code is None or ran.returncode == code, (args, ran)
    return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{')]


def until(what, ask):
    end = time.time() + 60
    while not ask():
        assert time.time() < end, what
        time.sleep(.2)


def queue(): return modtool('queue', 'list', '--format', 'json')
def decide(task, action, who='bo'): modtool('queue', 'decide', task['item'], '--action', action, '--reviewer', who, code=0)


def dashboard(keys):
    pid, terminal = pty.fork()
    if pid == 0: os.execve(BIN, [BIN, 'review', '--reviewer', 'ana', '--no-pictures', '--workspace', WS], ENV)
    def answer():
        while True:
            try: seen = os.read(terminal, 65536)
            except OSError: return
            if b'\x1b[5n' in seen: os.write(terminal, b'\x1b[?1;2c\x1b[0n')
    threading.Thread(target=answer, daemon=True).start()
    time.sleep(3)
    for key in keys: os.write(terminal, key.encode()); time.sleep(1.5)
    os.waitpid(pid, 0)


os.makedirs(f'{WS}/policies'); os.makedirs(f'{WORK}/data'); os.makedirs(UPLOADS)
open(f'{WS}/policies/pages.yaml', 'w').write('id: pages\nprompts: [a page of text]\ncontrast: [a blank sheet of paper, a meadow, a wall]\nthresholds: {review: 0.6, block: 0.97}\n')
open(f'{WS}/modtool.yaml', 'w').write('review: {grace_seconds: 0}\nhooks:\n' + ''.join(
    f'- {{name: {name}, on: [{kinds}], command: [/bin/sh, -c, "cat >> {TOLD}.{name}"]}}\n'
    for name, kinds in (('site', 'decision'), ('everything', 'verdict, decision, action'))))
watcher = subprocess.Popen([BIN, 'watch', UPLOADS, '--workspace', WS], env=ENV, stderr=open(f'{WORK}/log', 'w'))
try:
    time.sleep(4)
    for n in range(12): page(n).save(f'{UPLOADS}/page-{n}.png')
    for n, colour in enumerate(('darkgreen', 'skyblue', 'white')): Image.new('RGB', (90, 60), colour).save(f'{UPLOADS}/plain-{n}.png')
    open(f'{UPLOADS}/broken.jpg', 'wb').write(b'\xff\xd8\xff\xe0 no picture')
    shutil.copy(f'{UPLOADS}/page-0.png', f'{UPLOADS}/twin.png')
    until('all is judged', lambda: len(modtool('export', 'verdicts')) == 17)
    time.sleep(2)
    decide(queue()[0], 'approve')
    dashboard('aaeruq')                                   # leases from here on
    for task in queue()[:2]: decide(task, 'remove')
    page(50).save(f'{UPLOADS}/later.png')
    until('the later one is judged', lambda: len([r for r in modtool('export', 'verdicts') if r['path'].endswith('later.png')]))
    modtool('bank', 'add', f'{UPLOADS}/plain-1.png', '--action', 'remove', '--reviewer', 'bo', '--yes')
    dashboard('avq')
    until('something is in quarantine', lambda: modtool('quarantine', '--format', 'json'))
    time.sleep(3)
finally:
    watcher.terminate(); watcher.wait(); shutil.rmtree(UPLOADS)
database = sqlite3.connect(f'{WS}/modtool.db', isolation_level=None)
for statement in ('PRAGMA journal_mode = DELETE', 'PRAGMA page_size = 1024', 'VACUUM'): database.execute(statement)
for statement in ('SELECT * FROM sqlite_sequence', 'SELECT * FROM hooks', 'SELECT max(sequence) FROM audit_events'):
    print(statement, database.execute(statement).fetchall())
print({table: database.execute(f'SELECT count(*) FROM {table}').fetchone()[0] for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()})
database.close(); shutil.copy(f'{WS}/modtool.db', OUT)
for name in ('site', 'everything'):
    print(name, sorted(json.loads(line)['sequence'] for line in open(f'{TOLD}.{name}')))
print(os.path.getsize(OUT), 'bytes'); shutil.rmtree(WORK)
