#include <fmt/format.h>
#include <fmt/ranges.h>

#include <span>

#include "apps/options/options.h"
#include "apps/reports/neurons_report.h"
#include "apps/reports/patch_report.h"

namespace vitrine::app {
namespace {

using nn::Peak;
using nn::Window;

std::string introduction(const ContextsReport& r) {
  const interp::Contexts& c = r.found;
  std::string text =
      fmt::format("{}: {} lines, {} tokens", visible(r.file), grouped(c.lines), grouped(c.tokens));
  if (c.long_lines > 0) {
    text += fmt::format("; {} line{} longer than the context, read in pieces",
                        grouped(c.long_lines), c.long_lines == 1 ? "" : "s");
  }
  return text + "\n" + gauge_text(r.model, false);
}

// Calls f(i, row, peaks, windows) for each neuron of the report.
template <class F>
void for_each_neuron(const ContextsReport& r, F f) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    const std::span<const Peak> peaks = r.found.peaks.of(r.rows[i]);
    f(i, r.rows[i], peaks, std::span(r.windows).subspan(begin, peaks.size()));
    begin += peaks.size();
  }
}

Json neuron_json(const ContextsReport& r, std::size_t i, std::int64_t row,
                 std::span<const Peak> peaks, std::span<const Window> windows) {
  const interp::NeuronId id = r.found.id(row);
  const nn::Variety v = nn::variety(peaks, windows);
  const bool words = !r.tokens.empty();
  Json json = {{"layer", id.layer},
               {"neuron", id.index},
               {"mean", r.found.mean(row)},
               {"active", r.found.active(row)},
               {"distinct_tokens", v.tokens},
               {"distinct_predicted", v.predicted},
               {"raised", words ? tokens_json(r.model, r.tokens[i].raised) : Json()},
               {"lowered", words ? tokens_json(r.model, r.tokens[i].lowered) : Json()},
               {"contexts", Json::list()}};
  for (std::size_t k = 0; k < peaks.size(); ++k) {
    const Peak& p = peaks[k];
    const Window& w = windows[k];
    json["contexts"].push_back(
        {{"line", p.line},
         {"pos", p.position},
         {"activation", p.activation},
         {"tokens", w.tokens},
         {"str_tokens",
          r.model.has_tokenizer() ? Json(r.model.tokenizer().shown_tokens(w.tokens)) : Json()},
         {"peak", w.peak},
         {"predicted", {{"id", p.predicted}, {"token", token_text(r.model, p.predicted)}}}});
  }
  return json;
}

}  // namespace

std::string context_text(const nn::Model& model, const Window& w, const Style& style) {
  const auto part = [&](std::size_t begin, std::size_t end) {
    const std::span<const int> ids(w.tokens.data() + begin, end - begin);
    return model.has_tokenizer() ? visible(model.tokenizer().shown_text(ids))
                                 : fmt::format("{}", fmt::join(ids, " "));
  };
  const auto peak = static_cast<std::size_t>(w.peak);
  const std::string token = part(peak, peak + 1), gap = model.has_tokenizer() ? "" : " ";
  return fmt::format("{}{}{}{}{}{}{}", w.from_start ? "" : "…", part(0, peak), peak == 0 ? "" : gap,
                     style.colour ? style.strong(token) : "[" + token + "]",
                     peak + 1 == w.tokens.size() ? "" : gap, part(peak + 1, w.tokens.size()),
                     w.to_end ? "" : "…");
}

