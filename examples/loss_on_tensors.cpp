// Two losses in somebody else's program: plain functions on tensors, no model and no configuration of fgvl.
#include <iostream>

#include <torch/torch.h>

#include <fgvl/losses/box_regression.hpp>
#include <fgvl/losses/contrastive.hpp>

int main() {
  // Whatever your encoders produce: four pictures, four texts, unit rows.
  torch::Tensor image = torch::nn::functional::normalize(torch::randn({4, 16})).set_requires_grad(true);
  torch::Tensor text = torch::nn::functional::normalize(torch::randn({4, 16})).set_requires_grad(true);
  const torch::Tensor itc = fgvl::losses::contrastive(image, text, torch::tensor(0.07));

  // Predicted and true boxes, (cx, cy, w, h) in units of the image side.
  torch::Tensor predicted = torch::tensor({{0.5, 0.5, 0.4, 0.4}, {0.2, 0.3, 0.2, 0.2}}).set_requires_grad(true);
  const torch::Tensor target = torch::tensor({{0.5, 0.5, 0.5, 0.5}, {0.3, 0.3, 0.2, 0.2}});
  const torch::Tensor box = fgvl::losses::box_regression(predicted, target, {.giou_weight = 2.0});

  (itc + box).backward();
  std::cout << "itc " << itc.item<double>() << ", box " << box.item<double>() << ", gradient of the boxes\n" << predicted.grad() << std::endl;
  return 0;
}
