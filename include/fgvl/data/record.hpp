#pragma once
#include <array>
#include <string>
#include <vector>

#include "fgvl/core/tensor.hpp"

namespace fgvl::data {

/// (x1, y1, x2, y2) in pixels of the original picture, continuous: a box of width w covers [x1, x1 + w).
using PixelBox = std::array<double, 4>;

/// A box of a picture with the texts that are true of it.
struct Region {
  PixelBox box{};
  std::vector<std::string> texts{};  ///< label, attribute + label, or description; one is drawn at random a visit
  std::string label{};               ///< class name as in the file, for evaluation; empty where there is none
  std::vector<std::string> foils{};  ///< texts made false by rule, for this region; one is drawn a visit
};

/// Words of a caption with the box of what they name.
struct Phrase {
  std::size_t begin = 0, end = 0;  ///< bytes [begin, end) of the caption
  PixelBox box{};
};

/// One annotated picture as read from a file; nothing is decoded yet.
struct Record {
  std::string key{};         ///< unique in its dataset; what skipped.jsonl and reports name
  std::string place{};       ///< file:line or file of the annotation
  std::string image_path{};  ///< absolute; empty where the bytes are here
  std::string image_bytes{}; ///< JPEG or PNG bytes (base64 records, decoded); empty where there is a path
  Tensor image{};            ///< [3, H, W] uint8, for generated pictures; undefined elsewhere
  std::vector<std::string> captions{};
  std::vector<std::string> caption_foils{};  ///< foil i of caption i; empty, or as long as captions ("" where there is none)
  std::vector<std::vector<Phrase>> caption_phrases{};  ///< of caption i; empty, or as long as captions
  std::vector<Region> regions{};
};

}  // namespace fgvl::data
