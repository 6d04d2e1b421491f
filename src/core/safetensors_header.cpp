#include "core/safetensors_header.hpp"

#include <algorithm>
#include <optional>
#include <set>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "core/bounded_json.hpp"

namespace fgvl {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeader = 100u << 20;  // the format's own limit

struct NamedType {
  std::string_view name;
  ElementType type;
};
constexpr NamedType kTypes[] = {{"F64", ElementType::kFloat64}, {"F32", ElementType::kFloat32}, {"F16", ElementType::kFloat16}, {"BF16", ElementType::kBFloat16}, {"I64", ElementType::kInt64},
                                {"I32", ElementType::kInt32},   {"I16", ElementType::kInt16},   {"I8", ElementType::kInt8},     {"U8", ElementType::kUInt8},      {"BOOL", ElementType::kBool}};

absl::Status wrong(const std::string& what) { return absl::InvalidArgumentError(absl::StrCat("not a valid safetensors file: ", what)); }

/// One tensor as its header entry says, complete but not yet checked against the file.
struct Entry {
  std::string name{};
  std::optional<ElementType> type{};
  std::optional<std::vector<std::int64_t>> shape{};
  std::vector<std::uint64_t> offsets{};
};

/// Follows the events of {"name": {"dtype": text, "shape": [numbers], "data_offsets": [begin, end]}, "__metadata__": {text: text}}; anything else ends the reading.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Entry> entries{};
  std::map<std::string, std::string> metadata{};
  std::string problem{};

  bool start_object(std::size_t) override {
    if (depth_ == 0 && !done_) {
      depth_ = 1;
      return true;
    }
    if (depth_ != 1 || key_.empty()) return unexpected("an object");
    depth_ = 2;
    in_metadata_ = key_ == "__metadata__";
    if (!in_metadata_) entries.push_back({.name = key_});
    field_.clear();
    return true;
  }
  bool end_object() override {
    if (depth_ == 2 && !in_metadata_) {
      // Here, not when all is read: entries of nothing would take many times the memory of their own text.
      const Entry& entry = entries.back();
      if (!entry.type || !entry.shape || entry.offsets.size() != 2) return fail(absl::StrCat(tensor(), "needs dtype, shape and data_offsets [begin, end]"));
    }
    --depth_;
    done_ = depth_ == 0;
    key_.clear();
    return true;
  }
  bool key(std::string& name) override {
    if (depth_ == 1) {
      key_ = name;
      if (!names_.insert(name).second) return fail(absl::StrCat("two entries are named \"", shown(name), "\""));
      return !name.empty() || fail("a tensor without a name");
    }
    field_ = name;
    return in_metadata_ || name == "dtype" || name == "shape" || name == "data_offsets" || unexpected(absl::StrCat("the key \"", shown(name), "\""));
  }
  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || in_array_) return unexpected("a list");
    if (field_ == "shape" && !entries.back().shape) {
      entries.back().shape.emplace();
    } else if (field_ != "data_offsets" || !entries.back().offsets.empty()) {
      return unexpected("a list");
    }
    return in_array_ = true;
  }
  bool end_array() override {
    in_array_ = false;
    return true;
  }
  bool string(std::string& text) override {
    if (depth_ != 2 || in_array_) return unexpected("a text");
    if (in_metadata_) {
      metadata[field_] = text;
      return true;
    }
    if (field_ != "dtype" || entries.back().type) return unexpected("a text");
    for (const NamedType& known : kTypes) {
      if (known.name == text) entries.back().type = known.type;
    }
    return entries.back().type.has_value() || fail(absl::StrCat(tensor(), "dtype \"", shown(text), "\" is not supported"));
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (!in_array_) return unexpected("a number");
    if (field_ == "data_offsets") {
      entries.back().offsets.push_back(value);
      return entries.back().offsets.size() <= 2 || fail(absl::StrCat(tensor(), "data_offsets must be [begin, end]"));
    }
    if (value > INT64_MAX) return fail(absl::StrCat(tensor(), "size ", value, " exceeds 63 bits"));
    entries.back().shape->push_back(static_cast<std::int64_t>(value));
    return entries.back().shape->size() <= kMaxDimensions || fail(absl::StrCat(tensor(), "more than ", kMaxDimensions, " dimensions"));
  }
  bool number_integer(number_integer_t value) override { return unexpected(absl::StrCat("the negative number ", value)); }
  bool number_float(number_float_t, const std::string&) override { return unexpected("a number that is not whole"); }
  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool binary(nlohmann::json::binary_t&) override { return unexpected("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    return fail(absl::StrCat("the header is no JSON object: byte ", kLengthBytes + (position > 0 ? position - 1 : 0)));
  }

 private:
  std::string tensor() const { return absl::StrCat("tensor \"", shown(entries.back().name), "\": "); }
  bool fail(std::string what) {
    if (problem.empty()) problem = std::move(what);
    return false;
  }
  bool unexpected(const std::string& what) {
    const std::string place = depth_ == 2 && !in_metadata_ ? tensor() : depth_ == 2 ? "__metadata__: " : "";
    return fail(absl::StrCat(place, what, " is not expected", depth_ == 2 ? absl::StrCat(" under \"", shown(field_), "\"") : ""));
  }

  int depth_ = 0;
  bool done_ = false, in_metadata_ = false, in_array_ = false;
  std::string key_{}, field_{};
  std::set<std::string> names_{};
};

