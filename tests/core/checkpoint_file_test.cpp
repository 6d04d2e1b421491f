#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <sys/wait.h>
#include <torch/script.h>
#include <torch/torch.h>

#include "core/zip_archive.hpp"
#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/core/files.hpp"
#include "support/catch.hpp"
#include "support/torch_files.hpp"

namespace fgvl {
namespace {

namespace fs = std::filesystem;

std::string fresh(const std::string& name) {
  const fs::path path = fs::temp_directory_path() / "fgvl_checkpoint_file_test" / name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path.string();
}

std::string written(const std::string& path, const std::string& bytes) {
  REQUIRE(write_file_atomically(path, bytes).ok());
  return path;
}

CheckpointFile opened(const std::string& path) {
  absl::StatusOr<CheckpointFile> file = open_checkpoint(path);
  INFO(file.status().ToString());
  REQUIRE(file.ok());
  return std::move(*file);
}

void check_same(const NamedTensors& a, const NamedTensors& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO(a[i].first);
    CHECK(a[i].first == b[i].first);
    CHECK(a[i].second.scalar_type() == b[i].second.scalar_type());
    CHECK(at::equal(a[i].second, b[i].second));
  }
}

NamedTensors some_tensors() {
  const Tensor tied = torch::randn({5, 4});
  return {{"z", torch::randn({2, 3})},   {"half", torch::randn({7}).to(at::kHalf)}, {"brain", torch::randn({3}).to(at::kBFloat16)}, {"double", torch::randn({2, 2}, at::kDouble)}, {"long", torch::arange(4)},
          {"flag", torch::tensor({true, false})}, {"scalar", torch::tensor(0.07f)}, {"empty", torch::zeros({0, 3})}, {"tied.a", tied}, {"tied.b", tied}, {"transposed", torch::randn({3, 5}).t()}};
}

TEST_CASE("a .th file that is written reads back: tensors in order, tied ones stored once, the configuration beside them", "[checkpoint_file]") {
  const NamedTensors tensors = some_tensors();
  const std::string path = fresh("round") + "/a.th", config = R"({"image_res":64,"optimizer":{"lr":0.0001,"opt":"adamW"},"list":[1,null,true,5000000000,-2.5]})";
  REQUIRE(write_torch_file(path, tensors, {.config_json = config}).ok());
  const CheckpointFile file = opened(path);
  CHECK(file.format == CheckpointFormat::kTorchZip);
  CHECK(file.section == "model");
  CHECK(file.config_json == config);
  check_same(file.tensors, tensors);
  CHECK(file.tensors[8].second.data_ptr() == file.tensors[9].second.data_ptr());
  const std::string once = read_file(path).value();
  REQUIRE(write_torch_file(path, tensors, {.config_json = config}).ok());
  CHECK(read_file(path).value() == once);
}

TEST_CASE("a .th file that is written is read by torch.load(weights_only=True) of Python", "[checkpoint_file]") {
  const std::string folder = fresh("python");
  const NamedTensors tensors = some_tensors();
  REQUIRE(write_torch_file(folder + "/a.th", tensors, {.config_json = R"({"lr": 0.5, "n": [1, 2]})"}).ok());
  REQUIRE(write_safetensors(folder + "/a.safetensors", tensors).ok());
  written(folder + "/check.py", R"(
import sys
try:
    import torch
except ImportError:
    sys.exit(77)
import json, struct
loaded = torch.load(sys.argv[1], weights_only=True)
assert loaded["config"] == {"lr": 0.5, "n": [1, 2]}, loaded["config"]
model = loaded["model"]
raw = open(sys.argv[2], "rb").read()
size = struct.unpack("<Q", raw[:8])[0]
header = json.loads(raw[8:8 + size])
assert list(model) == list(header), (list(model), list(header))
for name, entry in header.items():
    begin, end = entry["data_offsets"]
    tensor = model[name].contiguous()
    assert list(tensor.shape) == entry["shape"], name
    assert bytes(tensor.flatten().view(torch.uint8).tolist() if tensor.numel() else []) == raw[8 + size + begin:8 + size + end], name
assert model["tied.a"].data_ptr() == model["tied.b"].data_ptr()
)");
  const char* python = std::getenv("FGVL_PYTHON");
  const int status = std::system((std::string(python != nullptr ? python : "python3") + " " + folder + "/check.py " + folder + "/a.th " + folder + "/a.safetensors").c_str());
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == 77 || code == 127) {
    std::cout << "SKIPPED: Python with torch is not there (set FGVL_PYTHON)" << std::endl;
    SUCCEED("skipped");
    return;
  }
  CHECK(code == 0);
}

