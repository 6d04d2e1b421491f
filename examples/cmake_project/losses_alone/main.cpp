// The contrastive loss of four pictures and four texts that agree perfectly.
#include <iostream>

#include <ATen/ops/eye.h>
#include <ATen/ops/scalar_tensor.h>

#include <fgvl/losses/contrastive.hpp>

int main() {
  const at::Tensor image = at::eye(4).set_requires_grad(true), text = at::eye(4);
  const at::Tensor loss = fgvl::losses::contrastive(image, text, at::scalar_tensor(0.5));
  loss.backward();
  // Each row: -log(e^2 / (e^2 + 3)).
  std::cout << "itc " << loss.item<double>() << ", gradient " << image.grad().norm().item<double>() << std::endl;
  return 0;
}
