"""Words and thresholds of the starter policies for a model: a greedy search, and what it is worth on photos held out.

    python tune.py MODEL_FOLDER GOLDEN_FOLDER POLICIES_FOLDER [--write] [--json FILE]
    python tune.py MODEL_FOLDER GOLDEN_FOLDER POLICIES_FOLDER --measure FILE    # the tables of policies/README.md: the files as they are; FILE: what --json wrote, for the cross-validated columns

Positives: a folder of GOLDEN_FOLDER for each policy.  Negatives: its `neutral` photos and its drawings, and everyday
photos and drawings of the held-out tenth.  Every step adds or takes away the one prompt or contrast prompt that helps most: the mean recall at 1, 2
and 4 % false positives.  Cross-validated: in each of four parts, whole source repositories together where a topic has
more than three, the same search runs on the other three and is tried on the part held out.
"""
import argparse
import glob
import hashlib
import json
import os
import re

import numpy as np
import yaml

from common import PHOTO, WORK, index
from compare import Model, auc, wilson
from prepare import decoded

NEUTRAL = ["an ordinary photo", "a person", "a landscape", "an animal", "food", "a room", "a street"]
EVERYDAY = {"flickr8k", "flickr8k_1k", "food10", "cats_dogs", "intel_scenes", "intel_scenes_b", "imagenette", "imagenette_b", "clothes", "clothing", "clothing_full", "sports22", "desk_objects", "scenes15", "flowers5", "professions10", "instruments", "imagen", "vehicles_animals", "fruit_fresh", "pacs_art"}
RATES = (0.01, 0.02, 0.04)
ALLOWED = 0.013  # of the negatives, flagged by one policy
# What a policy may look for: words that mean its topic, so that its prompts stay readable as a rule.
PROMPTS = {
    "alcohol": "a bottle of beer, a bottle of wine, a glass of beer, a can of beer, beer, vodka, whisky, liquor, a bottle of vodka, a bottle of liquor, a glass of red wine, a glass of wine, a cocktail, champagne, people toasting with beer, a bar counter with bottles",
    "crash": "a damaged car, a car crash, a damaged vehicle, a car with scratches, a dent and scratches in the paint of a car, a wrecked car, a broken car, a traffic accident, an overturned truck, a broken windscreen, a car with a dent",
    "documents": "an identity card, a passport, a credit card, a receipt, a document, a printed letter, a page of text, an invoice, a form, a certificate, handwriting, a driving licence",
    "fire": "a fire, flames, a kitchen fire, a wildfire, a burning building, a burning car, a campfire, smoke from a fire, an explosion",
    "gambling": "a slot machine, a roulette wheel, playing cards on a table, a poker game, a blackjack table, gambling, a casino game, a casino, poker chips, dice, playing cards",
    "memes": "a meme with text over a picture, a cartoon meme, an animal picture with a funny caption, a social media post with a picture, a greeting card with a message, a funny picture, a cat picture with text, a meme, a picture with text over it, a dog picture with text, a poster with a joke",
    "money": "banknotes, coins, a stack of money, a fan of banknotes, cash, a hand holding banknotes, a pile of coins, a banknote, paper money",
    "pills": "medicine tablets, a syringe, a pharmacy, a capsule, prescription medicine, pills, a blister pack of pills, a pill bottle, medicine, a box of medicine",
    "screenshots": "a screenshot of a chat conversation, a screenshot of a phone app, a screenshot, a screenshot of a computer program, a screenshot of a website, a login page",
    "smoking": "a person smoking a cigarette, a vape pen, a hookah, e-liquid bottles, a lighter and cigarettes, smoking accessories, a cigarette, a cigar, a smoking pipe, an e-cigarette, a pack of cigarettes, a person smoking",
    "weapons": "a handgun, a rifle, a pistol, a gun in a hand, a weapon, a knife used as a weapon, a machine gun, a revolver, a shotgun, a sword, an assault rifle, an airsoft gun, a gun",
}
# What a policy has to name, whatever the search says: the topic's own photos here are few and of some looks only.
CORE = {
    "alcohol": "a bottle of beer, a bottle of wine",
    "crash": "a car crash, a damaged car",
    "documents": "an identity card, a receipt, a page of text",
    "fire": "a fire, flames",
    "gambling": "a slot machine, playing cards on a table, a poker game",
    "memes": "a cartoon meme, a cat picture with text",
    "money": "banknotes, coins",
    "pills": "medicine tablets, a syringe",
    "screenshots": "a screenshot, a screenshot of a phone app",
    "smoking": "a person smoking a cigarette, a vape pen",
    "weapons": "a handgun, a rifle",
}
# What may stand against it: look-alikes and plain everyday things.
CONTRAST = """a ball, a bag, a basket, a bench, a bicycle, a bird, a boat, a book, a bottle of water, a bowl of soup, a box, a building, a bus, a cake, a camera, a car, a car showroom, a carpet, a cat, a chair, a chef, a clock, clothes, clothing, clouds, a coat, a colour gradient, a concert, a computer, a cup of coffee, a cup of tea, a dentist, a doctor, a dog, a door, a drawing, a dress, an advertisement, an abstract pattern, an app icon, an empty glass, an object on the ground, an orange, a fence, a field, a flower, a food package, a forest, a fountain, fruit, fruit in a grocery store, furniture, a game controller, a garden, glass waste, a grey wall, a group of people, a guitar, a hair dryer, a hat, a helmet, a horse, houses, an insect, jewellery, juice, a kitchen, a ladder, a lamp, a laptop, a light bulb, a logo, a magazine, a map, a measuring cup, a mechanic repairing a vehicle, a medal, meat on a plate, a metal can, a microphone, a mobile phone, a motorbike, a mountain, a musical instrument, a necklace, an office, a painting, a pair of shoes, a parked car, a pen, a person cooking, a person drinking, a person in costume, a person playing sports, a person serving food, a person talking on the phone, a person wearing a hat, a person who is not smoking, a piece of metal, a pizza, a plain coloured background, a plant, plastic waste, a plate of food, a portrait of a face, a postage stamp, a poster, a power drill, a product package, a ring, a road, a rope, a sandwich, a sculpture, a sewing machine, a shirt, a small bird, a smartphone, a snake, a sofa, a soft drink, a sports match, people playing sports, a stone, a store shelf, a street sign, a street with cars, street traffic, a sunset, a sunset sky, a swimming pool, a table, a tall building, a television, a tent, a tool, a toy, a train, trash, a tree, a truck, a truck on a road, a t-shirt, an umbrella, a vacuum cleaner, a vase, vegetables, vegetables in a grocery store, a wallet, a watch, a waterfall, a wheel, a white background, a white plate, a wild animal, a window, a woman's portrait, a wooden surface, a yellow flower, the back of a car, an inhaler, a perfume bottle, a flashlight, a calculator, a remote control, a jar of spices, candy, a board game, a painting of a person, a printed page""".split(", ")