TEST_CASE("tensors are views of the file: nothing is copied, writing to one does not change the file, and they outlive the checkpoint", "[checkpoint_file]") {
  const std::string folder = fresh("views"), path = folder + "/a.th", plain = folder + "/a.safetensors";
  const NamedTensors tensors = {{"a", torch::arange(6, at::kFloat).view({2, 3})}, {"b", torch::ones({3})}};
  REQUIRE(write_torch_file(path, tensors).ok());
  REQUIRE(write_safetensors(plain, tensors).ok());
  for (const std::string& one : {path, plain}) {
    const std::string before = read_file(one).value();
    Tensor kept;
    {
      CheckpointFile file = opened(one);
      kept = file.tensors[0].second;
      // Both lie in one mapping at the distance that they have in the file.
      const std::size_t a = before.find(test::floats({0, 1, 2, 3, 4, 5})), b = before.find(test::floats({1, 1, 1}));
      CHECK(static_cast<char*>(file.tensors[1].second.data_ptr()) - static_cast<char*>(kept.data_ptr()) == static_cast<std::ptrdiff_t>(b) - static_cast<std::ptrdiff_t>(a));
    }
    kept.fill_(7);
    CHECK(kept.sum().item<float>() == 42);
    CHECK(read_file(one).value() == before);
    CHECK(opened(one).tensors[0].second[1][2].item<float>() == 5);
  }
}

TEST_CASE("pages that are given back are read again from the file", "[checkpoint_file]") {
  const std::string path = fresh("release") + "/a.safetensors";
  const Tensor large = torch::randn({1 << 16});
  REQUIRE(write_safetensors(path, {{"a", large}}).ok());
  const CheckpointFile file = opened(path);
  CHECK(at::equal(file.tensors[0].second, large));
  file.release(file.tensors[0].second);
  CHECK(at::equal(file.tensors[0].second, large));
  const Tensor other = torch::ones({1 << 16});
  file.release(other);  // not of this file: nothing happens
  CHECK(other.sum().item<double>() == 1 << 16);
}

/// Peak resident memory of this process since the last call, in bytes.
double peak_memory() {
  double kilobytes = 0;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) kilobytes = std::stod(line.substr(6));
  }
  std::ofstream("/proc/self/clear_refs") << "5";
  return 1024 * kilobytes;
}

TEST_CASE("a file of 1 GB opens at once, and loading it tensor by tensor never holds the weights twice", "[checkpoint_file]") {
  constexpr std::int64_t kTensors = 32, kRows = 8192, kColumns = 1024;
  constexpr double kBytes = 4.0 * kTensors * kRows * kColumns;
  const std::string path = fresh("large") + "/a.safetensors";
  std::string header = "{";
  for (std::int64_t i = 0; i < kTensors; ++i) {
    const auto offset = [](std::int64_t at) { return std::to_string(4 * at * kRows * kColumns); };
    header += (i > 0 ? "," : "") + ("\"w" + std::to_string(i)) + "\":{\"dtype\":\"F32\",\"shape\":[8192,1024],\"data_offsets\":[" + offset(i) + "," + offset(i + 1) + "]}";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  written(path, test::little_endian(header.size(), 8) + header);
  fs::resize_file(path, 8 + header.size() + static_cast<std::uintmax_t>(kBytes));  // sparse: takes no disk
  peak_memory();
  const double before = peak_memory();
  const auto start = std::chrono::steady_clock::now();
  const CheckpointFile file = opened(path);
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 2.0);
  CHECK(peak_memory() - before < 0.01 * kBytes);
  // A quarter of the tensors is "used", as when a model takes only a part.
  std::vector<Tensor> used;
  for (std::int64_t i = 0; i < kTensors / 4; ++i) {
    used.push_back(file.tensors[static_cast<std::size_t>(i)].second.clone());
    file.release(file.tensors[static_cast<std::size_t>(i)].second);
  }
  CHECK(peak_memory() - before < 1.15 * kBytes / 4);
  fs::remove(path);
}

