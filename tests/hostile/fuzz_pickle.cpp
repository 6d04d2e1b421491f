// libFuzzer target: the restricted unpickler on any bytes. Everything that its graph refers to must be there.
#include "core/pickle.hpp"
#include "fuzzing.hpp"

namespace {

using fgvl::fuzzing::require;

void check_graph(const fgvl::pickle::Graph& graph) {
  using fgvl::pickle::Kind;
  require(graph.end <= graph.bytes.size() && graph.root < graph.values.size());
  for (const auto& value : graph.values) {
    switch (value.kind) {
      case Kind::kText:
      case Kind::kBytes:
      case Kind::kLongInteger:
      case Kind::kDtype: require(value.span.begin <= graph.end && value.span.size <= graph.end - value.span.begin); break;
      case Kind::kList:
      case Kind::kTuple:
      case Kind::kDict:
      case Kind::kObject: require(value.index < graph.items.size()); break;
      case Kind::kStorage: require(value.index < graph.storages.size()); break;
      case Kind::kTensor: require(value.index < graph.tensors.size()); break;
      default: break;
    }
  }
  for (const auto& items : graph.items) {
    for (const auto item : items) require(item < graph.values.size());
  }
  for (const auto& storage : graph.storages) require(storage.key < graph.values.size() && graph.at(storage.key).kind == Kind::kText);
  for (const auto& tensor : graph.tensors) require(tensor.storage < graph.storages.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kBudget = 1u << 20;
  for (const bool torchscript : {false, true}) {
    const fgvl::fuzzing::MemoryBound bound(size, 3 * kBudget);
    const auto graph = fgvl::pickle::parse(fgvl::fuzzing::bytes_of(data, size), {.offset = 0, .budget = kBudget, .torchscript = torchscript});
    if (graph.ok()) check_graph(*graph);
  }
  return 0;
}
