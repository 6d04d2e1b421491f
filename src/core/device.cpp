#include "fgvl/core/device.hpp"

#include <new>
#include <string_view>

#include <torch/torch.h>

#include "core/torch_compat.hpp"

namespace fgvl {

bool cuda_available() { return torch::cuda::is_available(); }

at::Device parse_device(const std::string& text) {
  if (text == "cpu" || (text == "auto" && !cuda_available())) return at::kCPU;
  if (text == "auto") return parse_device("cuda:0");
  const bool digits = text.size() > 5 && text.size() < 10 && text.find_first_not_of("0123456789", 5) == std::string::npos;
  TORCH_CHECK(text == "cuda" || (text.rfind("cuda:", 0) == 0 && digits), "[parse_device] device: expected auto, cpu, cuda or cuda:N, got '", text, "'");
  const std::int64_t index = text == "cuda" ? 0 : std::stoll(text.substr(5)), count = static_cast<std::int64_t>(torch::cuda::device_count());
  TORCH_CHECK(count > 0, "[parse_device] device: '", text, "' was asked for, but no GPU answers (built without CUDA, or no driver); use cpu or auto");
  TORCH_CHECK(index < count, "[parse_device] device: '", text, "' was asked for, but there are ", count, " GPUs: cuda:0 to cuda:", count - 1);
  compat::use_exact_gpu_arithmetic();
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr || dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  // c10/core/impl/alloc_cpu.cpp: "DefaultCPUAllocator: can't allocate memory: you tried to allocate ..." and, on some systems, "not enough memory: ...".
  return dynamic_cast<const c10::Error*>(&error) != nullptr && std::string_view(error.what()).find("DefaultCPUAllocator: ") != std::string_view::npos;
}

}  // namespace fgvl
