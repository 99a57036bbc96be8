#include "nn/text/text_loss.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "nn/families/sites.h"
#include "tensor/error.h"

namespace vitrine::nn {

double TextLoss::bits_per_byte() const {
  return nats / std::numbers::ln2 / static_cast<double>(bytes);
}

TextLossMeter::TextLossMeter(const Model& model, const WindowOptions& options)
    : model_(model), options_(options) {
  const int context = model.config().context;
  if (options_.window == 0) options_.window = context;
  if (options_.window < 2 || options_.window > context) {
    throw Error(ErrorKind::usage, fmt::format("a window has 2 to {} tokens in this model, not {}",
                                              context, options_.window));
  }
  if (options_.overlap < 0) options_.overlap = options_.window / 2;
  if (options_.overlap >= options_.window) {
    throw Error(ErrorKind::usage, fmt::format("windows of {} tokens cannot share {}",
                                              options_.window, options_.overlap));
  }
}

void TextLossMeter::add(std::span<const int> document) {
  for (const int id : document) {
    if (id >= 0 && id < model_.config().vocabulary) continue;
    throw TokenError(fmt::format("document {} has token id {}; this model knows ids 0 to {}",
                                 loss_.documents, id, model_.config().vocabulary - 1));
  }
  ++loss_.documents;
  const auto n = static_cast<std::int64_t>(document.size());
  std::int64_t predicted = 1;  // tokens before this one are done
  for (std::int64_t begin = 0; predicted < n;) {
    const std::int64_t end = std::min<std::int64_t>(begin + options_.window, n);
    const auto part =
        document.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    windows_.emplace_back(part.begin(), part.end());
    fresh_.push_back(end - predicted);
    rows_ += end - begin;
    predicted = end;
    begin = end - std::max(options_.overlap, 1);
    if (rows_ < options_.rows) continue;
    run();
    if (options_.progress) options_.progress(predicted);
  }
}

TextLoss TextLossMeter::finish() {
  run();
  return loss_;
}

void TextLossMeter::run() {
  if (windows_.empty()) return;
  check_prompts(windows_, model_.config());
  const Metric loss = training_loss(next_tokens(windows_));
  const Tensor each = model_.run_edited(windows_, {}, fetch(value("loss_per_token")), &loss,
                                        {.cancel = options_.cancel})["loss_per_token"];
  const std::vector<double> losses = each.to_vector<double>();
  const auto bad =
      std::find_if_not(losses.begin(), losses.end(), [](double x) { return std::isfinite(x); });
  if (bad != losses.end()) {
    throw NumericError(
        fmt::format("the loss of a token is {}: numbers of the model have become too large", *bad));
  }
  auto at = losses.begin();
  for (std::size_t w = 0; w < windows_.size(); ++w) {
    const Tokens& window = windows_[w];
    at += std::ssize(window) - 1;
    for (std::int64_t i = 1; i <= fresh_[w]; ++i) {
      loss_.nats += at[-i];
      if (model_.has_tokenizer())
        loss_.bytes += std::ssize(model_.tokenizer().token_bytes(window.end()[-i]));
    }
    loss_.tokens += fresh_[w];
  }
  windows_.clear();
  fresh_.clear();
  rows_ = 0;
}

Induction induction(const Model& model, random::Key key, int sequences, int half) {
  const Config& c = model.config();
  if (sequences < 1 || half < 2) {
    throw Error(
        ErrorKind::usage,
        fmt::format("induction needs 1 sequence or more of twice 2 tokens or more, not {} of "
                    "twice {}",
                    sequences, half));
  }
  std::vector<Tokens> prompts;
  std::uint64_t draw = 0;
  for (int s = 0; s < sequences; ++s) {
    Tokens tokens;
    for (int i = 0; i < half; ++i)
      tokens.push_back(static_cast<int>(random::below(key, draw++, c.vocabulary)));
    tokens.insert(tokens.end(), tokens.begin(), tokens.begin() + half);
    prompts.push_back(std::move(tokens));
  }
  check_prompts(prompts, c);
  const Graph graph =
      with_metric(model.build(batch_size(prompts)), training_loss(next_tokens(prompts)));
  const Run run = model.run_graph(
      graph, prompts, fetch(value("loss_per_token"), sites("blocks.*.attn.hook_pattern")));

  Induction result;
  const std::vector<double> losses = run["loss_per_token"].to_vector<double>();
  const auto count = static_cast<double>(sequences * (half - 1));
  for (int s = 0; s < sequences; ++s) {
    const double* each = losses.data() + static_cast<std::ptrdiff_t>(s) * (2 * half - 1);
    for (int i = 0; i + 1 < half; ++i) {
      result.first += each[i] / count;          // of token i + 1
      result.second += each[half + i] / count;  // of the same token, later
    }
  }
  for (int layer = 0; layer < c.layers; ++layer) {
    // [batch, head, query, key]
    const std::vector<double> pattern = run[site::pattern(layer)].to_vector<double>();
    const std::int64_t t = 2 * half;
    for (int head = 0; head < c.heads; ++head) {
      double sum = 0;
      for (int s = 0; s < sequences; ++s) {
        const double* one =
            pattern.data() + (static_cast<std::int64_t>(s) * c.heads + head) * t * t;
        for (std::int64_t q = half; q < t; ++q) sum += one[q * t + q - half + 1];
      }
      const double score = sum / (sequences * half);
      if (score > result.score) result.score = score, result.layer = layer, result.head = head;
    }
  }
  return result;
}

}  // namespace vitrine::nn
