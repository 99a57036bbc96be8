#include "apps/tour/guide.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <numeric>

#include "apps/drawings/formula.h"
#include "apps/options/sae_options.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

void run_verb(const std::vector<std::string>& words) {
  for (const Verb& verb : verbs())
    if (words[0] == verb.name) return verb.run({words[0], {words.begin() + 1, words.end()}});
  throw std::logic_error("there is no verb " + words[0]);
}

}  // namespace

Guide::Guide(std::string model, KnownFact fact, std::filesystem::path folder, int threads)
    : model_(std::move(model)),
      fact_(std::move(fact)),
      folder_(std::move(folder)),
      threads_(threads) {
  const JsonReader config = ask_aside({"info"}).at("config");
  layers_ = static_cast<int>(config.at("layers").whole());
  heads_ = static_cast<int>(config.at("heads").whole());
}

std::vector<std::string> Guide::with_model(const std::vector<std::string>& words) const {
  std::vector<std::string> all = words;
  if (words[0] == "doctor") all.insert(all.end(), {"--model", model_.empty() ? "default" : model_});
  else if (!model_.empty()) all.insert(all.end(), {"--model", model_});
  return all;
}

JsonReader Guide::answer(const std::vector<std::string>& words, const std::string& out) {
  std::vector<std::string> all = words;
  all.insert(all.end(), {"--out", out, "--format", "json", "--quiet"});
  if (threads_ > 0) all.insert(all.end(), {"--threads", std::to_string(threads_)});
  try {
    run_verb(all);
  } catch (const NumericError&) {
    if (words[0] != "doctor") throw;  // which has written what it found
  }
  return JsonReader::object(read_text(out), "the answer of vitrine " + words[0]);
}

JsonReader Guide::ask(TourStep& step, const std::vector<std::string>& words,
                      const std::string& kept) {
  const auto all = with_model(words);
  step.commands.push_back("vitrine " + shell_text(all) +
                          (kept.empty() ? "" : " --out " + shell_text({kept})));
  return answer(all, kept.empty() ? file("answer.json") : kept);
}

JsonReader Guide::ask_aside(const std::vector<std::string>& words) {
  return answer(with_model(words), file("answer.json"));
}

std::string Guide::make(TourStep& step, const std::vector<std::string>& words,
                        std::string_view name) {
  auto all = with_model(words);
  all.insert(all.end(), {"--out", file(name)});
  step.commands.push_back("vitrine " + shell_text(all));
  all.emplace_back("--quiet");
  run_verb(all);
  return file(name);
}

void Guide::add_sae(const std::string& folder) {
  const std::string site = load_sae(folder, model_).config.hook_name;
  saes_.push_back({folder, site, std::max(0, layer_of_site(site))});
  std::sort(saes_.begin(), saes_.end(),
            [](const Sae& a, const Sae& b) { return a.layer < b.layer; });
}

int Guide::middle_layer() const { return saes_.empty() ? layers_ / 2 : saes_.back().layer; }

// ---- words for numbers --------------------------------------------------------------------------
std::string quoted_token(std::string_view token) { return fmt::format("\"{}\"", token); }

std::vector<std::size_t> largest(const std::vector<double>& values, std::size_t most) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return values[a] > values[b]; });
  order.resize(std::min(most, order.size()));
  return order;
}

std::vector<double> numbers(const JsonReader& list) {
  std::vector<double> all;
  for (const JsonReader& item : list.list()) all.push_back(item.number_or(0));
  return all;
}

double mean_of(const std::vector<double>& values) {
  return values.empty() ? 0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

}  // namespace vitrine::app
