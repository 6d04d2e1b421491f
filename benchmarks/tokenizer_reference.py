"""The other side of benchmark_tokenizer, which calls it: seconds that a Python package needs for the lines of a file, one core.

    python3 tokenizer_reference.py KIND TEXTS VOCABULARY [MERGES]     prints {"seconds", "peak_bytes", "tokens"}
    python3 tokenizer_reference.py captions VALSE_FOLDER > TEXTS      captions and foils of VALSE's JSON files, one a line

wordpiece and byte_bpe: `tokenizers` (encode_batch_fast, the package's fastest call); clip_bpe: open_clip's SimpleTokenizer, whose cache of words is warm after the first pass.
"""

import json
import os
import pathlib
import resource
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def captions(folder):
    for file in sorted(pathlib.Path(folder).glob("*.json")):
        for item in json.loads(file.read_text()).values():
            for key in ("caption", "foil"):
                print(" ".join(str(item[key]).split()))


def main():
    if sys.argv[1] == "captions":
        return captions(sys.argv[2])
    kind, path, vocabulary = sys.argv[1:4]
    texts = pathlib.Path(path).read_text().splitlines()
    if kind == "clip_bpe":
        sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "reference"))
        from tokenizer_strings import simple_tokenizer

        tokenizer, _ = simple_tokenizer(vocabulary)

        def encode():
            return sum(len(tokenizer.encode(text)) for text in texts)
    else:
        import tokenizers

        if kind == "wordpiece":
            tokenizer = tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=True)
        else:
            tokenizer = tokenizers.ByteLevelBPETokenizer(vocabulary, sys.argv[4])

        def encode():
            return sum(len(one) for one in tokenizer._tokenizer.encode_batch_fast(texts, add_special_tokens=False))

    times = []
    for _ in range(4):
        begin = time.perf_counter()
        tokens = encode()
        times.append(time.perf_counter() - begin)
    print(json.dumps({"seconds": min(times), "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "tokens": tokens}))


if __name__ == "__main__":
    main()
