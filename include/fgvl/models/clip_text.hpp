#pragma once
#include "fgvl/models/activation.hpp"
#include "fgvl/models/text_encoder.hpp"

namespace fgvl::models {

/// CLIP's text encoder (arXiv 2103.00020; openai/CLIP clip/model.py): a pre-norm transformer in which a token sees itself and those before it, with a LayerNorm at the end.
/// A text's feature is projected from its last token, which is to be the end-of-text token: texts need data.tokenizer.add_sep. Padding stands behind it, where no
/// token looks, so that its id does not matter. Parameter names below `text_model` are those of transformers' CLIPTextModel.
struct ClipTextOptions {
  std::int64_t width = 512;
  std::int64_t layers = 12;
  std::int64_t heads = 8;
  std::int64_t mlp_width = 2048;
  std::int64_t max_tokens = 77;
  Activation activation = Activation::kQuickGelu;  ///< of the MLP; OpenCLIP's own models have gelu
};
void visit_fields(config::Visitor& visitor, ClipTextOptions& options);
TextEncoderPtr make_text_encoder(const ClipTextOptions& options, const TextContext& context);

}  // namespace fgvl::models
