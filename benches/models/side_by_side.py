"""modtool beside Hugging Face transformers, on the same files, in one run.

    python side_by_side.py MODTOOL MODEL_FOLDER PICTURES [--variant int8] [--bench PREPROCESS]
                           [--rounds 3]

MODTOOL is the release binary, MODEL_FOLDER one that make_models.py made, PICTURES a folder. With
--bench (the binary that `cargo bench --bench preprocess --no-run` builds) preparing one picture is
measured too, on one core. Needs torch, transformers, Pillow and onnxruntime, which modtool is told
to use. Times without start and loading: what is compared is the work on each picture. Everything is
measured in turn, in several rounds: a shared machine is faster in one minute than in the next.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

import numpy
import onnxruntime
import torch
import transformers
from PIL import Image

PROMPTS = [
    "a handgun", "a rifle", "a receipt", "an identity card", "an ordinary photo", "a person",
    "a landscape", "an animal",
]
BATCH = 8


def average(rates):
    return sum(rates) / len(rates)


def spread(rates):
    return f"({min(rates):.1f} to {max(rates):.1f})"


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def pipeline_rate(model, processor, tokenizer, files):
    """As the zero-shot pipeline does it: a picture at a time, with all prompts."""
    pipeline = transformers.pipeline(
        "zero-shot-image-classification", model=model, image_processor=processor,
        tokenizer=tokenizer, device="cpu",
    )
    pipeline(str(files[0]), candidate_labels=PROMPTS)
    few = files[: max(8, len(files) // 4)]
    return len(few) / seconds(lambda: [pipeline(str(f), candidate_labels=PROMPTS) for f in few])


def equal_work_rate(model, processor, text, files):
    """The same work as modtool's: batches of eight, texts embedded once."""

    def run():
        for start in range(0, len(files), BATCH):
            pictures = [Image.open(f).convert("RGB") for f in files[start : start + BATCH]]
            pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
            features = model.get_image_features(pixel_values=pixels)
            features = getattr(features, "pooler_output", features)
            features = features / features.norm(dim=-1, keepdim=True)
            (model.logit_scale.exp() * features @ text.T).softmax(-1)

    with torch.inference_mode():
        return len(files) / seconds(run)


