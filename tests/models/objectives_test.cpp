// Objectives over small real models: exact over ranks, and blind to padding and to the order of a batch.
#include <map>

#include <torch/torch.h>

#include "fgvl/losses/language_model.hpp"
#include "fgvl/losses/region_label_contrastive.hpp"
#include "losses/batch_parts.hpp"
#include "models/small_blip.hpp"
#include "support/catch.hpp"
#include "support/rank_threads.hpp"

namespace fgvl::models {
namespace {

using namespace losses;

/// A model in float64 with everything that it can train: matching and contrast by rows, words, boxes, labels.
struct Run {
  ModelPtr model;
  std::shared_ptr<Criterion> criterion;
};

Run make_run(const std::string& kind) {
  const ModelPtr model = kind == "blip" ? make_blip() : make(kind == "clip_vit");
  Run run{model, std::make_shared<Criterion>(model->spec())};
  run.criterion->add("itc", ContrastiveOptions{})
      .add("labels", RegionLabelContrastiveOptions{})
      .add("itm", MatchingOptions{.rows = Rows::kImage, .temperature = "itc", .negatives_from = NegativesFrom::kAllRanks}, 0.7)
      .add("region_itm", MatchingOptions{.rows = Rows::kRegion, .floor = 1e-4, .negatives_from = NegativesFrom::kAllRanks});
  if (kind == "blip") {
    run.criterion->add("lm", LanguageModelOptions{});
  } else {
    run.criterion->add("mlm", MaskedLanguageOptions{.rows = Rows::kRegion}).add("box", BoxRegressionOptions{.iou = BoxIou::kCiou}).add("foils", FoilMatchingOptions{});
  }
  model->to(at::kDouble);
  run.criterion->to(at::kDouble);
  return run;
}

std::map<std::string, Tensor> gradients(const Run& run) {
  std::map<std::string, Tensor> all;
  for (torch::nn::Module* module : std::initializer_list<torch::nn::Module*>{run.model.get(), run.criterion.get()}) {
    for (const auto& parameter : module->named_parameters()) {
      const Tensor gradient = parameter.value().grad();
      all[parameter.key()] = gradient.defined() ? gradient.to_dense().clone() : torch::zeros_like(parameter.value());
    }
  }
  return all;
}

/// Five pictures with a caption and regions, texts of different lengths, some of them twice, some with foils, and labels that none of them bears.
RegionBatch busy_batch() {
  at::Generator generator = Generator({.seed = 9}).torch_generator(at::kCPU);
  RegionBatch batch;
  batch.images = torch::empty({5, 3, kImage, kImage}, at::kDouble).normal_(0, 1, generator);
  batch.text_to_image = torch::tensor({0, 0, 0, 1, 1, 2, 3, 3, 4, 4, 4, 4}, torch::kLong);
  const std::int64_t texts = batch.text_to_image.numel();
  batch.is_region = torch::tensor({0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 1}, torch::kLong).to(at::kBool);
  const Tensor boxes = torch::cat({torch::empty({texts, 2}).uniform_(0.3, 0.7, generator), torch::empty({texts, 2}).uniform_(0.2, 0.6, generator)}, 1);
  batch.boxes = torch::where(batch.is_region.unsqueeze(1), boxes, torch::tensor({0.5f, 0.5f, 1.f, 1.f}));
  batch.is_unambiguous = torch::ones({texts}, torch::kBool);
  const Tensor lengths = torch::tensor({3, 2, 4, 6, 3, 2, 4, 3, 5, 2, 3, 4}, torch::kLong);
  batch.text_mask = torch::arange(6).unsqueeze(0) < lengths.unsqueeze(1);
  batch.text_ids = torch::randint(6, kEncoderId, {texts, 6}, generator, torch::kLong);
  batch.text_ids.select(1, 0).fill_(2);
  batch.text_ids[7] = batch.text_ids[1].clone();
  batch.text_mask[7] = batch.text_mask[1].clone();
  batch.text_ids.masked_fill_(batch.text_mask.logical_not(), 0);
  batch.masked_ids = batch.text_ids.clone();
  batch.masked_ids.select(1, 1).fill_(4);
  batch.masked_positions = torch::tensor({{1, 0}}, torch::kLong).repeat({texts, 1});
  batch.masked_labels = torch::stack({batch.text_ids.select(1, 1), torch::full({texts}, -100, torch::kLong)}, 1);
  batch.text_key = torch::arange(texts);
  batch.text_key[7] = 1;
  batch.foil_ids = batch.text_ids.index_select(0, torch::tensor({1, 4, 8})).roll(1, 0);
  batch.foil_mask = batch.text_mask.index_select(0, torch::tensor({1, 4, 8})).roll(1, 0);
  batch.foil_to_text = torch::tensor({1, 4, 8}, torch::kLong);
  batch.label_ids = torch::tensor({{2, 7, 9}, {2, 8, 0}}, torch::kLong);
  batch.label_mask = torch::tensor({{1, 1, 1}, {1, 1, 0}}, torch::kLong).to(at::kBool);
  batch.label_key = torch::tensor({100, 101}, torch::kLong);
  batch.implied_keys = torch::tensor({{1, 2}, {9, 10}}, torch::kLong);
  batch.text_weight = torch::linspace(0.5, 2.0, texts);
  batch.text_weight[7] = batch.text_weight[1].clone();
  batch.validate();
  return batch;
}

double difference(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b, std::string& worst) {
  double largest = 0;
  for (const auto& [name, value] : a) {
    const double of_this = (value - b.at(name)).abs().max().item<double>() / std::max(1.0, value.abs().max().item<double>());
    if (of_this > largest) worst = name;
    largest = std::max(largest, of_this);
  }
  return largest;
}

std::map<std::string, double> means(const LossReport& report) {
  std::map<std::string, double> means;
  for (const LossReport::Value& value : report.values) means[value.name] = value.mean.item<double>();
  return means;
}

void check_equal(const std::map<std::string, double>& a, const std::map<std::string, double>& b) {
  REQUIRE(a.size() == b.size());
  for (const auto& [name, value] : a) {
    INFO(name);
    CHECK(std::abs(value - b.at(name)) <= 1e-12 * std::max(1.0, std::abs(value)));
  }
}

TEST_CASE("objectives: losses and gradients of ranks with pictures of their own are those of one process with all of them, negatives of other ranks included", "[objectives]") {
  const RegionBatch batch = busy_batch();
  for (const std::string kind : {"vit", "clip_vit", "blip"}) {
    const Run one = make_run(kind);
    const LossReport whole = one.criterion->forward(*one.model->begin(batch, {.seed = 5}));
    whole.total.backward();
    for (const std::vector<std::int64_t>& images : {std::vector<std::int64_t>{2, 3}, {1, 2, 2}, {5, 0}}) {
      INFO(kind << ", " << images.size() << " ranks with " << images[0] << " pictures on the first");
      struct Rank {
        Run run;
        LossReport report;
        std::unique_ptr<ForwardPass> pass;
      };
      const std::vector<test::BatchPart> parts = test::parts_of(batch, images);
      const auto ranks = test::on_ranks<std::shared_ptr<Rank>>(static_cast<std::int64_t>(images.size()), [&](const CollectivePtr& collective) {
        auto rank = std::make_shared<Rank>();
        rank->run = make_run(kind);
        rank->pass = rank->run.model->begin(parts[static_cast<std::size_t>(collective->rank())].batch, {.seed = 5, .collective = collective});
        rank->report = rank->run.criterion->forward(*rank->pass);
        return rank;
      });
      Tensor total = torch::zeros({}, at::kDouble);
      for (const auto& rank : ranks) total = total + rank->report.total / static_cast<double>(ranks.size());
      total.backward();
      std::map<std::string, Tensor> sum = gradients(ranks[0]->run);
      for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
        for (const auto& [name, value] : gradients(ranks[rank]->run)) sum[name] = sum[name] + value;
      }
      check_equal(means(whole), means(ranks[0]->report));
      std::string worst;
      CHECK(difference(gradients(one), sum, worst) <= 1e-12);
      INFO(worst);
    }
  }
}

TEST_CASE("objectives: more padding of texts, masks, foils and labels changes no loss and no gradient", "[objectives]") {
  const RegionBatch batch = busy_batch();
  RegionBatch padded = batch;
  for (Tensor RegionBatch::*field : {&RegionBatch::text_ids, &RegionBatch::text_mask, &RegionBatch::masked_ids, &RegionBatch::masked_positions, &RegionBatch::foil_ids, &RegionBatch::foil_mask,
                                     &RegionBatch::label_ids, &RegionBatch::label_mask}) {
    padded.*field = at::constant_pad_nd(batch.*field, {0, 2});
  }
  padded.masked_labels = at::constant_pad_nd(batch.masked_labels, {0, 2}, -100);
  padded.validate();
  for (const std::string kind : {"vit", "clip_vit", "blip"}) {
    INFO(kind);
    const Run before = make_run(kind), after = make_run(kind);
    const LossReport first = before.criterion->forward(*before.model->begin(batch, {.seed = 5})), second = after.criterion->forward(*after.model->begin(padded, {.seed = 5}));
    first.total.backward();
    second.total.backward();
    check_equal(means(first), means(second));
    std::string worst;
    CHECK(difference(gradients(before), gradients(after), worst) <= 1e-12);
  }
}

TEST_CASE("objectives: the order of the pictures changes nothing, and that of the texts nothing but which negatives are drawn", "[objectives]") {
  const RegionBatch batch = busy_batch();
  RegionBatch images = batch;
  const Tensor order = torch::tensor({3, 0, 4, 1, 2}, torch::kLong);
  images.images = batch.images.index_select(0, order);
  images.text_to_image = order.argsort().index_select(0, batch.text_to_image);
  RegionBatch texts = batch;
  const Tensor rows = torch::tensor({11, 2, 7, 4, 9, 0, 5, 1, 10, 3, 8, 6}, torch::kLong);
  for (Tensor RegionBatch::*field : {&RegionBatch::text_to_image, &RegionBatch::is_region, &RegionBatch::boxes, &RegionBatch::is_unambiguous, &RegionBatch::text_ids, &RegionBatch::text_mask,
                                     &RegionBatch::masked_ids, &RegionBatch::masked_positions, &RegionBatch::masked_labels, &RegionBatch::text_key, &RegionBatch::text_weight}) {
    texts.*field = (batch.*field).index_select(0, rows);
  }
  texts.foil_to_text = rows.argsort().index_select(0, batch.foil_to_text);
  for (const std::string kind : {"vit", "clip_vit", "blip"}) {
    INFO(kind);
    const auto run = [&](const RegionBatch& of) {
      const Run one = make_run(kind);
      return means(one.criterion->forward(*one.model->begin(of, {.seed = 5})));
    };
    std::map<std::string, double> before = run(batch), by_text = run(texts);
    check_equal(before, run(images));
    for (const char* drawn : {"itm", "region_itm"}) {
      before.erase(drawn);
      by_text.erase(drawn);
    }
    check_equal(before, by_text);
  }
}

}  // namespace
}  // namespace fgvl::models
