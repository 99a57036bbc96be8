// vitrine sae eval: how well an SAE reconstructs, and what its reconstruction does to the model.
#include <fmt/format.h>

#include <cmath>

#include "apps/experiment/edit_options.h"
#include "apps/options/sae_options.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "sae/evaluation.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

Json number(double x) { return std::isfinite(x) ? Json(x) : Json(); }

Json as_json(const sae::Reconstruction& r) {
  return {{"rows", r.rows},
          {"l0", r.l0},
          {"l1", r.l1},
          {"mse", r.mse},
          {"explained_variance", number(r.explained_variance)},
          {"explained_variance_legacy", number(r.explained_variance_legacy)},
          {"cosine", r.cosine},
          {"norm_ratio", r.norm_ratio},
          {"dead_fraction", r.dead},
          {"density_histogram", r.density_histogram()}};
}
Json as_json(const sae::Fidelity& f) {
  return {{"predictions", f.predictions},
          {"ce_clean", f.ce_clean},
          {"ce_sae", f.ce_sae},
          {"ce_zero", f.ce_zero},
          {"ce_mean", f.ce_mean},
          {"ce_resample", f.ce_resample},
          {"ce_score_zero", number(f.score(f.ce_zero))},
          {"ce_score_mean", number(f.score(f.ce_mean))},
          {"ce_score_resample", number(f.score(f.ce_resample))},
          {"kl", f.kl}};
}

// A number with four places; "none" for a ratio that has no value.
std::string places(double x) { return std::isfinite(x) ? fmt::format("{:.4f}", x) : "none"; }

std::string as_text(const sae::Sae& sae, const sae::Evaluation& e, const Style& style) {
  const sae::Reconstruction& r = e.reconstruction;
  const auto line = [&](const char* name, const std::string& value, const char* what) {
    return fmt::format("  {:<22}{:>12}   {}\n", name, value, style.dim(what));
  };
  std::string text = fmt::format(
      "{}: {}, {} features{}; {} rows\n\n", style.bold(visible(sae.name)),
      sae::name_of(sae.config.architecture), grouped(sae.config.d_sae),
      sae.config.hook_name.empty() ? "" : " of " + sae.config.hook_name, grouped(r.rows));
  text += line("L0", fmt::format("{:.2f}", r.l0), "active features of a row");
  text += line("L1", fmt::format("{:.4g}", r.l1), "sum of a row's features");
  text += line("MSE", fmt::format("{:.4g}", r.mse), "|x - x'|^2, summed over the width");
  text += line("explained variance", places(r.explained_variance),
               std::isfinite(r.explained_variance) ? "1 - E|x - x'|^2 / (E|x|^2 - |E x|^2)"
                                                   : "the rows are all alike: nothing varies");
  text += line("  legacy", places(r.explained_variance_legacy),
               "mean of 1 - |x - x'|^2 / |x - batch mean|^2");
  text += line("cosine", fmt::format("{:.4f}", r.cosine), "of x and x'");
  text += line("norm ratio", fmt::format("{:.4f}", r.norm_ratio), "|x'| / |x|");
  text += line("dead", percent(r.dead), "features that never fired here");
  if (e.fidelity) {
    const sae::Fidelity& f = *e.fidelity;
    text += fmt::format("\n  cross-entropy in nats, {} predictions\n", grouped(f.predictions));
    text += line("CE clean", fmt::format("{:.4f}", f.ce_clean), "the model as it is");
    text += line("CE with the SAE", fmt::format("{:.4f}", f.ce_sae), "x' in place of x");
    text += line("CE zero", fmt::format("{:.4f}", f.ce_zero),
                 fmt::format("0 in place of x: score {}", places(f.score(f.ce_zero))).c_str());
    text += line("CE mean", fmt::format("{:.4f}", f.ce_mean),
                 fmt::format("the mean of x: score {}", places(f.score(f.ce_mean))).c_str());
    text += line("CE resample", fmt::format("{:.4f}", f.ce_resample),
                 fmt::format("another row's x: score {}", places(f.score(f.ce_resample))).c_str());
    text += line("KL", fmt::format("{:.4f}", f.kl), "KL(clean || with the SAE), nats a token");
    text += style.dim("  score = (CE ablated - CE with the SAE) / (CE ablated - CE clean)\n");
  }
  text += "\n  feature density\n";
  const auto histogram = r.density_histogram();
  const auto most =
      std::max<std::int64_t>(1, *std::max_element(histogram.begin(), histogram.end()));
  for (std::size_t i = 0; i < histogram.size(); ++i) {
    if (histogram[i] == 0) continue;
    text += fmt::format(
        "  1e{:<4} to 1e{:<4}{:>8}   {}\n", static_cast<int>(i) - 10, static_cast<int>(i) - 9,
        grouped(histogram[i]),
        style.bar(bar(static_cast<double>(histogram[i]) / static_cast<double>(most), 30)));
  }
  return text;
}

}  // namespace

