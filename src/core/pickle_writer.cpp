#include "core/pickle_writer.hpp"

#include <bit>

namespace fgvl::pickle {
namespace {

const char* storage_class(ElementType type) {
  switch (type) {
    case ElementType::kFloat64: return "DoubleStorage";
    case ElementType::kFloat32: return "FloatStorage";
    case ElementType::kFloat16: return "HalfStorage";
    case ElementType::kBFloat16: return "BFloat16Storage";
    case ElementType::kInt64: return "LongStorage";
    case ElementType::kInt32: return "IntStorage";
    case ElementType::kInt16: return "ShortStorage";
    case ElementType::kInt8: return "CharStorage";
    case ElementType::kUInt8: return "ByteStorage";
    case ElementType::kBool: return "BoolStorage";
  }
  return "";
}

void put(std::string& bytes, std::uint64_t value, int count) {
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i));
}

}  // namespace

Writer::Writer() : bytes_("\x80\x02") {}

void Writer::text(std::string_view text) {
  bytes_ += 'X';
  put(bytes_, text.size(), 4);
  bytes_ += text;
}

void Writer::integer(std::int64_t value) {
  if (value >= INT32_MIN && value <= INT32_MAX) {
    bytes_ += 'J';
    put(bytes_, static_cast<std::uint64_t>(value), 4);
  } else {
    bytes_ += "\x8a\x08";
    put(bytes_, static_cast<std::uint64_t>(value), 8);
  }
}

void Writer::name(const char* module, const char* attribute) {
  bytes_ += 'c';
  bytes_ += module;
  bytes_ += '\n';
  bytes_ += attribute;
  bytes_ += '\n';
}

void Writer::begin_ordered_dict() {
  name("collections", "OrderedDict");
  bytes_ += ")R(";
}

void Writer::tensor(const std::string& key, ElementType type, const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  name("torch._utils", "_rebuild_tensor_v2");
  mark();
  mark();
  text("storage");
  name("torch", storage_class(type));
  text(key);
  text("cpu");
  integer(count);
  tuple();
  bytes_ += 'Q';
  integer(0);
  mark();
  for (const std::int64_t size : shape) integer(size);
  tuple();
  mark();
  std::int64_t stride = count;
  for (const std::int64_t size : shape) {
    stride = size == 0 ? 1 : stride / size;
    integer(stride);
  }
  tuple();
  bytes_ += '\x89';  // requires no gradient
  name("collections", "OrderedDict");
  bytes_ += ")R";
  tuple();
  bytes_ += 'R';
}

void Writer::json(const nlohmann::ordered_json& value) {
  if (value.is_object()) {
    begin_dict();
    for (const auto& [key, item] : value.items()) {
      text(key);
      json(item);
    }
    end_dict();
  } else if (value.is_array()) {
    bytes_ += "](";
    for (const auto& item : value) json(item);
    bytes_ += 'e';
  } else if (value.is_string()) {
    text(value.get_ref<const std::string&>());
  } else if (value.is_boolean()) {
    bytes_ += value.get<bool>() ? '\x88' : '\x89';
  } else if (value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
    integer(value.get<std::int64_t>());
  } else if (value.is_number()) {
    bytes_ += 'G';
    put(bytes_, __builtin_bswap64(std::bit_cast<std::uint64_t>(value.get<double>())), 8);
  } else {
    bytes_ += 'N';
  }
}

}  // namespace fgvl::pickle
