#pragma once
#include <torch/nn/module.h>

namespace fgvl::models {

/// What vision, text and fusion encoders have in common.
class Encoder : public torch::nn::Module {
 public:
  /// Gradient checkpointing (arXiv 1604.06174): in training only what goes into each block is kept, and backward runs the block once more for the rest. Losses and gradients stay what they were, dropout
  /// included; memory shrinks from about a dozen activations a block to one, for one more forward pass. Gradients of gradients are refused then.
  void set_gradient_checkpointing(bool on) { gradient_checkpointing_ = on; }
  bool gradient_checkpointing() const { return gradient_checkpointing_; }

  /// Text and fusion encoders compute padding like tokens, as the official codes do, instead of leaving it out; no real token depends on it. For losses that, by mistake, read it (PEVL).
  void set_at_padding(bool on) { at_padding_ = on; }
  bool at_padding() const { return at_padding_; }

 private:
  bool gradient_checkpointing_ = false, at_padding_ = false;
};

}  // namespace fgvl::models