void verb_sae_eval(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "How well an SAE reconstructs a model's activations over a text, and what that does to the\n"
      "model's predictions. Every number has its formula beside it, because libraries give one "
      "name\n"
      "to different ones. With --activations, reconstruction alone.\n\n"
      "json: {meta, sae, site, reconstruction: {rows, l0, l1, mse, explained_variance,\n"
      "explained_variance_legacy, cosine, norm_ratio, dead_fraction, density_histogram}, model:\n"
      "{predictions, ce_clean, ce_sae, ce_zero, ce_mean, ce_resample, ce_score_zero,\n"
      "ce_score_mean, ce_score_resample, kl}}; density_histogram counts features by log10 of "
      "their\n"
      "density, [-10, -9) to [-1, 0]; model is null with --activations, and where no token is "
      "predicted; ratios\n"
      "that have no value are null\n",
      "vitrine sae eval --sae blocks.4.hook_mlp_out --data /usr/share/common-licenses/GPL-3 "
      "--rows 5000");
  CommonOptions common;
  EditOptions edits;
  ActivationOptions activations;
  std::string name;
  sae::EvaluationSpec spec;
  line.option("--sae", name, "DIR", "a SAELens folder, or the name of one that came with the model")
      ->required();
  line.number("--rows", spec.rows, "N", "at least, as far as there are (default: 100000)",
              std::int64_t{1}, std::int64_t{1} << 40);
  activations.add_to(line, "Activations");
  edits.add_to(line, common, false);
  common.add_to(line);
  if (!line.parse()) return;
  activations.require(line);
  const sae::Sae sae = load_sae(name, common.model);
  const Interruptible interruptible;
  Progress progress("evaluating", "rows", common.quiet);
  spec.cancel = &interruptible.requested();
  spec.progress = [&](std::int64_t done, std::int64_t total) {
    progress.update(static_cast<double>(done), static_cast<double>(total));
  };
  sae::Evaluation found;
  if (activations.from_files()) {
    ThreadPool pool(common.threads);
    const sae::SaeConfig& c = sae.config;
    const auto source =
        sae::file_source(activations.patterns(), activations.tensors(),
                         {.widths = {c.d_in, c.d_out}, .matrices = c.head.has_value()});
    try {
      found.reconstruction = sae::evaluate(sae, *source, pool, spec);
    } catch (const ShapeError& error) {  // the files are another SAE's
      throw FileError(error.what());
    }
  } else {
    const nn::Model model = common.load();
    require_fits(sae, model);
    note_its_model(sae, activations.prepends_bos(), common.gauge);
    note_bare_lines(model, activations.prepends_bos(), common.quiet);
    found = sae::evaluate(model, sae, activations.spec(model, {}, common.seed), spec);
    if (!found.fidelity)
      log("note: no token of these texts is predicted, as pieces have one token each, so nothing "
          "is "
          "said of the model's predictions; a larger --context or --prepend-bos makes some");
  }
  write_presentation(common, common.meta(line),
                     {.text = [&](const Style& style, int) { return as_text(sae, found, style); },
                      .json = [&]() -> Json {
                        return {{"sae", json_text(sae.name)},
                                {"site", sae.config.hook_name},
                                {"reconstruction", as_json(found.reconstruction)},
                                {"model", found.fidelity ? as_json(*found.fidelity) : Json()}};
                      }});
}

}  // namespace vitrine::app
