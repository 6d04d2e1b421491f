"""Writes small valid files as seeds for the fuzz targets: seeds.py FOLDER makes FOLDER/<target>/* and FOLDER/<target>.dict. Needs Python alone."""
import collections
import io
import json
import pathlib
import pickle
import struct
import sys
import zipfile

MAGIC = 0x1950A86A20F9469CFC6C
FLOATS = struct.pack("<6f", *range(6))
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"
JIT = b"ctorch.jit._pickle\n"


# ---- pickles, instruction by instruction ----

def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def number(value):
    return b"J" + struct.pack("<i", value)


def storage(key, kind=b"FloatStorage", elements=6, view=None):
    return b"(" + text(b"storage") + b"ctorch\n" + kind + b"\n" + text(key) + text(b"cpu") + number(elements) + (view or b"") + b"tQ"


def tensor(key, kind=b"FloatStorage", elements=6, offset=0, shape=(2, 3), stride=(3, 1), view=None):
    sizes = b"(" + b"".join(map(number, shape)) + b"t"
    strides = b"(" + b"".join(map(number, stride)) + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(key, kind, elements, view) + number(offset) + sizes + strides + b"\x89" + ORDERED_DICT + b"tR"


def parameter(value):
    return b"ctorch._utils\n_rebuild_parameter\n(" + value + b"\x88" + ORDERED_DICT + b"tR"


def dict_of(items, start=b"}"):
    return start + b"(" + b"".join(text(key) + value for key, value in items) + b"u"


def program(value, protocol=2):
    return b"\x80" + bytes([protocol]) + value + b"."


CONFIG = pickle.dumps({"lr": 0.1, "sizes": [1, 2, None], "name": "caf\u00e9 \"x\"", "on": True, 3: (4, 2**33), "inf": float("inf"), "deep": {"a": {"b": []}}}, 2)[2:-1]


def model(tensors, section=b"model", config=True):
    weights = dict_of(tensors, ORDERED_DICT)
    if section is None:
        return program(weights)
    return program(dict_of([(section, weights)] + ([(b"config", CONFIG), (b"epoch", number(3))] if config else [])))


def named(*keys, **rest):
    return [(b"w" + key, tensor(key, **rest)) for key in keys]


def script():
    inner = b"c__torch__.nn.Inner\nLinear\n)\x81" + dict_of([(b"weight", tensor(b"0")), (b"training", b"\x88"), (b"_is_full_backward_hook", b"N")]) + b"b"
    lists = [(b"ints", JIT + b"build_intlist\n](K\x01K\x02e\x85R"), (b"tensors", JIT + b"build_tensorlist\n](e\x85R"), (b"tagged", JIT + b"restore_type_tag\n}" + text(b"Dict[str, int]") + b"\x86R")]
    return program(b"c__torch__\nOuter\n)\x81" + dict_of([(b"visual", inner), (b"logit_scale", tensor(b"1", elements=1, shape=(), stride=())), *lists]) + b"b")


def pickles():
    every_kind = [b"DoubleStorage", b"FloatStorage", b"HalfStorage", b"BFloat16Storage", b"LongStorage", b"IntStorage", b"ShortStorage", b"CharStorage", b"ByteStorage", b"BoolStorage"]
    memo = program(b"]Nq\x00r\x01\x00\x00\x00\x94a(h\x00j\x01\x00\x00\x00N\x88\x89t\x86(](K\x01M\x00\x02J\xff\xff\xff\xff\x8a\x03abc\x8a\x09abcdefghiG?\xf0\x00\x00\x00\x00\x00\x00et\x86", 4)
    strings = program(b"(U\x02ab\x8c\x02cdT\x02\x00\x00\x00efC\x02ghB\x02\x00\x00\x00ijt", 4)
    names = program(b"(\x8c\x0bcollections\x8c\x0bOrderedDict\x93](N\x88\x86K\x01\x89\x86e\x85R" + b"ctorch\nSize\nK\x02K\x03\x86\x85R" + b"ctorch\ndevice\n" + text(b"cpu") + b"\x85R" + b"ctorch\nfloat16\nctorch\nint64\nt", 4)
    plain = {"a": [1, 2.5, None, True, "text", (1, 2, 3), 2**40, -1, b"bytes"], "b": {}, 1: [["x"]] * 3}
    return [model(named(b"0")), model(named(b"0", b"1")), model([(kind, tensor(b"k", kind)) for kind in every_kind]), model([(b"p", parameter(tensor(b"0")))], b"state_dict"), script(), memo, strings, names,
            model([(b"view", tensor(b"0", view=b"(" + text(b"v") + number(1) + number(4) + b"t")), (b"none", tensor(b"1", view=b"N"))]),
            pickle.dumps([MAGIC, -2**70], 2), pickle.dumps(collections.OrderedDict(a=1), 2)] + [pickle.dumps(plain, protocol) for protocol in (3, 4, 5)]


