#pragma once
/// The official fixtures (X-VLM, ALBEF, BLIP, PEVL) as our models, batches and criteria, made the way a user makes them: make_region_vlm, begin, Criterion.
#include <map>

#include <torch/torch.h>

#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/models/pretrained.hpp"
#include "fgvl/models/region_vlm.hpp"
#include "fgvl/models/swin.hpp"
#include "golden/fixtures.hpp"

namespace fgvl::test {

using Tensors = std::map<std::string, Tensor>;

Tensors read_tensors(const std::filesystem::path& path);
/// Entries "<prefix>name" as "name".
Tensors with_prefix(const Tensors& tensors, const std::string& prefix);

/// A fixture of one model: its configuration, and weights and scenarios beside it.
struct OfficialModel {
  std::filesystem::path folder;
  nlohmann::json json;

  std::string name() const { return json["name"]; }
  /// Of its checkpoints' names, and the name of its folder: "xvlm", "albef", "blip", "pevl".
  const models::NameMap& names() const;
  /// Of names in which fusion layers follow text layers; BLIP's are the same layers.
  std::int64_t text_layers() const { return json["config"]["text"].value("fusion_layer", 0); }
  /// Under official names.
  Tensors weights() const;
  /// "in.", "out." and "grad." tensors.
  Tensors scenario(const std::string& name) const;
};
/// Every model of one family below the golden folder.
std::vector<OfficialModel> official_models(const std::string& family);

models::SwinOptions swin_options(const nlohmann::json& config);
models::VisionEncoderPtr make_vision(const nlohmann::json& config);
models::ModelPtr make_model(const OfficialModel& official);

/// A model with the official weights, the batch of a scenario, and the losses that the official code takes of it.
struct OfficialRun {
  models::ModelPtr model;
  std::shared_ptr<losses::Criterion> criterion;
  models::LoadReport loaded;
  std::int64_t grid = 0;
  RegionBatch batch;
  losses::GivenNegatives negatives;  ///< what the matching term uses: write new indices into these tensors
  std::unique_ptr<ForwardPass> pass;
  losses::LossReport report;

  /// The images, texts and negatives of another scenario with as many texts.
  void take_inputs(const Tensors& scenario);
  /// Computes `pass` and `report` with the weights as they are now.
  void forward();
  /// [3 T, 2] of the true pairs, then of every text with its negative visual, then of every visual with its negative text, as the official code lists them.
  Tensor matching_logits();
};
/// Fills the run's model and losses from official weights, strictly but for what `options` allow.
void load(OfficialRun& run, const OfficialModel& official, const Tensors& weights, models::LoadOptions options);
OfficialRun prepare(const OfficialModel& official, const Tensors& scenario, at::ScalarType dtype);

/// golden/README.md: what float32 may differ by.
constexpr double kLossTolerance = 1e-5, kOutputTolerance = 2e-5;
/// Of float64 losses, relative.
constexpr double kDoubleTolerance = 1e-9;

/// How many numbers check_close and check_gradients have compared.
inline std::int64_t compared_numbers = 0;
void check_close(const std::string& name, const Tensor& ours, const Tensor& golden, double tolerance);
/// Calls `total.backward()`; every parameter has the golden gradient, and none, or zero, where there is no golden one.
void check_gradients(const OfficialModel& official, const OfficialRun& run, const Tensor& total, const Tensors& golden);

}  // namespace fgvl::test