TEST_CASE("storage offsets, strides and shared storages are what the pickle says", "[checkpoint_file]") {
  const std::string path = fresh("strides") + "/a.pt";
  test::PickledTensor transposed, tail, whole;
  transposed.shape = {3, 2};
  transposed.strides = {1, 3};
  tail.offset = 4;
  tail.shape = {2};
  tail.strides = {1};
  written(path, test::torch_zip(test::pickled_model({{"whole", whole.bytes()}, {"transposed", transposed.bytes()}, {"tail", tail.bytes()}})));
  const CheckpointFile file = opened(path);
  CHECK(at::equal(file.tensors[0].second, torch::arange(6, at::kFloat).view({2, 3})));
  CHECK(at::equal(file.tensors[1].second, file.tensors[0].second.t()));
  CHECK(at::equal(file.tensors[2].second, torch::tensor({4.f, 5.f})));
  CHECK(file.tensors[0].second.storage().is_alias_of(file.tensors[2].second.storage()));
}

/// Six floats as a machine of the other byte order has them.
std::string swapped_floats() {
  std::string bytes;
  for (const float value : test::kSixFloats) {
    const std::string one = test::floats({value});
    bytes.append(one.rbegin(), one.rend());
  }
  return bytes;
}

TEST_CASE("zip files of the other byte order are read", "[checkpoint_file]") {
  const std::string pickled = test::pickled_model({{"w", test::PickledTensor().bytes()}, {"again", test::PickledTensor().bytes()}});
  const CheckpointFile file = opened(written(fresh("big") + "/a.th", test::archive({{"m/data.pkl", pickled}, {"m/byteorder", "big"}, {"m/data/0", swapped_floats()}})));
  CHECK(at::equal(file.tensors[0].second, torch::arange(6, at::kFloat).view({2, 3})));
  CHECK(file.tensors[0].second.data_ptr() == file.tensors[1].second.data_ptr());
}

TEST_CASE("legacy files are read, also from machines of the other byte order and at odd addresses", "[checkpoint_file]") {
  const std::string folder = fresh("legacy");
  test::PickledTensor tensor;
  tensor.legacy = true;
  const std::string pickled = test::pickled_model({{"w", tensor.bytes()}, {"again", tensor.bytes()}});
  for (int pad = 0; pad < 4; ++pad) {  // a longer name moves the storage
    const std::string moved = test::pickled_model({{"w" + std::string(static_cast<std::size_t>(pad), 'w'), tensor.bytes()}});
    const CheckpointFile file = opened(written(folder + "/odd.th", test::torch_legacy(moved, {{"0", test::little_endian(6, 8) + test::floats(test::kSixFloats)}})));
    CHECK(file.format == CheckpointFormat::kTorchLegacy);
    CHECK(at::equal(file.tensors[0].second, torch::arange(6, at::kFloat).view({2, 3})));
    CHECK(reinterpret_cast<std::uintptr_t>(file.tensors[0].second.data_ptr()) % 4 == 0);
  }
  // PyTorch writes the numbers of legacy files in little-endian order on every machine; the count before them only since 1.2 or so.
  std::string count = test::little_endian(6, 8);
  for (int i = 0; i < 2; ++i) {
    const CheckpointFile file = opened(written(folder + "/big.th", test::torch_legacy(pickled, {{"0", count + test::floats(test::kSixFloats)}}, /*little=*/false)));
    CHECK(at::equal(file.tensors[0].second, torch::arange(6, at::kFloat).view({2, 3})));
    CHECK(file.tensors[0].second.data_ptr() == file.tensors[1].second.data_ptr());
    std::reverse(count.begin(), count.end());
  }
}

