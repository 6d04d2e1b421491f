#pragma once
/// Files as torch.save writes them, built by hand, so that tests can also build wrong ones.
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/pickle_writer.hpp"
#include "core/zip_writer.hpp"

namespace fgvl::test {

inline std::string joined(const std::vector<std::string_view>& pieces) {
  std::string bytes;
  for (const std::string_view piece : pieces) bytes += piece;
  return bytes;
}

/// A zip archive of stored members.
inline std::string archive(const std::vector<std::pair<std::string, std::string>>& members, bool force_64 = false) {
  zip::Writer writer(force_64);
  for (const auto& [name, content] : members) writer.add(name, content);
  return joined(writer.finish());
}

inline std::string little_endian(std::uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

/// BINUNICODE.
inline std::string pickled_text(const std::string& text) { return "X" + little_endian(text.size(), 4) + text; }
/// BININT, or LONG1 where that is too small.
inline std::string pickled_integer(std::int64_t value) {
  if (value >= INT32_MIN && value <= INT32_MAX) return "J" + little_endian(static_cast<std::uint64_t>(value), 4);
  return std::string("\x8a\x08") + little_endian(static_cast<std::uint64_t>(value), 8);
}
inline std::string pickled_tuple(const std::vector<std::int64_t>& values) {
  std::string bytes = "(";
  for (const std::int64_t value : values) bytes += pickled_integer(value);
  return bytes + "t";
}

/// What is said of one tensor.
struct PickledTensor {
  std::string key = "0", storage = "FloatStorage";
  std::int64_t elements = 6, offset = 0;
  std::vector<std::int64_t> shape = {2, 3}, strides = {3, 1};
  bool legacy = false;  ///< persistent ids of legacy files have a sixth part

  std::string bytes() const {
    return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickled_text("storage") + "ctorch\n" + storage + "\n" + pickled_text(key) + pickled_text("cpu") + pickled_integer(elements) + (legacy ? "N" : "") + "tQ" +
           pickled_integer(offset) + pickled_tuple(shape) + pickled_tuple(strides) + "\x89" + "ccollections\nOrderedDict\n)RtR";
  }
};

inline const std::string kPickleStart = "\x80\x02", kOrderedDict = "ccollections\nOrderedDict\n)R";

/// {"model": OrderedDict(names -> tensors)}; the values are pickled already.
inline std::string pickled_model(const std::vector<std::pair<std::string, std::string>>& tensors) {
  std::string bytes = kPickleStart + "}" + pickled_text("model") + kOrderedDict + "(";
  for (const auto& [name, value] : tensors) bytes += pickled_text(name) + value;
  return bytes + "us.";
}

inline std::string floats(const std::vector<float>& values) { return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}; }
inline const std::vector<float> kSixFloats = {0, 1, 2, 3, 4, 5};

/// A whole .th file around one pickle and one storage.
inline std::string torch_zip(const std::string& pickled, const std::string& storage = floats(kSixFloats)) {
  return archive({{"archive/data.pkl", pickled}, {"archive/data/0", storage}, {"archive/version", "3\n"}});
}

/// A whole legacy file; storages are count and bytes.
inline std::string torch_legacy(const std::string& pickled, const std::vector<std::pair<std::string, std::string>>& storages, bool little = true) {
  std::string bytes = kPickleStart + "\x8a\x0a" + "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" + "." + kPickleStart + pickled_integer(1001) + "." + kPickleStart + "}" + pickled_text("little_endian") + (little ? "\x88" : "\x89") + "s.";
  bytes += pickled + kPickleStart + "](";
  for (const auto& [key, content] : storages) bytes += pickled_text(key);
  bytes += "e.";
  for (const auto& [key, content] : storages) bytes += content;
  return bytes;
}

inline std::string safetensors(const std::string& header, const std::string& data) { return little_endian(header.size(), 8) + header + data; }

}  // namespace fgvl::test
