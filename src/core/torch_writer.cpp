#include <map>
#include <set>
#include <tuple>

#include <absl/strings/str_cat.h>
#include <torch/torch.h>

#include "core/bounded_json.hpp"
#include "core/pickle_writer.hpp"
#include "core/stored_views.hpp"
#include "core/zip_writer.hpp"
#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/core/files.hpp"

namespace fgvl {

absl::Status write_torch_file(const std::string& path, const NamedTensors& tensors, const TorchFileOptions& options) {
  pickle::Writer pickled;
  std::vector<Tensor> storages;
  std::map<std::tuple<const void*, std::size_t, at::ScalarType>, std::size_t> known;  // tied weights are one storage
  if (!options.section.empty()) {
    pickled.begin_dict();
    pickled.text(options.section);
  }
  pickled.begin_ordered_dict();
  std::set<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    const ElementType* type = element_type(tensor.scalar_type());
    if (type == nullptr) return absl::InvalidArgumentError(absl::StrCat(path, ": tensor \"", name, "\" has dtype ", c10::toString(tensor.scalar_type()), ", which is not written"));
    if (!names.insert(name).second) return absl::InvalidArgumentError(absl::StrCat(path, ": two tensors are named \"", name, "\""));
    const Tensor host = tensor.detach().to(at::kCPU).contiguous();
    const auto [found, added] = known.try_emplace({host.const_data_ptr(), host.nbytes(), host.scalar_type()}, storages.size());
    if (added || host.numel() == 0) {
      found->second = storages.size();
      storages.push_back(host);
    }
    pickled.text(name);
    pickled.tensor(absl::StrCat(found->second), *type, host.sizes().vec());
  }
  pickled.end_dict();
  if (!options.section.empty()) {
    if (!options.config_json.empty()) {
      pickled.text("config");
      if (!is_bounded_json_object(options.config_json) || !pickled.json(options.config_json)) return absl::InvalidArgumentError(absl::StrCat(path, ": the configuration to be written is not a JSON object"));
    }
    pickled.end_dict();
  }
  zip::Writer archive;
  archive.add_copy("archive/data.pkl", pickled.finish());
  archive.add_copy("archive/byteorder", "little");
  for (std::size_t i = 0; i < storages.size(); ++i) {
    const Tensor& storage = storages[i];
    archive.add(absl::StrCat("archive/data/", i), storage.numel() == 0 ? std::string_view() : std::string_view(static_cast<const char*>(storage.const_data_ptr()), storage.nbytes()));
  }
  archive.add_copy("archive/version", "3\n");
  return with_exit_code(write_file_atomically(path, archive.finish()), ExitCode::kCheckpoint);
}

}  // namespace fgvl
