"""Makes dual encoders with random weights in the layout that the Hub uses for ONNX exports.

    python make_models.py FOLDER tiny            three small ones with what transformers computes
                                                 with them (tests/data/models is made like this)
    python make_models.py FOLDER vit-b-32 siglip-b-16 [vit-l-14]   the real sizes, for benchmarks

Needs torch, torchvision, transformers, onnx, onnxscript and, for int8, onnxruntime. Random weights
make no sense of a picture, but they cost what trained ones cost, and every step from a file to a
probability must come out the same.
"""

import json
import pathlib
import shutil
import sys
import warnings

import numpy
import onnx
import safetensors.torch
import tokenizers
import torch
import transformers
from PIL import Image

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()

PHOTOS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "photos"
PROMPTS = [
    "a photo of a cat",
    "A receipt, from a SHOP!",
    "two dogs; playing in the snow",
    "naïve café façade - 20% off",
]
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def clip_tokenizer(words):
    """Bytes with an end-of-word mark and no merges: CLIP's scheme with the smallest vocabulary."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    tokens += [f"<unused {n}>" for n in range(words - len(tokens) - 2)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab=vocabulary, merges=[], end_of_word_suffix="</w>", unk_token="<|endoftext|>"
        )
    )
    normalizers, pre = tokenizers.normalizers, tokenizers.pre_tokenizers
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre.Sequence(
        [pre.Split(tokenizers.Regex(pattern), "removed", invert=True), pre.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[(t, vocabulary[t]) for t in ("<|startoftext|>", "<|endoftext|>")],
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer


def siglip_tokenizer(words, specials, end):
    """A unigram vocabulary of letters with byte fallback."""
    letters = ["▁"] + [chr(c) for c in range(33, 127)]
    tokens = specials + [f"<0x{n:02X}>" for n in range(256)] + letters
    tokens += [f"<unused {n}>" for n in range(words - len(tokens))]
    scores = [(token, 0.0 if token in specials else -3.0 - index / words) for index, token in enumerate(tokens)]
    unknown = specials.index("<unk>")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(scores, unk_id=unknown, byte_fallback=True))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, specials.index(end))]
    )
    tokenizer.add_special_tokens(specials)
    return tokenizer


def clip(words, text, vision, projection):
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": words, "bos_token_id": words - 2, "eos_token_id": words - 1,
            "max_position_embeddings": 77, **text,
        },
        vision_config=vision,
        projection_dim=projection,
        logit_scale_init_value=3.1,
    )
    return transformers.CLIPModel(config)


def siglip(words, text, vision):
    config = transformers.SiglipConfig(
        text_config={
            "vocab_size": words, "max_position_embeddings": 64, "pad_token_id": 0,
            "bos_token_id": 2, "eos_token_id": 1, **text,
        },
        vision_config=vision,
    )
    return transformers.SiglipModel(config)


def tower(width, layers, heads, mlp, **more):
    return {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": mlp, **more,
    }


def preprocessor(family, size, style):
    if family == "clip":
        if style == "old":
            return {
                "crop_size": size, "do_center_crop": True, "do_normalize": True, "do_resize": True,
                "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": CLIP_MEAN,
                "image_std": CLIP_STD, "resample": 3, "size": size,
            }
        return {
            "crop_size": {"height": size, "width": size}, "do_center_crop": True,
            "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
            "image_mean": CLIP_MEAN, "image_std": CLIP_STD, "image_processor_type": "CLIPImageProcessor",
            "resample": 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": size},
        }
    return {
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_processor_type": "SiglipImageProcessor",
        "resample": 2 if family == "siglip2" else 3, "rescale_factor": 1 / 255,
        "size": {"height": size, "width": size},
    }


class Vision(torch.nn.Module):
    def __init__(self, model, family):
        super().__init__()
        self.model, self.family = model, family

    def forward(self, pixel_values):
        answer = self.model.vision_model(pixel_values=pixel_values)
        if self.family == "clip":
            return self.model.visual_projection(answer.pooler_output)
        return answer.last_hidden_state, answer.pooler_output


class Text(torch.nn.Module):
    def __init__(self, model, family):
        super().__init__()
        self.model, self.family = model, family

    def forward(self, input_ids, attention_mask=None):
        answer = self.model.text_model(input_ids=input_ids, attention_mask=attention_mask)
        if self.family == "clip":
            return self.model.text_projection(answer.pooler_output)
        return answer.last_hidden_state, answer.pooler_output


def export(module, inputs, path, input_names, output_names, fixed=False):
    axes = {} if fixed else {name: {0: "batch"} for name in input_names + output_names}
    torch.onnx.export(
        module, inputs, str(path), input_names=input_names, output_names=output_names,
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )
    # Names of intermediate values and the exporter's notes are of no use to anyone.
    model = onnx.load(str(path))
    model.graph.ClearField("value_info")
    kept = {name: name for name in input_names + output_names} | {"": ""}
    short = lambda name: kept.setdefault(name, f"v{len(kept)}")
    for weight in model.graph.initializer:
        weight.name = short(weight.name)
    for node in model.graph.node:
        for field in ("doc_string", "metadata_props", "name"):
            node.ClearField(field)
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
    onnx.save(model, str(path))


def write(folder, family, model, tokenizer, size, style="new", golden=False):
    torch.manual_seed(7)
    model = model.eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embedding" not in name:
                weight.copy_(torch.randn_like(weight) * (1.2 / weight[0].numel() ** 0.5))
            elif "embedding" in name:
                weight.copy_(torch.randn_like(weight) * 0.5)
        if family != "clip":
            model.logit_scale.fill_(2.5)
            model.logit_bias.fill_(-1.0)
    model.config._attn_implementation = "eager"
    model.set_attn_implementation("eager")
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("transformers_version", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(family, size, style), indent=1) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    about = {
        "clip": {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>",
                 "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
        "siglip": {"tokenizer_class": "SiglipTokenizer", "model_max_length": 64, "pad_token": "</s>",
                   "eos_token": "</s>", "unk_token": "<unk>", "do_lower_case": True},
        "siglip2": {"tokenizer_class": "GemmaTokenizer", "model_max_length": 64, "pad_token": "<pad>",
                    "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"},
    }[family]
    (folder / "tokenizer_config.json").write_text(json.dumps(about) + "\n")
    numbers = {"logit_scale": model.logit_scale.detach().reshape(-1)}
    if family == "clip":
        numbers["logit_scale"] = model.logit_scale.detach()
    else:
        numbers["logit_bias"] = model.logit_bias.detach().reshape(-1)
    whole = {name: value.contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(numbers if golden else whole, str(folder / "model.safetensors"))
    context = 77 if family == "clip" else 64
    ids = torch.zeros((1, context), dtype=torch.int64)
    ids[0, 5] = model.config.text_config.eos_token_id
    pixels = torch.zeros((1, 3, size, size))
    outputs = ["last_hidden_state", "pooler_output"]
    with torch.no_grad():
        export(Vision(model, family), (pixels,), folder / "onnx" / "vision_model.onnx",
               ["pixel_values"], ["image_embeds"] if family == "clip" else outputs)
        inputs = (ids, torch.ones_like(ids)) if family == "clip" else (ids,)
        export(Text(model, family), inputs, folder / "onnx" / "text_model.onnx",
               ["input_ids", "attention_mask"][: len(inputs)], ["text_embeds"] if family == "clip" else outputs)
    if golden:
        (folder / "golden.json").write_text(json.dumps(reference(folder, family, model, tokenizer)) + "\n")


class Normalised(torch.nn.Module):
    """A tower as OpenCLIP's exports have it: unit vectors, 32-bit tokens."""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def forward(self, fed):
        fed = fed.long() if fed.dtype == torch.int32 else fed
        return torch.nn.functional.normalize(self.tower(fed), dim=-1)


