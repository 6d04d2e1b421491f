#pragma once
/// PEVL's pre-training with momentum encoders and queues, recomposed the official way from what our models, heads and matching loss compute, so that every gradient can be compared.
#include <iostream>
#include <string>

#include "golden/official_model.hpp"
#include "support/catch.hpp"

namespace fgvl::test {

/// -sum(targets * log_softmax(logits)) over the last dimension; the softmax runs over `normalised`.
Tensor soft_cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t normalised = -1);
/// Of a loss with one part.
Tensor mean_of(const losses::Loss& loss);

class MomentumPretraining {
 public:
  MomentumPretraining(const OfficialModel& official, const Tensors& scenario, at::ScalarType dtype);
  virtual ~MomentumPretraining() = default;

  /// One step's losses by the names of the fixture, with "total".
  Tensors forward(const Tensors& scenario, double alpha);
  /// Plain gradient descent on what the last forward pass gave gradients to.
  void descend(double learning_rate);
  /// The momentum encoders under their official names.
  Tensors momentum_weights() const;
  /// Compares outputs of the last forward pass with what the official code gave.
  virtual void check_outputs(const Tensors& out);

  OfficialRun live, momentum;
  Tensor image_queue, text_queue;  ///< [E, K]
  std::int64_t queue_place = 0;
  Tensor temperature, image_features_m, text_features_m;  ///< of the last forward pass; [T, E]

 protected:
  /// Adds what a family trains beside alignment and matching. `in`: inputs of the scenario.
  virtual void add_losses(const Tensors& in, double alpha, Tensors& losses) = 0;

  const OfficialModel& official_;

 private:
  void update_momentum();
  Tensor image_text_alignment(double alpha);
};

/// A step of a fixture: of its list, or the only one.
struct PretrainingStep {
  std::string scenario;
  nlohmann::json golden;
  double alpha = 0;  ///< share of the momentum model's opinion
};
std::vector<PretrainingStep> steps_of(const OfficialModel& official);

/// Every step in the precision of `training`; float32 with outputs, queues, momentum weights and gradients. Returns how many there were.
int check_steps(const OfficialModel& official, MomentumPretraining& training);

/// check_steps() of every fixture of a family in float32 and float64, as `Pretraining`. Returns how many steps there were.
template <class Pretraining>
int check_family(const std::string& family) {
  int steps = 0;
  for (const OfficialModel& official : official_models(family)) {
    INFO(official.name());
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      Pretraining training(official, official.scenario("step1"), dtype);
      steps += check_steps(official, training);
    }
  }
  std::cout << family << " parity: " << steps << " steps in float32 and float64, " << compared_numbers << " numbers compared so far" << std::endl;
  CHECK(steps > 0);
  return steps;
}

}  // namespace fgvl::test
