// vitrine sae eval: how well an SAE reconstructs, and what its reconstruction does to the model.
#include <fmt/format.h>

#include <cmath>

#include "apps/experiment/edit_options.h"
#include "apps/options/sae_options.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "sae/set_evaluation.h"
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

Json as_json(const sae::SetEvaluation& e) {
  Json layers = Json::list();
  for (const sae::LayerReconstruction& l : e.layers)
    layers.push_back({{"l0", l.l0},
                      {"mse", l.mse},
                      {"normalised_mse", number(l.normalised_mse)},
                      {"dead_fraction", l.dead}});
  Json model;
  if (e.replacement) {
    const sae::MlpReplacement& r = *e.replacement;
    model = {{"predictions", r.predictions},       {"ce_clean", r.ce_clean},
             {"ce_replaced", r.ce_replaced},       {"ce_zero", r.ce_zero},
             {"ce_score_zero", number(r.score())}, {"kl", r.kl}};
  }
  return {{"rows", e.rows}, {"l0", e.l0()}, {"layers", layers}, {"model", model}};
}

std::string as_text(const sae::TranscoderSet& set, const sae::SetEvaluation& e,
                    const Style& style) {
  std::string text =
      fmt::format("{}: {} transcoders of {} layers, {}, {} features each; {} rows\n\n",
                  style.bold(visible(set.name)), set.cross_layer ? "cross-layer" : "per-layer",
                  set.layers.size(), sae::name_of(set.activation),
                  grouped(set.layers[0].features()), grouped(e.rows));
  text += style.dim("  layer        L0   normalised MSE    dead\n");
  for (std::size_t l = 0; l < e.layers.size(); ++l) {
    const sae::LayerReconstruction& layer = e.layers[l];
    text += fmt::format("  {:<7}{:>8.2f}{:>17}{:>8}\n", l, layer.l0, places(layer.normalised_mse),
                        percent(layer.dead));
  }
  text += fmt::format("  {:<7}{:>8.2f}\n", "all", e.l0());
  text += style.dim("  normalised MSE = E|y - y'|^2 / (E|y|^2 - |E y|^2), y what the MLP gives\n");
  if (!e.replacement) return text;
  const sae::MlpReplacement& r = *e.replacement;
  const auto line = [&](const char* name, double value, const std::string& what) {
    text += fmt::format("  {:<20}{:>10.4f}   {}\n", name, value, style.dim(what));
  };
  text += fmt::format("\n  cross-entropy in nats, {} predictions\n", grouped(r.predictions));
  line("CE clean", r.ce_clean, "the model as it is");
  line("CE replaced", r.ce_replaced, "every MLP replaced by its transcoder");
  line("CE zero", r.ce_zero, fmt::format("every MLP gives 0: score {}", places(r.score())));
  line("KL", r.kl, "KL(clean || replaced), nats a token");
  text += style.dim("  score = (CE zero - CE replaced) / (CE zero - CE clean)\n");
  return text;
}

struct Options {
  CommonOptions common;
  EditOptions edits;
  ActivationOptions activations;
  std::string sae, transcoders;
  sae::EvaluationSpec spec;
};

void evaluate_sae(const CommandLine& line, const Options& o) {
  const sae::Sae sae = load_sae(o.sae, o.common.model);
  sae::Evaluation found;
  if (o.activations.from_files()) {
    ThreadPool pool(o.common.threads);
    const sae::SaeConfig& c = sae.config;
    const auto source =
        sae::file_source(o.activations.patterns(), o.activations.tensors(),
                         {.widths = {c.d_in, c.d_out}, .matrices = c.head.has_value()});
    try {
      found.reconstruction = sae::evaluate(sae, *source, pool, o.spec);
    } catch (const ShapeError& error) {  // the files are another SAE's
      throw FileError(error.what());
    }
  } else {
    const nn::Model model = o.common.load();
    require_fits(sae, model);
    note_its_model(sae, o.activations.prepends_bos(), o.common.gauge);
    note_bare_lines(model, o.activations.prepends_bos(), o.common.quiet);
    found = sae::evaluate(model, sae, o.activations.spec(model, {}, o.common.seed), o.spec);
    if (!found.fidelity)
      log("note: no token of these texts is predicted, as pieces have one token each, so nothing "
          "is "
          "said of the model's predictions; a larger --context or --prepend-bos makes some");
  }
  write_presentation(o.common, o.common.meta(line),
                     {.text = [&](const Style& style, int) { return as_text(sae, found, style); },
                      .json = [&]() -> Json {
                        return {{"sae", json_text(sae.name)},
                                {"site", sae.config.hook_name},
                                {"reconstruction", as_json(found.reconstruction)},
                                {"model", found.fidelity ? as_json(*found.fidelity) : Json()}};
                      }});
}

void evaluate_set(const CommandLine& line, const Options& o) {
  const sae::TranscoderSet set = load_transcoder_set(o.transcoders, o.common.model);
  const nn::Model model = o.common.load();
  note_bare_lines(model, o.activations.prepends_bos(), o.common.quiet);
  const sae::SetEvaluation all =
      sae::evaluate(model, set, o.activations.spec(model, {}, o.common.seed), o.spec);
  write_presentation(o.common, o.common.meta(line),
                     {.text = [&](const Style& style, int) { return as_text(set, all, style); },
                      .json = [&]() -> Json {
                        Json json = {{"transcoders", json_text(set.name)}};
                        json.update(as_json(all));
                        return json;
                      }});
}

}  // namespace

void verb_sae_eval(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "How well an SAE reconstructs a model's activations over a text, and what that does to "
      "the\n"
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
      "that have no value are null. With --transcoders {meta, transcoders, rows, l0, layers: "
      "[{l0, "
      "mse,\n"
      "normalised_mse, dead_fraction}], model: {predictions, ce_clean, ce_replaced, ce_zero, "
      "ce_score_zero, kl}}\n",
      "vitrine sae eval --sae blocks.4.hook_mlp_out --data /usr/share/common-licenses/GPL-3 "
      "--rows 5000");
  Options o;
  line.option("--sae", o.sae, "DIR",
              "a SAELens folder, or the name of one that came with the model");
  line.option(
      "--transcoders", o.transcoders, "DIR",
      "instead: a transcoder for every MLP, per layer or cross-layer, all put in the place of the\n"
      "MLPs; a folder, or the name of one that came with the model");
  line.number("--rows", o.spec.rows, "N", "at least, as far as there are (default: 100000)",
              std::int64_t{1}, std::int64_t{1} << 40);
  o.activations.add_to(line, "Activations");
  o.edits.add_to(line, o.common, false);
  o.common.add_to(line);
  if (!line.parse()) return;
  o.activations.require(line);
  if (o.sae.empty() == o.transcoders.empty())
    line.fail("give --sae DIR or --transcoders DIR, one of the two");
  if (!o.transcoders.empty() && o.activations.from_files())
    line.fail("--transcoders are evaluated in the model; give --data FILE");
  const Interruptible interruptible;
  Progress progress("evaluating", "rows", o.common.quiet);
  o.spec.cancel = &interruptible.requested();
  o.spec.progress = [&](std::int64_t done, std::int64_t total) {
    progress.update(static_cast<double>(done), static_cast<double>(total));
  };
  if (o.transcoders.empty()) evaluate_sae(line, o);
  else evaluate_set(line, o);
}

}  // namespace vitrine::app
