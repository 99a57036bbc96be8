#include "interp/data/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "autograd/ops/ops.h"
#include "interp/data/asked.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::interp {
namespace {

using MetricKind = MetricNode::Kind;
using TokenOf = MetricToken::Of;

// ---- tokens as tables -----------------------------------------------------------------------------

// The tokens of each example that a function is applied to: ids [examples, longest], filled up with
// 0 that are not counted.
struct TokenTable {
  std::int64_t examples = 0, longest = 0;
  std::vector<std::int32_t> ids;
  std::vector<bool> counted;
  bool ragged = false;

  bool several() const { return longest > 1; }
  Shape shape() const { return several() ? Shape{examples, longest} : Shape{examples}; }
};
TokenTable table_of(const std::vector<nn::Tokens>& lists) {
  TokenTable t;
  t.examples = std::ssize(lists);
  for (const nn::Tokens& list : lists) t.longest = std::max(t.longest, std::ssize(list));
  for (const nn::Tokens& list : lists) {
    t.ragged = t.ragged || std::ssize(list) < t.longest;
    for (std::int64_t k = 0; k < t.longest; ++k) {
      const bool counted = k < std::ssize(list);
      t.ids.push_back(counted ? list[static_cast<std::size_t>(k)] : 0);
      t.counted.push_back(counted);
    }
  }
  return t;
}

// A metric with what it reads of definite examples.
struct Bound {
  MetricSpec spec;
  std::map<std::string, TokenTable> tables;  // by the token as it is written
  // Of runs that read answers behind the prompts: where those end, and the answers' probabilities.
  std::vector<std::int32_t> ends;
  std::optional<nn::AnswerLogProbability> long_answers;
  Type clean;  // of the clean logits, for kl
  Feeds feeds;
  Feeds end_feed;  // `ends`, where there are any: of the logits after the prompts

  std::string feed(std::string_view of) const { return fmt::format("{}.{}", spec.name, of); }
};

[[noreturn]] void refuse_example(const Example& e, const std::string& what) {
  throw Error(ErrorKind::input, e.line > 0 ? fmt::format("line {}: {}", e.line, what) : what);
}

bool has_long_answer(const Example& e) {
  return std::any_of(e.answers.begin(), e.answers.end(),
                     [](const nn::Tokens& a) { return a.size() > 1; });
}

// ---- binding --------------------------------------------------------------------------------------

// How many values a part of the expression has for each prompt: one, or those of a list.
struct Extent {
  std::int64_t longest = 1;
  std::string list;
  bool several() const { return longest > 1; }
};

class Binder {
 public:
  Binder(const nn::Model& model, std::span<const Example> examples, const MetricSpec& spec,
         const nn::Model* clean)
      : model_(model),
        clean_(clean != nullptr ? *clean : model),
        examples_(examples),
        bound_(std::make_shared<Bound>()) {
    bound_->spec = spec;
  }

  std::shared_ptr<const Bound> bind() {
    if (reads_long_answers(examples_, bound_->spec)) bind_long_answers();
    const MetricNode& root = *bound_->spec.root;
    if (extent(root).several()) {
      fail(ErrorKind::usage, root,
           "there are several values for a prompt; take them together: mean(...), sum, max, min");
    }
    if (!bound_->tables.empty() || bound_->spec.contains(MetricKind::kl))
      bound_->feeds.insert(bound_->end_feed.begin(), bound_->end_feed.end());
    for (const auto& [name, table] : bound_->tables) {
      bound_->feeds[bound_->feed(name)] = Tensor::of(table.shape(), table.ids);
      if (table.ragged)
        bound_->feeds[bound_->feed(name + ".counted")] = Tensor::of(table.shape(), table.counted);
    }
    return bound_;
  }

 private:
  [[noreturn]] void fail_at(ErrorKind kind, std::size_t at, const std::string& what) const {
    throw Error(kind, fmt::format("metric: {}{}", what, pointed_at(bound_->spec.text, at)));
  }
  [[noreturn]] void fail(ErrorKind kind, const MetricNode& n, const std::string& what) const {
    fail_at(kind, n.at, what);
  }

