// A whole training loop of one's own over fgvl's parts: data, model, criterion; the loop, optimizer and log are yours.
//   example_whole_trainer [steps]
#include <cstdlib>
#include <iostream>

#include <torch/torch.h>

#include <fgvl/core/device.hpp>
#include <fgvl/data/data_config.hpp>
#include <fgvl/data/synthetic.hpp>
#include <fgvl/losses/box_regression.hpp>
#include <fgvl/losses/contrastive.hpp>
#include <fgvl/losses/criterion.hpp>
#include <fgvl/losses/masked_language.hpp>
#include <fgvl/losses/matching.hpp>
#include <fgvl/models/bert.hpp>
#include <fgvl/models/region_vlm.hpp>
#include <fgvl/models/vit.hpp>

using namespace fgvl;

int main(int argc, char** argv) {
  const std::int64_t steps = argc > 1 ? std::atoll(argv[1]) : 200;
  const at::Device device = parse_device("auto");

  // Data: generated scenes here; open_dataset(data::CocoOptions{...}, {.root = ...}) for COCO, and likewise for the other formats.
  const auto dataset = data::open_dataset(data::SyntheticOptions{}, {.split = data::Split::kTrain});
  if (!dataset.ok()) return std::cerr << dataset.status().message() << std::endl, 3;
  data::SampleOptions sample;
  sample.max_regions = 3;
  const std::vector<data::Stream> streams = {{"scenes", *dataset, 1.0, sample}};
  const auto texts = data::make_text_pipeline(data::DataConfig(), streams);
  if (!texts.ok()) return std::cerr << texts.status().message() << std::endl, 3;
  data::ImageOptions image;
  image.size = 64;
  auto loader = data::Loader::make(streams, image, *texts, {.batch_size = 16, .workers = 1, .seed = 17});
  if (!loader.ok()) return std::cerr << loader.status().message() << std::endl, 3;

  // Model.
  const models::VitOptions vision{.image_size = 64, .patch_size = 8, .width = 64, .layers = 2, .heads = 4, .stem = models::Stem::kConv};
  const models::BertOptions bert{.width = 64, .layers = 2, .heads = 4, .mlp_width = 256, .max_tokens = 40, .dropout = 0, .norm = models::Norm::kPre, .word_std = 0.3, .position_std = 0.3};
  const models::BertFusionOptions fusion{.layers = 2, .heads = 4, .mlp_width = 256, .dropout = 0, .norm = models::Norm::kPre};
  auto model = models::make_region_vlm({make_vision_encoder(vision), make_text_encoder(bert, {.vocab_size = (*texts)->tokenizer().size()}),
                                        make_fusion_encoder(fusion, {.text_width = bert.width, .vision_width = vision.width})},
                                       {.embed_dim = 32, .initializer_range = std::nullopt});
  model->to(device);

  // Objective.
  losses::Criterion criterion(model->spec());
  criterion.add("itc", losses::ContrastiveOptions{.temperature = {.init = 0.07}})
      .add("itm", losses::MatchingOptions{.temperature = "itc"})
      .add("mlm", losses::MaskedLanguageOptions{})
      .add("box", losses::BoxRegressionOptions{.giou_weight = 2.0}, /*weight=*/0.5);
  criterion.to(device);

  // Your loop.
  std::vector<torch::Tensor> parameters = model->parameters();
  for (const torch::Tensor& parameter : criterion.parameters()) parameters.push_back(parameter);
  torch::optim::AdamW optimizer(parameters, torch::optim::AdamWOptions(1e-3).weight_decay(0.01));
  model->train();
  for (std::int64_t step = 0; step < steps; ++step) {
    const auto batch = (*loader)->next();
    if (!batch.ok()) return std::cerr << batch.status().message() << std::endl, 3;
    auto pass = model->begin(batch->to(device), {.seed = 17, .step = static_cast<std::uint64_t>(step)});
    const losses::LossReport report = criterion.forward(*pass);
    optimizer.zero_grad();
    report.total.backward();
    torch::nn::utils::clip_grad_norm_(parameters, 1.0);
    optimizer.step();
    if (step % 20 == 0 || step + 1 == steps) {
      std::cout << "step " << step;
      for (const auto& value : report.values) std::cout << "  " << value.name << " " << value.mean.item<double>();
      std::cout << std::endl;
    }
  }
  return 0;
}
