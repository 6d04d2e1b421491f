"""Writes what transformers' CLIPModel (and OpenCLIP's) compute, for tests/golden/clip_test.cpp.

    pip install torch transformers safetensors && pip install --no-deps open_clip_torch timm torchvision ftfy
    python3 clip.py tiny tests/reference/clip       # what is committed there
    python3 clip.py ordinary FOLDER                 # CLIP ViT-B/32 with random weights, 1.2 GB; FGVL_ORDINARY_MODELS=FOLDER runs the test

tiny: clip_tiny.json (configuration, losses, versions), clip_tiny.safetensors (model.: weights under transformers' names, in., out., gelu.: the outputs with exact GELU, grad.: of the loss,
open_clip.: what OpenCLIP's own class computes of the same weights), clip_tiny.openai.pt (the same weights under OpenAI's names, torch.save) and clip_tiny.openai.jit.pt (in half precision, as a
TorchScript archive with the three sizes that OpenAI's archives carry).
Weights are drawn so that biases, LayerNorm's epsilon and the order of queries, keys and values show.
"""

import argparse
import json
import math
import pathlib

import torch
import transformers
from safetensors.torch import save_file

TINY = {
    "projection_dim": 12,
    "logit_scale_init_value": 2.6592,
    "vision_config": {"image_size": 32, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48, "hidden_act": "quick_gelu", "projection_dim": 12},
    "text_config": {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 10, "hidden_act": "quick_gelu",
                    "projection_dim": 12, "bos_token_id": 58, "eos_token_id": 59, "pad_token_id": 0},
}
B32 = {
    "projection_dim": 512,
    "vision_config": {"image_size": 224, "patch_size": 32, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "quick_gelu", "projection_dim": 512},
    "text_config": {"vocab_size": 49408, "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2048, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
                    "projection_dim": 512, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 0},
}


def build(config):
    return transformers.CLIPModel(transformers.CLIPConfig(**json.loads(json.dumps(config)))).eval()