def as_openclip(folder, model, tokenizer, size):
    """OpenCLIP's layout: a folder a tower, one item at a time, weights in files of one name."""
    config = {
        "embed_dim": model.config.projection_dim,
        "vision_cfg": {"image_size": size},
        "text_cfg": {"context_length": 77, "vocab_size": model.config.text_config.vocab_size},
    }
    prepared = {
        "size": [size, size], "mode": "RGB", "mean": CLIP_MEAN, "std": CLIP_STD,
        "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
    }
    ids = torch.zeros((1, 77), dtype=torch.int32)
    ids[0, 5] = model.config.text_config.eos_token_id
    for name, tower, fed, ends in [
        ("visual", Vision(model, "clip"), torch.zeros((1, 3, size, size)), ["image", "embedding"]),
        ("textual", Text(model, "clip"), ids, ["text", "embedding"]),
    ]:
        (folder / name).mkdir(parents=True, exist_ok=True)
        file = folder / name / "model.onnx"
        with torch.no_grad():
            export(Normalised(tower), (fed,), file, ends[:1], ends[1:], fixed=True)
        onnx.save(
            onnx.load(str(file)), str(file), save_as_external_data=True,
            location="model.onnx.data", size_threshold=256,
        )
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "visual" / "preprocess_cfg.json").write_text(json.dumps(prepared, indent=1) + "\n")
    tokenizer.save(str(folder / "textual" / "tokenizer.json"), pretty=False)
    about = {"tokenizer_class": "CLIPTokenizer", "pad_token": {"content": "<|endoftext|>"}}
    (folder / "textual" / "tokenizer_config.json").write_text(json.dumps(about) + "\n")