  Extent extent(const MetricNode& n) {
    switch (n.kind) {
      case MetricKind::number:
        return {};
      case MetricKind::logit:
      case MetricKind::prob:
      case MetricKind::log_prob:
      case MetricKind::rank:
      case MetricKind::accuracy:
        return of_token(n);
      case MetricKind::loss:
        check_loss(n);
        return {};
      case MetricKind::kl:
        bind_clean();
        return {};
      case MetricKind::negative:
      case MetricKind::exp:
      case MetricKind::log:
      case MetricKind::abs:
        return extent(*n.parts[0]);
      case MetricKind::plus:
      case MetricKind::minus:
      case MetricKind::times:
      case MetricKind::over:
        return of_two(n);
      case MetricKind::mean:
      case MetricKind::sum:
      case MetricKind::max:
      case MetricKind::min:
      case MetricKind::log_sum:
        break;
    }
    for (const auto& part : n.parts) {
      if (extent(*part).several() && n.parts.size() > 1)
        fail(ErrorKind::usage, *part,
             "there are several values for a prompt here; between commas each must be one");
    }
    return {};
  }
  Extent of_two(const MetricNode& n) {
    const Extent a = extent(*n.parts[0]), b = extent(*n.parts[1]);
    if (a.several() && b.several() && a.list != b.list) {
      fail(ErrorKind::usage, n,
           fmt::format("both sides have several values for a prompt, of {} and of {}; take those "
                       "of one together: mean(...), sum, max, min",
                       a.list, b.list));
    }
    return a.several() ? a : b;
  }

  Extent of_token(const MetricNode& n) {
    const std::string name = n.token.text();
    if (n.token.of == TokenOf::answer && bound_->long_answers) {
      if (n.kind == MetricKind::log_prob || n.kind == MetricKind::prob) return {};
      refuse_long(n);
    }
    auto it = bound_->tables.find(name);
    if (it == bound_->tables.end()) it = bound_->tables.emplace(name, table_of(tokens_of(n))).first;
    const bool any = n.kind == MetricKind::accuracy;  // of several answers there is one accuracy
    return any ? Extent{} : Extent{it->second.longest, name};
  }
  [[noreturn]] void refuse_long(const MetricNode& n) const {
    const auto it = std::find_if(examples_.begin(), examples_.end(), has_long_answer);
    try {
      fail(ErrorKind::input, n,
           fmt::format("an answer has {} tokens; of such there are log_prob and prob",
                       it->answers[0].size()));
    } catch (const Error& error) {
      refuse_example(*it, error.what());
    }
  }

  // The tokens of each example; of a text or an id one list for all.
  std::vector<nn::Tokens> tokens_of(const MetricNode& n) const {
    std::vector<nn::Tokens> lists;
    if (n.token.of == TokenOf::text || n.token.of == TokenOf::id) {
      try {
        const int id = n.token.of == TokenOf::text ? model_.token(n.token.name) : n.token.id;
        check_answer(model_, id);
        return {{id}};
      } catch (const Error& error) {
        fail_at(error.kind(), n.token.at, error.what());
      }
    }
    for (const Example& e : examples_) lists.push_back(tokens_of(n, e));
    return lists;
  }
  nn::Tokens tokens_of(const MetricNode& n, const Example& e) const {
    nn::Tokens tokens;
    if (n.token.of == TokenOf::field) {
      const auto it = e.tokens.find(n.token.name);
      if (it != e.tokens.end() && !it->second.empty()) tokens = it->second;
      else tokens = {token_of_field(n, e)};
    } else {
      const bool right = n.token.of == TokenOf::answer;
      const char* what = right ? "answer" : "wrong answer";
      for (const nn::Tokens& answer : right ? e.answers : e.wrongs) {
        if (answer.size() != 1) {
          refuse_example(e, fmt::format("a{} {} of {} tokens; the metric {} needs {} of one token",
                                        right ? "n" : "", what, answer.size(),
                                        nn::quote(bound_->spec.text), right ? "answers" : "them"));
        }
        tokens.push_back(answer[0]);
      }
      if (tokens.empty()) {
        refuse_example(e, fmt::format("there is no {}, which the metric {} reads", what,
                                      nn::quote(bound_->spec.text)));
      }
    }
    for (const int id : tokens) check_answer(model_, id);
    return tokens;
  }
  // A field that is a text names one token.
  int token_of_field(const MetricNode& n, const Example& e) const {
    const auto text = e.fields.find(n.token.name);
    if (text == e.fields.end()) {
      refuse_example(e, fmt::format("there is no field {} with tokens, which the metric {} reads",
                                    nn::quote(n.token.name), nn::quote(bound_->spec.text)));
    }
    try {
      return model_.token(text->second);
    } catch (const Error& error) {
      refuse_example(e, fmt::format("{}: {}", n.token.text(), error.what()));
    }
  }

