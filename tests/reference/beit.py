"""Writes what X2-VLM's BEiT-2 computes at a tiny size with seeded weights, for tests/golden/beit_test.cpp.

    git clone https://github.com/zengyan-97/X2-VLM && git -C X2-VLM checkout 21ed5a5
    pip install torch safetensors "scipy<1.14" "numpy<2"     # the official interpolation needs scipy's interp2d, which 1.14 removed
    python3 beit.py X2-VLM OUT                               # what is committed lies beside this file, in beit/

Writes, for a model with a table of relative positions in every block and for one with a shared table and no layer scale, NAME.safetensors (float32 and float64 results of models/beit2.py, unmodified; "model." weights
before the forward, "in.", "out.", "grad." of the scalar described in beit.json, "out64." in double precision), interpolation.safetensors (tables before and after interpolate_pos_embed) and beit.json.
timm is not needed: the three functions of it that the official file imports are stated here.
"""

import argparse
import functools
import json
import math
import pathlib
import platform
import sys
import types
import warnings

import numpy
import scipy
import torch
from safetensors.torch import save_file

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2, "mlp_ratio": 2}
MODELS = {"beit_block": {"use_rel_pos_bias": True, "use_shared_rel_pos_bias": False, "init_values": 0.1}, "beit_shared": {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True, "init_values": 0.0}}
INTERPOLATED = [(4, 6), (7, 12), (7, 4)]  # patches a side: a checkpoint's, the model's


def import_official(checkout):
    def module(name, **attributes):
        made = types.ModuleType(name)
        for key, value in attributes.items():
            setattr(made, key, value)
        sys.modules[name] = made

    def no_drop_path(*_):
        raise RuntimeError("the fixture has no stochastic depth")

    module("timm")
    module("timm.models")
    module("timm.models.layers", drop_path=no_drop_path, to_2tuple=lambda side: (side, side), trunc_normal_=torch.nn.init.trunc_normal_)
    module("timm.models.registry", register_model=lambda function: function)
    sys.path.insert(0, str(pathlib.Path(checkout) / "models"))
    import beit2

    return beit2


def build(beit2, **changes):
    settings = dict(qkv_bias=True, use_abs_pos_emb=False, use_mean_pooling=True, norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6))
    return beit2.VisionTransformer(**{**SIZES, **settings, **changes})


def draw_weights(model, seed):
    """Sizes at which every parameter shows in the result: the official start has tables and biases of 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if "norm" in name:
                value.copy_(1 + 0.2 * noise if name.endswith("weight") else 0.1 * noise)
            elif name.endswith(("gamma_1", "gamma_2")):
                value.copy_(0.6 + 0.2 * noise)
            elif name.endswith("weight"):
                value.copy_(noise / math.sqrt(value[0].numel()))
            else:  # biases, the class token, tables
                value.copy_(0.3 * noise)


def run(model, inputs, dtype):
    model = model.to(dtype).eval()
    model.zero_grad()
    region, full = model(inputs["image"].to(dtype), idx_to_group_img=inputs["idx_to_group_img"], image_atts=inputs["image_atts"].to(dtype))
    images = model(inputs["image"].to(dtype))
    loss = (region * inputs["region_weight"].to(dtype)).sum() + (full * inputs["image_weight"].to(dtype)).sum()
    loss.backward()
    return {"region_embeds": region, "image_embeds": full, "image_only_embeds": images, "loss": loss}, {name: value.grad for name, value in model.named_parameters()}


def make_inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    grid, width = SIZES["img_size"] // SIZES["patch_size"], SIZES["embed_dim"]
    rows = [(1, None), (0, (0, 0, 2, 3)), (0, (1, 2, 2, 3)), (1, (3, 0, 4, 4)), (1, (0, 1, 4, 2))]  # image; x1, y1, x2, y2 in patches, or the whole image
    attended = torch.zeros(len(rows), grid, grid)
    for row, (_, box) in enumerate(rows):
        x1, y1, x2, y2 = box or (0, 0, grid, grid)
        attended[row, y1:y2, x1:x2] = 1
    return {"image": torch.randn(2, 3, SIZES["img_size"], SIZES["img_size"], generator=generator), "idx_to_group_img": torch.tensor([image for image, _ in rows]),
            "is_image": torch.tensor([int(box is None) for _, box in rows]), "image_atts": torch.cat([torch.ones(len(rows), 1), attended.flatten(1)], 1),
            "region_weight": torch.randn(len(rows), 1 + grid * grid, width, generator=generator), "image_weight": torch.randn(2, 1 + grid * grid, width, generator=generator)}


def interpolated(beit2, heads, seed):
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for known, wanted in INTERPOLATED:
        model = build(beit2, img_size=wanted * SIZES["patch_size"], depth=1, num_heads=heads, **MODELS["beit_block"])
        key = "blocks.0.attn.relative_position_bias_table"
        before = torch.randn((2 * known - 1) ** 2 + 3, heads, generator=generator)
        tensors[f"in.{known}_to_{wanted}"] = before.clone()
        tensors[f"out.{known}_to_{wanted}"] = beit2.interpolate_pos_embed(model, {key: before})[key]
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", help="of zengyan-97/X2-VLM")
    parser.add_argument("out")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    beit2 = import_official(arguments.checkout)
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    described = {}
    for number, (name, changes) in enumerate(MODELS.items()):
        model, inputs = build(beit2, **changes), make_inputs(seed=11 + number)
        draw_weights(model, seed=1 + number)
        tensors = {f"model.{key}": value.clone() for key, value in model.state_dict().items()}
        outputs, gradients = run(model, inputs, torch.float32)
        doubles, _ = run(model, inputs, torch.float64)
        tensors |= {f"in.{key}": value for key, value in inputs.items()}
        tensors |= {f"out.{key}": value for key, value in outputs.items()} | {f"grad.{key}": value for key, value in gradients.items()}
        tensors |= {f"out64.{key}": value for key, value in doubles.items()}
        save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, out / f"{name}.safetensors")
        described[name] = {**SIZES, **changes}
    save_file({key: value.contiguous() for key, value in interpolated(beit2, heads=2, seed=21).items()}, out / "interpolation.safetensors")
    origin = {"official": "zengyan-97/X2-VLM 21ed5a5, models/beit2.py (VisionTransformer, interpolate_pos_embed)", "script": "tests/reference/beit.py", "python": platform.python_version(), "torch": torch.__version__,
              "numpy": numpy.__version__, "scipy": scipy.__version__}
    meaning = "loss = sum(out.region_embeds * in.region_weight) + sum(out.image_embeds * in.image_weight); grad.* is its gradient"
    (out / "beit.json").write_text(json.dumps({"origin": origin, "meaning": meaning, "models": described, "interpolated": INTERPOLATED}, indent=1) + "\n")


if __name__ == "__main__":
    main()