def high_water(pid):
    """The most memory that a process has held, in MiB; None where it is gone."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def modtool(arguments, folder, first, variant):
    """Makes a workspace and adds the model; answers how to measure it, and the model's size in MiB."""
    workspace, data, one = folder / "workspace", folder / "data", folder / "one"
    for path in (workspace / "policies", data, one):
        path.mkdir(parents=True)
    lines = ["id: bench", "title: Bench", "prompts:"] + [f"  - {p}" for p in PROMPTS[:4]]
    lines += ["contrast:"] + [f"  - {p}" for p in PROMPTS[4:]]
    lines += ["thresholds: {review: 0.99, block: 0.999}", 'templates: ["{}"]']
    (workspace / "policies" / "bench.yaml").write_text("\n".join(lines) + "\n")
    (workspace / "modtool.yaml").write_text("neutral: []\n")
    (one / first.name).write_bytes(first.read_bytes())
    library = next((pathlib.Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    common = ["--workspace", str(workspace), "--data-dir", str(data), "--onnxruntime", str(library)]
    add = ["model", "add", arguments.model, "--name", "m"]
    subprocess.run([arguments.modtool, *common, *add, *(["--variant", variant] if variant else [])],
                   check=True, capture_output=True)

    def scan(where):
        database = workspace / "modtool.db"
        for end in ("", "-wal", "-shm"):
            pathlib.Path(f"{database}{end}").unlink(missing_ok=True)
        command = [arguments.modtool, *common, "--model", "m", "--quiet", "scan", str(where)]
        start, peak = time.perf_counter(), 0
        process = subprocess.Popen(command)
        # Not the system's own figure at the end: it knows the memory of this script, too.
        while process.poll() is None:
            peak = high_water(process.pid) or peak
            time.sleep(0.01)
        if process.returncode not in (0, 1):
            raise SystemExit("modtool failed")
        return time.perf_counter() - start, peak

    def rate(files):
        """Pictures a second without what a scan of one picture takes; the peak; that start."""
        start, _ = scan(one)
        whole, peak = scan(files[0].parent)
        return (len(files) - 1) / (whole - start), peak, start

    # The prompts are embedded once on a machine.
    scan(one)
    return rate, sum(f.stat().st_size for f in (data / "models" / "m").iterdir()) / 2**20


def prepare(arguments, files, size):
    """Preparing one picture on one core: Pillow with numpy, as the image processors do it."""
    picture = Image.open(files[0]).convert("RGB")
    mean = numpy.array([0.48145466, 0.4578275, 0.40821073], numpy.float32)
    std = numpy.array([0.26862954, 0.26130258, 0.27577711], numpy.float32)

    def resized(picture):
        width, height = picture.size
        scale = size / min(width, height)
        picture = picture.resize((int(width * scale), int(height * scale)), Image.BICUBIC)
        left, top = (picture.width - size) // 2, (picture.height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
        values = numpy.asarray(picture, numpy.float32) / 255
        return numpy.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))

    def mean_ms(call):
        call()
        start, calls = time.perf_counter(), 0
        while time.perf_counter() - start < 2:
            call()
            calls += 1
        return 1000 * (time.perf_counter() - start) / calls

    pillow_resize = mean_ms(lambda: resized(picture))
    pillow_whole = mean_ms(lambda: resized(Image.open(files[0]).convert("RGB")))
    run = subprocess.run(["taskset", "-c", "0", arguments.bench, str(files[0]), str(size)],
                         check=True, capture_output=True, text=True)
    ours = json.loads(run.stdout.strip().splitlines()[-1])
    print(f"prepare {picture.size[0]} x {picture.size[1]} to {size}, one core:")
    row = "  {:<34} Pillow {:8.2f} ms   modtool {:8.2f} ms   ratio {:.2f}"
    print(row.format("resize, crop, normalise", pillow_resize, ours["resize_crop_normalise_ms"],
                     pillow_resize / ours["resize_crop_normalise_ms"]))
    print(row.format("from the file, decoded in full", pillow_whole, ours["from_file_exact_ms"],
                     pillow_whole / ours["from_file_exact_ms"]))
    print(row.format("from the file, as policies see it", pillow_whole, ours["from_file_ms"],
                     pillow_whole / ours["from_file_ms"]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("modtool")
    parser.add_argument("model")
    parser.add_argument("pictures")
    parser.add_argument("--variant")
    parser.add_argument("--bench")
    parser.add_argument("--only-prepare", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    files = sorted(pathlib.Path(arguments.pictures).iterdir())
    if arguments.bench:
        prepare(arguments, files, 224)
    if arguments.only_prepare:
        return
    model = transformers.AutoModel.from_pretrained(arguments.model).eval()
    clip = model.config.model_type == "clip"
    kinds = transformers.CLIPImageProcessor, transformers.SiglipImageProcessor
    processor = kinds[0 if clip else 1].from_pretrained(arguments.model)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(pathlib.Path(arguments.model) / "tokenizer.json"),
        pad_token="<|endoftext|>" if clip else "</s>", model_max_length=77 if clip else 64,
    )
    ids = tokenizer(PROMPTS, padding="max_length", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        text = model.get_text_features(input_ids=ids)
        text = getattr(text, "pooler_output", text)
        text = text / text.norm(dim=-1, keepdim=True)
    plain, equal = [], []
    variants = [None] + ([arguments.variant] if arguments.variant else [])
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ours = {v: (*modtool(arguments, folder / str(v), files[0], v), []) for v in variants}
        for _ in range(arguments.rounds):
            plain.append(pipeline_rate(model, processor, tokenizer, files))
            equal.append(equal_work_rate(model, processor, text, files))
            for rate, _, rates in ours.values():
                rates.append(rate(files))
    print(f"{len(files)} pictures, {len(PROMPTS)} prompts, {torch.get_num_threads()} threads, "
          f"torch {torch.__version__}, transformers {transformers.__version__}, "
          f"ONNX Runtime {onnxruntime.__version__}; means of {arguments.rounds} rounds")
    print(f"  transformers pipeline          {average(plain):7.2f} pictures/s {spread(plain)}")
    print(f"  transformers, equal work       {average(equal):7.2f} {spread(equal)}")
    for variant, (_, size, rates) in ours.items():
        rate = [rate for rate, _, _ in rates]
        peak, start = max(peak for _, peak, _ in rates), average([start for _, _, start in rates])
        print(f"  modtool scan, {variant or 'fp32':<16} {average(rate):7.2f} {spread(rate)}   "
              f"{average(rate) / average(plain):.2f} x the pipeline, {average(rate) / average(equal):.2f} x "
              f"equal work; peak {peak:.0f} MiB, model {size:.0f} MiB, ready after {start:.1f} s")


if __name__ == "__main__":
    main()
