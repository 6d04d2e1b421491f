"""Writes OpenCLIP's ClipLoss and SigLipLoss of seeded features, for tests/losses/open_clip_test.cpp.

    pip install torch open_clip_torch safetensors
    python3 open_clip_losses.py OUT      # what is committed lies beside this file, in open_clip/

Writes open_clip_losses.safetensors (float64: "in.image" and "in.text" [N, E] unit rows, "in.KIND.logit_scale" and "in.siglip.logit_bias"; "out.KIND", and "grad.KIND.NAME" of it, KIND being clip or siglip; the scale is
exp(logit_scale), with respect to which gradients are) and open_clip_losses.json.
"""

import argparse
import importlib.metadata
import json
import math
import pathlib
import platform

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from safetensors.torch import save_file


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=pathlib.Path)
    out = arguments.parse_args().out
    generator = torch.Generator().manual_seed(11)
    image, text = (torch.nn.functional.normalize(torch.randn(9, 6, generator=generator, dtype=torch.float64), dim=1) for _ in range(2))
    scale = {"clip": math.log(1 / 0.07), "siglip": math.log(10)}
    tensors = {"in.image": image, "in.text": text, "in.siglip.logit_bias": torch.tensor(-10.0, dtype=torch.float64)}
    for kind, loss in {"clip": ClipLoss(), "siglip": SigLipLoss()}.items():
        leaves = {"image": image, "text": text, "logit_scale": torch.tensor(scale[kind], dtype=torch.float64)}
        tensors[f"in.{kind}.logit_scale"] = leaves["logit_scale"]
        if kind == "siglip":
            leaves["logit_bias"] = tensors["in.siglip.logit_bias"]
        leaves = {name: value.clone().requires_grad_() for name, value in leaves.items()}
        bias = {"logit_bias": leaves["logit_bias"]} if kind == "siglip" else {}
        value = loss(leaves["image"], leaves["text"], leaves["logit_scale"].exp(), **bias)
        value.backward()
        tensors[f"out.{kind}"] = value.detach()
        tensors.update({f"grad.{kind}.{name}": leaf.grad for name, leaf in leaves.items()})
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, out / "open_clip_losses.safetensors")
    origin = {"python": platform.python_version(), "torch": torch.__version__, "open_clip_torch": importlib.metadata.version("open_clip_torch"), "pairs": len(image)}
    (out / "open_clip_losses.json").write_text(json.dumps(origin, indent=1) + "\n")


if __name__ == "__main__":
    main()
