"""Write image.onnx, text.onnx, tokenizer.json and model.yaml from a student checkpoint.

The graphs are built by hand (opset 17, a dozen plain operators) so that both onnxruntime and tract run them.
Weights are stored as float16 (Cast) or as int8 with one scale an output channel (Cast, Mul); computing is float32.
"""
import argparse, hashlib, os, shutil
import numpy as np, onnx, torch
from onnx import helper, numpy_helper, TensorProto as TP
from augment import MEAN, STD
from common import TEXT, WORK, load_text
from model import Block, ImageTower, Neck


class Graph:
    def __init__(self, store):
        self.store, self.nodes, self.inits, self.n = store, [], [], 0

    def name(self, hint):
        self.n += 1; return f"{hint}_{self.n}"

    def const(self, v, dtype=np.float32):
        n = self.name("c"); self.inits.append(numpy_helper.from_array(np.asarray(v, dtype), n)); return n

    def op(self, kind, *i, **attr):
        o = self.name(kind.lower()); self.nodes.append(helper.make_node(kind, list(i), [o], name=o, **attr)); return o

    def weight(self, w, axis=0):
        """A float32 weight stored small; int8 takes one scale along `axis`."""
        w = w.detach().float().numpy()
        if self.store == "int8" and w.ndim > 1:
            red = tuple(k for k in range(w.ndim) if k != axis); s = np.maximum(np.abs(w).max(red, keepdims=True), 1e-8) / 127
            q = self.const(np.clip(np.round(w / s), -127, 127), np.int8)
            return self.op("Mul", self.op("Cast", q, to=TP.FLOAT), self.const(s))
        if self.store != "float32" and w.ndim > 1:
            return self.op("Cast", self.const(w, np.float16), to=TP.FLOAT)
        return self.const(w)

    def l2(self, x):
        s = self.op("ReduceSum", self.op("Mul", x, x), self.const([-1], np.int64), keepdims=1)
        return self.op("Div", x, self.op("Sqrt", self.op("Add", s, self.const(1e-12))))

    def linear(self, x, m):
        return self.op("Add", self.op("MatMul", x, self.weight(m.weight.T, axis=1)), self.const(m.bias.detach().numpy()))

    def norm(self, x, m):
        d = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1], keepdims=1))
        v = self.op("ReduceMean", self.op("Mul", d, d), axes=[-1], keepdims=1)
        y = self.op("Div", d, self.op("Sqrt", self.op("Add", v, self.const(m.eps))))
        return self.op("Add", self.op("Mul", y, self.const(m.weight.detach().numpy())), self.const(m.bias.detach().numpy()))

    def save(self, path, inp, out, x_out):
        self.nodes.append(helper.make_node("Identity", [x_out], [out.name], name="out"))
        m = helper.make_model(helper.make_graph(self.nodes, "modtool_builtin", [inp], [out], self.inits), opset_imports=[helper.make_opsetid("", 17)], producer_name="modtool training/export.py")
        m.ir_version = 8; onnx.checker.check_model(m); onnx.save(m, path)


def image(net, size, path, store):
    g = Graph(store)

    def conv(x, seq, relu):
        c, b = seq[0], seq[1]; k = b.weight / torch.sqrt(b.running_var + b.eps)  # BN folded
        y = g.op("Conv", x, g.weight(c.weight * k.view(-1, 1, 1, 1)), g.const((b.bias - b.running_mean * k).detach().numpy()),
                 kernel_shape=list(c.kernel_size), strides=list(c.stride), pads=[c.padding[0], c.padding[1]] * 2)
        return g.op("Relu", y) if relu else y

    def past(x, skip):
        if skip is None:
            return x
        pool = isinstance(skip[0], torch.nn.AvgPool2d)
        return conv(g.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), skip[1:], False) if pool else conv(x, skip, False)

    x = "pixel_values"
    for b in net.trunk:
        if isinstance(b, Block):
            x = g.op("Relu", g.op("Add", conv(conv(x, b.a, True), b.b, False), past(x, b.skip)))
        elif isinstance(b, Neck):
            x = g.op("Relu", g.op("Add", conv(conv(conv(x, b.a, True), b.b, True), b.c, False), past(x, b.skip)))
        elif not isinstance(b, torch.nn.ReLU):  # a step of the stem; its ReLU is added here
            x = conv(x, b, True)
    x = g.l2(g.linear(g.op("Flatten", g.op("GlobalAveragePool", x), axis=1), net.proj))
    g.save(path, helper.make_tensor_value_info("pixel_values", TP.FLOAT, ["n", 3, size, size]), helper.make_tensor_value_info("image_embeds", TP.FLOAT, ["n", net.proj.out_features]), x)


