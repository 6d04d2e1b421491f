"""Writes random strings with the ids that the Python tokenizers give them, for tests/data/tokenizer_reference_test.cpp.

    pip install tokenizers ftfy regex && pip install --no-deps open_clip_torch
    python3 tokenizer_strings.py KIND OUT --count N [--vocabulary FILE]

KIND is wordpiece (BertWordPieceTokenizer of `tokenizers`), byte_bpe (its ByteLevelBPETokenizer, trained here on made-up captions) or clip_bpe (SimpleTokenizer of
open_clip with its own vocabulary; `--trained` uses a small one made here, in the same form). OUT gets the vocabulary and strings.jsonl: {"text", "ids"} a line. For
clip_bpe a line with "mojibake": true is one that ftfy's fix_encoding changes. The first line of strings.jsonl names versions, seed and count.

`--small` writes what is committed beside this file: few strings, small trained vocabularies. The same seed gives the same strings.
KIND check only says whether the packages are there (exit status).
"""

import argparse
import gzip
import importlib.util
import json
import os
import pathlib
import random
import sys
import types
import unicodedata

WORDS = (
    "a the man woman dog cat horse red green blue big small left right of on under above two three standing sitting riding playing with umbrella skateboard "
    "tennis racket baseball player in front behind next to black and white photograph parking meter giraffe's woman's don't they've we'll I'd he's it's t-shirt "
    "people walking down street near building windows wooden table plate sandwich broccoli surfboard ocean wave unrecognisable antidisestablishmentarianism"
).split()
SPECIAL = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "[mask]", "<s>", "</s>", "<mask>", "<pad>", "<unk>", "<|endoftext|>", "<start_of_text>", "<end_of_text>", "<END_OF_TEXT>", "<person>"]
ENTITIES = ["&amp;", "&lt;b&gt;", "&eacute;", "&EACUTE;", "&#39;", "&#x2019;", "&#xD800;", "&#128;", "&#0;", "&#99999999;", "&notit;", "&amp", "&ampamp;", "&AMP;", "&NTILDE;", "&SZLIG;", "&hellip;",
            "&amp;amp;lt;", "&", "&;", "&#;", "&#x;", "&unknown;", "&NotEqualTilde;", "&nbsp;", "&Jscr;", "<br>", "&#0000065;", "&lt"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", " \n ", "   "]
TYPOGRAPHY = "‘’‚‛“”„‟ʼ'´`ﬀﬁﬂﬃﬄﬅﬆĲĳŉǅǆǈǋǲſKÅΩ…–—•™ＡＢｃ！？ｱｶﾞﾟￗ￡￣\x80\x91\x92\x99\x9f\x1b"
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'ſ", "'LL", "’s", "''s", " 's", "'"]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧", "🏳️‍🌈", "🇩🇪", "1️⃣", "❤️", "🏴\U000e0067\U000e0062\U000e007f", "☺", "🫨"]
RANGES = [  # inclusive
    (0x20, 0x7E), (0x00, 0x1F), (0x7F, 0x9F), (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F),
    (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x20A0, 0x20CF), (0x20D0, 0x20FF), (0x2100, 0x218F), (0x2190, 0x27BF), (0x2E80, 0x2FFF),
    (0x3000, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA640, 0xA69F), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFF00, 0xFFFF),
    (0x10000, 0x103FF), (0x10400, 0x1044F), (0x11000, 0x111FF), (0x1D100, 0x1D1FF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1F), (0xE0000, 0xE01EF),
    (0x0, 0xFFFF), (0x10000, 0x1FFFF), (0x0, 0x10FFFF),
]


def character(rng, low, high):
    while True:
        c = rng.randint(low, high)
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def piece(rng):
    kind = rng.randrange(16)
    if kind < 5:
        word = rng.choice(WORDS)
        return rng.choice([word, word, word, word.upper(), word.capitalize(), "".join(rng.choice([x, x.upper()]) for x in word)])
    if kind == 5:
        return rng.choice(SPECIAL)
    if kind == 6:
        return rng.choice(ENTITIES)
    if kind == 7:
        return rng.choice(CONTRACTIONS)
    if kind == 8:
        return rng.choice(EMOJI)
    if kind == 9:
        return str(rng.randrange(10 ** rng.randrange(1, 7)))
    if kind == 10:
        return "".join(rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(rng.randrange(1, 5)))
    if kind == 11:
        return "".join(rng.choice(TYPOGRAPHY) for _ in range(rng.randrange(1, 4)))
    if kind == 12:  # letters with marks
        return "".join(rng.choice("aeinouAEZςΣσאкЙ") + character(rng, 0x300, 0x36F) * rng.randrange(0, 3) for _ in range(rng.randrange(1, 5)))
    if kind == 13 and rng.random() < 0.05:
        return rng.choice("abΣé漢") * rng.randrange(95, 130)
    low, high = rng.choice(RANGES)
    return "".join(character(rng, low, high) for _ in range(rng.randrange(1, 7)))


