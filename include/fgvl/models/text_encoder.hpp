#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "fgvl/core/registry.hpp"
#include "fgvl/core/tensor.hpp"
#include "fgvl/models/encoder.hpp"

namespace fgvl::models {

class Dropout;

/// Token ids to text embeds.
class TextEncoder : public Encoder {
 public:
  virtual std::int64_t width() const = 0;       ///< D
  virtual std::int64_t vocab_size() const = 0;  ///< V
  virtual std::int64_t max_tokens() const = 0;  ///< rows of the position table; longer texts throw c10::Error
  virtual double layer_norm_eps() const = 0;
  /// `ids` [T, L] int64, `mask` [T, L] bool -> [T, L, D].
  virtual Tensor encode(const Tensor& ids, const Tensor& mask, Dropout& dropout) = 0;
  /// The token that each text's feature is projected from: `embeds` [T, L, D] of encode(), `mask` [T, L] bool -> [T, D]. The first, as BERT's [CLS], unless an encoder says otherwise.
  virtual Tensor feature_token(const Tensor& embeds, const Tensor& /*mask*/) const { return embeds.select(1, 0); }
  virtual const Tensor& word_embedding() const = 0;  ///< [V, D]
  virtual void initialize_embeddings(std::uint64_t) {}
  virtual double flops_per_text(std::int64_t tokens) const = 0;
};
using TextEncoderPtr = std::shared_ptr<TextEncoder>;

/// What a text encoder must know of the run; it comes from the tokenizer.
struct TextContext {
  std::int64_t vocab_size = 0;
  /// Id that fills the end of rows (RegionBatch::text_ids) and nothing else: its look-up trains no embedding. -1: no id is for that alone, as where a vocabulary pads with its
  /// end-of-text token. Absent: the family's own, 0 for BERT and 1 for RoBERTa.
  std::optional<std::int64_t> pad_id{};
  /// Id of a token of the vocabulary, -1 where it has none; for parts that read texts with tokens of their own (BLIP's [ENC] and [DEC]).
  std::function<std::int64_t(const std::string& token)> token_id{};
};
using TextEncoderRegistry = Registry<TextEncoderPtr, TextContext>;
/// Ours: bert, clip_text, roberta.
std::shared_ptr<TextEncoderRegistry> builtin_text_encoders();

}  // namespace fgvl::models
