// Parity with the official BLIP (e-bug/fine-grained-evals 6cc5fc1, models/BLIP/models/blip_pretrain.py and med.py).
#include "fgvl/losses/masked_language.hpp"
#include "golden/momentum_pretraining.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using test::OfficialModel;
using test::Tensors;

/// BLIP's pre-training: alignment and matching as ALBEF, and a language model.
class BlipPretraining final : public test::MomentumPretraining {
 public:
  using MomentumPretraining::MomentumPretraining;

  void check_outputs(const Tensors& out) override {
    MomentumPretraining::check_outputs(out);
    const Tensor all = at::arange(live.batch.text_count());
    const Tensor decoded = live.pass->decoded({.text_index = all, .visual_index = all});
    // Behind a text's last token the official code decodes padding, which no loss looks at.
    const Tensor real = live.batch.text_mask;
    const Tensor logits = dynamic_cast<losses::WordPredictor&>(*live.criterion->find("lm")).word_logits(decoded.index({real}), live.pass->word_embedding());
    test::check_close("lm_logits", logits, out.at("lm_logits").index({real}), test::kOutputTolerance);
  }

 private:
  void add_losses(const Tensors& /*in*/, double /*alpha*/, Tensors& losses) override { losses["loss_lm"] = test::mean_of(live.criterion->find("lm")->forward(*live.pass)); }
};

TEST_CASE("BLIP: outputs, losses, queues and gradients equal the official implementation's, step by step", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  test::check_family<BlipPretraining>("blip");
}

TEST_CASE("BLIP's file loads with nothing missing, unexpected or allowed, and every tied group of it is one tensor of ours", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  using models::LoadOutcome;
  int fixtures = 0;
  for (const OfficialModel& official : test::official_models("blip")) {
    INFO(official.name());
    const models::LoadReport report = test::check_loads_whole(official);
    std::int64_t second = 0;
    for (const auto& group : official.json["tied"]) {
      const std::string first = group[0];
      CHECK_FALSE(models::first_name(official.names(), first));
      for (std::size_t i = 1; i < group.size(); ++i) CHECK(models::first_name(official.names(), group[i]) == first);
      second += static_cast<std::int64_t>(group.size()) - 1;
    }
    CHECK(report.count(LoadOutcome::kTied) == second);
    CHECK(report.count(LoadOutcome::kDerived) == 2);  // position_ids of encoder and decoder
    ++fixtures;
  }
  CHECK(fixtures > 0);
}

}  // namespace
}  // namespace fgvl