def halve(folder):
    """Everything in half precision, inputs and outputs too."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    for name in ("vision_model", "text_model"):
        model = onnx.load(str(folder / "onnx" / f"{name}.onnx"))
        half = convert_float_to_float16(model, keep_io_types=False)
        onnx.save(half, str(folder / "onnx" / f"{name}_fp16.onnx"))


def weights_apart(folder):
    """Both networks with their weights in files beside them."""
    for name in ("vision_model", "text_model"):
        model = onnx.load(str(folder / "onnx" / f"{name}.onnx"))
        onnx.save(
            model, str(folder / "onnx" / f"{name}_apart.onnx"), save_as_external_data=True,
            location=f"{name}_apart.onnx_data", size_threshold=256,
        )


def both_in_one(folder):
    """The towers in one file, as `optimum-cli export onnx` writes CLIP."""
    towers = [
        onnx.compose.add_prefix(onnx.load(str(folder / "onnx" / f"{name}.onnx")), f"{name[0]}_",
                                rename_inputs=False, rename_outputs=False)
        for name in ("vision_model", "text_model")
    ]
    both = onnx.compose.merge_models(*towers, io_map=[])
    onnx.save(both, str(folder / "onnx" / "model_both.onnx"))


def quantize(folder):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for name in ("vision_model", "text_model"):
        quantize_dynamic(
            str(folder / "onnx" / f"{name}.onnx"), str(folder / "onnx" / f"{name}_int8.onnx"),
            weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        )


def reference(folder, family, model, tokenizer):
    """What transformers computes, with its own image processor on 8-bit tensors."""
    kinds = {"clip": transformers.CLIPImageProcessor, "siglip": transformers.SiglipImageProcessor}
    processor = kinds[family.rstrip("2")].from_pretrained(folder)
    pad = {"clip": tokenizer.token_to_id("<|endoftext|>"), "siglip": 1, "siglip2": 0}[family]
    context = 77 if family == "clip" else 64
    ids, mask = [], []
    for prompt in PROMPTS:
        text = prompt
        if family == "siglip":
            import string

            text = text.translate(str.maketrans("", "", string.punctuation))
            text = " ".join(text.split()).lower()
        elif family == "siglip2":
            text = text.lower()
        own = tokenizer.encode(text).ids
        assert len(own) <= context, prompt
        ids.append(own + [pad] * (context - len(own)))
        mask.append([1] * len(own) + [0] * (context - len(own)))
    names = sorted(p.name for p in PHOTOS.iterdir() if p.suffix != ".md")
    pictures = [Image.open(PHOTOS / name).convert("RGB") for name in names]
    pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
    more = {"attention_mask": torch.tensor(mask)} if family == "clip" else {}
    with torch.no_grad():
        answer = model(input_ids=torch.tensor(ids), pixel_values=pixels, **more)
        logits = answer.logits_per_image
        shares = logits.softmax(1) if family == "clip" else logits.sigmoid()
    rounded = lambda tensor: numpy.round(tensor.numpy().astype(float), 6).tolist()
    return {
        "kind": family, "prompts": PROMPTS, "input_ids": ids, "images": names,
        "image_embeds": rounded(answer.image_embeds), "text_embeds": rounded(answer.text_embeds),
        "logits": rounded(logits), "probabilities": rounded(shares),
        "made_with": f"transformers {transformers.__version__}, torch {torch.__version__}",
    }


def main(folder, wanted):
    folder = pathlib.Path(folder)
    torch.manual_seed(4)
    for name in wanted:
        if name == "tiny":
            small = tower(16, 1, 2, 32)
            eye = {**small, "image_size": 48, "patch_size": 8}
            model, words = clip(514, small, eye, 12), clip_tokenizer(514)
            write(folder / "clip-tiny", "clip", model, words, 48, "old", True)
            as_openclip(folder / "openclip-tiny", model, words, 48)
            shutil.copy(folder / "clip-tiny" / "golden.json", folder / "openclip-tiny")
            shutil.copy(folder / "clip-tiny" / "model.safetensors", folder / "openclip-tiny")
            weights_apart(folder / "clip-tiny")
            both_in_one(folder / "clip-tiny")
            words = siglip_tokenizer(400, ["<pad>", "</s>", "<unk>"], "</s>")
            write(folder / "siglip-tiny", "siglip", siglip(400, small, eye), words, 48, golden=True)
            halve(folder / "siglip-tiny")
            quantize(folder / "siglip-tiny")
            words = siglip_tokenizer(400, ["<pad>", "<eos>", "<bos>", "<unk>"], "<eos>")
            write(folder / "siglip2-tiny", "siglip2", siglip(400, small, eye), words, 48, golden=True)
        elif name == "vit-b-32":
            text = tower(512, 12, 8, 2048)
            eye = tower(768, 12, 12, 3072, image_size=224, patch_size=32)
            write(folder / name, "clip", clip(49408, text, eye, 512), clip_tokenizer(49408), 224)
            quantize(folder / name)
            halve(folder / name)
        elif name == "vit-l-14":
            text = tower(768, 12, 12, 3072)
            eye = tower(1024, 24, 16, 4096, image_size=224, patch_size=14)
            write(folder / name, "clip", clip(49408, text, eye, 768), clip_tokenizer(49408), 224)
            halve(folder / name)
        elif name == "siglip-b-16":
            both = tower(768, 12, 12, 3072)
            eye = {**both, "image_size": 224, "patch_size": 16}
            words = siglip_tokenizer(32000, ["<pad>", "</s>", "<unk>"], "</s>")
            write(folder / name, "siglip", siglip(32000, both, eye), words, 224)
            quantize(folder / name)
        else:
            sys.exit(f"no such model: {name}; there are tiny, vit-b-32, vit-l-14, siglip-b-16")
        print("made", name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
