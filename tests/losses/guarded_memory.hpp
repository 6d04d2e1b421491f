#pragma once
#include <cstring>
#include <stdexcept>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include <c10/core/CPUAllocator.h>

namespace fgvl::test {

/// While it lives, every CPU tensor is made in pages of its own, before and behind which there is no memory: reading or writing there ends the program with SIGSEGV. Tensors end where their pages end, up
/// to the 16 bytes to which they are aligned; what remains before and behind is checked when the tensor is freed, and aborts if it was written to. Contents start as NaN.
class GuardedMemory final : public c10::Allocator {
 public:
  GuardedMemory() : usual_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this); }
  ~GuardedMemory() override { c10::SetCPUAllocator(usual_); }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  c10::DataPtr allocate(std::size_t bytes) override {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE)), room = (bytes + kAlignment - 1) / kAlignment * kAlignment, inside = (room + page - 1) / page * page;
    auto* start = static_cast<unsigned char*>(mmap(nullptr, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (start == MAP_FAILED || mprotect(start + page, inside, PROT_READ | PROT_WRITE) != 0) throw std::runtime_error("no memory with guards");
    std::memset(start + page, kFill, inside);
    return {start + page + inside - room, new Block{start, page, inside, bytes, room}, &GuardedMemory::release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  static constexpr std::size_t kAlignment = 16;
  static constexpr unsigned char kFill = 0xFF;

  struct Block {
    unsigned char* start;
    std::size_t page, inside, bytes, room;
  };

  static void release(void* context) {
    const auto* block = static_cast<Block*>(context);
    const unsigned char *first = block->start + block->page, *data = first + block->inside - block->room;
    for (const unsigned char* at = first; at < data; ++at) require_unwritten(at);
    for (const unsigned char* at = data + block->bytes; at < data + block->room; ++at) require_unwritten(at);
    munmap(block->start, block->inside + 2 * block->page);
    delete block;
  }
  static void require_unwritten(const unsigned char* at) {
    if (*at == kFill) return;
    constexpr char message[] = "a write beside a tensor\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, message, sizeof message - 1);
    std::abort();
  }

  c10::Allocator* usual_;
};

}  // namespace fgvl::test
