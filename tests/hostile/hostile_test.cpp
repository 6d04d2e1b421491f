// Files that are truncated, lying or hostile: each is refused with a sentence that names the file and the place, with exit code 4, and without asking for
// more memory than the file is large. FGVL_HOSTILE_DIR keeps the files, for trying the program on them.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <limits>
#include <new>

#include <sys/stat.h>
#include <torch/torch.h>
#include <unistd.h>

#include "core/pickle.hpp"
#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/core/files.hpp"
#include "support/catch.hpp"
#include "support/torch_files.hpp"

namespace {
std::atomic<std::size_t> largest_request{0};

void* counted(std::size_t size) {
  std::size_t before = largest_request.load();
  while (size > before && !largest_request.compare_exchange_weak(before, size)) {
  }
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
}  // namespace

// Every request of this program goes through here, so that one that a file talked the reader into is seen even when it would succeed.
void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace fgvl {
namespace {

namespace fs = std::filesystem;
using test::PickledTensor;

struct Hostile {
  std::string name;      ///< of the file
  std::string bytes;
  std::string expected;  ///< part of the message
};

std::string folder() {
  const char* kept = std::getenv("FGVL_HOSTILE_DIR");
  const fs::path path = kept != nullptr ? fs::path(kept) : fs::temp_directory_path() / "fgvl_hostile_test";
  fs::create_directories(path);
  return path.string();
}

std::string model_with(PickledTensor tensor) { return test::pickled_model({{"w", tensor.bytes()}}); }
std::string zip_with(PickledTensor tensor) { return test::torch_zip(model_with(std::move(tensor))); }

std::string replaced(std::string bytes, const std::string& from, const std::string& to, std::size_t which = 0) {
  std::size_t at = bytes.find(from);
  for (; which > 0 && at != std::string::npos; --which) at = bytes.find(from, at + 1);
  REQUIRE(at != std::string::npos);
  return bytes.replace(at, from.size(), to);
}

/// A .th file whose pickle is `body`.
std::string pickled(const std::string& body) { return test::torch_zip(test::kPickleStart + body + "."); }
/// A pickle that calls `module.attribute("x")`.
std::string call(const std::string& module, const std::string& attribute) { return pickled("c" + module + "\n" + attribute + "\n" + test::pickled_text("touch /tmp/owned") + "\x85R"); }

std::string repeated(const std::string& part, int times) {
  std::string bytes;
  for (int i = 0; i < times; ++i) bytes += part;
  return bytes;
}
/// Remembers the topmost value as number `id`, and takes it again.
std::string memo(char id) { return {'q', id}; }
std::string got(char id) { return {'h', id}; }

std::vector<Hostile> pickles() {
  const std::string tensor = PickledTensor().bytes();
  std::vector<Hostile> files = {
      {"os_system.th", call("os", "system"), "names os.system"},
      {"posix_system.th", call("posix", "system"), "names posix.system"},
      {"builtins_eval.th", call("builtins", "eval"), "names builtins.eval"},
      {"builtins_exec.th", call("__builtin__", "exec"), "names __builtin__.exec"},
      {"subprocess.th", call("subprocess", "Popen"), "names subprocess.Popen"},
      {"getattr.th", call("builtins", "getattr"), "names builtins.getattr"},
      {"torch_load.th", call("torch", "load"), "names torch.load"},
      {"torch_hub.th", call("torch.hub", "load"), "names torch.hub.load"},
      {"numpy.th", call("numpy.core.multiarray", "_reconstruct"), "names numpy.core.multiarray._reconstruct"},
      {"unknown_class.th", pickled("cmy.package\nModel\n)\x81}b"), "names my.package.Model"},
      {"script_class_outside_script.th", pickled("c__torch__\nModel\n)\x81}b"), "names __torch__.Model"},
      {"stack_global.th", pickled(std::string("\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R")), "names os.system"},
      {"unprintable_name.th", call("a\x01\x1b[31m", "b"), "names a\\x01\\x1b[31m.b"},
      {"inst.th", pickled("(ios\nsystem\n"), "instruction 0x69"},
      {"obj.th", pickled("(cos\nsystem\no"), "names os.system"},
      {"extension.th", pickled("\x82\x01"), "instruction 0x82"},
      {"persistent_text.th", pickled("Pweights\n"), "instruction 0x50"},
      {"long4.th", pickled(std::string("\x8b\xff\xff\xff\x7f", 5)), "instruction 0x8b"},
      {"reduce_text.th", pickled(test::pickled_text("os.system") + ")R"), "calls something that is not one of the known names"},
      {"storage_called.th", pickled("ctorch\nFloatStorage\n" + test::pickled_integer(1) + "\x85R"), "a storage cannot be called"},
      {"list_in_itself.th", pickled("]q" + std::string(1, '\0') + "h" + std::string(1, '\0') + "a"), "contains itself"},
      {"dict_in_itself.th", pickled("}q" + std::string(1, '\0') + test::pickled_text("model") + "h" + std::string(1, '\0') + "s"), "contains itself"},
      {"cycle_of_two.th", pickled("]q" + std::string(1, '\0') + "]q\x01h" + std::string(1, '\0') + "aa"), "contains itself"},
      {"deep_tuples.th", pickled("N" + repeated("\x85", 100000)), "nested more than"},
      {"deep_lists.th", pickled(repeated("](", 100000) + repeated("e", 100000)), "nested more than"},
      {"empty_pickle.th", test::torch_zip(""), "ends without STOP"},
      {"no_stop.th", test::torch_zip(test::kPickleStart + "}"), "ends without STOP"},
      {"two_values.th", pickled("NN"), "STOP with 2 values"},
      {"empty_stack.th", pickled("a"), "empty stack"},
      {"no_mark.th", pickled("t"), "no MARK"},
      {"memo_unset.th", pickled("h\x05"), "memo 5 was never set"},
      {"memo_huge.th", pickled("Nr\xff\xff\xff\x7f"), "memo 2147483647"},
      {"text_beyond.th", pickled("X\xff\xff\xff\x7fhello"), "needs 2147483647 more bytes"},
      {"frame_beyond.th", pickled("\x95" + test::little_endian(~0ull, 8) + "N"), "needs 18446744073709551615 more bytes"},
      {"protocol_99.th", test::torch_zip(std::string("\x80\x63") + "}."), "protocol 99"},
      {"no_dict.th", pickled("]"), "does not hold a dict"},
      {"no_weights.th", pickled("}" + test::pickled_text("epoch") + test::pickled_integer(3) + "s"), "no weights"},
      {"optimizer_only.th", pickled("}(" + test::pickled_text("optimizer") + "}" + test::pickled_text("epoch") + "Nu"), "the keys are [optimizer, epoch]"},
      {"odd_items.th", pickled("}(" + test::pickled_text("w") + "u"), "a dict's key without a value"},
      {"name_is_number.th", pickled("}" + test::pickled_text("model") + "}(" + test::pickled_text("a") + tensor + test::pickled_integer(1) + tensor + "us"), "name is not a text"},
      {"same_name_twice.th", test::torch_zip(test::pickled_model({{"w", tensor}, {"w", tensor}})), "two tensors are named \"w\""},
      {"escape_in_name.th", test::torch_zip(test::pickled_model({{"w\x1b[31m", test::PickledTensor{.offset = 1}.bytes()}})), "tensor \"w\\x1b[31m\""},
      {"shared_lists.th", {}, "far larger than the file"},
      {"shared_key.th", {}, "far larger than the file"},
      {"shared_objects.pt", {}, "contain one another in far more ways"},
  };
  // Forty lists, each twice in the next: 2^40 values from a few hundred bytes.
  std::string lists = "]q" + std::string(1, '\0');
  for (int i = 1; i <= 40; ++i) lists += "](h" + std::string(1, static_cast<char>(i - 1)) + "h" + std::string(1, static_cast<char>(i - 1)) + "eq" + std::string(1, static_cast<char>(i));
  const auto configured = [&](const std::string& value) {
    return pickled("}(" + test::pickled_text("model") + test::kOrderedDict + "(" + test::pickled_text("w") + tensor + "u" + test::pickled_text("config") + "}" + test::pickled_text("a") + value + "s" + "u");
  };
  files[files.size() - 3].bytes = configured("(" + lists + "t");
  // One long key in five thousand dicts: 100 MB from 50 kB.
  files[files.size() - 2].bytes = configured("(" + test::pickled_text(std::string(20000, 'k')) + memo(0) + repeated("}" + got(0) + "Ns", 5000) + "t");
  // An object of 100,000 attributes, which is itself 100,000 attributes of another: without a limit, 10^10 steps.
  const std::string class_name = "c__torch__\nM\n", attributes = repeated(got(0) + "N", 100000);
  files.back().bytes = test::archive({{"m/data.pkl", test::kPickleStart + class_name + ")\x81}(" + test::pickled_text("a") + memo(0) + class_name + ")\x81}(" + attributes + "ub" + memo(1) + repeated(got(0) + got(1), 100000) + "ub."},
                                      {"m/constants.pkl", test::kPickleStart + ")."}});
  return files;
}

std::vector<Hostile> tensors() {
  constexpr std::int64_t kHuge = std::int64_t{1} << 40, kLargest = std::numeric_limits<std::int64_t>::max();
  const auto with = [](auto&& change) {
    PickledTensor tensor;
    change(tensor);
    return zip_with(tensor);
  };
  return {
      {"storage_too_large.th", with([](auto& t) { t.elements = kHuge; }), "1099511627776 elements of 4 bytes, the archive holds 24 bytes"},
      {"storage_overflow.th", with([](auto& t) { t.elements = kLargest; }), "9223372036854775807 elements"},
      {"storage_negative.th", with([](auto& t) { t.elements = -6; }), "negative or missing size"},
      {"storage_absent.th", with([](auto& t) { t.key = "7"; }), "the archive has no data/7"},
      {"storage_escapes.th", with([](auto& t) { t.key = "../../../etc/passwd"; }), "the archive has no data/../../../etc/passwd"},
      {"dtype_wrong.th", with([](auto& t) { t.storage = "DoubleStorage"; }), "6 elements of 8 bytes, the archive holds 24 bytes"},
      {"dtype_unknown.th", with([](auto& t) { t.storage = "QInt8Storage"; }), "names torch.QInt8Storage"},
      {"offset_negative.th", with([](auto& t) { t.offset = -1; }), "offset is -1"},
      {"offset_beyond.th", with([](auto& t) { t.offset = 1; }), "tensor \"w\""},
      {"offset_huge.th", with([](auto& t) { t.offset = kLargest; }), "tensor \"w\""},
      {"shape_beyond.th", with([](auto& t) { t.shape = {200, 3}; }), "of a storage that holds 6"},
      {"shape_negative.th", with([](auto& t) { t.shape = {-2, 3}; }), "negative size -2"},
      {"shape_overflow.th", with([](auto& t) { t.shape = {kLargest, kLargest}; t.strides = {kLargest, kLargest}; }), "exceed 64 bits"},
      {"empty_but_huge.th", with([](auto& t) { t.shape = {kLargest, 0, kLargest}; t.strides = {1, 1, 1}; }), "exceed 64 bits"},
      {"stride_huge.th", with([](auto& t) { t.strides = {kHuge, 1}; }), "tensor \"w\""},
      {"stride_negative.th", with([](auto& t) { t.strides = {-3, 1}; }), "negative stride -3"},
      {"stride_zero_bomb.th", with([](auto& t) { t.shape = {kHuge}; t.strides = {0}; }), "repeat a storage of 6"},
      {"strides_missing.th", with([](auto& t) { t.strides = {1}; }), "2 dimensions but 1 strides"},
      {"dimensions.th", with([](auto& t) { t.shape.assign(1000, 1); t.strides.assign(1000, 1); }), "1000 dimensions"},
      {"bool_of_seven.th", test::torch_zip(model_with({.storage = "BoolStorage"}), std::string("\x01\x00\x01\x07\x00\x01", 6)), "neither true nor false"},
      {"whole_file_many_times.th",
       [] {
         std::vector<std::pair<std::string, std::string>> names;
         PickledTensor all;
         all.elements = 100000;
         all.shape = {100000};
         all.strides = {1};
         for (int i = 0; i < 500; ++i) names.emplace_back("w" + std::to_string(i), all.bytes());
         return test::torch_zip(test::pickled_model(names), std::string(400000, '\0'));
       }(),
       "share storages too often"},
  };
}

std::vector<Hostile> archives() {
  const std::string good = zip_with({}), data = test::floats(test::kSixFloats), model = model_with({});
  const std::string central = "PK\1\2", local = "PK\3\4", end = "PK\5\6";
  const auto patched = [&](const std::string& signature, std::size_t offset, const std::string& value, std::size_t which = 0) {
    std::string bytes = good;
    std::size_t at = bytes.find(signature);
    for (; which > 0; --which) at = bytes.find(signature, at + 1);
    return bytes.replace(at + offset, value.size(), value);
  };
  std::string zip64_elsewhere = test::archive({{"a/data.pkl", model}}, /*force_64=*/true);
  zip64_elsewhere.replace(zip64_elsewhere.find("PK\6\7") + 8, 8, std::string(7, '\xff') + std::string(1, '\0'));
  const auto named = [&](const std::string& name) { return test::archive({{name, model}, {"archive/data.pkl", model}}); };
  return {
      {"deflated.th", patched(central, 10, test::little_endian(8, 2)), "its own header names another compression"},
      {"deflated_inside.th", patched(local, 8, test::little_endian(8, 2), 1), "its own header names another compression"},
      {"deflated_both.th", replaced(patched(local, 8, test::little_endian(8, 2), 0), central + test::little_endian(20, 2) + test::little_endian(20, 2) + test::little_endian(1 << 11, 2) + test::little_endian(0, 2), central + test::little_endian(20, 2) + test::little_endian(20, 2) + test::little_endian(1 << 11, 2) + test::little_endian(8, 2)), "is compressed; PyTorch stores members as they are"},
      {"bomb.th", patched(central, 24, test::little_endian(0xfffffff0, 4)), "bytes stored for 4294967280"},
      {"both_sizes_lie.th", patched(central, 20, test::little_endian(0xfffffff0, 4) + test::little_endian(0xfffffff0, 4)), "do not fit before the directory"},
      {"encrypted.th", patched(central, 8, test::little_endian(1, 2)), "encrypted"},
      {"header_elsewhere.th", patched(central, 42, test::little_endian(7, 4)), "its header is not at 7"},
      {"header_beyond.th", patched(central, 42, test::little_endian(0x7fffffff, 4)), "its header is not at 2147483647"},
      {"overlap.th", patched(central, 20, test::little_endian(380, 4) + test::little_endian(380, 4)), "\" and \"archive/data/0\" overlap"},
      {"many_members.th", patched(end, 8, test::little_endian(0xfffe, 2) + test::little_endian(0xfffe, 2)), "65534 members in a directory of"},
      {"directory_beyond.th", patched(end, 12, test::little_endian(0x7fffffff, 4)), "the directory should be 2147483647 bytes"},
      {"several_disks.th", patched(end, 4, test::little_endian(3, 2)), "several disks"},
      {"parent_name.th", named("../../outside"), "`..` in a name"},
      {"inner_parent_name.th", named("archive/../x"), "`..` in a name"},
      {"absolute_name.th", named("/etc/passwd"), "names must be relative"},
      {"backslash_name.th", named("a\\..\\b"), "backslash"},
      {"control_name.th", named("a\nb"), "control character"},
      {"twice.th", test::archive({{"a/data.pkl", model}, {"a/data/0", data}, {"a/data/0", data}}), "two members are named"},
      {"two_pickles.th", test::archive({{"a/data.pkl", model}, {"b/data.pkl", model}}), "two members named data.pkl"},
      {"names_differ.th", replaced(good, "archive/data/0", "archive/data/1"), "its own header has another name"},
      {"no_pickle.th", test::archive({{"a/readme", "x"}}), "without data.pkl"},
      {"empty.zip.th", test::archive({}), "without data.pkl"},
      {"byteorder.th", test::archive({{"a/data.pkl", model}, {"a/data/0", data}, {"a/byteorder", "middle"}}), "expected little or big"},
      {"zip64_beyond.th", zip64_elsewhere, "the zip64 end record is not at 72057594037927935"},
  };
}

std::vector<Hostile> legacy() {
  PickledTensor tensor;
  tensor.legacy = true;
  const std::string model = model_with(tensor), data = test::little_endian(6, 8) + test::floats(test::kSixFloats), good = test::torch_legacy(model, {{"0", data}});
  const auto storage = [&](std::uint64_t count) { return test::torch_legacy(model, {{"0", test::little_endian(count, 8) + test::floats(test::kSixFloats)}}); };
  return {
      {"magic.legacy.th", replaced(good, "\x6c\xfc", "\x6d\xfc"), "wrong magic number"},
      {"protocol.legacy.th", replaced(good, test::pickled_integer(1001), test::pickled_integer(1002)), "not protocol 1001"},
      {"plain_pickle.pkl", "\x80\x02}.", "wrong magic number"},
      {"count.legacy.th", storage(std::uint64_t{1} << 60), "1152921504606846976 elements here and 6"},
      {"count_negative.legacy.th", storage(~0ull), "elements here and 6"},
      {"surplus.legacy.th", good + "more", "4 bytes behind the last storage"},
      {"no_storages.legacy.th", test::torch_legacy(model, {}), "is not in the file"},
      {"strange_storage.legacy.th", test::torch_legacy(model, {{"0", data}, {"9", data}}), "belongs to no tensor"},
      {"storage_twice.legacy.th", test::torch_legacy(model, {{"0", data}, {"0", data}}), "stored twice"},
      {"system.legacy.th", replaced(good, "little_endian", "middle_endian"), "does not say little_endian"},
      {"os_system.legacy.th", replaced(good, "ctorch._utils\n_rebuild_tensor_v2\n", "cos\nsystem\n"), "names os.system"},
  };
}

std::vector<Hostile> safetensors_files() {
  const std::string data = test::floats(test::kSixFloats);
  const auto entry = [](const std::string& fields) { return "{\"w\":{" + fields + "}}"; };
  const auto of = [&](const std::string& header) { return test::safetensors(header, data); };
  std::string deep = "{\"w\":{\"dtype\":" + std::string(200000, '[') + std::string(200000, ']') + "}}";
  return {
      {"header_beyond.safetensors", test::little_endian(1000000, 8) + "{}", "header of 1000000 bytes in a file of 10"},
      {"header_huge.safetensors", test::little_endian(~0ull, 8) + "{}", "header of 18446744073709551615 bytes"},
      {"no_json.safetensors", of("{not json}"), "no JSON object"},
      {"json_ends.safetensors", of("{\"w\":"), "no JSON object"},
      {"after_nul.safetensors", of(entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,24])") + std::string("\0}", 2)), "the header is no JSON object: byte"},
      {"deep.safetensors", of(deep), "a list is not expected"},
      {"offsets_beyond.safetensors", of(entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,2400])")), "outside the 24 bytes of data"},
      {"offsets_backwards.safetensors", of(entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[24,0])")), "outside the 24 bytes of data"},
      {"offsets_negative.safetensors", of(entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[-8,16])")), "negative number -8"},
      {"shape_lies.safetensors", of(entry(R"("dtype":"F32","shape":[2,4],"data_offsets":[0,24])")), "needs 32 bytes, its offsets hold 24"},
      {"shape_overflow.safetensors", of(entry(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,24])")), "more than 64 bits"},
      {"shape_negative.safetensors", of(entry(R"("dtype":"F32","shape":[-2,3],"data_offsets":[0,24])")), "negative number -2"},
      {"shape_fraction.safetensors", of(entry(R"("dtype":"F32","shape":[2.5],"data_offsets":[0,24])")), "not whole"},
      {"dtype_wrong.safetensors", of(entry(R"("dtype":"F64","shape":[2,3],"data_offsets":[0,24])")), "needs 48 bytes"},
      {"dtype_unknown.safetensors", of(entry(R"("dtype":"C64","shape":[3],"data_offsets":[0,24])")), "dtype \"C64\" is not supported"},
      {"field_missing.safetensors", of(entry(R"("dtype":"F32","shape":[2,3])")), "needs dtype, shape and data_offsets"},
      {"field_unknown.safetensors", of(entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,24],"code":"x")")), "the key \"code\" is not expected"},
      {"overlap.safetensors", of(R"({"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"), "overlap or hole"},
      {"hole.safetensors", of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[20,24]}})"), "overlap or hole"},
      {"twice.safetensors", of(R"({"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}})"), "two entries are named \"w\""},
      {"surplus.safetensors", of(entry(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])")), "20 bytes at the end belong to no tensor"},
      {"empty_but_huge.safetensors", of(R"({"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},"e":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[24,24]}})"), "exceed 64 bits"},
      {"escape_in_name.safetensors", of(R"({"w\u001b[31m":{"dtype":"F99","shape":[6],"data_offsets":[0,24]}})"), "tensor \"w\\x1b[31m\": dtype \"F99\""},
      {"escape_in_key.safetensors", of(R"({"w":{"\u001b[31m":1}})"), "the key \"\\x1b[31m\""},
      {"entries_of_nothing.safetensors", of("{" + repeated("\"\":{},", 1000) + "\"a\":{}}"), "a tensor without a name"},
      {"field_none.safetensors", of("{\"a\":{},\"b\":{}}"), "tensor \"a\": needs dtype, shape and data_offsets"},
      {"bool_of_seven.safetensors", test::safetensors(entry(R"("dtype":"BOOL","shape":[2],"data_offsets":[0,2])"), "\x01\x07"), "neither true nor false"},
  };
}

std::vector<Hostile> others() {
  return {
      {"nothing.th", "", "the file is empty"},
      {"one_byte.th", "P", "neither a file of PyTorch nor safetensors"},
      {"text.th", "hello, this is not a checkpoint", "neither a file of PyTorch nor safetensors"},
      {"elf.th", std::string("\x7f" "ELF\2\1\1\0\0\0\0\0", 12), "neither a file of PyTorch nor safetensors"},
      {"pointer.th", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"},
      {"old.tar.th", std::string(257, 'x') + "ustar" + std::string(250, '\0'), "tar archive"},
      {"parent.index.json", R"({"weight_map": {"a": "../../etc/passwd"}})", "must be a file beside the index"},
      {"self.index.json", R"({"weight_map": {"a": "self.index.json"}})", "neither a file of PyTorch nor safetensors nor an index"},
      {"self_twice.index.json", R"({"weight_map": {"a": "x", "a": "y"}})", "tensor \"a\" is named twice"},
      {"two_maps.index.json", R"({"weight_map": {"a": "x"}, "weight_map": {"a": "x"}})", "two entries are named weight_map"},
      {"number.index.json", R"({"weight_map": {"a": 3}})", "its shard is not a text but a number"},
      {"nested.index.json", R"({"weight_map": {"a": {"b": "x"}}})", "its shard is not a text but an object"},
      {"no_map.index.json", R"({"metadata": {"weight_map": {"a": "x"}}})", "JSON without a `weight_map`"},
      {"broken.index.json", R"({"weight_map": {"a": "x"})", "not JSON"},
      {"after_nul.index.json", std::string("{\"weight_map\": {\"a\": \"x\"}}\0[", 28), "byte 26: not JSON"},
      {"escape.index.json", R"({"weight_map": {"a": "\u001b[31m/x"}})", "the shard \"\\x1b[31m/x\" must be"},
      {"deep_elsewhere.index.json", "{\"metadata\":" + std::string(100000, '[') + std::string(100000, ']') + "}", "nested more than 64 deep"},
      {"deep.index.json", "{\"weight_map\":" + std::string(100000, '[') + std::string(100000, ']') + "}", "weight_map"},
  };
}

absl::Status refusal(const std::string& path) {
  largest_request = 0;
  const absl::StatusOr<CheckpointFile> file = open_checkpoint(path);
  const std::size_t largest = largest_request;
  CHECK_FALSE(file.ok());
  CHECK(exit_code(file.status()) == ExitCode::kCheckpoint);
  const std::string message(file.status().message());
  CHECK(message.rfind(path, 0) == 0);
  CHECK(std::none_of(message.begin(), message.end(), [](unsigned char character) { return character < ' ' || character == 0x7f; }));  // nothing that would steer a terminal
  // The reader's own buffers, plus values that grow with what was really there: never with what a file claims.
  CHECK(largest <= (std::size_t{1} << 16) + 64 * fs::file_size(path));
  return file.status();
}

TEST_CASE("every hostile file is refused with its place and exit code 4, and nothing is allocated for what it claims", "[hostile]") {
  int count = 0;
  for (const auto& group : {pickles(), tensors(), archives(), legacy(), safetensors_files(), others()}) {
    for (const Hostile& file : group) {
      const std::string path = folder() + "/" + file.name;
      REQUIRE(write_file_atomically(path, file.bytes).ok());
      const absl::Status status = refusal(path);
      INFO(status);
      CHECK_THAT(std::string(status.message()).substr(path.size()), Catch::Contains(file.expected));  // not in the file's own name
      ++count;
    }
  }
  std::cout << "hostile files: " << count << " refused" << std::endl;
  CHECK(count >= 40);
}

TEST_CASE("the files that the hostile ones were made from are good", "[hostile]") {
  PickledTensor tensor;
  tensor.legacy = true;
  const std::string data = test::little_endian(6, 8) + test::floats(test::kSixFloats);
  for (const std::string& bytes : {zip_with({}), test::torch_legacy(model_with(tensor), {{"0", data}}), test::safetensors(R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", test::floats(test::kSixFloats)),
                                   test::archive({{"a/data.pkl", model_with({})}, {"a/data/0", test::floats(test::kSixFloats)}}, true)}) {
    const std::string path = folder() + "/good";
    REQUIRE(write_file_atomically(path, bytes).ok());
    const auto file = open_checkpoint(path);
    INFO(file.status());
    REQUIRE(file.ok());
    CHECK(at::equal(file->tensors[0].second, torch::arange(6, at::kFloat).view({2, 3})));
  }
}

TEST_CASE("a file that is cut anywhere is refused", "[hostile]") {
  PickledTensor tensor;
  tensor.legacy = true;
  const std::string data = test::little_endian(6, 8) + test::floats(test::kSixFloats);
  for (const std::string& bytes : {zip_with({}), test::torch_legacy(model_with(tensor), {{"0", data}}), test::safetensors(R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", test::floats(test::kSixFloats))}) {
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const std::string path = folder() + "/cut";
      REQUIRE(write_file_atomically(path, bytes.substr(0, size)).ok());
      INFO(size << " of " << bytes.size() << " bytes");
      (void)refusal(path);
    }
  }
}

TEST_CASE("a pickle asks for no memory beyond its budget", "[hostile]") {
  const std::string bytes = "N" + std::string("r") + test::little_endian(999999, 4) + std::string(1000000, 'N');  // memo number 999,999 of a pickle that is long enough for it
  largest_request = 0;
  const auto graph = pickle::parse(bytes, {.offset = 0, .budget = 1 << 16});
  CHECK_THAT(std::string(graph.status().message()), Catch::Contains("bytes of memory"));
  CHECK(largest_request <= 1 << 16);
}

TEST_CASE("keys beside the weights are named once, however often they stand there", "[hostile]") {
  const std::string path = folder() + "/repeated.th", key = test::pickled_text("epoch") + memo(0), tensor = PickledTensor().bytes();
  for (const std::string& bytes : {pickled("}(" + test::pickled_text("w") + tensor + key + "N" + repeated(got(0) + "N", 100000) + "u"),
                                   pickled("}(" + test::pickled_text("model") + test::kOrderedDict + "(" + test::pickled_text("w") + tensor + "u" + key + "N" + repeated(got(0) + "N", 100000) + "u")}) {
    REQUIRE(write_file_atomically(path, bytes).ok());
    const auto file = open_checkpoint(path);
    REQUIRE(file.ok());
    CHECK(file->others == std::vector<std::string>{"epoch"});
  }
}

/// Processor time of `work` in seconds: another program on the machine does not count.
template <class Work>
double seconds(Work&& work) {
  const std::clock_t start = std::clock();
  work();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

TEST_CASE("files that are built to take long take no longer than others of their size", "[hostile]") {
  // Each of these took minutes where work was done again for every mention of a thing. The bound is far above what is needed (tenths of a second), for slow machines and sanitizers.
  constexpr double kSeconds = 15;
  const std::string path = folder() + "/long";
  const auto opened = [&](const std::string& bytes) {
    REQUIRE(write_file_atomically(path, bytes).ok());
    absl::StatusOr<CheckpointFile> file = absl::InternalError("");
    CHECK(seconds([&] { file = open_checkpoint(path); }) < kSeconds);
    INFO(file.status());
    REQUIRE(file.ok());
    return std::move(*file);
  };
  SECTION("a long tuple as the arguments of many calls") {
    const std::string bytes = "(ctorch\ndevice\n" + memo(0) + "(" + test::pickled_text("cpu") + std::string(1000000, 'N') + "t" + memo(1) + repeated(got(0) + got(1) + "R", 200000) + "t.";
    CHECK(seconds([&] { CHECK(pickle::parse(bytes, {.offset = 0, .budget = 1 << 30}).ok()); }) < kSeconds);
  }
  SECTION("a long name that is named many times") {
    const std::string bytes = "(" + test::pickled_text("__torch__." + std::string(2000000, 'x')) + memo(0) + test::pickled_text("M") + memo(1) + repeated(got(0) + got(1) + "\x93", 200000) + "t.";
    CHECK(seconds([&] { CHECK(pickle::parse(bytes, {.offset = 0, .budget = 1 << 30, .torchscript = true}).ok()); }) < kSeconds);
  }
  SECTION("many tensors over one storage of truth values") {
    std::vector<std::pair<std::string, std::string>> names = {{"w", PickledTensor{.storage = "BoolStorage", .elements = 4000000, .shape = {1}, .strides = {1}}.bytes() + memo(0)}};
    for (int i = 0; i < 20000; ++i) names.emplace_back("w" + std::to_string(i), got(0));
    CHECK(opened(test::torch_zip(test::pickled_model(names), std::string(4000000, '\1'))).tensors.size() == 20001);
  }
  SECTION("a configuration of many keys, read and written") {
    std::string items;
    for (int i = 0; i < 200000; ++i) items += test::pickled_text(std::to_string(i)) + "N";
    const CheckpointFile file = opened(pickled("}(" + test::pickled_text("model") + test::kOrderedDict + "(" + test::pickled_text("w") + PickledTensor().bytes() + "u" + test::pickled_text("config") + "}(" + items + "uu"));
    CHECK(file.config_json.substr(0, 20) == R"({"0":null,"1":null,")");
    CHECK(seconds([&] { CHECK(write_torch_file(path + ".again", file.tensors, {.config_json = file.config_json}).ok()); }) < kSeconds);
    CHECK(open_checkpoint(path + ".again")->config_json == file.config_json);
    fs::remove(path + ".again");
  }
  fs::remove(path);
}

TEST_CASE("weights that are not finite are loaded", "[hostile]") {
  const std::string path = folder() + "/nan.safetensors";
  REQUIRE(write_safetensors(path, {{"w", torch::full({3}, std::nan(""))}}).ok());
  CHECK(open_checkpoint(path)->tensors[0].second.isnan().all().item<bool>());
}

TEST_CASE("what is no regular file is refused without waiting for it", "[hostile]") {
  const std::string pipe = folder() + "/pipe";
  ::unlink(pipe.c_str());
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const auto status = open_checkpoint(pipe).status();
  CHECK(exit_code(status) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(status.message()), Catch::Contains("not a regular file"));
  ::unlink(pipe.c_str());
  CHECK(absl::IsNotFound(open_checkpoint(folder() + "/absent.th").status()));
}

}  // namespace
}  // namespace fgvl