  void bind_long_answers() {
    std::vector<nn::Tokens> prompts, answers;
    for (const Example& e : examples_) {
      if (e.answers.size() != 1) {
        refuse_example(e, fmt::format("there are {} answers; where some have several tokens, each "
                                      "prompt has one",
                                      e.answers.size()));
      }
      prompts.push_back(e.prompt);
      answers.push_back(e.answers[0]);
      bound_->ends.push_back(static_cast<std::int32_t>(e.prompt.size()) - 1);
    }
    nn::check_prompts(nn::with_answers(prompts, answers), model_.config());
    bound_->long_answers = nn::answer_log_probability(prompts, answers);
    bound_->feeds = bound_->long_answers->feeds;
    bound_->end_feed[bound_->feed("end")] = Tensor::of({std::ssize(bound_->ends), 1}, bound_->ends);
  }
  void check_loss(const MetricNode& n) const {
    if (bound_->long_answers) {
      fail(ErrorKind::usage, n,
           "the loss is that of prompts alone, but this metric reads answers of several tokens "
           "behind them; measure the two one after the other");
    }
    for (const Example& e : examples_) {
      if (e.prompt.size() > 1) continue;
      throw ContextError(fmt::format("{}the loss needs a prompt of at least two tokens",
                                     e.line > 0 ? fmt::format("line {}: ", e.line) : ""));
    }
  }
  void bind_clean() {
    if (bound_->feeds.contains(bound_->feed("clean"))) return;
    std::vector<Asked> ends;
    for (const Example& e : examples_) ends.push_back({.prompt = e.prompt});
    const Tensor logits = logits_asked(clean_, ends);
    bound_->clean = {logits.dtype(), logits.shape()};
    bound_->feeds[bound_->feed("clean")] = logits;
  }

  const nn::Model& model_;
  const nn::Model& clean_;
  std::span<const Example> examples_;
  std::shared_ptr<Bound> bound_;
};

// ---- emitting -------------------------------------------------------------------------------------

// The values of a part: [prompts], or [prompts, longest] with a mask where lists differ in length;
// [] for a number.
struct Emitted {
  Value value;
  bool several = false;
  std::optional<Value> mask;
};

class Emitter {
 public:
  Emitter(Builder& b, const Bound& bound)
      : b_(b), bound_(bound), prompts_(b.value(b.row_table().keys).dim(0)) {}

  Value whole() { return as_prompts(emit(*bound_.spec.root).value); }

  // The logits after each prompt [prompts, vocabulary].
  const Value& logits() {
    if (logits_) return *logits_;
    if (!bound_.long_answers) return logits_.emplace(nn::last_logits(b_));
    const Value end = broadcast_to(
        b_.input(bound_.feed("end"), {DType::i32, {std::ssize(bound_.ends), 1}}), {prompts_, 1});
    return logits_.emplace(
        gather_rows(b_.output("logits"), reshape(nn::rows_at(b_, end), {prompts_})));
  }

 private:
  Value as_prompts(const Value& x) const {
    return x.shape().empty() ? broadcast_to(x, {prompts_}) : x;
  }
  Value column(const Value& x) const { return reshape(as_prompts(x), {prompts_, 1}); }
  const Value& log_probabilities() {
    return log_probabilities_ ? *log_probabilities_
                              : log_probabilities_.emplace(log_softmax(logits()));
  }

