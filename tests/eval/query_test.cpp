#include "fgvl/eval/query.hpp"

#include <torch/torch.h>

#include "eval/fake_model.hpp"
#include "support/catch.hpp"

using namespace fgvl;

TEST_CASE("make_query: texts of interleaved images keep the caller's order", "[eval]") {
  const auto texts = test::pipeline_of({"one two three"});
  // Grouped by image the texts would stand in the order 2, 0, 1, which is not its own inverse.
  const RegionBatch batch = eval::make_query(torch::zeros({3, 3, 8, 8}),
                                             {{.image = 1, .text = "one"},
                                              {.image = 2, .text = "two two"},
                                              {.image = 0, .text = "three", .box = {0.25f, 0.5f, 0.5f, 1.f}, .is_region = true}},
                                             *texts)
                                .value();
  batch.validate();
  CHECK(batch.text_to_image.equal(torch::tensor({1, 2, 0})));
  const auto id = [&](const char* word) { return texts->tokenizer().ids(word)[0]; };
  CHECK(batch.text_ids.select(1, 1).equal(torch::tensor({id("one"), id("two"), id("three")})));
  CHECK(batch.text_mask.sum(1).equal(torch::tensor({2, 3, 2})));
  CHECK(batch.is_region.equal(torch::tensor({false, false, true})));
  CHECK(batch.boxes[2].equal(torch::tensor({0.25f, 0.5f, 0.5f, 1.f})));
  CHECK_THROWS_AS(eval::make_query(torch::zeros({2, 3, 8, 8}), {{.image = 2, .text = "one"}}, *texts).value(), c10::Error);
}