std::string ContextsReport::overview(std::string_view order, const Style& style) const {
  using Align = Table::Align;
  const std::int64_t neurons = layer < 0 ? found.neurons() : found.per_layer;
  std::string text = introduction(*this);
  text += fmt::format(
      "{} of {} neurons{}, {}; of each the strongest context and what is predicted there\n\n",
      rows.size(), grouped(neurons), layer < 0 ? "" : fmt::format(" of layer {}", layer), order);
  Table table({{"layer", Align::right},
               {"neuron", Align::right},
               {"peak", Align::right},
               {"mean", Align::right},
               {"active", Align::right},
               {"tokens", Align::right},
               {"context", Align::left},
               {"predicted", Align::left}});
  for_each_neuron(*this, [&](std::size_t, std::int64_t row, std::span<const Peak> peaks,
                             std::span<const Window> around) {
    const interp::NeuronId id = found.id(row);
    table.row({fmt::format("{}", id.layer), fmt::format("{}", id.index),
               fmt::format("{:.3f}", peaks[0].activation), fmt::format("{:.3f}", found.mean(row)),
               percent(found.active(row)),
               fmt::format("{} of {}", nn::variety(peaks, around).tokens, peaks.size()),
               context_text(model, around[0], style),
               token_label(tokenizer_of(model), peaks[0].predicted)});
  });
  return text + table.text(style) +
         "\nactive: tokens with an activation above 0; tokens: how many different ones are at the "
         "peaks of its contexts\n";
}

std::string ContextsReport::one(const Style& style) const {
  using Align = Table::Align;
  std::string text = introduction(*this);
  for_each_neuron(*this, [&](std::size_t i, std::int64_t row, std::span<const Peak> peaks,
                             std::span<const Window> around) {
    const interp::NeuronId id = found.id(row);
    const nn::Variety v = nn::variety(peaks, around);
    text += fmt::format("layer {}, neuron {}: active at {} of the tokens, mean {:.3f}\n",
                        style.bold(fmt::format("{}", id.layer)),
                        style.bold(fmt::format("{}", id.index)), percent(found.active(row)),
                        found.mean(row));
    if (!tokens.empty()) {
      text += fmt::format("raises {}\nlowers {}\n", token_list(model, tokens[i].raised),
                          token_list(model, tokens[i].lowered));
    }
    text += fmt::format("{} context{}: {} different token{} at the peak, {} predicted there\n\n",
                        peaks.size(), peaks.size() == 1 ? "" : "s", v.tokens,
                        v.tokens == 1 ? "" : "s", v.predicted);
    Table table({{"activation", Align::right},
                 {"line", Align::right},
                 {"pos", Align::right},
                 {"context", Align::left},
                 {"predicted", Align::left}});
    for (std::size_t k = 0; k < peaks.size(); ++k) {
      table.row({fmt::format("{:.3f}", peaks[k].activation), fmt::format("{}", peaks[k].line),
                 fmt::format("{}", peaks[k].position), context_text(model, around[k], style),
                 token_label(tokenizer_of(model), peaks[k].predicted)});
    }
    text += table.text(style);
  });
  return text;
}

namespace {

Json head_json(const ContextsReport& r) {
  return {{"file", json_text(r.file)},
          {"lines", r.found.lines},
          {"tokens", r.found.tokens},
          {"long_lines", r.found.long_lines},
          {"bos", r.spec.bos ? Json(*r.spec.bos) : Json()}};
}

}  // namespace

Json ContextsReport::json() const {
  Json json = head_json(*this);
  json["neurons"] = Json::list();
  for_each_neuron(*this, [&](std::size_t i, std::int64_t row, std::span<const Peak> peaks,
                             std::span<const Window> around) {
    json["neurons"].push_back(neuron_json(*this, i, row, peaks, around));
  });
  return json;
}

void ContextsReport::write_json(const Json& meta,
                                const std::function<void(std::string_view)>& write) const {
  Json head = {{"meta", meta}};
  head.update(head_json(*this));
  std::string text = to_line(head);
  text.resize(text.size() - 2);  // the closing brace and the end of the line
  write(text + ", \"neurons\": [");
  for_each_neuron(*this, [&](std::size_t i, std::int64_t row, std::span<const Peak> peaks,
                             std::span<const Window> around) {
    std::string piece = to_line(neuron_json(*this, i, row, peaks, around));
    piece.pop_back();
    write((i == 0 ? "" : ",\n") + piece);
  });
  write("]}\n");
}

}  // namespace vitrine::app