  Emitted emit(const MetricNode& n) {
    switch (n.kind) {
      case MetricKind::number:
        return {b_.scalar(n.number, b_.output("logits").dtype()), false, {}};
      case MetricKind::logit:
      case MetricKind::prob:
      case MetricKind::log_prob:
      case MetricKind::rank:
      case MetricKind::accuracy:
        return of_token(n);
      case MetricKind::loss:
        return {nn::loss_of_each_prompt(b_), false, {}};
      case MetricKind::kl:
        return {nn::divergence(cast(b_.input(bound_.feed("clean"), bound_.clean), logits().dtype()),
                               logits()),
                false,
                {}};
      case MetricKind::negative:
      case MetricKind::exp:
      case MetricKind::log:
      case MetricKind::abs:
        return of_one(n);
      case MetricKind::plus:
      case MetricKind::minus:
      case MetricKind::times:
      case MetricKind::over:
        return of_two(n);
      case MetricKind::mean:
      case MetricKind::sum:
      case MetricKind::max:
      case MetricKind::min:
      case MetricKind::log_sum:
        break;
    }
    return {together(n.kind, values_of(n)), false, {}};
  }

  Emitted of_one(const MetricNode& n) {
    Emitted x = emit(*n.parts[0]);
    x.value = n.kind == MetricKind::negative ? neg(x.value)
              : n.kind == MetricKind::exp    ? exp(x.value)
              : n.kind == MetricKind::log    ? log(x.value)
                                             : abs(x.value);
    return x;
  }
  Emitted of_two(const MetricNode& n) {
    Emitted a = emit(*n.parts[0]), b = emit(*n.parts[1]);
    if (a.several && !b.several && !b.value.shape().empty()) b.value = column(b.value);
    if (b.several && !a.several && !a.value.shape().empty()) a.value = column(a.value);
    Emitted both = a.several ? a : b;
    both.value = n.kind == MetricKind::plus    ? a.value + b.value
                 : n.kind == MetricKind::minus ? a.value - b.value
                 : n.kind == MetricKind::times ? a.value * b.value
                                               : a.value / b.value;
    return both;
  }

  // ---- of tokens
  Emitted of_token(const MetricNode& n) {
    if (n.token.of == TokenOf::answer && bound_.long_answers) {
      const Value log_prob = bound_.long_answers->each(b_);
      return {n.kind == MetricKind::prob ? exp(log_prob) : log_prob, false, {}};
    }
    const std::string name = n.token.text();
    const TokenTable& t = bound_.tables.at(name);
    if (t.examples != 1 && t.examples != prompts_) {
      throw ShapeError(
          fmt::format("metric: {} examples for {} prompts; give one for each, or one "
                      "for all",
                      t.examples, prompts_));
    }
    const Value ids = b_.input(bound_.feed(name), {DType::i32, t.shape()});
    if (!t.several()) return {of_ids(n.kind, broadcast_to(ids, {prompts_})), false, {}};
    const Value all = broadcast_to(ids, {prompts_, t.longest});
    std::vector<Value> columns;
    for (std::int64_t k = 0; k < t.longest; ++k)
      columns.push_back(column(of_ids(n.kind, reshape(slice(all, 1, k, k + 1), {prompts_}))));
    Emitted e{concat(columns, 1), true, {}};
    if (t.ragged) {
      e.mask = broadcast_to(b_.input(bound_.feed(name + ".counted"), {DType::boolean, t.shape()}),
                            {prompts_, t.longest});
    }
    if (n.kind != MetricKind::accuracy) return e;
    return {together(MetricKind::max, e), false, {}};
  }
  Value of_ids(MetricKind kind, const Value& ids) {  // [prompts]
    switch (kind) {
      case MetricKind::prob:
        return exp(pick(log_probabilities(), ids));
      case MetricKind::log_prob:
        return pick(log_probabilities(), ids);
      case MetricKind::rank:
        return nn::rank_of(logits(), ids);
      case MetricKind::accuracy:
        return nn::is_top(logits(), ids);
      default:
        return pick(logits(), ids);
    }
  }