def recalls(pos, neg):
    """Mean recall at RATES for many candidates at once: scores [p, c], [n, c] to [c]."""
    order = np.sort(neg, axis=0)[::-1]
    return np.mean([(pos > order[int(r * len(neg))]).mean(0) for r in RATES], axis=0)


def objective(pos, neg):
    """Both kinds of negatives count half; a little of the mean rank keeps the search moving where recall stands still."""
    spread = np.mean([1 - np.log1p((neg > np.quantile(pos, q, axis=0)).mean(0) * 50) / np.log(51) for q in (0.3, 0.6)], axis=0)
    return recalls(pos, neg) + 0.15 * spread


class Search:
    def __init__(self, e_pos, e_neutral, e_day, prompts, contrast, pools, core, vec, scale):
        self.x = [np.exp(scale * e @ vec.T) for e in (e_pos, e_neutral, e_day)]
        self.p, self.c, self.pools, self.core = list(prompts), list(contrast), pools, core

    def value(self, p, d):
        s = [a / b for a, b in zip(p, d)]
        return 0.5 * objective(s[0], s[1]) + 0.5 * objective(s[0], s[2])

    def sums(self, cols):
        return [x[:, cols].sum(1, keepdims=True) for x in self.x]

    def moves(self, fixed):
        """(value, words to look for, contrast) for every single change."""
        p, d = self.sums(self.p), self.sums(self.p + self.c + fixed)
        out = [(float(self.value(p, d)[0]), self.p, self.c)]
        more = [q for q in self.pools[0] if q not in self.p and q not in self.c] if len(self.p) < 7 else []
        if more:
            a = [x[:, more] for x in self.x]
            v = self.value([i + j for i, j in zip(p, a)], [i + j for i, j in zip(d, a)])
            out += [(v[k], self.p + [q], self.c) for k, q in enumerate(more)]
        more = [q for q in self.pools[1] if q not in self.c and q not in self.p and q not in fixed] if len(self.c) < 10 else []
        if more:
            v = self.value(p, [i + x[:, more] for i, x in zip(d, self.x)])
            out += [(v[k], self.p, self.c + [q]) for k, q in enumerate(more)]
        for q in [q for q in self.p if q not in self.core]:
            rest = [r for r in self.p if r != q]
            out.append((float(self.value(self.sums(rest), self.sums(rest + self.c + fixed))[0]), rest, self.c))
        for q in self.c:
            rest = [r for r in self.c if r != q]
            out.append((float(self.value(p, self.sums(self.p + rest + fixed))[0]), self.p, rest))
        return out

    def run(self, fixed, steps=22):
        for _ in range(steps):
            found = self.moves(fixed)
            best = max(found, key=lambda f: f[0])
            if best[0] < found[0][0] + 0.004:
                break
            _, self.p, self.c = best
        return self.p, self.c


