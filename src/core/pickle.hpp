#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "core/stored_tensor.hpp"

namespace fgvl::pickle {

// Note [The restricted unpickler]
// A pickle is a program for a stack machine whose GLOBAL and REDUCE instructions can call anything. This reader builds a graph of plain values and knows a
// closed list of names (tensors, storages, OrderedDict, torch.Size, dtypes); a name outside the list is an error that quotes it, and the names inside
// it are interpreted here: nothing is looked up, loaded or called. Memory is bounded by the file (Options::budget), nesting by kMaxDepth, and a value that
// contains itself is refused, so that whoever walks the result may recurse.

using Ref = std::uint32_t;  ///< index of a value

enum class Kind : std::uint8_t {
  kNone, kBool, kInteger,
  kLongInteger,  ///< more than 64 bits: `text` holds its bytes
  kFloat, kText, kBytes, kList, kTuple,
  kDict,     ///< also OrderedDict; items are key, value, key, value, ...
  kName,     ///< one of the known names, not yet applied to anything
  kDtype,    ///< `text` is its name
  kStorage, kTensor,
  kObject,   ///< an object of a TorchScript class: `text` is the class, items its attributes as in a dict
};

struct Value {
  Kind kind = Kind::kNone;
  std::uint32_t place = 0;  ///< of the instruction that made it, from the start of the pickle
  union {
    std::int64_t integer = 0;  ///< kBool, kInteger, kName
    double number;             ///< kFloat
    struct { std::uint32_t begin, size; } span;  ///< kText, kBytes, kLongInteger, kDtype, kObject: inside the pickle
  };
  std::uint32_t index = 0;  ///< kList, kTuple, kDict, kObject: of its items; kStorage, kTensor: of its record
};

struct Storage {
  ElementType type = ElementType::kFloat32;
  Ref key = 0;                 ///< a text: which of the file's storages
  std::uint64_t elements = 0;
  std::uint64_t first = 0;     ///< legacy files: a view into the storage begins here, in elements
};

struct TensorRecord {
  Ref storage = 0;
  StoredTensor view{};  ///< name and storage place are not known here
};

struct Options {
  std::uint64_t offset = 0;     ///< of the pickle in its file, for messages
  std::uint64_t budget = 0;     ///< most bytes that values may take
  bool torchscript = false;     ///< classes below __torch__ become plain objects
};

struct Graph {
  std::string_view bytes{};
  std::uint64_t offset = 0;
  std::size_t end = 0;  ///< bytes that the pickle took
  Ref root = 0;
  std::vector<Value> values{};
  std::vector<std::vector<Ref>> items{};
  std::vector<Storage> storages{};
  std::vector<TensorRecord> tensors{};

  const Value& at(Ref ref) const { return values[ref]; }
  std::string_view text(const Value& value) const { return bytes.substr(value.span.begin, value.span.size); }
  const std::vector<Ref>& items_of(const Value& value) const { return items[value.index]; }
  /// The value under a text key of a dict or object (the last one, as in Python); nothing when absent.
  std::optional<Ref> find(const Value& dict, std::string_view key) const;
};

inline constexpr int kMaxDepth = 200;

/// Reads one pickle from the start of `bytes`. InvalidArgument names the byte in the file and what was found there.
absl::StatusOr<Graph> parse(std::string_view bytes, const Options& options);

/// "float32" of torch.float32 or torch.FloatStorage and so on; nothing for other names.
std::optional<ElementType> dtype_of(std::string_view name);

}  // namespace fgvl::pickle