TEST_CASE("a legacy file may be larger than any pickle", "[checkpoint_file]") {
  constexpr std::int64_t kElements = (std::int64_t{1} << 32) + 5;
  test::PickledTensor tensor;
  tensor.legacy = true;
  tensor.storage = "ByteStorage";
  tensor.elements = kElements;
  tensor.shape = {kElements};
  tensor.strides = {1};
  const std::string path = fresh("legacy_large") + "/a.th";
  written(path, test::torch_legacy(test::pickled_model({{"w", tensor.bytes()}}), {{"0", test::little_endian(kElements, 8)}}));
  fs::resize_file(path, fs::file_size(path) + kElements);  // sparse: takes no disk
  CHECK(opened(path).tensors[0].second.numel() == kElements);
  fs::remove(path);
}

TEST_CASE("zip files with zip64 fields are read", "[checkpoint_file]") {
  const std::string bytes = test::archive({{"m/data.pkl", test::pickled_model({{"w", test::PickledTensor().bytes()}})}, {"m/data/0", test::floats(test::kSixFloats)}}, /*force_64=*/true);
  CHECK(zip::read_directory(bytes).value().size() == 2);
  CHECK(at::equal(opened(written(fresh("zip64") + "/a.th", bytes)).tensors[0].second, torch::arange(6, at::kFloat).view({2, 3})));
  CHECK(zip::crc32("123456789") == 0xCBF43926u);  // the check value of CRC-32/ISO-HDLC
}

TEST_CASE("of a TorchScript archive the weights are read under their names, and nothing else", "[checkpoint_file]") {
  const std::string path = fresh("script") + "/a.pt";
  torch::jit::Module inner("Inner"), outer("Outer");
  const Tensor weight = torch::randn({3, 4}), buffer = torch::arange(3);
  inner.register_parameter("weight", weight, false);
  inner.register_buffer("steps", buffer);
  outer.register_module("visual", inner);
  outer.register_parameter("logit_scale", torch::tensor(4.6f), false);
  outer.register_attribute("size", c10::IntType::get(), 224);
  outer.define("def forward(self, x):\n  return x + self.logit_scale\n");
  outer.save(path);
  const CheckpointFile file = opened(path);
  CHECK(file.format == CheckpointFormat::kTorchScript);
  std::map<std::string, Tensor> found(file.tensors.begin(), file.tensors.end());
  REQUIRE(found.size() == 3);
  CHECK(at::equal(found.at("visual.weight"), weight));
  CHECK(at::equal(found.at("visual.steps"), buffer));
  CHECK(found.at("logit_scale").item<float>() == 4.6f);
}

TEST_CASE("the weights' dict is found by its key, and other keys are named", "[checkpoint_file]") {
  const std::string folder = fresh("sections"), tensor = test::PickledTensor().bytes();
  const auto saved = [&](const std::string& items) { return written(folder + "/a.pt", test::torch_zip(test::kPickleStart + "}(" + items + "u.")); };
  const std::string dict = test::kOrderedDict + "(" + test::pickled_text("w") + tensor + "u";
  const CheckpointFile nested = opened(saved(test::pickled_text("epoch") + test::pickled_integer(3) + test::pickled_text("state_dict") + dict + test::pickled_text("optimizer") + "}"));
  CHECK(nested.section == "state_dict");
  CHECK(nested.others == std::vector<std::string>{"epoch", "optimizer"});
  CHECK(nested.tensors.size() == 1);
  const CheckpointFile flat = opened(saved(test::pickled_text("w") + tensor + test::pickled_text("v") + tensor));
  CHECK(flat.section.empty());
  CHECK(flat.tensors.size() == 2);
  // The state that PyTorch hangs on a state dict (_metadata) is passed over.
  CHECK(opened(saved(test::pickled_text("model") + dict + "}" + test::pickled_text("_metadata") + "}sb")).tensors.size() == 1);
  const auto two = open_checkpoint(saved(test::pickled_text("model") + dict + test::pickled_text("state_dict") + dict));
  CHECK_THAT(std::string(two.status().message()), Catch::Contains("several keys: model, state_dict"));
}