  // ---- of several values
  Emitted values_of(const MetricNode& n) {
    if (n.parts.size() == 1) return emit(*n.parts[0]);
    std::vector<Value> columns;
    for (const auto& part : n.parts) columns.push_back(column(emit(*part).value));
    return {concat(columns, 1), true, {}};
  }
  // What is not counted, as `filling`.
  Value counted(const Emitted& x, double filling) {
    return x.mask ? select(*x.mask, x.value, b_.scalar(filling, x.value.dtype())) : x.value;
  }
  Value together(MetricKind kind, const Emitted& x) {
    if (!x.several) return x.value;
    constexpr double kLow = -std::numeric_limits<double>::infinity();
    switch (kind) {
      case MetricKind::mean: {
        if (!x.mask) return mean(x.value, {1});
        const Value one = b_.scalar(1, x.value.dtype()), none = b_.scalar(0, x.value.dtype());
        return sum(counted(x, 0), {1}) / sum(select(*x.mask, one, none), {1});
      }
      case MetricKind::sum:
        return sum(counted(x, 0), {1});
      case MetricKind::max:
        return max(counted(x, kLow), {1});
      case MetricKind::min:
        return neg(max(counted({neg(x.value), true, x.mask}, kLow), {1}));
      default: {  // log_sum; what is far below the largest vanishes, and nothing overflows
        const Value values = counted(x, kLow), most = max(values, {1});
        return most + log(sum(exp(values - column(most)), {1}));
      }
    }
  }

  Builder& b_;
  const Bound& bound_;
  std::int64_t prompts_;
  std::optional<Value> logits_, log_probabilities_;
};

Metric metric_of_bound(const std::shared_ptr<const Bound>& bound) {
  return nn::per_prompt(
      bound->spec.name, [bound](Builder& b) { return Emitter(b, *bound).whole(); }, bound->feeds);
}

// ---- over a data set ------------------------------------------------------------------------------
constexpr const char* kTop = "measured.top";
constexpr const char* kTopProbability = "measured.top_probability";

// All metrics of one run, and the most probable tokens.
Metric all_of(std::span<const std::shared_ptr<const Bound>> bounds) {
  Metric all{"measured", {}, {}};
  std::vector<Metric> metrics;
  for (const auto& bound : bounds) {
    metrics.push_back(metric_of_bound(bound));
    all.feeds.insert(bound->feeds.begin(), bound->feeds.end());
  }
  if (!bounds.empty()) all.feeds.insert(bounds[0]->end_feed.begin(), bounds[0]->end_feed.end());
  const auto first = bounds.empty() ? std::make_shared<const Bound>() : bounds[0];
  all.emit = [metrics, first](Builder& b) {
    for (const Metric& m : metrics) b.output(m.name, m.emit(b));
    const Value logits = Emitter(b, *first).logits();
    const Value probability = exp(max(log_softmax(logits), {1}));  // [prompts]
    b.output(kTop, argmax(logits));
    b.output(kTopProbability, probability);
    return mean(probability);
  };
  return all;
}

// Metrics that are measured of the same runs: those of bare prompts, or of prompts with answers.
struct RunOfSpecs {
  std::vector<std::size_t> specs;
  bool all_logits = false;          // whether the metrics read them after every token
  std::vector<nn::Tokens> prompts;  // what is run
};
std::vector<RunOfSpecs> runs_of(std::span<const Example> examples,
                                std::span<const MetricSpec> specs) {
  RunOfSpecs bare, with_answers{{}, true, {}};
  for (std::size_t i = 0; i < specs.size(); ++i) {
    RunOfSpecs& run = reads_long_answers(examples, specs[i]) ? with_answers : bare;
    run.specs.push_back(i);
    run.all_logits = run.all_logits || specs[i].contains(MetricKind::loss);
  }
  std::vector<RunOfSpecs> runs;
  if (!with_answers.specs.empty()) {
    with_answers.prompts = prompts_to_run(examples, specs[with_answers.specs[0]]);
    runs.push_back(with_answers);
  }
  if (bare.specs.empty() && !runs.empty()) return runs;
  bare.prompts = prompts_of(examples);
  runs.push_back(bare);
  return runs;
}

// What is run together: so that the logits that are read fit.
BatchLimits limits_of(const RunOfSpecs& run, std::int64_t vocabulary, std::int64_t memory) {
  constexpr std::int64_t kMostRows = 8192;  // of everything else that a run holds
  constexpr auto kAny = std::numeric_limits<std::int64_t>::max();
  const std::int64_t most = std::max<std::int64_t>(1, memory / (4 * vocabulary));
  if (run.all_logits) return {.rows = std::min(kMostRows, most), .entries = kAny};
  return {.rows = kMostRows, .entries = kAny, .prompts = most};
}

// Runs the examples [begin, end) and puts what is measured where it belongs.
void measure_chunk(const nn::Model& model, std::span<const Example> examples,
                   std::span<const MetricSpec> specs, const RunOfSpecs& run, std::size_t begin,
                   std::size_t end, const MeasureOptions& options, Measurement& into) {
  std::vector<std::shared_ptr<const Bound>> bounds;
  Fetch wanted = fetch(value(kTop), value(kTopProbability));
  const auto output = [&](std::size_t i) { return specs[i].name + "_per_prompt"; };
  for (const std::size_t i : run.specs) {
    bounds.push_back(
        Binder(model, examples.subspan(begin, end - begin), specs[i], options.clean).bind());
    wanted.wants.push_back(value(output(i)));
  }
  const Metric all = all_of(bounds);
  RunOptions running;
  running.cancel = options.cancel;
  const std::vector<nn::Tokens> prompts = part_of(run.prompts, begin, end);
  const nn::Run r = model.run_edited(prompts, options.what, wanted, &all, running);
  for (const std::size_t i : run.specs) {
    const auto values = r[output(i)].to_vector<double>();
    std::copy(values.begin(), values.end(),
              into.values[i].begin() + static_cast<std::ptrdiff_t>(begin));
  }
  const auto top = r[kTop].to_vector<std::int64_t>();
  const auto probability = r[kTopProbability].to_vector<double>();
  for (std::size_t i = begin; i < end; ++i) {
    into.top[i] = static_cast<int>(top[i - begin]);
    into.top_probability[i] = probability[i - begin];
  }
}

}  // namespace

