"""Writes torchvision's distance and complete IoU losses of seeded pairs of boxes, for tests/golden/boxes_test.cpp.

    pip install torch torchvision safetensors
    python3 box_losses.py OUT            # what is committed lies beside this file, in boxes/

Writes box_losses.safetensors (float64: "in.predicted" and "in.target" [N, 4] xyxy, "out.KIND" and "grad.KIND" [N, 4] of its sum with respect to the predicted boxes; KIND is diou or ciou) and box_losses.json.
torchvision adds eps to its denominators, which would move float64 values by 1e-7 / area; it is called with eps = 0, also where complete_box_iou_loss calls distance_box_iou_loss's part without passing it on. Its formula
is otherwise unchanged. Of equal boxes it makes 0 / 0 then, so that none are here.
"""

import argparse
import functools
import json
import pathlib
import platform

import torch
import torchvision
import torchvision.ops.ciou_loss
from safetensors.torch import save_file

torchvision.ops.ciou_loss._diou_iou_loss = functools.partial(torchvision.ops.ciou_loss._diou_iou_loss, eps=0.0)
LOSSES = {"diou": torchvision.ops.distance_box_iou_loss, "ciou": torchvision.ops.complete_box_iou_loss}


def boxes(generator, count):
    centre = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 0.6 + 0.2
    size = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 0.5 + 0.02
    return torch.cat([centre - size / 2, centre + size / 2], 1)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=pathlib.Path)
    out = arguments.parse_args().out
    generator = torch.Generator().manual_seed(7)
    predicted, target = boxes(generator, 60), boxes(generator, 60)
    # Also one inside the other with the same centre, and apart. Not boxes that touch, where the derivative is whatever one takes it to be.
    special = torch.tensor([[[0.3, 0.3, 0.5, 0.5], [0.2, 0.1, 0.6, 0.7]], [[0.0, 0.0, 0.1, 0.2], [0.7, 0.6, 1.0, 0.9]]], dtype=torch.float64)
    predicted, target = torch.cat([predicted, special[:, 0]]), torch.cat([target, special[:, 1]])
    tensors = {"in.predicted": predicted, "in.target": target}
    for name, loss in LOSSES.items():
        leaf = predicted.clone().requires_grad_()
        values = loss(leaf, target, reduction="none", eps=0.0)
        values.sum().backward()
        tensors[f"out.{name}"], tensors[f"grad.{name}"] = values.detach(), leaf.grad
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "box_losses.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    (out / "box_losses.json").write_text(json.dumps({"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__, "pairs": len(predicted)},
                                                    indent=1) + "\n")


if __name__ == "__main__":
    main()