# ---- files ----

def legacy(tensors, storages, little=True, section=b"model"):
    head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}))
    return head + model(tensors, section) + pickle.dumps([key.decode() for key, _, _ in storages], 2) + b"".join(struct.pack("<q", count) + content for _, count, content in storages)


def legacies():
    none = {"view": b"N"}
    return [legacy(named(b"0", **none), [(b"0", 6, FLOATS)]), legacy(named(b"0", b"1", **none), [(b"1", 6, FLOATS), (b"0", 6, FLOATS)]), legacy(named(b"0", **none), [(b"0", 6, FLOATS)], little=False, section=None),
            legacy([(b"a", tensor(b"0", shape=(2,), stride=(1,), view=b"(" + text(b"v") + number(1) + number(4) + b"t")), (b"b", tensor(b"0", offset=4, shape=(2,), stride=(1,), view=b"N"))], [(b"0", 6, FLOATS)], section=b"state_dict"),
            legacy([(b"n", tensor(b"7", b"BoolStorage", 0, shape=(0, 3), stride=(3, 1), view=b"N"))], [(b"7", 0, b"")])]


def archive(members, compressed=(), comment=b""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name, content, zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED)
        file.comment = comment
    return stream.getvalue()


def archive64(members):
    """The same with every size in zip64 fields, which Python's zipfile writes for files of 4 GB alone."""
    data, directory = b"", b""
    for name, content in ((name, content if isinstance(content, bytes) else content.encode()) for name, content in members.items()):
        extra = struct.pack("<HHQQQ", 1, 24, len(content), len(content), len(data))
        directory += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 45, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(extra), 0, 0, 0, 0, 0xFFFFFFFF) + name.encode() + extra
        data += struct.pack("<IHHHHHIIIHH", 0x04034B50, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(name), 20) + name.encode() + struct.pack("<HHQQ", 1, 16, len(content), len(content)) + content
    end64 = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, len(members), len(members), len(directory), len(data))
    locator = struct.pack("<IIQI", 0x07064B50, 0, len(data) + len(directory), 1)
    return data + directory + end64 + locator + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)


def zips():
    two = {"a/data.pkl": model(named(b"0", b"1")), "a/data/0": FLOATS, "a/data/1": FLOATS, "a/version": "3\n"}
    shared = [(b"all", tensor(b"0")), (b"turned", tensor(b"0", shape=(3, 2), stride=(1, 3))), (b"tail", tensor(b"0", offset=4, shape=(2,), stride=(1,))), (b"half", tensor(b"1", b"HalfStorage", 12, shape=(12,), stride=(1,)))]
    constants = program(b"(" + tensor(b"0") + number(5) + b"t")
    return [archive({"a/data.pkl": model(named(b"0")), "a/data/0": FLOATS, "a/version": "3\n"}), archive({**two, "a/byteorder": "big"}), archive({**two, "a/byteorder": "little", "a/.data/serialization_id": "1"}, comment=b"note"),
            archive64(two), archive({"data.pkl": model(shared, None), "data/0": FLOATS, "data/1": FLOATS}), archive({"a/data.pkl": model(named(b"0"), b"state_dict", config=False), "a/data/0": FLOATS}),
            archive({"m/data.pkl": script(), "m/constants.pkl": constants, "m/data/0": FLOATS, "m/data/1": FLOATS[:4], "m/constants/0": FLOATS, "m/code/__torch__.py": "x" * 64, "m/version": "3\n"}, compressed=("m/code/__torch__.py",)),
            archive({"a/data.pkl": model([(b"flag", tensor(b"0", b"BoolStorage", 2, shape=(2,), stride=(1,)))]), "a/data/0": b"\x00\x01"})]


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors(header, data, pad=0):
    content = json.dumps(header).encode() + b" " * pad
    return struct.pack("<Q", len(content)) + content + data


