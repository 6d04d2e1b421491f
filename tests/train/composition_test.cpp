// Removing a term leaves every other term's numbers unchanged, bit for bit.
#include <algorithm>
#include <map>

#include <torch/torch.h>

#include "fgvl/data/loader.hpp"
#include "support/catch.hpp"
#include "train/optimizer.hpp"
#include "train/tiny_run.hpp"

namespace fgvl::train {
namespace {

/// A tiny model with dropout in its encoders, and a batch with captions, regions, masked words and foils.
struct Setup {
  models::ModelPtr model;
  RegionBatch batch;
};

Setup setup(const std::vector<std::string>& overrides) {
  std::vector<std::string> all = {"data.mix=rows", "data.streams.captions.foils=true", "data.streams.regions.foils=true", "model.text.options.attention_dropout=0.1"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  RunConfig config = test::tiny_run(all);
  std::vector<data::Stream> streams = data::open_streams(config.data, data::Split::kTrain).value();
  const data::TextPipelinePtr texts = data::make_text_pipeline(config.data, streams).value();
  config.data.loader.seed = 3;
  config.data.loader.workers = 0;
  config.data.loader.batch_size = 6;
  auto loader = data::Loader::make(std::move(streams), config.data.image, texts, config.data.loader).value();
  models::TextContext context = text_context(texts->tokenizer());
  // BLIP's fusion starts texts with tokens of its own; any two words will do here.
  context.token_id = [known = context.token_id, words = context.vocab_size](const std::string& token) { return token == "[DEC]" ? words - 1 : token == "[ENC]" ? words - 2 : known(token); };
  Setup made{models::make_model(config.model, context, 5), loader->next().value()};
  made.model->train();
  return made;
}

/// The value of a term and its gradient with respect to every parameter.
struct Numbers {
  std::vector<double> means;
  Tensor share;
  std::map<std::string, Tensor> gradients;
};

/// Of every term but `removed`, from one pass.
std::map<std::string, Numbers> numbers(const Setup& setup, const std::vector<std::pair<std::string, std::string>>& terms, const std::vector<std::string>& removed, bool by_weight) {
  losses::CriterionConfig config;
  for (const auto& [name, type] : terms) {
    const bool out = std::find(removed.begin(), removed.end(), name) != removed.end();
    if (out && !by_weight) continue;
    config.emplace_back(name, losses::TermConfig{{losses::builtin_terms(), type}, out ? 0.0 : 1.0, {}});
  }
  const auto criterion = losses::make_criterion(config, setup.model->spec());
  criterion->train();
  const auto pass = setup.model->begin(setup.batch, {.seed = 9, .step = 4, .optimizer_step = 4});
  const losses::LossReport report = criterion->forward(*pass);
  std::map<std::string, Numbers> all;
  for (const auto& value : report.values) all[value.name.substr(0, value.name.find('.'))].means.push_back(value.mean.item<double>());
  const NamedTensors parameters = named_parameters(*setup.model, *criterion);
  std::vector<Tensor> tensors;
  for (const auto& [name, parameter] : parameters) tensors.push_back(parameter);
  for (const auto& [term, share] : report.shares) {
    all[term].share = share.detach();
    const auto gradients = torch::autograd::grad({share}, tensors, {}, /*retain_graph=*/true, /*create_graph=*/false, /*allow_unused=*/true);
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (gradients[i].defined()) all[term].gradients[parameters[i].first] = gradients[i].is_sparse() ? gradients[i].to_dense() : gradients[i];
    }
  }
  return all;
}

void check_removals(const Setup& setup, const std::vector<std::string>& types) {
  // Terms that others refer to have the names by which they do, and go together with them.
  const std::map<std::string, std::string> names = {{"matching", "itm"}, {"masked_language", "mlm"}}, needed_by = {{"itm", "foil_matching"}, {"mlm", "position_tokens"}};
  std::vector<std::pair<std::string, std::string>> terms;
  for (const std::string& type : types) terms.emplace_back(names.count(type) > 0 ? names.at(type) : type, type);
  const auto whole = numbers(setup, terms, {}, false);
  REQUIRE(whole.size() == terms.size());
  for (const auto& [name, type] : terms) {
    INFO(name << " counts nothing in this batch: the test would say nothing of it");
    REQUIRE_FALSE(whole.at(name).means.empty());
    REQUIRE_FALSE(whole.at(name).gradients.empty());
  }
  for (const auto& [removed, removed_type] : terms) {
    for (const bool by_weight : {false, true}) {
      std::vector<std::string> out = {removed};
      const auto with = needed_by.find(removed);
      if (with != needed_by.end() && !by_weight && std::find(types.begin(), types.end(), with->second) != types.end()) out.push_back(with->second);
      const auto rest = numbers(setup, terms, out, by_weight);
      REQUIRE(rest.size() == terms.size() - out.size());
      for (const auto& [other, expected] : whole) {
        if (std::find(out.begin(), out.end(), other) != out.end()) continue;
        INFO("without " << removed << (by_weight ? " (weight 0)" : "") << ": " << other);
        const Numbers& found = rest.at(other);
        CHECK(found.means == expected.means);
        CHECK(at::equal(found.share, expected.share));
        REQUIRE(found.gradients.size() == expected.gradients.size());
        for (const auto& [parameter, gradient] : expected.gradients) {
          INFO(parameter);
          CHECK(at::equal(found.gradients.at(parameter), gradient));
        }
      }
    }
  }
}

TEST_CASE("removing a term, or giving it weight 0, leaves every other term's value and gradient unchanged, bit for bit, with dropout", "[composition]") {
  // A new term is in here by itself; one that needs more of model or batch than this test has says so, and then belongs into the second case or the exceptions.
  const std::vector<std::string> all = losses::builtin_terms()->names();
  SECTION("fusion with weights of its own") {
    std::vector<std::string> types = all;
    std::erase(types, "language_model");  // needs a decoder
    check_removals(setup({"data.tokenizer.options.position_tokens=true", "data.streams.regions.position_tokens=true"}), types);
  }
  SECTION("BLIP's fusion, with a decoder") {
    std::vector<std::string> types = all;
    std::erase(types, "position_tokens");  // needs a vocabulary that has them
    check_removals(setup({"model.fusion={type: blip}", "model.text.options.token_types=0"}), types);
  }
}

TEST_CASE("the order of terms changes the total by rounding alone, and no term's numbers", "[composition]") {
  const Setup made = setup({});
  const std::vector<std::pair<std::string, std::string>> terms = {{"itc", "contrastive"}, {"itm", "matching"}, {"mlm", "masked_language"}, {"box", "box_regression"}};
  const auto forward = numbers(made, terms, {}, false), backward = numbers(made, {terms.rbegin(), terms.rend()}, {}, false);
  for (const auto& [term, expected] : forward) {
    INFO(term);
    CHECK(backward.at(term).means == expected.means);
    CHECK(at::equal(backward.at(term).share, expected.share));
  }
}

}  // namespace
}  // namespace fgvl::train
