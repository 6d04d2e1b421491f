#pragma once
#include <memory>
#include <string>
#include <vector>

#include "fgvl/core/forward_pass.hpp"

namespace fgvl::train {

/// A stage of a model that a pass ran.
struct StageRun {
  std::string stage;                 ///< "pictures", "texts", "fusion: texts x regions", ...
  std::int64_t rows = 0;             ///< pictures, texts or pairs; a stage that is kept counts once
  std::vector<std::string> terms{};  ///< that asked for it, each once
};

/// A pass that hands everything on to another and writes down what was asked for.
class RecordingPass final : public ForwardPass {
 public:
  explicit RecordingPass(ForwardPass& pass, std::string prefix = "") : pass_(pass), prefix_(std::move(prefix)) {}

  /// Whatever is asked for from here on is asked for by `term`.
  void begin_term(const std::string& term);
  /// In the order in which they were first asked for, those of the momentum encoders last.
  std::vector<StageRun> runs() const;

  const RegionBatch& batch() const override { return pass_.batch(); }
  const ImageFeatures& image() override;
  const RegionFeatures& regions() override;
  const TextFeatures& text() override;
  const TextFeatures& masked_text() override;
  const TextFeatures& foil_text() override;
  const Tensor& foil_features() override;
  const TextFeatures& label_text() override;
  ForwardPass& momentum() override;
  Tensor fuse(const FusionQuery& query) override;
  const Tensor& matched() override;
  Tensor predicted_boxes(const Tensor& text_index) override;
  Tensor decoded(const FusionQuery& query) override;
  Tensor cross_attention(const FusionQuery& query, std::int64_t layer) override { return pass_.cross_attention(query, layer); }
  const Tensor& word_embedding() const override { return pass_.word_embedding(); }
  bool training() const override { return pass_.training(); }
  std::int64_t step() const override { return pass_.step(); }
  Generator generator(std::string_view purpose) const override { return pass_.generator(purpose); }
  Collective& collective() const override { return pass_.collective(); }

 private:
  void once(const std::string& stage, std::int64_t rows);
  void again(const std::string& stage, std::int64_t rows);
  StageRun& run_of(const std::string& stage);
  void pictures() { once("pictures", batch().images.size(0)); }
  void texts(TextInput input);

  ForwardPass& pass_;
  std::string prefix_, term_;
  std::vector<StageRun> runs_;
  std::unique_ptr<RecordingPass> momentum_;
  Tensor masked_{};  ///< the last that fuse() gave for masked texts
};

}  // namespace fgvl::train
