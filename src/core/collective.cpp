#include "fgvl/core/collective.hpp"

namespace fgvl {
namespace {

class SingleProcess final : public Collective {
 public:
  std::int64_t rank() const override { return 0; }
  std::int64_t size() const override { return 1; }
  Tensor all_reduce_sum(const Tensor& value) override { return value.detach(); }
  Tensor all_gather_rows(const Tensor& rows) override { return rows; }
  Tensor broadcast(const Tensor& value) override { return value; }
  void barrier() override {}
};

}  // namespace

CollectivePtr make_single_process() { return std::make_shared<SingleProcess>(); }

}  // namespace fgvl
