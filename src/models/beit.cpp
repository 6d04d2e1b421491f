#include "fgvl/models/beit.hpp"

#include <cmath>

#include <torch/torch.h>

#include "fgvl/core/initialize.hpp"
#include "models/attention.hpp"
#include "models/region_tokens.hpp"
#include "models/swin_windows.hpp"
#include "models/vit_blocks.hpp"

namespace fgvl::models {
namespace {

constexpr double kBeitNormEps = 1e-6, kClassTokenStd = 0.02;
constexpr const char* kTableName = "relative_position_bias_table";

// Note [BEiT's relative positions]
// A table of a grid of g x g patches has a row for each of the (2g - 1)^2 offsets between two patches, as a Swin's has for a window, and three behind them: what the class token sees a patch with, what a
// patch sees the class token with, and the class token itself.
enum : std::int64_t { kFromClass, kToClass, kClassToClass, kClassRows };

std::int64_t offsets(std::int64_t grid) { return (2 * grid - 1) * (2 * grid - 1); }

Tensor empty_table(std::int64_t grid, std::int64_t heads) { return torch::zeros({offsets(grid) + kClassRows, heads}); }

/// The table's values for every pair (query, key) of class token and patches: [1, heads, 1 + P, 1 + P].
Tensor pair_bias(const Tensor& table, std::int64_t grid) {
  const std::int64_t heads = table.size(1), patches = grid * grid;
  const Tensor between = relative_position_bias(table.slice(0, 0, offsets(grid)), grid);
  const auto row = [&](std::int64_t which) { return table.select(0, offsets(grid) + which).view({heads, 1, 1}); };
  const Tensor of_class = at::cat({row(kClassToClass), row(kFromClass).expand({heads, 1, patches})}, 2);
  return at::cat({of_class, at::cat({row(kToClass).expand({heads, patches, 1}), between}, 2)}, 1).unsqueeze(0);
}

/// [1 + P, 1 + P] int64: the table's row for every pair.
Tensor pair_index(std::int64_t grid) {
  Tensor index = at::constant_pad_nd(relative_position_index(grid), {1, 0, 1, 0});
  index.select(0, 0).fill_(offsets(grid) + kFromClass);
  index.select(1, 0).fill_(offsets(grid) + kToClass);
  index[0][0] = offsets(grid) + kClassToClass;
  return index;
}

struct BeitBlockOptions {
  std::int64_t width, heads, mlp_width;
  std::int64_t grid;  ///< of the block's own table of relative positions; 0: none
  double init_values, drop_path;
};

class BeitBlock final : public TransformerBlock {
 public:
  explicit BeitBlock(const BeitBlockOptions& options) : options_(options) {
    norm1_ = register_module("norm1", layer_norm(options.width, kBeitNormEps));
    const auto attention = register_module("attn", std::make_shared<torch::nn::Module>());
    query_bias_ = attention->register_parameter("q_bias", torch::zeros({options.width}));
    value_bias_ = attention->register_parameter("v_bias", torch::zeros({options.width}));
    if (options.grid > 0) table_ = attention->register_parameter(kTableName, empty_table(options.grid, options.heads));
    qkv_ = attention->register_module("qkv", Linear(torch::nn::LinearOptions(options.width, 3 * options.width).bias(false)));
    out_ = attention->register_module("proj", Linear(options.width, options.width));
    norm2_ = register_module("norm2", layer_norm(options.width, kBeitNormEps));
    mlp_ = register_module("mlp", std::make_shared<Mlp>(options.width, options.mlp_width, Activation::kGelu));
    if (options.init_values > 0) {
      attention_scale_ = register_parameter("gamma_1", torch::full({options.width}, options.init_values));
      mlp_scale_ = register_parameter("gamma_2", torch::full({options.width}, options.init_values));
    }
  }

  /// `shared_bias`: what all blocks add to their scores, or undefined.
  Tensor forward(const Tensor& tokens, const Tensor& shared_bias, Dropout& dropout) override {
    const Tensor bias = at::cat({query_bias_, at::zeros_like(query_bias_), value_bias_});  // keys have none
    const Tensor mixed = dropout.add_branch(tokens, options_.drop_path, [&](const Tensor& stream, const Dropout::Rows&) {
      const Tensor query_key_value = at::linear(norm1_(stream), qkv_->weight, bias).unflatten(2, {3, options_.width});
      const Tensor seen = attend(query_key_value.select(2, 0), query_key_value.select(2, 1), query_key_value.select(2, 2), options_.heads, table_.defined() ? pair_bias(table_, options_.grid) : shared_bias);
      return scaled(out_(seen), attention_scale_);
    });
    return dropout.add_branch(mixed, options_.drop_path, [&](const Tensor& stream, const Dropout::Rows&) { return scaled(mlp_->forward(norm2_(stream)), mlp_scale_); });
  }

 private:
  static Tensor scaled(const Tensor& tokens, const Tensor& scale) { return scale.defined() ? tokens * scale : tokens; }