def score(e, vec, p, c, fixed, scale):
    x = np.exp(scale * e @ vec.T)
    return x[:, p].sum(1) / x[:, p + c + fixed].sum(1)


def review_at(neutral, day):
    """The threshold that ALLOWED of the negatives exceed, either kind counting half."""
    every = np.sort(np.concatenate([neutral, day]))[::-1]
    rate = lambda t: 0.5 * (neutral >= t).mean() + 0.5 * (day >= t).mean()
    best = next((every[k - 1] for k in range(1, len(every)) if rate(every[k]) > ALLOWED), every[0])
    return min(0.98, float(best) + 1e-6)


def between(t, low):
    """Where every photo of the topic is found, the threshold goes half-way (in log-odds) to the lowest of them: fewer false alarms elsewhere."""
    odds = lambda p: np.log(p / (1 - p))
    return t if low <= t else float(1 / (1 + np.exp(-(odds(t) + odds(min(low, 0.999))) / 2)))


def parts(names, repos, seed):
    """Four parts of a topic's photos, whole repositories together where there are more than three."""
    keys = [repos[n] for n in names]
    keys = keys if len(set(keys)) > 3 else names
    return np.array([int(hashlib.md5(f"{seed}:{k}".encode()).hexdigest(), 16) % 4 for k in keys])


def measure(policies, model, golden, folder, day, searched):
    """The starter policies as they are in their files, and the curve when all thresholds move together."""
    odds, share = lambda p: np.log(p / (1 - p)), lambda v: f"{100 * v:.1f} %"
    said, rows = {}, []
    for topic, policy in policies.items():
        words = policy["prompts"] + policy["contrast"] + [w for w in NEUTRAL if w not in policy["prompts"]]
        x = np.exp(model.scale * golden @ model.texts([f"a photo of {w}" for w in words]).T)
        y = np.exp(model.scale * day @ model.texts([f"a photo of {w}" for w in words]).T)
        k = len(policy["prompts"])
        said[topic] = (x[:, :k].sum(1) / x.sum(1), y[:, :k].sum(1) / y.sum(1), policy["thresholds"]["review"], policy["mode"])
        s, n, t = said[topic][0][folder == topic], said[topic][0][folder == "neutral"], policy["thresholds"]
        r, f, a = wilson(int((s >= t["review"]).sum()), len(s)), wilson(int((n >= t["review"]).sum()), len(n)), auc(s, n)
        c = searched[topic]
        pc = lambda v, d=0: f"{100 * v[0]:.{d}f} % ({100 * v[1]:.{d}f} to {100 * v[2]:.{d}f})"
        rows.append(f"| {topic} | {policy['mode']} | {(s >= t['review']).sum()} of {len(s)}: {pc(r)} | {(n >= t['review']).sum()} of {len(n)}: {pc(f, 1)} | {a[0]:.2f} ({a[1]:.2f} to {a[2]:.2f}) | {(s >= t['block']).sum()} of {len(s)} | {100 * c['cv_recall']:.0f} % | {100 * c['cv_neutral']:.1f} % |")
        clear = [name for name, e in (("neutral", n), ("drawings", said[topic][0][folder == "drawings"])) if (e >= t["block"]).any()]
        if clear:
            rows.append(f"  (at block: {clear})")
    print("\n".join(rows))
    for name in ("live", "all"):
        some = {k: v for k, v in said.items() if name == "all" or v[3] == "live"}
        at = lambda shift: {k: 1 / (1 + np.exp(-(odds(v[2]) + shift))) for k, v in some.items()}
        def rates(shift):
            t = at(shift)
            hit = np.mean([(v[0][folder == k] >= t[k]).mean() for k, v in some.items()])
            flagged = lambda f: np.any([v[0][folder == f] >= t[k] for k, v in some.items()], 0)
            return hit, flagged("neutral").mean(), flagged("drawings").mean(), np.any([v[1] >= t[k] for k, v in some.items()], 0).mean()
        g, boots = np.random.default_rng(0), []
        for _ in range(2000):
            boots.append(np.mean([np.mean(g.choice(v[0][folder == k] >= v[2], (folder == k).sum())) for k, v in some.items()]))
        h, n, d, e = rates(0)
        lo, hi = np.quantile(boots, [0.025, 0.975])
        print(f"{name} ({len(some)}): recall {share(h)} ({100 * lo:.1f} to {100 * hi:.1f}), neutral {wilson(round(n * 194), 194)}, drawings {share(d)}, everyday {share(e)} of {len(day)}")
        curve = [(rates(s)[1], rates(s)[0]) for s in np.arange(-4, 2.5, 0.1)]
        print("  curve", {f"{100 * w:.0f} %": share(max([r for f, r in curve if f <= w], default=0)) for w in (0.05, 0.1, 0.15, 0.2, 0.3)})


