#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

/// Where the value of a setting comes from.
enum class SettingSource {
  kTensors,        ///< names and shapes
  kConfiguration,  ///< the configuration that came with the weights
  kPublished,      ///< assumed: what this family's published models have
  kUnknown,        ///< nobody says; somebody has to
  kGiven,          ///< somebody said
};

/// One key of a run's configuration file, as an override of the command line writes it.
struct Setting {
  std::string key{};    ///< "model.vision.options.width"
  std::string value{};  ///< YAML; "" where `source` is kUnknown
  SettingSource source = SettingSource::kTensors;
  std::string note{};   ///< why it was assumed or cannot be known
};

/// Scalars of the configuration that came with weights, by dotted key: "image_res" -> "224".
using SavedConfiguration = std::map<std::string, std::string>;

/// What a checkpoint says about the model that it belongs to.
struct Deduced {
  std::vector<Setting> settings{};        ///< keys of `model` and `losses`
  std::vector<std::string> problems{};    ///< parts that no encoder or loss of this library fits; with one of them there is no model
  std::int64_t vocab_size = 0;            ///< rows of the word embedding; 0: none
  std::int64_t max_tokens = 0;            ///< rows of the text's position table; 0: none
  const Setting* find(const std::string& key) const;
};

/// The sections `model` and `losses` of a configuration whose model has exactly these tensors. `tensors`: under our names, the tables that follow from sizes (attn_mask) among
/// them where the file has them; see translate(). `family`: a name map's, whose published models say what tensors cannot:
///  * heads of attention: 64 channels each, in every published model; unknown where the width is no multiple of that. A Swin's are the columns of its bias tables;
///  * local_attn_depth: X-VLM 4, ALBEF and PEVL 0;
///  * a Swin's image size: from its masks, else where a stage is smaller than a window, else `image_res` of the saved configuration, else the last stage is one window;
///  * epsilons of LayerNorm: BERT's.
/// Where tensors and saved configuration contradict one another, the setting is unknown. Reads shapes only.
Deduced deduce(const std::vector<std::pair<std::string, Tensor>>& tensors, const std::string& family, const SavedConfiguration& saved = {});

}  // namespace fgvl::models
