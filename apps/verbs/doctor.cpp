// vitrine doctor: does this machine compute right, and as fast as it could? Is a model wired as it
// should be?
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "apps/options/options.h"
#include "apps/verbs/verbs.h"
#include "autograd/diagnose/planted.h"
#include "nn/training/model_diagnosis.h"
#include "tensor/error.h"
#include "tensor/machine/checks.h"
#include "tensor/machine/machine.h"
#include "tensor/machine/rates.h"

namespace vitrine::app {
namespace {

struct Findings {
  bool of_machine = true;  // or of the model alone
  Machine machine;
  MachineRates rates;
  std::vector<Check> checks;
  std::string model;                   // its name
  std::optional<Diagnosis> diagnosis;  // of the model, where one was asked about

  std::vector<std::string> with(Check::Status status) const {
    std::vector<std::string> names;
    for (const Check& check : checks) {
      if (check.status == status) names.push_back(check.name);
    }
    return names;
  }
  // Those that failed, of the machine and of the model.
  std::vector<std::string> failed() const {
    std::vector<std::string> names = with(Check::Status::failed);
    if (!diagnosis) return names;
    for (const Finding& f : diagnosis->problems())
      if (std::find(names.begin(), names.end(), f.check) == names.end()) names.push_back(f.check);
    return names;
  }
  std::size_t count() const { return checks.size() + (diagnosis ? diagnosis->findings.size() : 0); }
};

// Weights that are not finite are refused when they are loaded: that is a finding, too.
Diagnosis diagnosis_of(const CommonOptions& common, bool untrained, int shift_masks) {
  try {
    nn::Model model = common.load();
    if (shift_masks != 0) {
      model.transform(
          [shift_masks](const Graph& graph) { return with_masks_shifted(graph, shift_masks); });
    }
    return nn::diagnose(model, {.untrained = untrained, .seed = common.seed});
  } catch (const NumericError& error) {
    return {{{.severity = Finding::Severity::problem,
              .check = "nan",
              .what = error.what(),
              .remedy = "use a checkpoint from before they appeared",
              .how = "values"}}};
  }
}

// What to do, with the commands for it where a library cannot know them.
std::string remedy_of(const Check& check) {
  if (check.name != "build" || check.remedy.empty()) return check.remedy;
  return check.remedy + ": cmake --preset release && cmake --build --preset release";
}

// ---- as JSON ------------------------------------------------------------------------------------
Json machine_json(const Machine& m) {
  Json json = {{"processor", json_text(m.processor.name)},
               {"features", m.processor.features},
               {"threads", m.threads}};
  json["logical_cores"] = m.logical_cores;
  json["physical_cores"] = m.physical_cores > 0 ? Json(m.physical_cores) : Json();
  json["cpu_quota"] = m.cpu_quota > 0 ? Json(m.cpu_quota) : Json();
  json["memory_bytes"] = m.memory_bytes;
  json["simd_target"] = m.simd_target;
  json["product_block"] = {{"rows", m.product_block.rows}, {"columns", m.product_block.columns}};
  json["gemm"] = name_of(m.gemm);
  json["openblas"] = json_text(m.openblas);
  json["optimised"] = m.optimised;
  return json;
}

Json rates_json(const MachineRates& rates) {
  const bool own = rates.gemm == GemmProvider::own;
  Json products = Json::list();
  for (const ProductRate& p : rates.products) {
    products.push_back({{"m", p.m},
                        {"n", p.n},
                        {"k", p.k},
                        {"what", p.what},
                        {"seconds", p.seconds},
                        {"gflops", p.gflops()},
                        {"own_gflops", own ? p.gflops() : p.other_gflops()},
                        {"openblas_gflops", own ? p.other_gflops() : p.gflops()},
                        {"gigabytes_per_second", p.gigabytes_per_second()},
                        {"bound_by", p.bound_by_memory() ? "memory" : "peak"},
                        {"fraction", rates.fraction(p)},
                        {"error", p.error},
                        {"error_bound", product_error_bound(p.k)},
                        {"same_bits", p.same_bits}});
  }
  return {{"peak_gflops", rates.peak_gflops()},
          {"other_cpus", rates.other_cpus},
          {"memory_gigabytes_per_second", rates.memory_gigabytes_per_second},
          {"products", products}};
}

Json model_json(const Findings& f) {
  Json checks = Json::list();
  const auto or_null = [](const std::string& text) {
    return text.empty() ? Json() : Json(json_text(text));
  };
  for (const Finding& finding : f.diagnosis->findings) {
    checks.push_back({{"check", finding.check},
                      {"status", name_of(finding.severity)},
                      {"what", json_text(finding.what)},
                      {"where", or_null(finding.where)},
                      {"how", or_null(finding.how)},
                      {"remedy", or_null(finding.remedy)}});
  }
  return {{"name", json_text(f.model)}, {"checks", checks}};
}

Json as_json(const Findings& f) {
  Json checks = Json::list();
  for (const Check& check : f.checks) {
    checks.push_back(
        {{"name", check.name},
         {"status", name_of(check.status)},
         {"finding", json_text(check.finding)},
         {"remedy", check.remedy.empty() ? Json() : Json(json_text(remedy_of(check)))}});
  }
  return {{"machine", f.of_machine ? machine_json(f.machine) : Json()},
          {"rates", f.of_machine ? rates_json(f.rates) : Json()},
          {"checks", checks},
          {"model", f.diagnosis ? model_json(f) : Json()}};
}

// ---- as text ------------------------------------------------------------------------------------
std::string counted(std::int64_t n, const char* noun) {
  return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
}

std::string cores_text(const Machine& m) {
  std::string text = counted(m.threads, "thread");
  if (m.logical_cores > 0) text += fmt::format(" on {}", counted(m.logical_cores, "CPU"));
  if (m.physical_cores > 0 && m.physical_cores < m.logical_cores) {
    text += fmt::format(" of {}", counted(m.physical_cores, "core"));
  }
  return m.cpu_quota > 0 ? fmt::format("{}, limited to {:.1f}", text, m.cpu_quota) : text;
}

std::string machine_text(const Machine& m, const Style& style) {
  Table table({{}, {}});
  const auto line = [&](const char* name, const std::string& value) {
    table.row({fmt::format("  {}", name), value.empty() ? "unknown" : value});
  };
  line("processor", visible(m.processor.name));
  line("", cores_text(m));
  line("features", fmt::format("{}", fmt::join(m.processor.features, " ")));
  line("memory", m.memory_bytes > 0 ? byte_size(m.memory_bytes) : "");
  line("own loops", fmt::format("{} (Highway's name)", m.simd_target));
  const std::string own = fmt::format("own kernels, {}, blocks of {} x {}", m.simd_target,
                                      m.product_block.rows, m.product_block.columns);
  if (m.gemm == GemmProvider::own) {
    line("products", own);
    line("", fmt::format("VITRINE_GEMM=openblas would use {}", visible(m.openblas)));
  } else {
    line("products", visible(m.openblas) + ", as VITRINE_GEMM says: bits may depend on threads");
    line("", "without it: " + own);
  }
  return style.bold("this machine") + "\n" + table.text(style);
}

std::string rates_text(const MachineRates& rates, const Style& style) {
  Table limits({{}, {}, {}});
  limits.row({"  multiply-adds in registers", fmt::format("{:.1f} GFLOP/s", rates.peak_gflops()),
              fmt::format("f32, {}: the peak", counted(rates.threads, "thread"))});
  limits.row({"  reading memory", fmt::format("{:.1f} GB/s", rates.memory_gigabytes_per_second),
              counted(rates.threads, "thread")});
  std::string text = style.bold("what it can do at most") + "\n" + limits.text(style);

  Table table(
      {{"  m x n x k"},
       {"such as"},
       {"rate", Table::Align::right},
       {"reached", Table::Align::right},
       {},
       {rates.gemm == GemmProvider::own ? "OpenBLAS" : "own kernels", Table::Align::right}});
  for (const ProductRate& p : rates.products) {
    const double fraction = rates.fraction(p);
    const std::string rate = p.bound_by_memory()
                                 ? fmt::format("{:.1f} GB/s   ", p.gigabytes_per_second())
                                 : fmt::format("{:.1f} GFLOP/s", p.gflops());
    const double other = p.seconds / p.other_seconds;
    table.row({fmt::format("  {} x {} x {}", p.m, p.n, p.k), p.what, rate,
               fmt::format("{:.0f}%", 100 * fraction), style.bar(bar(fraction, 20)),
               fmt::format("{:.0f}%", 100 * fraction * other)});
  }
  return text + "\n" + style.bold("what matrix products do") + "\n" + table.text(style);
}

std::string status_text(Check::Status status, const Style& style) {
  const std::string_view name = name_of(status);
  switch (status) {
    case Check::Status::ok:
      return style.strong(name);
    case Check::Status::warning:
      return style.warning(name);
    case Check::Status::failed:
      return style.failure(name);
  }
  return "";
}

std::string checks_text(const Findings& f, const Style& style) {
  Table table({{}, {}, {}});
  for (const Check& check : f.checks) {
    std::string name = check.name;
    std::replace(name.begin(), name.end(), '_', ' ');
    table.row({"  " + status_text(check.status, style), name, visible(check.finding)});
    if (!check.remedy.empty()) table.row({"", "", style.bold("→ " + visible(remedy_of(check)))});
  }
  return style.bold("checks") + "\n" + table.text(style);
}

std::string severity_text(Finding::Severity severity, const Style& style) {
  const std::string_view name = name_of(severity);
  switch (severity) {
    case Finding::Severity::ok:
      return style.strong(name);
    case Finding::Severity::note:
      return style.warning(name);
    case Finding::Severity::problem:
      return style.failure(name);
  }
  return "";
}

std::string model_text(const Findings& f, const Style& style) {
  if (!f.diagnosis) return "";
  Table table({{}, {}, {}});
  for (const Finding& finding : f.diagnosis->findings) {
    std::string name = finding.check;
    std::replace(name.begin(), name.end(), '_', ' ');
    table.row({"  " + severity_text(finding.severity, style), name, visible(finding.what)});
    if (!finding.where.empty()) table.row({"", "", "at " + visible(finding.where)});
    if (!finding.remedy.empty()) table.row({"", "", style.bold("→ " + visible(finding.remedy))});
  }
  return style.bold("model " + visible(f.model)) + "\n" + table.text(style) + "\n";
}

std::string verdict(const Findings& f, const Style& style) {
  const auto failed = f.failed(), warnings = f.with(Check::Status::warning);
  constexpr const char* kMore =
      "\n--threads says how many threads; 'vitrine doctor --json' prints all findings, for a "
      "report.";
  if (!failed.empty()) {
    return style.failure(counted(std::ssize(failed), "check") + " failed.") + kMore;
  }
  if (!warnings.empty()) {
    return style.warning(counted(std::ssize(warnings), "warning") +
                         ": results are right, but see above.") +
           kMore;
  }
  return style.strong("All is well.");
}

std::string as_text(const Findings& f, const Style& style) {
  std::string text;
  if (f.of_machine) {
    text = machine_text(f.machine, style) + "\n" + rates_text(f.rates, style) + "\n" +
           checks_text(f, style) + "\n";
  }
  return text + model_text(f, style) + verdict(f, style) + "\n";
}

}  // namespace

void verb_doctor(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Checks this machine: what it can do at most, how near matrix products come to\n"
      "that, and whether they are right and the same for any number of threads. The\n"
      "exit code is 4 when a check failed; a warning is about speed.\n\n"
      "With --model it checks that model, too: causality proved from the graph and confirmed\n"
      "by gradients (a wrong mask is named at the line that made it), NaN, dead and exploding\n"
      "units, the loss beside ln(vocabulary), tied weights, and gradients against finite\n"
      "differences. It is run on tokens drawn by --seed. A note is worth knowing; a problem is\n"
      "a check that failed. --shift-masks 1 shows what it says of a mask that is off by one.\n\n"
      "Products are timed by Vitrine's own kernels and by OpenBLAS. VITRINE_GEMM=openblas in\n"
      "the environment makes every verb use OpenBLAS (the default is own); bits may then\n"
      "depend on the number of threads.\n\n"
      "json: {meta, machine, rates: {peak_gflops, other_cpus,\n"
      "memory_gigabytes_per_second, products}, checks: [{name, status, finding, remedy}],\n"
      "model: {name, checks: [{check, status, what, where, how, remedy}]}}; model is null without\n"
      "--model, machine and rates with --model-alone\n",
      "vitrine doctor --quick");
  CommonOptions common;
  bool quick = false, json = false, untrained = false, model_alone = false;
  int shift_masks = 0;
  line.flag("--quick", quick, "shorter measurements, which wander more");
  line.flag("--json", json, "short for --format json");
  const Option* model =
      line.option("--model", common.model, "MODEL",
                  "check this model, too: a HuggingFace folder, FILE.gguf, a name as for other\n"
                  "verbs; 'default' is the model that ships with Vitrine");
  line.flag("--untrained", untrained,
            "its weights are initial ones: the loss must be near ln(vocabulary)");
  line.flag("--model-alone", model_alone, "the model, and not the machine");
  line.number("--shift-masks", shift_masks, "N",
              "plant a fault in the model first: its causal masks let each token see N tokens\n"
              "more (1: the one that it is to predict), or fewer (-1: not itself)",
              -1000, 1000);
  common.add_without_model_to(line);
  if (!line.parse()) return;
  const bool asked = model->count() > 0;
  for (const char* option : {"--model-alone", "--shift-masks"}) {
    if (line.was_given(option) && !asked)
      line.fail(fmt::format("{} is about the model: give --model", option));
  }
  if (untrained && !asked) line.fail("--untrained is about the model: give --model");
  if (common.model == "default") common.model.clear();
  check_folder_of(common.out);

  Findings findings;
  if (asked) {  // first: what is wrong with its files is said before anything is measured
    findings.model = common.model_name();
    findings.diagnosis = diagnosis_of(common, untrained, shift_masks);
  }
  findings.of_machine = !model_alone;
  if (!model_alone) {
    ThreadPool pool(common.threads);
    findings.machine = describe_machine(pool);
    findings.rates =
        measure_machine(pool, findings.machine, quick ? Effort::quick : Effort::thorough);
    findings.checks = check_machine(findings.machine, findings.rates);
  }
  if (json || common.json()) {
    Json result = {{"meta", common.meta(line)}};
    if (!asked) result["meta"]["model"] = nullptr;
    result.update(as_json(findings));
    write_result(common.out, to_line(result));
  } else {
    write_result(common.out, as_text(findings, common.style()));
  }
  const auto failed = findings.failed();
  if (!failed.empty()) {
    throw NumericError(fmt::format("{} of {} checks failed: {}", failed.size(), findings.count(),
                                   fmt::join(failed, ", ")));
  }
}

}  // namespace vitrine::app