TEST_CASE("names that all begin with module., as DistributedDataParallel writes them, are read without it", "[checkpoint_file]") {
  const std::string folder = fresh("wrapper");
  const Tensor weight = torch::randn({3});
  const auto saved = [&](const NamedTensors& tensors) {
    REQUIRE(write_torch_file(folder + "/epoch_1.pt", tensors, {.section = "state_dict"}).ok());
    return opened(folder + "/epoch_1.pt");
  };
  const CheckpointFile wrapped = saved({{"module.visual.proj", weight}, {"module.logit_scale", weight}});
  CHECK(wrapped.wrapper == "module.");
  check_same(wrapped.tensors, {{"visual.proj", weight}, {"logit_scale", weight}});
  // A model whose own part is called module keeps its names.
  const CheckpointFile own = saved({{"module.visual.proj", weight}, {"logit_scale", weight}});
  CHECK(own.wrapper.empty());
  check_same(own.tensors, {{"module.visual.proj", weight}, {"logit_scale", weight}});
}

TEST_CASE("a folder in Hugging Face's layout and its shards open as one", "[checkpoint_file]") {
  const std::string folder = fresh("shards");
  const NamedTensors tensors = {{"a", torch::randn({3})}, {"b", torch::randn({4})}};
  REQUIRE(write_safetensors(folder + "/one.safetensors", {tensors[0]}).ok());
  REQUIRE(write_torch_file(folder + "/two.bin", {tensors[1]}, {.section = ""}).ok());
  written(folder + "/config.json", "{\"hidden_size\": 4}");
  written(folder + "/model.safetensors.index.json", R"({"metadata": {"total_size": 28}, "weight_map": {"a": "one.safetensors", "b": "two.bin"}})");
  const CheckpointFile file = opened(folder);
  check_same(file.tensors, tensors);
  CHECK(file.config_json == "{\"hidden_size\": 4}");
  CHECK(file.files.size() == 2);
  check_same(opened(folder + "/model.safetensors.index.json").tensors, tensors);
  const auto refused = [&](const std::string& index) {
    const auto status = open_checkpoint(written(folder + "/wrong.json", index)).status();
    CHECK(exit_code(status) == ExitCode::kCheckpoint);
    return std::string(status.message());
  };
  CHECK_THAT(refused(R"({"weight_map": {"a": "one.safetensors", "c": "two.bin"}})"), Catch::Contains("two.bin") && Catch::Contains("\"b\" is not in this shard"));
  CHECK_THAT(refused(R"({"weight_map": {"a": "one.safetensors", "d": "one.safetensors"}})"), Catch::Contains("\"d\" is missing"));
  CHECK_THAT(refused(R"({"weight_map": {"a": "../one.safetensors"}})"), Catch::Contains("must be a file beside the index"));
  CHECK_THAT(refused(R"({"weight_map": {"a": "absent.safetensors"}})"), Catch::Contains("absent.safetensors: cannot open"));
  CHECK_THAT(refused(R"({"hidden_size": 4})"), Catch::Contains("weight_map"));
  CHECK(absl::IsNotFound(open_checkpoint(fresh("nothing")).status()));
}

TEST_CASE("a safetensors file is known by its content even where it begins like a pickle", "[checkpoint_file]") {
  std::string header = R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
  header.resize(0x280, ' ');  // bytes 80 02: a pickle of protocol 2
  CHECK(opened(written(fresh("pickle_like") + "/a", test::safetensors(header, test::floats(test::kSixFloats)))).format == CheckpointFormat::kSafetensors);
}

TEST_CASE("an empty tensor before another at the same byte is read", "[checkpoint_file]") {
  const std::string path = fresh("empty") + "/a.safetensors";
  const NamedTensors tensors = {{"empty", torch::zeros({0, 3})}, {"w", torch::ones({2})}};
  REQUIRE(write_safetensors(path, tensors).ok());
  check_same(opened(path).tensors, tensors);
}

TEST_CASE("the configuration of a .th file survives safetensors and comes back", "[checkpoint_file]") {
  const std::string path = fresh("config") + "/a.safetensors";
  REQUIRE(write_safetensors(path, {{"a", torch::ones({2})}}, {{"config", "{\"image_res\":64}"}, {"note", "x"}}).ok());
  const CheckpointFile file = opened(path);
  CHECK(file.config_json == "{\"image_res\":64}");
  CHECK(file.metadata.at("note") == "x");
}

}  // namespace
}  // namespace fgvl
