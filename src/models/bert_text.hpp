#pragma once
#include <memory>
#include <vector>

#include "fgvl/models/bert.hpp"

namespace fgvl::models {

class BertLayer;
class PackedTexts;

/// The parts of a BERT text encoder, for a fusion encoder that shares them.
class BertParts {
 public:
  virtual ~BertParts() = default;
  /// What goes into the first layer: ids [T, L] of `texts` -> [R, D].
  virtual Tensor embed(const Tensor& ids, const PackedTexts& texts, Dropout& dropout) = 0;
  virtual const std::vector<std::shared_ptr<BertLayer>>& layers() const = 0;
  /// What becomes of the last layer's output: a pre-norm encoder's last norm.
  virtual Tensor finish(const Tensor& tokens) = 0;
};

/// Which row of the position table a token gets.
enum class Positions {
  kFromZero,      ///< BERT: its place in the text
  kAfterPadding,  ///< RoBERTa: its place among the tokens that are not padding, from pad_id + 1 on; row pad_id is padding's
};

/// The text encoder behind BertOptions and RobertaOptions, which is a BertParts. `pad_id` -1: none.
struct BertTextRules {
  std::int64_t pad_id = 0;
  Positions positions = Positions::kFromZero;
};
TextEncoderPtr make_bert_text(const BertOptions& options, std::int64_t vocab_size, const BertTextRules& rules);

}  // namespace fgvl::models