@torch.no_grad()
def draw(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if name == "logit_scale":
            continue
        if "norm" in name or "layrnorm" in name:
            parameter.copy_(1 + 0.2 * noise if name.endswith("weight") else 0.1 * noise)
        elif name.endswith("bias"):
            parameter.copy_(0.1 * noise)
        elif "embedding" in name and "patch" not in name:
            parameter.copy_(0.06 * noise)
        else:
            parameter.copy_(noise / math.sqrt(parameter[0].numel()))


def openai_names(state):
    """The same weights as openai/CLIP's clip/model.py names and lays them out."""
    renamed = {"logit_scale": state["logit_scale"], "visual.proj": state["visual_projection.weight"].t(), "text_projection": state["text_projection.weight"].t()}
    for theirs, ours in (("vision_model.", "visual."), ("text_model.", "")):
        blocks = 1 + max(int(name.split(".")[3]) for name in state if name.startswith(theirs + "encoder.layers."))
        for i in range(blocks):
            old, new = f"{theirs}encoder.layers.{i}.", f"{ours}transformer.resblocks.{i}."
            for kind in ("weight", "bias"):
                renamed[f"{new}attn.in_proj_{kind}"] = torch.cat([state[f"{old}self_attn.{of}_proj.{kind}"] for of in "qkv"])
                for a, b in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                    renamed[f"{new}{b}.{kind}"] = state[f"{old}{a}.{kind}"]
    for a, b in (("vision_model.embeddings.class_embedding", "visual.class_embedding"), ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
                 ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"), ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
                 ("text_model.embeddings.position_embedding.weight", "positional_embedding")):
        renamed[b] = state[a]
    for a, b in (("vision_model.pre_layrnorm", "visual.ln_pre"), ("vision_model.post_layernorm", "visual.ln_post"), ("text_model.final_layer_norm", "ln_final")):
        for kind in ("weight", "bias"):
            renamed[f"{b}.{kind}"] = state[f"{a}.{kind}"]
    return {name: tensor.detach().clone().contiguous() for name, tensor in renamed.items()}


class Holder(torch.nn.Module):
    """Modules that hold parameters under dotted names."""

    def put(self, name, value):
        head, _, rest = name.partition(".")
        if rest:
            if head not in self._modules:
                self.add_module(head, Holder())
            self._modules[head].put(rest, value)
        elif value.is_floating_point():
            self.register_parameter(head, torch.nn.Parameter(value, requires_grad=False))
        else:
            self.register_buffer(head, value)


def inputs(config, texts, seed):
    generator = torch.Generator().manual_seed(seed)
    text, vision = config["text_config"], config["vision_config"]
    length = text["max_position_embeddings"]
    ids = torch.zeros(texts, length, dtype=torch.int64)
    mask = torch.zeros(texts, length, dtype=torch.int64)
    for row in range(texts):
        words = int(torch.randint(1, length - 1, (1,), generator=generator))
        if row == 0:
            words = length - 2
        ids[row, 0] = text["bos_token_id"]
        ids[row, 1 : 1 + words] = torch.randint(1, text["bos_token_id"], (words,), generator=generator)
        ids[row, 1 + words :] = text["eos_token_id"] if row % 2 else 0  # transformers pads with the end-of-text token, OpenAI with 0
        ids[row, 1 + words] = text["eos_token_id"]
        mask[row, : 2 + words] = 1
    images = torch.randn(texts, 3, vision["image_size"], vision["image_size"], generator=generator)
    return {"pixel_values": images, "input_ids": ids, "attention_mask": mask}


def outputs(model, batch):
    with torch.no_grad():
        out = model(**batch, return_loss=True)
    return {"image_features": out.image_embeds, "text_features": out.text_embeds, "logits_per_image": out.logits_per_image, "loss": out.loss}


def clean(tensors):
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def prefixed(prefix, tensors):
    return {prefix + name: tensor for name, tensor in clean(tensors).items()}


def open_clip_model(config, custom_text, quick_gelu=True):
    import open_clip

    vision, text = config["vision_config"], config["text_config"]
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    return kind(
        embed_dim=config["projection_dim"],
        vision_cfg={"image_size": vision["image_size"], "patch_size": vision["patch_size"], "width": vision["hidden_size"], "layers": vision["num_hidden_layers"],
                    "head_width": vision["hidden_size"] // vision["num_attention_heads"], "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"]},
        text_cfg={"context_length": text["max_position_embeddings"], "vocab_size": text["vocab_size"], "width": text["hidden_size"], "heads": text["num_attention_heads"],
                  "layers": text["num_hidden_layers"], "mlp_ratio": text["intermediate_size"] / text["hidden_size"]},
        quick_gelu=quick_gelu,
    ).eval()


def open_clip_features(model, batch):
    with torch.no_grad():
        return {"image_features": model.encode_image(batch["pixel_values"], normalize=True), "text_features": model.encode_text(batch["input_ids"], normalize=True)}


def tiny(folder):
    model = build(TINY)
    draw(model, seed=5)
    state = model.state_dict()
    batch = inputs(TINY, texts=5, seed=6)
    tensors = prefixed("model.", state) | prefixed("in.", batch) | prefixed("out.", outputs(model, batch))
    model(**batch, return_loss=True).loss.backward()
    tensors |= prefixed("grad.", {name: parameter.grad for name, parameter in model.named_parameters()})
    exact = json.loads(json.dumps(TINY))
    exact["vision_config"]["hidden_act"] = exact["text_config"]["hidden_act"] = "gelu"
    other = build(exact)
    other.load_state_dict(state)
    tensors |= prefixed("gelu.", outputs(other, batch))
    twice = build(TINY)
    twice.load_state_dict(state)
    twice.double()
    torch.set_default_dtype(torch.float64)  # transformers makes its causal mask in it
    loss64 = outputs(twice, batch | {"pixel_values": batch["pixel_values"].double()})["loss"].item()
    torch.set_default_dtype(torch.float32)

    official = openai_names(state)
    import open_clip

    native = open_clip_model(TINY, custom_text=False)
    native.load_state_dict(official)  # strict: the names and layouts are OpenCLIP's
    # OpenCLIP reads the text at the highest id, which is the end-of-text token.
    tensors |= prefixed("open_clip.", open_clip_features(native, batch))

    torch.save(official, folder / "clip_tiny.openai.pt")
    holder = Holder()
    for name, value in official.items():
        holder.put(name, value.half())
    for name, value in (("input_resolution", TINY["vision_config"]["image_size"]), ("context_length", TINY["text_config"]["max_position_embeddings"]), ("vocab_size", TINY["text_config"]["vocab_size"])):
        holder.put(name, torch.tensor(value))
    torch.jit.save(torch.jit.script(holder), str(folder / "clip_tiny.openai.jit.pt"))
    save_file(tensors, folder / "clip_tiny.safetensors")
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__, "open_clip_torch": open_clip.__version__}
    text = json.dumps({"config": TINY, "loss": tensors["out.loss"].item(), "loss_float64": loss64, "versions": versions}, indent=1)
    (folder / "clip_tiny.json").write_text(text + "\n")


def ordinary(folder):
    folder.mkdir(parents=True, exist_ok=True)
    model = build(B32)
    draw(model, seed=7)
    model.save_pretrained(folder / "clip_vit_b32", safe_serialization=True)
    batch = inputs(B32, texts=4, seed=8)
    save_file(prefixed("in.", batch) | prefixed("out.", outputs(model, batch)), folder / "clip_vit_b32.expected.safetensors")
    (folder / "clip_vit_b32.json").write_text(json.dumps({"config": B32}))
    del model
    torch.manual_seed(9)
    own = open_clip_model(B32, custom_text=True, quick_gelu=False)
    torch.save({"epoch": 1, "state_dict": own.state_dict()}, folder / "open_clip_vit_b32.pt")
    save_file(prefixed("in.", batch) | prefixed("out.", open_clip_features(own, batch)), folder / "open_clip_vit_b32.expected.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=["tiny", "ordinary"])
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    {"tiny": tiny, "ordinary": ordinary}[arguments.size](arguments.folder)