bool reads_long_answers(std::span<const Example> examples, const MetricSpec& spec) {
  return spec.reads(TokenOf::answer) &&
         std::any_of(examples.begin(), examples.end(), has_long_answer);
}

std::vector<nn::Tokens> prompts_to_run(std::span<const Example> examples, const MetricSpec& spec,
                                       bool corrupt) {
  std::vector<nn::Tokens> prompts, answers;
  const bool with_answers = reads_long_answers(examples, spec);
  for (const Example& e : examples) {
    prompts.push_back(corrupt ? e.corrupt : e.prompt);
    if (with_answers && !e.answers.empty()) answers.push_back(e.answers[0]);
  }
  return answers.size() == prompts.size() ? nn::with_answers(prompts, answers) : prompts;
}

void check_answer(const nn::Model& model, int id) {
  if (id >= 0 && id < model.config().vocabulary) return;
  throw TokenError(
      fmt::format("the answer's id {} is outside 0 to {}", id, model.config().vocabulary - 1));
}

Metric metric_of(const nn::Model& model, std::span<const Example> examples, const MetricSpec& spec,
                 const nn::Model* clean) {
  return metric_of_bound(Binder(model, examples, spec, clean).bind());
}

Measurement measure(const nn::Model& model, std::span<const Example> examples,
                    std::span<const MetricSpec> specs, const MeasureOptions& options) {
  // Every metric has outputs of its own.
  std::vector<MetricSpec> named(specs.begin(), specs.end());
  for (std::size_t i = 0; i < named.size(); ++i) {
    const bool used = std::any_of(named.begin(), named.begin() + static_cast<std::ptrdiff_t>(i),
                                  [&](const MetricSpec& s) { return s.name == named[i].name; });
    if (used) named[i].name += fmt::format("_{}", i);
  }
  const std::vector<RunOfSpecs> runs = runs_of(examples, named);
  Measurement m{std::vector(named.size(), std::vector<double>(examples.size())),
                std::vector<int>(examples.size()), std::vector<double>(examples.size())};
  const int total = static_cast<int>(examples.size() * runs.size());
  int done = 0;
  for (const RunOfSpecs& run : runs) {
    const BatchLimits limits = limits_of(run, model.config().vocabulary, options.memory);
    for (const auto& [begin, end] : batches(run.prompts, limits)) {
      measure_chunk(model, examples, named, run, begin, end, options, m);
      done += static_cast<int>(end - begin);
      if (options.progress) options.progress(done, total);
    }
  }
  return m;
}

}  // namespace vitrine::interp
