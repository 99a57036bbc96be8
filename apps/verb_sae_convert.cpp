// vitrine sae convert: SAELens folders, from other libraries' files or changed.
#include <fmt/format.h>

#include "apps/sae_options.h"
#include "apps/verbs.h"

namespace vitrine::app {

void verb_sae_convert(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Reads an SAE and writes it as a SAELens folder, which SAELens's SAE.load_from_disk reads. "
      "A\n"
      "folder with cfg.json is SAELens's; other files are told by the names of their tensors:\n"
      "dictionary_learning, OpenAI, sparsify. Pickles are never read.\n\n"
      "json: {meta, folder, architecture, d_in, d_sae, hook_name, k}\n",
      "vitrine sae convert --from blocks.4.hook_mlp_out --fold-decoder-norm --out converted");
  CommonOptions common;
  std::string from, hook, stored = "f32";
  std::int64_t k = 0;
  bool fold = false;
  line.option("--from", from, "PATH",
              "a folder or a safetensors file, or the name of an SAE that came with the model")
      ->required();
  line.number("--k", k, "K", "other libraries' files: the SAE is topk, with this k",
              std::int64_t{1}, std::int64_t{1} << 40);
  line.option("--hook-name", hook, "SITE", "the site that it was trained at, where it is not said");
  line.option("--store", stored, "TYPE", "how weights are held: f32 (default), f16 or bf16")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}));
  line.flag("--fold-decoder-norm", fold, "decoder rows get norm 1, features their true size");
  common.add_to(line, "the folder to write (required)");
  if (!line.parse()) return;
  if (common.out.empty() || common.out == "-")
    line.fail("there is no folder to write; give --out DIR");
  namespace fs = std::filesystem;
  const bool other =
      fs::exists(from) && !(fs::is_directory(from) && fs::exists(fs::path(from) / "cfg.json"));
  if (!other && k > 0) line.fail("--k is for files that do not say it; this folder has a cfg.json");
  sae::Sae sae = other ? sae::import_weights(from, k) : load_sae(from, common.model);
  if (!hook.empty()) sae.config.hook_name = hook;
  if (fold) sae = sae::fold_decoder_norm(sae);
  sae::save(sae, common.out,
            stored == "f16"    ? DType::f16
            : stored == "bf16" ? DType::bf16
                               : DType::f32);
  const sae::Config& c = sae.config;
  if (common.json()) {
    return write_stdout(to_line({{"meta", common.meta(line)},
                                 {"folder", json_text(common.out)},
                                 {"architecture", sae::name_of(c.architecture)},
                                 {"d_in", c.d_in},
                                 {"d_sae", c.d_sae},
                                 {"hook_name", c.hook_name},
                                 {"k", c.k > 0 ? Json(c.k) : Json()}}));
  }
  write_stdout(fmt::format("{}: {}, {} inputs, {} features{}\n", visible(common.out),
                           sae::name_of(c.architecture), c.d_in, grouped(c.d_sae),
                           c.hook_name.empty() ? "" : ", of " + c.hook_name));
}

}  // namespace vitrine::app
