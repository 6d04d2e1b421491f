"""Writes small valid files as seeds for the fuzz targets: seeds.py FOLDER makes FOLDER/{pickle,zip,safetensors}/*. Needs Python alone."""
import io
import json
import pathlib
import pickle
import struct
import sys
import zipfile

TENSOR = (b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00%s"
          b"X\x03\x00\x00\x00cpuK\x06tQK\x00K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR")


def model(keys):
    items = b"".join(b"X\x01\x00\x00\x00" + key + TENSOR % key for key in keys)
    return b"\x80\x02}(X\x05\x00\x00\x00modelccollections\nOrderedDict\n)R(" + items + b"uX\x06\x00\x00\x00config}(X\x01\x00\x00\x00aG?\xb1\xeb\x85\x1e\xb8Q\xecuu."


def archive(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def legacy(keys):
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    storages = b"".join(struct.pack("<q6f", 6, *range(6)) for _ in keys)
    return head + model(keys) + pickle.dumps([key.decode() for key in keys], 2) + storages


def safetensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def main(folder):
    data = struct.pack("<6f", *range(6))
    script = b"\x80\x02c__torch__\nM\n)\x81}(X\x01\x00\x00\x00w" + TENSOR % b"0" + b"X\x08\x00\x00\x00training\x88ub."
    seeds = {
        "pickle": [model([b"0"]), model([b"0", b"1"]), legacy([b"0"]), legacy([b"0", b"1"]), script,
                   pickle.dumps({"a": [1, 2.5, None, True, "text", (1, 2, 3), 2**40], "b": {}}, 2), pickle.dumps([["x"]] * 3, 4)],
        "zip": [archive({"a/data.pkl": model([b"0"]), "a/data/0": data, "a/version": "3\n"}),
                archive({"a/data.pkl": model([b"0", b"1"]), "a/byteorder": "big", "a/data/0": data, "a/data/1": data}),
                archive({"a/data.pkl": script, "a/constants.pkl": b"\x80\x02(" + TENSOR % b"0" + b"t.", "a/data/0": data, "a/constants/0": data})],
        "safetensors": [safetensors({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}, data),
                        safetensors({"__metadata__": {"format": "pt"}, "a": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]}, "b": {"dtype": "BF16", "shape": [0, 5], "data_offsets": [8, 8]}}, data[:8])],
    }
    for kind, files in seeds.items():
        (pathlib.Path(folder) / kind).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(files):
            (pathlib.Path(folder) / kind / f"seed{number}").write_bytes(content)


main(sys.argv[1])
