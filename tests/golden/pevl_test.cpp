// Parity with the official PEVL (e-bug/fine-grained-evals 6cc5fc1, models/PEVL/models/model_pretrain.py).
#include <cmath>

#include "fgvl/losses/masked_language.hpp"
#include "golden/momentum_pretraining.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using Json = nlohmann::json;
using test::check_close;
using test::kLossTolerance;
using test::OfficialModel;
using test::mean_of;
using test::OfficialRun;
using test::soft_cross_entropy;
using test::Tensors;

/// BERT written out on padded texts, with the run's parameters. Ours compute real tokens alone, which nothing but real tokens depends on; but PEVL's distillation, by mistake, normalises over all positions
/// of a text (golden/README.md).
class PaddedBert {
 public:
  explicit PaddedBert(const OfficialModel& official, const OfficialRun& run)
      : parameters_(run.model->named_parameters()), heads_(official.json["config"]["text"]["heads"]), eps_(official.json["text_config"]["layer_norm_eps"]), text_layers_(official.text_layers()),
        fusion_layers_(official.json["config"]["text"]["layers"].get<std::int64_t>() - text_layers_) {}

  /// [T, L] ids and mask, [T, 1 + P, Dv] images -> [T, L, D] fused tokens, padding too.
  Tensor fused(const Tensor& ids, const Tensor& mask, const Tensor& images) const {
    const std::string embeddings = "text_encoder.embeddings.";
    Tensor tokens = at::embedding(weight(embeddings + "word_embeddings"), ids, /*padding_idx=*/0) + weight(embeddings + "position_embeddings").slice(0, 0, ids.size(1)) +
                    weight(embeddings + "token_type_embeddings").select(0, 0);
    tokens = norm(tokens, embeddings + "LayerNorm");
    const Tensor hidden = mask.logical_not().to(tokens.scalar_type()).mul(-10000).unsqueeze(1).unsqueeze(1);
    for (std::int64_t i = 0; i < text_layers_; ++i) tokens = layer(tokens, "text_encoder.layer." + std::to_string(i), hidden, {});
    for (std::int64_t i = 0; i < fusion_layers_; ++i) tokens = layer(tokens, "fusion_encoder.layer." + std::to_string(i), hidden, images);
    return tokens;
  }

 private:
  Tensor weight(const std::string& name) const { return parameters_[name + ".weight"]; }
  Tensor bias(const std::string& name) const { return parameters_[name + ".bias"]; }
  Tensor linear(const Tensor& tokens, const std::string& name) const { return at::linear(tokens, weight(name), bias(name)); }
  Tensor norm(const Tensor& tokens, const std::string& name) const { return at::layer_norm(tokens, {tokens.size(-1)}, weight(name), bias(name), eps_); }

  Tensor attention(const Tensor& tokens, const Tensor& seen, const std::string& name, const Tensor& mask) const {
    const auto in_heads = [&](const Tensor& of_tokens) { return of_tokens.reshape({of_tokens.size(0), of_tokens.size(1), heads_, -1}).transpose(1, 2); };
    const Tensor query = in_heads(linear(tokens, name + ".self.query")), key = in_heads(linear(seen, name + ".self.key")), value = in_heads(linear(seen, name + ".self.value"));
    Tensor scores = at::matmul(query, key.transpose(-1, -2)) / std::sqrt(static_cast<double>(query.size(-1)));
    if (mask.defined()) scores = scores + mask;
    const Tensor attended = at::matmul(scores.softmax(-1), value).transpose(1, 2).flatten(2);
    return norm(tokens + linear(attended, name + ".output.dense"), name + ".output.LayerNorm");
  }

  Tensor layer(Tensor tokens, const std::string& name, const Tensor& mask, const Tensor& images) const {
    tokens = attention(tokens, tokens, name + ".attention", mask);
    if (images.defined()) tokens = attention(tokens, images, name + ".crossattention", {});
    return norm(tokens + linear(at::gelu(linear(tokens, name + ".intermediate.dense")), name + ".output.dense"), name + ".output.LayerNorm");
  }

  torch::OrderedDict<std::string, Tensor> parameters_;
  std::int64_t heads_;
  double eps_;
  std::int64_t text_layers_, fusion_layers_;
};