def random_text(rng):
    text = ""
    for _ in range(rng.randrange(1, 9)):
        text += piece(rng)
        if rng.random() < 0.75:
            text += " " if rng.random() < 0.8 else rng.choice(SPACES)
    return text


def random_texts(seed, count):
    rng = random.Random(seed)
    return [random_text(rng) for _ in range(count)]


def captions(seed, count):
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randrange(4, 14))) + rng.choice([".", "", "!"]) for _ in range(count)]


def simple_tokenizer(bpe_path=None):
    """open_clip's SimpleTokenizer from its own file; `torch`, which that file imports but encoding does not use, may be absent."""
    if importlib.util.find_spec("torch") is None:
        torch = types.ModuleType("torch")
        torch.LongTensor = torch.Tensor = object
        sys.modules["torch"] = torch
    folder = pathlib.Path(importlib.util.find_spec("open_clip").origin).parent
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", folder / "tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer(*([bpe_path] if bpe_path else [])), folder / "bpe_simple_vocab_16e6.txt.gz"


def versions(*names):
    from importlib.metadata import version

    return {"python": sys.version.split()[0], "unicode": unicodedata.unidata_version, **{name: version(name) for name in names}}


def write(out, kind, arguments, rows, used):
    with open(out / "strings.jsonl", "w") as stream:
        stream.write(json.dumps({"kind": kind, "written_by": "tests/reference/tokenizer_strings.py", "seed": arguments.seed, "count": len(rows), "versions": used}) + "\n")
        for row in rows:
            stream.write(json.dumps(row) + "\n")


def wordpiece(out, arguments, texts):
    import tokenizers

    vocabulary = arguments.vocabulary
    if not vocabulary:
        trained = tokenizers.BertWordPieceTokenizer()
        trained.train_from_iterator(captions(1, 3000) + random_texts(2, 2000), vocab_size=600, min_frequency=2, limit_alphabet=250, show_progress=False)
        trained.save_model(str(out))
        vocabulary = str(out / "vocab.txt")
    tokenizer = tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=True)
    write(out, "wordpiece", arguments, [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in texts], versions("tokenizers"))


def byte_bpe(out, arguments, texts):
    import tokenizers

    trained = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(captions(1, 3000) + random_texts(2, 2000), vocab_size=600 if arguments.small else 8000, min_frequency=2, special_tokens=special, show_progress=False)
    trained.save_model(str(out))
    rows = []
    plain = tokenizers.ByteLevelBPETokenizer(str(out / "vocab.json"), str(out / "merges.txt"))
    spaced = tokenizers.ByteLevelBPETokenizer(str(out / "vocab.json"), str(out / "merges.txt"), add_prefix_space=True)
    for tokenizer in (plain, spaced):
        tokenizer.add_special_tokens(special)
    for text in texts:
        rows.append({"text": text, "ids": plain.encode(text).ids, "ids_with_prefix_space": spaced.encode(text).ids})
    write(out, "byte_bpe", arguments, rows, versions("tokenizers"))


def train_clip(path):
    import tokenizers

    model = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([tokenizers.pre_tokenizers.Whitespace(), tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=800, min_frequency=2, end_of_word_suffix="</w>", show_progress=False)
    model.train_from_iterator([text.lower() for text in captions(1, 3000) + random_texts(2, 500)], trainer)
    merges = [" ".join(pair) for pair in json.loads(model.to_str())["model"]["merges"]]
    with gzip.GzipFile(path, "wb", mtime=0) as stream:  # the official file's form; its reader takes the lines 1 to 48,894
        stream.write(("bpe_simple_vocab: a small one, trained by tokenizer_strings.py\n" + "\n".join(merges)).encode())


def clip_bpe(out, arguments, texts):
    import ftfy

    path = None
    if arguments.small or arguments.trained:
        path = str(out / "bpe_small_vocab.txt.gz")
        train_clip(path)
    tokenizer, official = simple_tokenizer(path)
    if path is None:
        (out / "bpe_simple_vocab_16e6.txt.gz").write_bytes(official.read_bytes())
    rows = []
    for text in texts:
        row = {"text": text, "ids": tokenizer.encode(text)}
        if ftfy.fix_text(text) != ftfy.fix_text(text, fix_encoding=False):
            row["mojibake"] = True
        rows.append(row)
    write(out, "clip_bpe", arguments, rows, versions("open_clip_torch", "ftfy", "regex"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["wordpiece", "byte_bpe", "clip_bpe", "check"])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--vocabulary")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--trained", action="store_true")
    arguments = parser.parse_args()
    if arguments.kind == "check":
        missing = [name for name in ("tokenizers", "ftfy", "regex", "open_clip") if importlib.util.find_spec(name) is None]
        print("missing: " + ", ".join(missing) if missing else "all there")
        sys.exit(1 if missing else 0)
    os.makedirs(arguments.out, exist_ok=True)
    {"wordpiece": wordpiece, "byte_bpe": byte_bpe, "clip_bpe": clip_bpe}[arguments.kind](arguments.out, arguments, random_texts(arguments.seed, arguments.count))


if __name__ == "__main__":
    main()
