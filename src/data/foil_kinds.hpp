#pragma once
#include "data/foil_sentence.hpp"
#include "fgvl/data/foils.hpp"

namespace fgvl::data::foil {

/// Every text that the rules of `kind` make of a sentence, in the order of its words and of the lexicon; none for kGiven. What is true of the picture all the same, and repeats, is left to the caller.
std::vector<std::string> foil_texts(const Sentence& sentence, FoilKind kind, const TrueTexts& truth);

}  // namespace fgvl::data::foil
