#include "fgvl/eval/probes.hpp"

namespace fgvl::eval {

std::shared_ptr<train::ProbeRegistry> builtin_probes() {
  auto registry = std::make_shared<train::ProbeRegistry>();
  const auto add = [&]<class O>(const char* name, const O& defaults) {
    registry->add(name, [](const O& options, const train::ProbeContext& context) { return make_probe(options, context); }, defaults);
  };
  add("skills", SkillsOptions{});
  add("boxes", BoxesOptions{});
  add("regions", RegionsOptions{});
  return registry;
}

}  // namespace fgvl::eval
