// vitrine sae WHAT: sparse autoencoders.
#include <fmt/format.h>

#include "apps/terminal/output.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine::app {
namespace {

constexpr Verb kSaeVerbs[] = {
    {"train", "train SAEs on a model's activations, or on files of them", verb_sae_train},
    {"eval", "how well an SAE reconstructs, and what that does to the model", verb_sae_eval},
    {"features", "what each feature responds to and writes; which are alike", verb_sae_features},
    {"encode", "features and reconstructions of activations in a file", verb_sae_encode},
    {"convert", "SAELens's folders from other libraries' files, and folded", verb_sae_convert},
};

std::string overview() {
  std::string text =
      "Sparse autoencoders: a layer's activations written as few of many features.\n\n"
      "Usage: vitrine sae WHAT [options]\n\n";
  for (const Verb& s : kSaeVerbs) text += fmt::format("  {:<10} {}\n", s.name, s.summary);
  return text +
         "\nAll of them take --model, --format, --out, --threads, --seed, --color and --quiet;\n"
         "'vitrine sae WHAT --help' lists the rest.\n\n"
         "Example:\n"
         "  vitrine sae features --sae blocks.4.hook_mlp_out --prompt 'The capital of Texas is'\n";
}

}  // namespace

std::span<const Verb> sae_verbs() { return kSaeVerbs; }

void verb_sae(const Arguments& arguments) {
  const std::string what = arguments.rest.empty() ? "" : arguments.rest[0];
  if (what == "--help" || what == "-h") return write_stdout(overview());
  std::vector<std::string> names;
  for (const Verb& s : kSaeVerbs) {
    if (what == s.name) {
      return s.run({"sae " + what, {arguments.rest.begin() + 1, arguments.rest.end()}});
    }
    names.emplace_back(s.name);
  }
  throw Error(ErrorKind::usage,
              what.empty() || what.starts_with("-")
                  ? "sae: say what to do: train, eval, features, encode or convert; see 'vitrine "
                    "sae --help'"
                  : fmt::format("there is no 'sae {}'{}; see 'vitrine sae --help'", what,
                                did_you_mean(nearest(what, names, 1))));
}

}  // namespace vitrine::app
