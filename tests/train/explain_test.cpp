#include "fgvl/train/explain.hpp"

#include <sstream>

#include <torch/torch.h>

#include "support/catch.hpp"
#include "train/flop_count.hpp"
#include "train/recording_pass.hpp"
#include "train/tiny_run.hpp"

namespace fgvl::train {
namespace {

using Catch::Contains;

TEST_CASE("flops: a product of [n, m] and [m, p] is 2 n m p, its backward pass twice that, a convolution what its outputs cost", "[explain]") {
  const Tensor a = torch::ones({3, 5}, torch::requires_grad()), b = torch::ones({5, 7}, torch::requires_grad());
  {
    const FlopCount count;
    const Tensor product = at::matmul(a, b);
    CHECK(count.flops() == 2 * 3 * 5 * 7);
    product.sum().backward();
    CHECK(count.flops() == 3 * (2 * 3 * 5 * 7));
  }
  {
    const FlopCount count;
    at::bmm(torch::ones({4, 3, 5}), torch::ones({4, 5, 7}));
    CHECK(count.flops() == 4 * (2 * 3 * 5 * 7));
  }
  {
    const FlopCount count;
    at::linear(torch::ones({2, 4, 5}), torch::ones({6, 5}), torch::ones({6}));
    CHECK(count.flops() == 2 * 8 * 5 * 6);
  }
  {
    const FlopCount count;
    const Tensor image = torch::ones({2, 3, 8, 8}), weight = torch::ones({4, 3, 2, 2}, torch::requires_grad());
    at::conv2d(image, weight, {}, 2).sum().backward();
    // 2 x 4 x 4 x 4 outputs of 3 x 2 x 2 products; the picture needs no gradient, so that the backward pass makes that of the weight alone.
    CHECK(count.flops() == 2 * (2.0 * 2 * 4 * 4 * 4 * 3 * 2 * 2));
  }
  const FlopCount count;
  at::scaled_dot_product_attention(torch::ones({1, 2, 3, 8}), torch::ones({1, 2, 5, 8}), torch::ones({1, 2, 5, 8}));
  CHECK(count.flops() == 4 * 2 * 3 * 5 * 8);
}

std::string explained(const std::vector<std::string>& overrides) {
  std::vector<std::string> all = {"losses.bomb=null"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  const auto text = explain(test::tiny_run(all), "tiny.yaml");
  INFO(text.status());
  REQUIRE(text.ok());
  return *text;
}

/// The line of `text` that begins with `begin`, after blanks.
std::string line_of(const std::string& text, const std::string& begin) {
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    const std::size_t at = line.find_first_not_of(' ');
    if (at != std::string::npos && line.compare(at, begin.size(), begin) == 0) return line;
  }
  return "";
}

TEST_CASE("explain: the objective with its weights, what each term counts from which stream, and what runs how often", "[explain]") {
  const std::string text = explained({"losses.box.weight=0.5", "losses.mlm.weight={type: linear, from: 0, to: 1, steps: 20}", "train.accumulate=1"});
  INFO(text);
  CHECK_THAT(text, Contains("What tiny.yaml minimises") && Contains("30 optimizer steps of 4 pictures"));
  CHECK(line_of(text, "learning rate up to") == "learning rate up to 0.0001: falls on a line to 0");
  CHECK(line_of(text, "total =") == "  total = itc + itm + w(mlm) mlm + 0.5 box");
  CHECK(line_of(text, "w(mlm):") == "  w(mlm): linear from 0 to 1 over steps 0 to 20");
  CHECK_THAT(line_of(text, "itm "), Contains("matching: image-text matching (ITM)"));
  // Boxes come from regions alone: at most two a picture.
  CHECK_THAT(line_of(text, "box "), Contains("(regions ") && !Contains("captions"));
  CHECK_THAT(line_of(text, "itc "), Contains("captions 1.0, regions "));
  // Every picture once, whoever asks; the true pairs for matching alone.
  CHECK_THAT(line_of(text, "pictures "), Contains("4.0") && Contains("itc, itm, mlm, box"));
  CHECK_THAT(line_of(text, "masked texts "), Contains("mlm") && !Contains("itm"));
  CHECK_THAT(line_of(text, "fusion: true pairs"), Contains("itm"));
  CHECK_THAT(line_of(text, "fusion: boxes"), Contains("box"));
  CHECK(line_of(text, "foils").empty());
}

TEST_CASE("explain: a term that is gone, or rests, runs nothing; stages are told one by one", "[explain]") {
  const std::string without = explained({"losses.mlm=null"});
  CHECK(line_of(without, "masked texts").empty());
  const std::string stages = "stages=[{name: captions, steps: 10, losses: {box: null}, streams: {regions: null}, freeze: ['model.vision_encoder.*']}, {name: regions, lr_factor: 0.5}]";
  const std::string text = explained({stages});
  INFO(text);
  CHECK_THAT(text, Contains("Stage captions: steps 1 to 10 (33% of the run)") && Contains("frozen here: model.vision_encoder.*") && Contains("switched off here: box") &&
                       Contains("Stage regions: steps 11 to 30 (67% of the run)") && Contains("learning rate times 0.5"));
  CHECK_THAT(explained({"train.schedule={decay: step, decay_factor: 0.9, every_steps: 10, warmup_steps: 5, min_factor: 0.5}", "stages=[{name: a, steps: 10, schedule: {decay: cosine, decay_steps: 4}}, {name: b}]"}),
             Contains("learning rate up to 0.0001: rises over 5 steps, then times 0.9 every 10 steps, not below 0.5 of that") &&
                 Contains("the learning rate has a schedule of its own here: falls on half a cosine to 0, in the last 4 steps alone"));
  const std::size_t second = text.find("Stage regions");
  CHECK(line_of(text.substr(0, second), "fusion: boxes").empty());
  CHECK_FALSE(line_of(text.substr(second), "fusion: boxes").empty());
  CHECK_THAT(line_of(text.substr(0, second), "itc "), Contains("(captions 1.0)"));
  // What is frozen has no backward pass, and is computed again in the next stage.
  const std::string trained = explained({stages, "stages.captions.freeze=[]"});
  CHECK(line_of(text, "a step runs") != line_of(trained, "a step runs"));
  CHECK(line_of(text.substr(second), "a step runs") == line_of(trained.substr(trained.find("Stage regions")), "a step runs"));
  CHECK(line_of(text, "streams here:") == "  streams here: captions 1; regions is not read");
}

/// A user's own term, which asks for fused pairs that none of ours asks for.
struct OddOptions {};
void visit_fields(config::Visitor&, OddOptions&) {}
class OddTerm final : public losses::LossTerm {
 public:
  losses::Loss forward(ForwardPass& pass) override {
    const Tensor texts = at::arange(pass.batch().text_count(), at::kLong);
    const Tensor fused = pass.fuse({.text = TextInput::kText, .text_index = texts, .visual = VisualInput::kImage, .visual_index = pass.batch().text_to_image});
    return losses::Loss().part("", 1.0, fused.sum(), static_cast<double>(texts.size(0)));
  }
};

TEST_CASE("explain: terms of the user's own are measured as ours are", "[explain]") {
  RunRegistries registries = test::tiny_registries();
  registries.terms->add("odd", [](const OddOptions&, const FeatureSpec&) -> losses::LossTermPtr { return std::make_shared<OddTerm>(); }, OddOptions{});
  auto document = config::Document::parse(test::kTinyRun).value();
  REQUIRE(document.override_with({"losses.bomb=null", "losses.itm=null", "losses.own={type: odd}"}).ok());
  const auto text = explain(config::read(document, RunConfig(registries)).value(), "own.yaml");
  REQUIRE(text.ok());
  INFO(*text);
  CHECK_THAT(line_of(*text, "own "), Contains("odd"));
  CHECK_THAT(line_of(*text, "fusion: texts x pictures"), Contains("own"));
}

}  // namespace
}  // namespace fgvl::train
