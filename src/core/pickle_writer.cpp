#include "core/pickle_writer.hpp"

#include <bit>

#include <nlohmann/json.hpp>

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

/// Every event of JSON has its instruction.
class JsonEvents final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit JsonEvents(Writer& writer) : writer_(writer) {}

  bool start_object(std::size_t) override { return writer_.begin_dict(), true; }
  bool end_object() override { return writer_.end_dict(), true; }
  bool start_array(std::size_t) override { return writer_.begin_list(), true; }
  bool end_array() override { return writer_.end_list(), true; }
  bool key(std::string& name) override { return writer_.text(name), true; }
  bool string(std::string& text) override { return writer_.text(text), true; }
  bool number_integer(number_integer_t value) override { return writer_.integer(value), true; }
  bool number_unsigned(number_unsigned_t value) override { return value <= INT64_MAX ? number_integer(static_cast<number_integer_t>(value)) : number_float(static_cast<double>(value), {}); }
  bool number_float(number_float_t value, const std::string&) override { return writer_.number(value), true; }
  bool null() override { return writer_.none(), true; }
  bool boolean(bool value) override { return writer_.boolean(value), true; }
  bool binary(nlohmann::json::binary_t&) override { return false; }  // not of JSON texts
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

 private:
  Writer& writer_;
};

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

void Writer::number(double value) {
  bytes_ += 'G';
  put(bytes_, __builtin_bswap64(std::bit_cast<std::uint64_t>(value)), 8);
}

bool Writer::json(std::string_view text) {
  JsonEvents events(*this);
  return nlohmann::json::sax_parse(text.begin(), text.end(), &events);
}

}  // namespace fgvl::pickle
