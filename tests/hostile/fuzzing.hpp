#pragma once
// What the fuzz targets ask of every parser besides not crashing: memory in proportion to the file, and results that lie inside of it.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>
#include <sanitizer/allocator_interface.h>

#include "core/stored_tensor.hpp"
#include "core/torch_file.hpp"

namespace fgvl::fuzzing {

inline std::string_view bytes_of(const std::uint8_t* data, std::size_t size) { return {reinterpret_cast<const char*>(data), size}; }

inline void require(bool holds) {
  if (!holds) __builtin_trap();
}

/// The bound of hostile_test for one request. Values of one byte in a file are 24 to 60 bytes in memory.
constexpr std::size_t kBytesPerByte = 64, kFewBuffers = 1u << 16;

/// While it lives, one request of memory may be kBytesPerByte times the input, and what is held at a time also, plus `floor`; more is a finding.
class MemoryBound {
 public:
  MemoryBound(std::size_t input, std::size_t floor) {
    static const int installed = __sanitizer_install_malloc_and_free_hooks(taken, given_back);
    require(installed != 0);
    held_ = 0;
    one_ = kBytesPerByte * input + kFewBuffers;
    all_ = 2 * kBytesPerByte * input + kFewBuffers + floor;  // twice: a vector that grows is there twice for a moment
    counting_ = true;
  }
  ~MemoryBound() { counting_ = false; }
  MemoryBound(const MemoryBound&) = delete;
  MemoryBound& operator=(const MemoryBound&) = delete;

 private:
  static void taken(const volatile void*, std::size_t size) {
    if (!counting_) return;
    held_ += size;
    if (size > one_ || held_ > all_) {
      counting_ = false;
      __builtin_trap();
    }
  }
  static void given_back(const volatile void* memory) {
    if (counting_ && memory != nullptr) held_ -= __sanitizer_get_allocated_size(memory);
  }

  static inline bool counting_ = false;
  static inline std::size_t held_ = 0, one_ = 0, all_ = 0;
};

inline void check_inside(const std::vector<StoredTensor>& tensors, std::size_t size) {
  for (const StoredTensor& tensor : tensors) require(tensor.storage_begin <= size && tensor.storage_bytes <= size - tensor.storage_begin && check_view(tensor).ok());
}

inline void check_torch(const TorchFile& file, std::size_t size) {
  check_inside(file.tensors, size);
  check_inside(file.constants, size);
  require(file.config_json.empty() || (file.config_json.front() == '{' && nlohmann::json::accept(file.config_json)));
}

/// What pickles may take beyond the size of the file (kPickleFloor of torch_file.cpp), and as much again for vectors that grow.
constexpr std::size_t kPickles = 3 * (16u << 20);

}  // namespace fgvl::fuzzing