def text(net, path, store, length=32):
    g = Graph(store); w = net.tok.embedding_dim
    mask = g.op("Clip", g.op("Cast", "input_ids", to=TP.FLOAT), g.const(0.0), g.const(1.0))  # id 0 is padding
    m3 = g.op("Unsqueeze", mask, g.const([2], np.int64))
    bias = g.op("Unsqueeze", g.op("Mul", g.op("Sub", mask, g.const(1.0)), g.const(1e4)), g.const([1, 2], np.int64))
    x = g.op("Add", g.op("Gather", g.weight(net.tok.weight), "input_ids", axis=0), g.const(net.pos.detach().numpy()))
    for l in net.layers:
        h, d = l.h, w // l.h; y = g.norm(x, l.n1); heads = []
        for k in range(3):
            part = torch.nn.Linear(w, w); part.weight.data = l.qkv.weight[k * w : (k + 1) * w].detach(); part.bias.data = l.qkv.bias[k * w : (k + 1) * w].detach()
            t = g.op("Reshape", g.linear(y, part), g.const([0, length, h, d], np.int64))
            heads.append(g.op("Transpose", t, perm=[0, 2, 3, 1] if k == 1 else [0, 2, 1, 3]))
        s = g.op("Add", g.op("Mul", g.op("MatMul", heads[0], heads[1]), g.const(d**-0.5)), bias)
        o = g.op("Transpose", g.op("MatMul", g.op("Softmax", s, axis=-1), heads[2]), perm=[0, 2, 1, 3])
        x = g.op("Add", x, g.linear(g.op("Reshape", o, g.const([0, length, w], np.int64)), l.o))
        u = g.linear(g.norm(x, l.n2), l.up)
        t = g.op("Tanh", g.op("Mul", g.op("Add", u, g.op("Mul", g.op("Mul", g.op("Mul", u, u), u), g.const(0.044715))), g.const(0.7978845608)))
        x = g.op("Add", x, g.linear(g.op("Mul", g.op("Mul", u, g.const(0.5)), g.op("Add", t, g.const(1.0))), l.down))
    x = g.op("Mul", g.norm(x, net.norm), m3)
    n = g.op("Clip", g.op("ReduceSum", mask, g.const([1], np.int64), keepdims=1), g.const(1.0), g.const(1e9))
    x = g.op("Div", g.op("ReduceSum", x, g.const([1], np.int64), keepdims=0), n)
    g.save(path, helper.make_tensor_value_info("input_ids", TP.INT64, ["n", length]), helper.make_tensor_value_info("text_embeds", TP.FLOAT, ["n", net.proj.out_features]), g.l2(g.linear(x, net.proj)))


def load_student(path):
    c = torch.load(path, map_location="cpu", weights_only=True); net = ImageTower(c["size"]); net.load_state_dict({k: v.float() if v.dtype == torch.float16 else v for k, v in c["state"].items()}); return net.eval()


def manifest(out, size, scale, bias):
    files = {n: hashlib.sha256(open(f"{out}/{n}", "rb").read()).hexdigest() for n in ("image.onnx", "text.onnx", "tokenizer.json")}
    open(f"{out}/model.yaml", "w").write(f"""# The built-in model; see CARD.md.  Written by training/export.py.
name: builtin
kind: siglip                # P(match) = sigmoid(logit_scale * cos + logit_bias): one independent probability a prompt
embedding_dim: 256
image:                      # pixel_values [n, 3, {size}, {size}] float32 RGB -> image_embeds [n, 256], unit length
  size: {size}
  resize: stretch           # straight to size x size, aspect ratio not kept
  resample: bilinear        # antialiased, as Pillow does it
  mean: {list(MEAN)}        # of value / 255
  std: {list(STD)}
text:                       # input_ids [n, 32] int64 -> text_embeds [n, 256], unit length
  context_length: 32
  pad_id: 0
  canonicalize: none        # the tokenizer's own normaliser lower-cases
logit_scale: {scale:.4f}    # multiplies the cosine
logit_bias: {bias:.4f}
licence: see CARD.md
files:
""" + "".join(f"  {n}: sha256:{h}\n" for n, h in files.items()))


if __name__ == "__main__":
    a = argparse.ArgumentParser(); a.add_argument("--student", default=f"{WORK}/distilled.pt"); a.add_argument("--text", default=f"{WORK}/text_joint.pt")
    a.add_argument("--out", default=f"{WORK}/model"); a.add_argument("--size", type=int, default=128); a.add_argument("--store", default="int8", choices=["float32", "float16", "int8"])
    a.add_argument("--scale", type=float, default=10.0); a.add_argument("--bias", type=float, default=-5.0); a = a.parse_args()
    import onnxruntime as ort, time
    os.makedirs(a.out, exist_ok=True); net, txt = load_student(a.student), load_text(a.text).eval()
    image(net, a.size, f"{a.out}/image.onnx", a.store); text(txt, f"{a.out}/text.onnx", a.store); shutil.copy(f"{TEXT}/tokenizer.json", f"{a.out}/tokenizer.json"); manifest(a.out, a.size, a.scale, a.bias)
    so = ort.SessionOptions(); so.intra_op_num_threads = 2; cos = lambda p, q: float((p * q).sum(1).min())
    with torch.no_grad():
        x = torch.randn(8, 3, a.size, a.size); si = ort.InferenceSession(f"{a.out}/image.onnx", so); print("image", os.path.getsize(f"{a.out}/image.onnx"), "bytes, least cosine to PyTorch", cos(si.run(None, {"pixel_values": x.numpy()})[0], net(x).numpy()))
        ids = torch.zeros(8, 32, dtype=torch.long)
        for k in range(8): ids[k, : k + 2] = torch.randint(2, 8000, (k + 2,))
        st = ort.InferenceSession(f"{a.out}/text.onnx", so); print("text", os.path.getsize(f"{a.out}/text.onnx"), "bytes, least cosine to PyTorch", cos(st.run(None, {"input_ids": ids.numpy()})[0], txt(ids).numpy()))
    for b in (1, 8):
        x = np.random.randn(b, 3, a.size, a.size).astype(np.float32); si.run(None, {"pixel_values": x}); t = time.time(); n = 60 // b + 5
        for _ in range(n): si.run(None, {"pixel_values": x})
        print(f"batch {b}: {b * n / (time.time() - t):.0f} img/s on 2 threads")