def safetensors_files():
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
    header, at = {}, 0
    for dtype, size in sizes.items():
        header[dtype] = entry(dtype, [1], at, at + size)
        at += size
    return [safetensors({"a": entry("F32", [2, 3], 0, 24)}, FLOATS), safetensors(header, bytes(at), pad=5),
            safetensors({"__metadata__": {"format": "pt", "config": json.dumps({"a": [1]})}, "a": entry("I64", [], 0, 8), "b": entry("BF16", [0, 5], 8, 8)}, FLOATS[:8]),
            safetensors({"b": entry("U8", [4], 4, 8), "a": entry("I8", [2, 1, 2], 0, 4), "caf\u00e9\n": entry("F16", [8], 8, 24)}, FLOATS), safetensors({}, b"")]


def indices():
    return [json.dumps(value).encode() for value in (
        {"weight_map": {"a": "one.safetensors"}}, {"metadata": {"total_size": 28, "more": [1, {"x": None}]}, "weight_map": {"a": "one.safetensors", "b.c": "two.bin", "caf\u00e9": "two.bin"}, "version": 1.5},
        {"weight_map": {f"layer.{i}.weight": f"model-{i % 2}.safetensors" for i in range(6)}, "on": True})]


def configurations():
    return [json.dumps(value, indent=indent).encode() for value, indent in (
        ({"hidden_size": 4, "id2label": {"0": "cat"}, "architectures": ["X"], "dropout": 0.1, "torch_dtype": None, "tie": False}, 2), ({"a": [[[[1, -2, 3e5, 18446744073709551615, ""]]]], "b": "\u00e9\\\"\n"}, None), ([1, 2], None), ({}, None))]


# ---- words that mutations would take long to find ----

PICKLE_WORDS = [b"collections", b"OrderedDict", b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_tensor\n", b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\nSize\n", b"ctorch\ndevice\n", b"ctorch\nFloatStorage\n",
                b"ctorch\nBoolStorage\n", b"ctorch\nfloat16\n", b"c__torch__\nM\n", JIT + b"build_intlist\n", JIT + b"restore_type_tag\n", text(b"storage"), text(b"model"), text(b"state_dict"), text(b"config"), text(b"cpu"), text(b"0"), b"K\x02K\x03\x86",
                ORDERED_DICT, b"\x80\x02", b"\x8a\x08", b"h\x00", b"q\x00", b")\x81}b", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff\xff\xff\xff\x7f"]
JSON_WORDS = [b"{", b"}", b"[", b"]", b"\":", b"\",\"", b"{\"", b"null", b"true", b"-1", b"1e999", b"\\u0000", b"\\ud800", b"18446744073709551616", b"[[[[[[[[", b"]]]]]]]]"]
WORDS = {
    "pickle": PICKLE_WORDS,
    "legacy": PICKLE_WORDS + [pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), pickle.dumps(["0"], 2), text(b"little_endian"), struct.pack("<q", 6)],
    "zip": PICKLE_WORDS + [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"data.pkl", b"data/0", b"constants.pkl", b"constants/0", b"byteorder", b"big", b"little", b"code/", b"../", b"\x01\x00\x18\x00", b"\xff\xff\xff\xff"],
    "safetensors": JSON_WORDS + [b"__metadata__", b"dtype", b"shape", b"data_offsets", b"F32", b"BF16", b"I8", b"BOOL", b"{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}", b"9223372036854775807", b"4294967296"],
    "index": JSON_WORDS + [b"weight_map", b"metadata", b"..", b"/", b"one.safetensors"],
    "json": JSON_WORDS,
}


def main(folder):
    folder = pathlib.Path(folder)
    seeds = {"pickle": pickles(), "legacy": legacies(), "zip": zips(), "safetensors": safetensors_files(), "index": indices(), "json": configurations()}
    for kind, files in seeds.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i, content in enumerate(files):
            (folder / kind / f"seed{i}").write_bytes(content)
        (folder / f"{kind}.dict").write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS[kind]))


main(sys.argv[1])
