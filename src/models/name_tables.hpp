#pragma once
#include "fgvl/models/name_map.hpp"

namespace fgvl::models {

/// Tables that follow from the sizes of a model, in any family.
inline const std::vector<std::string> kDerivedNames = {"*.position_ids", "*.relative_position_index", "*.attn_mask", "*.input_resolution", "*.context_length", "*.vocab_size"};

/// Second names in BertForMaskedLM: the decoder's matrix is the word embedding, and its bias has two names.
inline const std::vector<TiedName> kMaskedLanguageTies = {{"text_encoder.cls.predictions.decoder.weight", "text_encoder.bert.embeddings.word_embeddings.weight"},
                                                          {"text_encoder.cls.predictions.decoder.bias", "text_encoder.cls.predictions.bias"},
                                                          {"text_encoder_m.cls.predictions.decoder.weight", "text_encoder_m.bert.embeddings.word_embeddings.weight"},
                                                          {"text_encoder_m.cls.predictions.decoder.bias", "text_encoder_m.cls.predictions.bias"}};

/// State that ALBEF's objective keeps beside the model, and BLIP's and PEVL's after it: momentum encoders, queues of their features and, in retrieval, of identities.
inline const std::vector<std::string> kMomentumState = {"visual_encoder_m.*", "vision_proj_m.*", "text_encoder_m.*", "text_proj_m.*", "image_queue", "text_queue", "queue_ptr", "idx_queue"};

/// Their queues, a column an entry, and the place of the next one.
inline const std::vector<NameRule> kQueueRules = {{"losses.*.queue.visual", "image_queue", "itc", false, 0, 1, /*transposed=*/true},
                                                  {"losses.*.queue.text", "text_queue", "itc", false, 0, 1, /*transposed=*/true},
                                                  {"losses.*.queue.pointer", "queue_ptr", "itc"}};

/// The rules of ALBEF and what follows it: X-VLM's text side, a linear matching head, no boxes.
std::vector<NameRule> albef_rules();

// One function and one file (names_<family>.cpp) a family. A family without rules is recognised, so that `info` can say what a file is, and not translated.
NameMap fgvl_names();
NameMap fgvl_dual_names();
NameMap xvlm_names();
NameMap xvlm_finetuned_names();
NameMap x2vlm_names();
NameMap x2vlm_plus_names();
NameMap albef_names();
NameMap albef_finetuned_names();
NameMap pevl_names();
NameMap blip_names();
NameMap clip_names();
NameMap open_clip_names();
NameMap clip_transformers_names();
NameMap bert_names();
NameMap bert_tensorflow_names();
NameMap roberta_names();
NameMap bert_encoder_names();

}  // namespace fgvl::models