/// `data` is where the tensors begin, `data_size` how many bytes they have.
absl::StatusOr<StoredTensor> checked(Entry& entry, std::uint64_t data, std::uint64_t data_size) {
  const auto refused = [&](const std::string& what) { return wrong(absl::StrCat("tensor \"", shown(entry.name), "\": ", what)); };
  const std::uint64_t begin = entry.offsets[0], end = entry.offsets[1];
  if (begin > end || end > data_size) return refused(absl::StrCat("offsets [", begin, ", ", end, ") are outside the ", data_size, " bytes of data"));
  std::uint64_t bytes = element_size(*entry.type);
  bool overflow = false;
  for (const std::int64_t size : *entry.shape) overflow = overflow || __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes);
  if (overflow) return refused("its shape needs more than 64 bits of bytes");
  if (end - begin != bytes) return refused(absl::StrCat("its shape needs ", bytes, " bytes, its offsets hold ", end - begin));
  StoredTensor tensor{std::move(entry.name), *entry.type, std::move(*entry.shape), {}, data + begin, bytes, 0};
  tensor.strides.resize(tensor.shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    tensor.strides[i] = stride;
    if (__builtin_mul_overflow(stride, std::max<std::int64_t>(1, tensor.shape[i]), &stride)) stride = 0;  // only where check_view refuses the shape
  }
  if (absl::Status status = check_view(tensor); !status.ok()) return wrong(absl::StrCat("tensor \"", shown(tensor.name), "\": ", std::string(status.message())));
  return tensor;
}

}  // namespace

std::string_view safetensors_name(ElementType type) {
  return std::find_if(std::begin(kTypes), std::end(kTypes), [&](const NamedType& named) { return named.type == type; })->name;
}

absl::StatusOr<SafetensorsHeader> parse_safetensors(std::string_view file) {
  if (file.size() < kLengthBytes) return wrong(absl::StrCat("only ", file.size(), " bytes long"));
  std::uint64_t header_size = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) header_size |= static_cast<std::uint64_t>(static_cast<unsigned char>(file[i])) << (8 * i);
  if (header_size > kMaxHeader || header_size > file.size() - kLengthBytes) return wrong(absl::StrCat("header of ", header_size, " bytes in a file of ", file.size()));
  const std::uint64_t data = kLengthBytes + header_size, data_size = file.size() - data;
  HeaderReader reader;
  const std::string_view header = file.substr(kLengthBytes, header_size);
  if (header.empty() || header.front() != '{') return wrong(absl::StrCat("the header is no JSON object: byte ", kLengthBytes));
  if (const std::size_t nul = find_nul(header); nul != std::string_view::npos) return wrong(absl::StrCat("the header is no JSON object: byte ", kLengthBytes + nul));
  if (!nlohmann::json::sax_parse(header.begin(), header.end(), &reader)) return wrong(reader.problem.empty() ? "the header is no JSON object" : reader.problem);

  SafetensorsHeader result{{}, std::move(reader.metadata)};
  result.tensors.reserve(reader.entries.size());
  for (Entry& entry : reader.entries) {
    absl::StatusOr<StoredTensor> tensor = checked(entry, data, data_size);
    if (!tensor.ok()) return tensor.status();
    result.tensors.push_back(std::move(*tensor));
  }
  std::vector<const StoredTensor*> in_order;
  in_order.reserve(result.tensors.size());
  for (const StoredTensor& tensor : result.tensors) in_order.push_back(&tensor);
  std::sort(in_order.begin(), in_order.end(), [](const StoredTensor* a, const StoredTensor* b) { return std::pair(a->storage_begin, a->storage_bytes) < std::pair(b->storage_begin, b->storage_bytes); });
  std::uint64_t expected = data;
  for (const StoredTensor* tensor : in_order) {
    if (tensor->storage_begin != expected) return wrong(absl::StrCat("tensor \"", shown(tensor->name), "\" begins at byte ", tensor->storage_begin, " where ", expected, " was expected (overlap or hole)"));
    expected += tensor->storage_bytes;
  }
  if (expected != file.size()) return wrong(absl::StrCat("byte ", expected, ": ", file.size() - expected, " bytes at the end belong to no tensor"));
  return result;
}

}  // namespace fgvl
