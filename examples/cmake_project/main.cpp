// One step of training on a generated batch, from the installed package.
#include <iostream>

#include <torch/torch.h>

#include <fgvl/data/data_config.hpp>
#include <fgvl/data/synthetic.hpp>
#include <fgvl/losses/contrastive.hpp>
#include <fgvl/losses/criterion.hpp>
#include <fgvl/models/bert.hpp>
#include <fgvl/models/region_vlm.hpp>
#include <fgvl/models/vit.hpp>

int main() {
  fgvl::data::DataConfig config;
  config.image.size = 64;
  config.loader.batch_size = 4;
  auto streams = fgvl::data::open_streams(config, fgvl::data::Split::kTrain).value();
  auto texts = fgvl::data::make_text_pipeline(config, streams).value();
  auto loader = fgvl::data::Loader::make(streams, config.image, texts, config.loader).value();

  auto vision = make_vision_encoder(fgvl::models::VitOptions{.image_size = 64, .patch_size = 16, .width = 32, .layers = 1, .heads = 2});
  auto text = make_text_encoder(fgvl::models::BertOptions{.width = 32, .layers = 1, .heads = 2, .mlp_width = 64, .max_tokens = 40}, {.vocab_size = texts->tokenizer().size()});
  auto fusion = make_fusion_encoder(fgvl::models::BertFusionOptions{.layers = 1, .heads = 2, .mlp_width = 64}, {.text_width = 32, .vision_width = 32});
  auto model = fgvl::models::make_region_vlm({vision, text, fusion}, {.embed_dim = 16});

  fgvl::losses::Criterion criterion(model->spec());
  criterion.add("itc", fgvl::losses::ContrastiveOptions{});
  const fgvl::RegionBatch batch = loader->next().value();
  auto pass = model->begin(batch);
  const fgvl::losses::LossReport report = criterion.forward(*pass);
  report.total.backward();
  std::cout << "itc " << report.mean("itc").value() << std::endl;
  return 0;
}