  BeitBlockOptions options_;
  Tensor query_bias_, value_bias_, table_, attention_scale_, mlp_scale_;
  Linear qkv_{nullptr}, out_{nullptr};
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr};
  std::shared_ptr<Mlp> mlp_;
};

class Beit final : public VisionEncoder {
 public:
  explicit Beit(const BeitOptions& options) : options_(options), grid_(options.image_size / options.patch_size) {
    check_sizes("BeitOptions", size_problem(options));
    class_token_ = register_parameter("cls_token", torch::zeros({1, 1, options.width}));
    patch_embed_ = register_module("patch_embed", std::make_shared<torch::nn::Module>())
                       ->register_module("proj", torch::nn::Conv2d(torch::nn::Conv2dOptions(3, options.width, options.patch_size).stride(options.patch_size)));
    const bool shared = options.relative_positions == RelativePositions::kShared;
    if (shared) shared_table_ = register_module("rel_pos_bias", std::make_shared<torch::nn::Module>())->register_parameter(kTableName, empty_table(grid_, options.heads));
    const auto blocks = register_module("blocks", torch::nn::ModuleList());
    for (std::int64_t i = 0; i < options.layers; ++i) {
      blocks_.push_back(std::make_shared<BeitBlock>(BeitBlockOptions{options.width, options.heads, options.mlp_ratio * options.width, shared ? 0 : grid_, options.init_values,
                                                                     path_probability(options.drop_path, i, options.layers)}));
      blocks->push_back(blocks_.back());
    }
    norm_ = register_module("fc_norm", layer_norm(options.width, kBeitNormEps));
  }

  std::int64_t width() const override { return options_.width; }
  std::int64_t image_size() const override { return options_.image_size; }
  std::int64_t grid() const override { return grid_; }

  VisualTokens encode(const Tensor& images, const RegionRows& rows, Dropout& dropout) override {
    const Tensor patches = patch_embed_(images).flatten(2).transpose(1, 2);
    Tensor tokens = at::cat({class_token_.expand({images.size(0), -1, -1}), patches}, 1);
    const Tensor bias = shared_table_.defined() ? pair_bias(shared_table_, grid_) : Tensor();
    for (const auto& block : blocks_) tokens = run_block(gradient_checkpointing(), block, tokens, bias, dropout);
    return pooled_regions(norm_(tokens.slice(1, 1)), rows);
  }

  /// Tables start at 0, and what each block adds is made smaller with its depth, as the official code does (fix_init_weight).
  void initialize_embeddings(std::uint64_t seed) override {
    torch::NoGradGuard guard;
    draw_normal(class_token_, seed, "beit.cls_token", kClassTokenStd);
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      for (auto& parameter : blocks_[i]->named_parameters()) {
        if (parameter.key() == "attn.proj.weight" || parameter.key() == "mlp.fc2.weight") parameter.value().div_(std::sqrt(2.0 * static_cast<double>(i + 1)));
      }
    }
  }

  double flops_per_image() const override { return class_token_vit_flops(options_, options_.mlp_ratio * options_.width); }

 private:
  BeitOptions options_;
  std::int64_t grid_;
  Tensor class_token_, shared_table_;
  torch::nn::Conv2d patch_embed_{nullptr};
  TransformerBlocks blocks_;
  torch::nn::LayerNorm norm_{nullptr};
};

}  // namespace

config::EnumNames<RelativePositions> enum_names(RelativePositions) { return {{RelativePositions::kBlock, "block"}, {RelativePositions::kShared, "shared"}}; }

void visit_fields(config::Visitor& visitor, BeitOptions& options) {
  visit_sizes(visitor, options);
  visitor("mlp_ratio", options.mlp_ratio, "width of the MLP in units of width", {1, 64});
  visitor("init_values", options.init_values, "layer scale at the start; 0: none", {0.0, 10.0});
  visitor("relative_positions", options.relative_positions, "a table of biases for every block, or one for all");
  visitor("drop_path", options.drop_path, "probability that an image skips the last block in training; rises linearly from 0 at the first", {0.0, 0.9});
  check_sizes(visitor, size_problem(options));
}

VisionEncoderPtr make_vision_encoder(const BeitOptions& options) { return std::make_shared<Beit>(options); }

std::vector<std::pair<std::string, Tensor>> derived_tensors(const BeitOptions& options) {
  check_sizes("BeitOptions", size_problem(options));
  const Tensor index = pair_index(options.image_size / options.patch_size);
  if (options.relative_positions == RelativePositions::kShared) return {{"rel_pos_bias.relative_position_index", index}};
  std::vector<std::pair<std::string, Tensor>> derived;
  for (std::int64_t block = 0; block < options.layers; ++block) derived.emplace_back("blocks." + std::to_string(block) + ".attn.relative_position_index", index);
  return derived;
}

}  // namespace fgvl::models