/// [T, L, V]: what the model predicts for every token of the masked texts: ours for real tokens, and for padding what the official code has there.
Tensor all_word_logits(const OfficialModel& official, const OfficialRun& run, ForwardPass& pass) {
  auto& words = dynamic_cast<losses::WordPredictor&>(*run.criterion->find("mlm"));
  const Tensor all = at::arange(run.batch.text_count()), real = run.batch.text_mask;
  const Tensor ours = words.word_logits(pass.fuse({.text = TextInput::kMasked, .text_index = all, .visual_index = all}), pass.word_embedding());
  const Tensor padded = words.word_logits(PaddedBert(official, run).fused(run.batch.masked_ids, real, pass.image().embeds), pass.word_embedding());
  check_close("word logits of real tokens", ours.index({real}), padded.index({real}), ours.scalar_type() == at::kDouble ? test::kDoubleTolerance : test::kOutputTolerance);
  return at::where(real.unsqueeze(-1), ours, padded);
}

/// PEVL's ordering-aware targets [V, V]: for the id of each position token, weights that decay with the distance of positions.
Tensor position_targets(const Json& json) {
  constexpr std::int64_t kPositions = 512;
  const std::int64_t first = json["special_ids"]["pos_0"], words = json["config"]["text"]["vocab"];
  const Tensor positions = at::arange(kPositions, at::kDouble);
  const Tensor weights = at::exp(-json["config"]["exp_decay_ratio"].get<double>() * (positions.unsqueeze(0) - positions.unsqueeze(1)).abs());
  Tensor targets = at::zeros({words, words}, at::kFloat);
  targets.slice(0, first, first + kPositions).slice(1, first, first + kPositions).copy_(weights / weights.sum(1, /*keepdim=*/true));
  return targets;
}

/// PEVL's pre-training: masked words, part of whose targets are the momentum model's, and position tokens.
class MaskedPretraining final : public test::MomentumPretraining {
 public:
  using MomentumPretraining::MomentumPretraining;

  void check_outputs(const Tensors& out) override {
    MomentumPretraining::check_outputs(out);
    if (out.count("soft_label_rows_0_255_511") == 0) return;
    const std::int64_t first = official_.json["special_ids"]["pos_0"];
    const Tensor rows = position_targets(official_.json).index_select(0, torch::tensor({first, first + 255, first + 511})).slice(1, first, first + 512);
    check_close("soft_label_rows_0_255_511", rows, out.at("soft_label_rows_0_255_511"), 1e-7);
  }

 private:
  /// Adds what the fixture calls loss_mlm and loss_soft.
  void add_losses(const Tensors& in, double alpha, Tensors& losses) override {
    const Tensor& labels = in.at("mlm_labels");
    const Tensor masked = labels != -100, logits = all_word_logits(official_, live, *live.pass);
    Tensor opinion;
    {
      torch::NoGradGuard guard;
      opinion = all_word_logits(official_, momentum, *momentum.model->begin(momentum.batch)).softmax(-1);
    }
    const Tensor hard = mean_of(live.criterion->find("mlm")->forward(*live.pass));
    // What the loss computes of packed, masked tokens is what the whole texts give.
    const Tensor of_logits = at::cross_entropy_loss(logits.index({masked}), labels.index({masked}));
    CHECK(std::abs((hard - of_logits).item<double>()) <= (hard.scalar_type() == at::kDouble ? test::kDoubleTolerance : kLossTolerance));
    // PEVL normalises over the tokens of a text instead of over words, by mistake (golden/README.md).
    losses["loss_mlm"] = (1 - alpha) * hard + alpha * soft_cross_entropy(logits, opinion, /*normalised=*/1).index({masked}).mean();
    const Json& ids = official_.json["special_ids"];
    const Tensor positions = (labels > ids["min_pos"].get<std::int64_t>()).logical_and(labels < ids["max_pos"].get<std::int64_t>());
    CHECK(positions.sum().item<std::int64_t>() == official_.json["masked_position_tokens"].get<std::int64_t>());
    const Tensor targets = position_targets(official_.json).index_select(0, labels.index({positions})).to(logits.scalar_type());
    losses["loss_soft"] = soft_cross_entropy(logits.index({positions}), targets).mean() * official_.json["config"]["postoken_temp"].get<double>();
  }
};

TEST_CASE("PEVL: outputs, losses, queues and gradients equal the official implementation's", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  test::check_family<MaskedPretraining>("pevl");
}

}  // namespace
}  // namespace fgvl
