// vitrine sae convert: SAELens folders, from other libraries' files or changed.
#include <fmt/format.h>

#include "apps/options/sae_options.h"
#include "apps/verbs/verbs.h"
#include "sae/other_libraries.h"
#include "tensor/files/run_folder.h"

namespace vitrine::app {

namespace {

void convert_transcoders(const CommandLine& line, const CommonOptions& common,
                         const std::string& from, const std::string& stored) {
  for (const char* other : {"--k", "--hook-name", "--hook-name-out", "--fold-decoder-norm"}) {
    if (line.was_given(other))
      line.fail(fmt::format("{} is about one SAE; {} has a transcoder for every MLP", other, from));
  }
  const sae::TranscoderSet set = sae::load_transcoders(from);
  sae::save_transcoders(set, common.out, float_type(stored));
  const char* kind = set.cross_layer ? "cross_layer" : "per_layer";
  if (common.json()) {
    return write_stdout(to_line({{"meta", common.meta(line)},
                                 {"folder", json_text(common.out)},
                                 {"kind", kind},
                                 {"activation", sae::name_of(set.activation)},
                                 {"layers", std::ssize(set.layers)},
                                 {"width", set.width()},
                                 {"features", set.layers[0].features()}}));
  }
  write_stdout(fmt::format("{}: {} transcoders of {} layers, {}, {} inputs, {} features each\n",
                           visible(common.out), set.cross_layer ? "cross-layer" : "per-layer",
                           set.layers.size(), sae::name_of(set.activation), set.width(),
                           grouped(set.layers[0].features())));
}

}  // namespace

void verb_sae_convert(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Reads an SAE and writes it as a SAELens folder, which SAELens's SAE.load_from_disk reads. "
      "A\n"
      "folder whose cfg.json has d_sae is SAELens's; others are told by the names of their "
      "tensors:\n"
      "dictionary_learning, OpenAI, sparsify. What stands beside the file is read, too: "
      "sparsify's\n"
      "cfg.json, dictionary_learning's config.json. Pickles are never read. A folder of "
      "transcoders, one for\n"
      "every MLP, becomes one that circuit-tracer reads.\n\n"
      "json: {meta, folder, architecture, transcoder, d_in, d_sae, hook_name, k}; of transcoders "
      "for every MLP\n"
      "{meta, folder, kind, activation, layers, width, features}\n",
      "vitrine sae convert --from blocks.4.hook_mlp_out --fold-decoder-norm --out converted");
  CommonOptions common;
  std::string from, hook, hook_out, stored = "f32";
  std::int64_t k = 0;
  bool fold = false, overwrite = false;
  line.option("--from", from, "PATH",
              "a folder or a safetensors file, or the name of an SAE that came with the model")
      ->required();
  line.number("--k", k, "K", "other libraries' files: the SAE is topk, with this k",
              std::int64_t{1}, std::int64_t{1} << 40);
  line.option("--hook-name", hook, "SITE", "the site that it was trained at, where it is not said");
  line.option("--hook-name-out", hook_out, "SITE", "a transcoder: the site that it gives");
  line.option("--store", stored, "TYPE", "how weights are held: f32 (default), f16 or bf16")
      ->one_of({"f32", "f16", "bf16"});
  line.flag("--fold-decoder-norm", fold, "decoder rows get norm 1, features their true size");
  line.flag("--overwrite", overwrite,
            "write into a folder that is not empty: files of the same names are replaced");
  common.add_to(line, "the folder to write (required)");
  if (!line.parse()) return;
  if (common.out.empty() || common.out == "-")
    line.fail("there is no folder to write; give --out DIR");
  if (!overwrite) require_unused_folder(common.out);
  if (sae::is_transcoder_folder(from)) return convert_transcoders(line, common, from, stored);
  namespace fs = std::filesystem;
  // The weights of a SAELens folder stand for the folder.
  const fs::path given(from), parent = given.parent_path().empty() ? "." : given.parent_path();
  const bool inside = fs::is_regular_file(given) && given.filename() == "sae_weights.safetensors" &&
                      sae::is_saelens_folder(parent);
  const std::string folder = inside ? parent.string() : from;
  const bool other = fs::exists(folder) && !sae::is_saelens_folder(folder);
  if (!other && k > 0) line.fail("--k is for files that do not say it; this folder has a cfg.json");
  sae::Sae sae = other ? sae::import_weights(folder, k, "--k") : load_sae(folder, common.model);
  if (!hook.empty()) sae.config.hook_name = hook;
  if (!hook_out.empty()) {
    if (!sae.config.transcoder) line.fail("--hook-name-out is of a transcoder, and this is an SAE");
    sae.config.hook_name_out = hook_out;
  }
  if (fold) sae = sae::fold_decoder_norm(sae);
  sae::save(sae, common.out, float_type(stored));
  const sae::SaeConfig& c = sae.config;
  if (common.json()) {
    return write_stdout(to_line({{"meta", common.meta(line)},
                                 {"folder", json_text(common.out)},
                                 {"architecture", sae::name_of(c.architecture)},
                                 {"transcoder", c.transcoder},
                                 {"d_in", c.d_in},
                                 {"d_sae", c.d_sae},
                                 {"hook_name", c.hook_name},
                                 {"k", c.k > 0 ? Json(c.k) : Json()}}));
  }
  write_stdout(fmt::format("{}: {}{}, {} inputs, {} features{}\n", visible(common.out),
                           sae::name_of(c.architecture), c.transcoder ? " transcoder" : "", c.d_in,
                           grouped(c.d_sae), c.hook_name.empty() ? "" : ", of " + c.hook_name));
}

}  // namespace vitrine::app
