#pragma once
#include <exception>
#include <string>

#include <c10/core/Device.h>

namespace fgvl {

/// True when this build links LibTorch's CUDA parts and a GPU answers.
bool cuda_available();

/// "auto" (the first GPU when there is one, else the CPU), "cpu", "cuda" or "cuda:N". Throws c10::Error with what is wrong and what
/// would work for anything else, and for a GPU that is not there: nothing falls back silently.
/// Choosing a GPU also sets, for the process, float32 convolutions and products in full float32 (LibTorch's default for convolutions is TF32, 10 bits)
/// and deterministic algorithms where LibTorch has them, so that CPU and GPU agree and a resumed run repeats; an operator without one warns once.
at::Device parse_device(const std::string& text);

/// True when `error` says that memory ran out, on a GPU or on the CPU. LibTorch's CPU allocator throws a plain c10::Error, so that its words decide.
bool is_out_of_memory(const std::exception& error);

}  // namespace fgvl
