// vitrine convert: a HuggingFace folder from any model that can be read.
#include <fmt/format.h>

#include <filesystem>

#include "apps/options/options.h"
#include "apps/verbs/verbs.h"
#include "nn/model/checkpoint.h"
#include "nn/tokenizer/save_tokenizer.h"
#include "tensor/error.h"
#include "tensor/files/run_folder.h"

namespace vitrine::app {

void verb_convert(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Writes a model as a HuggingFace folder: config.json, model.safetensors and, if it has one,\n"
      "its tokenizer. It may come from a GGUF file, whose blocks are widened, from a PyTorch\n"
      "checkpoint or from another folder.\n\n"
      "json: {meta, folder, model_type, dtype, parameters, bytes, tokenizer}\n",
      "vitrine convert --dtype f16 --to converted");
  CommonOptions common;
  std::string to, stored = "f32";
  bool overwrite = false;
  line.option("--to", to, "DIR", "the folder to write")->required();
  line.option("--dtype", stored, "TYPE", "how weights are stored: f32 (default), f16 or bf16")
      ->one_of({"f32", "f16", "bf16"});
  line.flag("--overwrite", overwrite,
            "write into a folder that is not empty: files of the same names are replaced");
  common.add_without_gauge_to(line);
  if (!line.parse()) return;
  if (!overwrite) require_unused_folder(to);

  const nn::Model model = common.load();
  if (model.has_tokenizer_fault()) throw ConfigError(model.why_no_tokenizer());
  const nn::Config& c = model.config();
  if (c.rope && !c.rope->divisors.empty()) {
    throw ConfigError(
        "the frequencies of its rotary positions follow no rule that config.json can state "
        "(rope_freqs.weight of the GGUF file): the model cannot be written as a HuggingFace "
        "folder");
  }
  const DType dtype = float_type(stored);
  std::filesystem::create_directories(to);
  nn::save_checkpoint(to, c, model.parameters(), dtype);
  if (model.has_tokenizer()) nn::save_tokenizer(model.tokenizer(), to);

  const std::int64_t count = c.parameter_count(), bytes = count * size_of(dtype);
  if (common.json()) {
    return write_result(common.out, to_line({{"meta", common.meta(line)},
                                             {"folder", json_text(to)},
                                             {"model_type", c.model_type},
                                             {"dtype", stored},
                                             {"parameters", count},
                                             {"bytes", bytes},
                                             {"tokenizer", model.has_tokenizer()}}));
  }
  write_result(common.out,
               fmt::format("{}: a model of type {}, {} parameters as {} ({}){}\n", visible(to),
                           c.model_type, grouped(count), stored, byte_size(bytes),
                           model.has_tokenizer() ? ", and its tokenizer" : ""));
}

}  // namespace vitrine::app