def main():
    a = argparse.ArgumentParser()
    a.add_argument("model"), a.add_argument("golden"), a.add_argument("policies")
    a.add_argument("--write", action="store_true"), a.add_argument("--measure", default=""), a.add_argument("--json", default="")
    a = a.parse_args()
    model = Model(a.model)
    names = sorted(glob.glob(f"{a.golden}/*/*"))
    cache = f"{WORK}/tune-{hashlib.md5(open(f'{a.model}/image.onnx', 'rb').read()).hexdigest()[:8]}.npz"
    if not os.path.exists(cache):
        img = np.memmap(f"{WORK}/img.u8", np.uint8, "r").reshape(-1, PHOTO, PHOTO, 3)
        day = [(i, r) for i, r in index("test") if r["source"] in EVERYDAY]
        np.savez(cache, golden=model.images([decoded(open(n, "rb").read(), None) for n in names]), day=model.images([np.array(img[i]) for i, _ in day]))
    z = np.load(cache)
    folder = np.array([n.split("/")[-2] for n in names])
    short = ["/".join(n.split("/")[-2:]) for n in names]
    repos = {r["path"]: r["repo"] for r in map(json.loads, open(f"{a.golden}/sources.jsonl"))}
    plain = (folder == "neutral") | (folder == "drawings")
    neutral, day = z["golden"][plain], z["day"]

    files = {yaml.safe_load(open(f))["id"]: f for f in sorted(glob.glob(f"{a.policies}/*.yaml"))}
    policies = {i: yaml.safe_load(open(f)) for i, f in files.items()}
    if a.measure:
        return measure(policies, model, z["golden"], folder, day, json.load(open(a.measure)))
    words = list(dict.fromkeys(NEUTRAL + CONTRAST + [w for v in PROMPTS.values() for w in v.split(", ")] + [w for p in policies.values() for w in p["prompts"] + p["contrast"]]))
    vec, at = model.texts([f"a photo of {w}" for w in words]), {w: k for k, w in enumerate(words)}
    fixed_all = [at[w] for w in NEUTRAL]
    report = {}
    for topic, policy in policies.items():
        e = z["golden"][folder == topic]
        start_p, start_c = [at[w] for w in policy["prompts"]], [at[w] for w in policy["contrast"]]
        mine = [at[w] for w in PROMPTS[topic].split(", ")]
        pools = (mine, [at[w] for w in CONTRAST if at[w] not in mine])
        start_c = [q for q in start_c if q in pools[1]]
        core = [at[w] for w in CORE[topic].split(", ")]
        start_p = list(dict.fromkeys(core + [q for q in start_p if q in mine]))[:7]
        fixed = [q for q in fixed_all if q not in start_p]
        cv = []
        for seed in (1, 2):
            fold = parts([s for s, f in zip(short, folder) if f == topic], repos, seed)
            nfold, dfold = parts([s for s, f in zip(short, plain) if f], repos, seed), np.arange(len(day)) % 4
            hit, wrong = np.zeros(len(e), bool), np.zeros(len(neutral), bool)
            for k in range(4):
                if (fold != k).sum() < 3 or not (fold == k).any():
                    continue
                p, c = Search(e[fold != k], neutral[nfold != k], day[dfold != k], core, [], pools, core, vec, model.scale).run(fixed)
                t = review_at(score(neutral[nfold != k], vec, p, c, fixed, model.scale), score(day[dfold != k], vec, p, c, fixed, model.scale))
                t = between(t, score(e[fold != k], vec, p, c, fixed, model.scale).min())
                hit[fold == k] = score(e[fold == k], vec, p, c, fixed, model.scale) >= t
                wrong[nfold == k] = score(neutral[nfold == k], vec, p, c, fixed, model.scale) >= t
            cv.append((hit.mean(), wrong))
        tries = [Search(e, neutral, day, s, c, pools, core, vec, model.scale).run(fixed) for s, c in ((start_p, start_c), (core, []))]
        worth = lambda f: Search(e, neutral, day, *f, pools, core, vec, model.scale).moves(fixed)[0][0]
        p, c = max(tries, key=worth)
        s, n, d = (score(v, vec, p, c, fixed, model.scale) for v in (e, neutral, day))
        t = round(between(review_at(n, d), s.min()), 3)
        draw = score(z["golden"][folder == "drawings"], vec, p, c, fixed, model.scale)
        block = round(min(0.998, max(t + 0.02, 0.9, float(max(n.max(), d.max(), draw.max())) * 0.2 + 0.8)), 3)
        report[topic] = {"mode": policy["mode"], "prompts": [words[q] for q in p], "contrast": [words[q] for q in c], "review": t, "block": block, "recall": wilson(int((s >= t).sum()), len(s)), "photos": len(s), "neutral": wilson(int((n >= t).sum()), len(n)), "day": float((d >= t).mean()), "auc": auc(s, n), "at_block": int((s >= block).sum()), "cv_recall": float(np.mean([h for h, _ in cv])), "cv_neutral": float(np.mean([w.mean() for _, w in cv]))}
        report[topic]["_n"], report[topic]["_cv"], report[topic]["_d"] = n >= t, [w for _, w in cv], d >= t
        r = report[topic]
        print(f"{topic}: review {t} block {block} recall {r['recall'][0]:.2f} neutral {r['neutral'][0]:.3f} day {r['day']:.3f} auc {r['auc'][0]:.3f} cv {r['cv_recall']:.2f} {r['cv_neutral']:.3f} at block {r['at_block']}", flush=True)
        print("   ", r["prompts"], "|", r["contrast"], flush=True)
    for name, keep in (("live", lambda r: r["mode"] == "live"), ("all", lambda r: True)):
        some = [r for r in report.values() if keep(r)]
        print(f"{name}: recall {np.mean([r['recall'][0] for r in some]):.3f}, neutral flagged {np.any([r['_n'] for r in some], 0).mean():.3f}, everyday {np.any([r['_d'] for r in some], 0).mean():.3f}; cross-validated recall {np.mean([r['cv_recall'] for r in some]):.3f}, flagged {np.mean([np.any([r['_cv'][k] for r in some], 0).mean() for k in (0, 1)]):.3f}", flush=True)
    clean = {k: {n: v for n, v in r.items() if n[0] != "_"} for k, r in report.items()}
    if a.json:
        json.dump(clean, open(a.json, "w"), indent=1)
    if a.write:
        for topic, r in clean.items():
            text = open(files[topic], encoding="utf-8").read()
            listed = lambda key, ws: "\n".join(f"  - {w}" for w in ws)
            text = re.sub(r"(?ms)^prompts:\n.*?^contrast:([^\n]*)\n.*?^scoring", lambda m: f"prompts:\n{listed('p', r['prompts'])}\ncontrast:{m[1]}\n{listed('c', r['contrast'])}\nscoring", text)
            text = re.sub(r"thresholds: \{review: [\d.]+, block: [\d.]+\}", f"thresholds: {{review: {r['review']}, block: {r['block']}}}", text)
            open(files[topic], "w", encoding="utf-8").write(text)


if __name__ == "__main__":
    main()
