"""The MobileNetV2 teacher in PyTorch: the int8 QLinear graph, dequantised, on any device, any input size, batched.
Only its outputs (feature maps, logits) are used as training signals."""
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper


class Teacher:
    """`maps(x)`: normalised RGB [n, 3, h, w] to feature maps [n, 1280, h / 32, w / 32]; `weight` [1280, 1000] and `bias` turn their mean into logits."""

    def __init__(self, path, device="cpu"):
        graph = onnx.load(path).graph
        const = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        scale = lambda n: const[n].astype(np.float32)
        zero = lambda n: const[n].astype(np.float32)
        self.dtype = torch.float16 if device == "cuda" else torch.float32
        on = lambda v: torch.from_numpy(np.ascontiguousarray(v, np.float32)).to(device, self.dtype)

        def dequantised(q, s, z):
            shape = [-1] + [1] * (const[q].ndim - 1)
            wide = lambda v: v.reshape(shape) if v.size > 1 else v.reshape(())
            return (const[q].astype(np.float32) - wide(zero(z))) * wide(scale(s))

        def limits(s, z):
            lo, hi = (-128, 127) if const[z].dtype == np.int8 else (0, 255)
            return float((lo - zero(z).item()) * scale(s).item()), float((hi - zero(z).item()) * scale(s).item())

        self.steps, alias = [], {}
        for n in graph.node:
            i, o = [alias.get(x, x) for x in n.input], n.output[0]
            if n.op_type in ("QuantizeLinear", "DequantizeLinear"):
                alias[o] = i[0]
            elif n.op_type == "QLinearConv":
                at = {a.name: helper.get_attribute_value(a) for a in n.attribute}
                pads = at.get("pads", [0, 0, 0, 0])
                assert pads[:2] == pads[2:], "padding must be the same on both sides"
                bias = const[i[8]].astype(np.float32) * (scale(i[1]) * scale(i[4])).reshape(-1)
                self.steps.append(("conv", o, i[0], on(dequantised(i[3], i[4], i[5])), on(bias), at.get("strides", [1, 1]), pads[:2], at.get("group", 1), limits(i[6], i[7])))
            elif n.op_type == "QLinearAdd" and i[3] in const:
                self.bias = on(dequantised(*i[3:6])).float().reshape(1, -1)
            elif n.op_type == "QLinearAdd":
                self.steps.append(("add", o, i[0], i[3], limits(i[6], i[7])))
            elif n.op_type == "QLinearGlobalAveragePool":
                self.last = i[0]
            elif n.op_type == "QLinearMatMul":
                self.weight = on(dequantised(i[3], i[4], i[5])).float()
            elif n.op_type == "Reshape":
                alias[o] = i[0]
            else:
                raise SystemExit(f"the teacher's graph holds {n.op_type}, which is not known here")
        self.source = graph.input[0].name

    @torch.no_grad()
    def maps(self, x):
        at = {self.source: x.to(self.dtype)}
        for kind, out, *r in self.steps:
            if kind == "conv":
                src, w, b, stride, pad, groups, (lo, hi) = r
                at[out] = F.conv2d(at[src], w, b, stride, pad, 1, groups).clamp_(lo, hi)
            else:
                p, q, (lo, hi) = r
                at[out] = (at[p] + at[q]).clamp_(lo, hi)
        return at[self.last].float()
