#pragma once
#include "fgvl/models/fusion_encoder.hpp"
#include "fgvl/models/text_encoder.hpp"

namespace fgvl::models {

enum class Norm { kPost, kPre };  ///< LayerNorm after every residual sum, as BERT | before every sub-layer, with one at the end
config::EnumNames<Norm> enum_names(Norm);

/// BERT's embeddings and self-attention layers (arXiv 1810.04805), names as in the official X-VLM checkpoints.
struct BertOptions {
  std::int64_t width = 768;
  std::int64_t layers = 6;
  std::int64_t heads = 12;
  std::int64_t mlp_width = 3072;
  std::int64_t max_tokens = 512;
  std::int64_t token_types = 2;      ///< rows of the token-type table, of which only row 0 is used; 0: none
  bool embedding_norm = true;        ///< LayerNorm over the sum of the embeddings
  double layer_norm_eps = 1e-12;
  double dropout = 0.1;              ///< of embeddings, attention outputs and MLP outputs
  double attention_dropout = 0;      ///< of attention weights; BERT and X-VLM train with 0.1. Costs the fused kernels while training
  Norm norm = Norm::kPost;
  double word_std = 0.02;            ///< of the word embeddings at the start
  double position_std = 0.02;        ///< of the position embeddings at the start: as large as word_std where word order must be seen early
};
void visit_fields(config::Visitor& visitor, BertOptions& options);
TextEncoderPtr make_text_encoder(const BertOptions& options, const TextContext& context);

/// BERT layers with cross-attention to visual tokens.
struct BertFusionOptions {
  std::int64_t layers = 6;
  std::int64_t heads = 12;
  std::int64_t mlp_width = 3072;
  double layer_norm_eps = 1e-12;
  double dropout = 0.1;
  double attention_dropout = 0;
  Norm norm = Norm::kPost;
};
void visit_fields(config::Visitor& visitor, BertFusionOptions& options);
FusionEncoderPtr make_fusion_encoder(const BertFusionOptions& options, const FusionContext& context);

}  // namespace fgvl::models
