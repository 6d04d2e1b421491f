#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/stored_tensor.hpp"

namespace fgvl::pickle {

/// Pickle protocol 2, the one torch.save uses by default; no memo, which only saves space.
class Writer {
 public:
  Writer();
  void text(std::string_view text);
  void integer(std::int64_t value);
  void name(const char* module, const char* attribute);
  void mark() { bytes_ += '('; }
  void tuple() { bytes_ += 't'; }         ///< of everything since mark()
  void begin_dict() { bytes_ += "}("; }   ///< then key, value, ...
  void begin_ordered_dict();
  void end_dict() { bytes_ += 'u'; }
  /// A contiguous tensor that takes the whole storage `key`.
  void tensor(const std::string& key, ElementType type, const std::vector<std::int64_t>& shape);
  void begin_list() { bytes_ += "]("; }
  void end_list() { bytes_ += 'e'; }
  void none() { bytes_ += 'N'; }
  void boolean(bool value) { bytes_ += value ? '\x88' : '\x89'; }
  void number(double value);
  /// JSON as it is read, without a tree in between: objects become dicts, lists lists; of a key that stands twice the last value counts, as in Python. False where the text is no
  /// JSON: what was written is then unfinished.
  bool json(std::string_view text);
  std::string finish() { return bytes_ + '.'; }

 private:
  std::string bytes_{};
};

}  // namespace fgvl::pickle
