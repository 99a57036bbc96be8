#include "apps/reports/measured_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "apps/options/options.h"
#include "apps/terminal/progress.h"

namespace vitrine::app {
namespace {

constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();

bool are_single(const std::vector<nn::Tokens>& answers) {
  for (const nn::Tokens& a : answers) {
    if (a.size() != 1) return false;
  }
  return !answers.empty();
}

// Whether the prompt has what the metric reads.
bool has_what_it_reads(const interp::Example& e, const std::string& metric) {
  if (metric == "loss") return e.prompt.size() > 1;
  if (metric == "prob" || metric == "log_prob")
    return are_single(e.answers) || e.answers.size() == 1;
  return are_single(e.answers) && (metric != "logit_diff" || are_single(e.wrongs));
}

bool is_share(std::string_view metric) { return metric == "prob" || metric == "accuracy"; }

std::string number_text(double x, bool is_fraction) {
  if (std::isnan(x)) return "-";
  return is_fraction ? percent(x) : fmt::format("{:.3f}", x);
}

// Answers as texts: " Austin" or " Dallas", " New York" of several tokens.
std::string answers_text(const nn::Model& model, const std::vector<nn::Tokens>& answers) {
  std::string text;
  for (const nn::Tokens& a : answers) {
    std::string one;
    for (const int id : a) one += (one.empty() ? "" : " ") + token_label(tokenizer_of(model), id);
    text += (text.empty() ? "" : " or ") + one;
  }
  return text.empty() ? "-" : text;
}

MeasuredPrompts measured_in(const nn::Model& model, const std::vector<interp::Example>& examples,
                            const std::vector<std::string>& where_possible,
                            const std::vector<interp::MetricSpec>& specs, const nn::Model* clean,
                            const std::atomic<bool>& cancel, bool quiet) {
  const std::size_t count = examples.size();
  MeasuredPrompts m{{}, std::vector<int>(count), std::vector<double>(count)};
  std::vector<interp::MetricSpec> all;
  for (const std::string& name : where_possible) all.push_back(interp::parse_metric(name));
  all.insert(all.end(), specs.begin(), specs.end());
  // Prompts of which the same metrics can be measured are run together.
  std::map<std::vector<bool>, std::vector<std::size_t>> by_possible;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<bool> possible;
    for (const std::string& name : where_possible)
      possible.push_back(has_what_it_reads(examples[i], name));
    possible.resize(all.size(), true);
    by_possible[possible].push_back(i);
  }
  for (const interp::MetricSpec& s : all)
    m.quantities.push_back({s.text, std::vector<double>(count, kNotMeasured), is_share(s.text)});

  Progress progress("measuring", "prompts", quiet);
  std::size_t done = 0;
  for (const auto& [possible, members] : by_possible) {
    std::vector<std::size_t> which;
    std::vector<interp::MetricSpec> measured;
    for (std::size_t s = 0; s < all.size(); ++s) {
      if (!possible[s]) continue;
      which.push_back(s);
      measured.push_back(all[s]);
    }
    std::vector<interp::Example> part;
    for (const std::size_t i : members) part.push_back(examples[i]);
    interp::MeasureOptions options;
    options.clean = clean;
    options.cancel = &cancel;
    options.progress = [&](int some, int of) {
      progress.update(static_cast<double>(done) + static_cast<double>(members.size()) * some / of,
                      static_cast<double>(count));
    };
    const interp::Measurement found = interp::measure(model, part, measured, options);
    for (std::size_t i = 0; i < members.size(); ++i) {
      for (std::size_t s = 0; s < which.size(); ++s)
        m.quantities[which[s]].values[members[i]] = found.values[s][i];
      m.top[members[i]] = found.top[i];
      m.top_probability[members[i]] = found.top_probability[i];
    }
    done += members.size();
  }
  // What no prompt has is left out.
  std::erase_if(m.quantities, [](const Quantity& q) {
    return std::all_of(q.values.begin(), q.values.end(), [](double x) { return std::isnan(x); });
  });
  return m;
}

void add_changes(MeasuredPrompts& edited, const MeasuredPrompts& plain) {
  std::vector<Quantity> changes;
  for (std::size_t q = 0; q < edited.quantities.size(); ++q) {
    Quantity change = edited.quantities[q];
    change.name += "_change";
    for (std::size_t i = 0; i < change.values.size(); ++i)
      change.values[i] -= plain.quantities[q].values[i];
    changes.push_back(std::move(change));
  }
  edited.quantities.insert(edited.quantities.end(), changes.begin(), changes.end());
}

}  // namespace

MeasuredPrompts measured_prompts(const nn::Model& model,
                                 const std::vector<interp::Example>& examples,
                                 const std::vector<std::string>& where_possible,
                                 const std::vector<interp::MetricSpec>& specs,
                                 const nn::Model* plain, const std::atomic<bool>& cancel,
                                 bool quiet) {
  const auto of = [&](const nn::Model& one) {
    return measured_in(one, examples, where_possible, specs, plain, cancel, quiet);
  };
  MeasuredPrompts measured = of(model);
  if (plain != nullptr) add_changes(measured, of(*plain));
  return measured;
}

std::string MeasuredReport::text(const Style& style) const {
  using Align = Table::Align;
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  std::string text = prompts_text(examples) + "\n\n" +
                     GroupReport{groups, measured.quantities, group_by}.text(style);
  if (!each) return text + "\n--each lists the prompts; --format json has all of each\n";
  std::vector<Table::Column> columns = {{"line", Align::right},
                                        {"prompt", Align::left},
                                        {"answer", Align::left},
                                        {"most probable", Align::left},
                                        {"probability", Align::right}};
  for (const Quantity& q : measured.quantities) columns.push_back({q.name, Align::right});
  Table table(columns);
  constexpr std::ptrdiff_t kShown = 8;  // tokens of a prompt
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const nn::Tokens& prompt = examples[i].prompt;
    const bool cut = std::ssize(prompt) > kShown;
    const nn::Tokens end(cut ? prompt.end() - kShown : prompt.begin(), prompt.end());
    std::vector<std::string> cells = {
        fmt::format("{}", examples[i].line), (cut ? "…" : "") + one_line(tokenizer, end),
        answers_text(model, examples[i].answers), token_label(tokenizer, measured.top[i]),
        percent(measured.top_probability[i])};
    for (const Quantity& q : measured.quantities)
      cells.push_back(number_text(q.values[i], q.is_fraction));
    table.row(std::move(cells));
  }
  return text + "\n" + table.text(style);
}

Json MeasuredReport::json() const {
  Json json = {{"metrics", Json::list()}};
  for (const Quantity& q : measured.quantities) json["metrics"].push_back(q.name);
  json.update(GroupReport{groups, measured.quantities, group_by}.json());
  json["prompts"] = Json::list();
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const interp::Example& e = examples[i];
    Json top = token_json(model, measured.top[i]);
    top["prob"] = measured.top_probability[i];
    Json one = example_json(model, e);
    one["answers"] = e.answers;
    one["wrongs"] = e.wrongs;
    one["top"] = top;
    for (const Quantity& q : measured.quantities)
      one[q.name] = std::isnan(q.values[i]) ? Json() : Json(q.values[i]);
    json["prompts"].push_back(one);
  }
  return json;
}

}  // namespace vitrine::app
