// The parts of a tokenizer.json that say what is done to a text and to tokens: its normalizer,
// pre_tokenizer, decoder and post_processor, read and written.
//
// What is read is honoured; everything else that HuggingFace knows is refused by its name.
#pragma once

#include <vector>

#include "nn/splitting/text_steps.h"
#include "tensor/files/json_reader.h"
#include "tensor/files/json_value.h"

namespace vitrine::nn {

// `file` is the whole tokenizer.json. Throws FileError for what is malformed, ConfigError for what
// would change the ids and is not supported.
TextSteps read_text_steps(const JsonReader& file);

// The ids that a post_processor puts before every text. Throws ConfigError if it puts any after it.
std::vector<int> read_tokens_put_first(const JsonReader& post_processor);

// As tokenizer.json has them; null where there is nothing to do.
JsonValue normalizer_json(const TextSteps& steps);
JsonValue pre_tokenizer_json(const TextSteps& steps);
JsonValue decoder_json(const TextSteps& steps);

}  // namespace vitrine::nn
