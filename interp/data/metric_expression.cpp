#include "interp/data/metric_expression.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <functional>
#include <optional>

#include "tensor/error.h"
#include "tensor/files/utf8.h"
#include "tensor/nearest.h"

namespace vitrine::interp {
namespace {

using MetricKind = MetricNode::Kind;
using MetricPart = std::shared_ptr<const MetricNode>;

struct NamedKind {
  std::string_view name;
  MetricKind kind;
};
constexpr std::array<NamedKind, 4> kOfToken = {{{"logit", MetricKind::logit},
                                                {"prob", MetricKind::prob},
                                                {"log_prob", MetricKind::log_prob},
                                                {"rank", MetricKind::rank}}};
constexpr std::array<NamedKind, 3> kOfOne = {
    {{"exp", MetricKind::exp}, {"log", MetricKind::log}, {"abs", MetricKind::abs}}};
constexpr std::array<NamedKind, 4> kOfSeveral = {{{"mean", MetricKind::mean},
                                                  {"sum", MetricKind::sum},
                                                  {"max", MetricKind::max},
                                                  {"min", MetricKind::min}}};
constexpr std::array<std::string_view, 8> kNames = {"logit_diff", "logit",    "prob", "log_prob",
                                                    "rank",       "accuracy", "kl",   "loss"};

template <std::size_t count>
std::optional<MetricKind> kind_of(const std::array<NamedKind, count>& kinds,
                                  std::string_view word) {
  for (const NamedKind& k : kinds) {
    if (k.name == word) return k.kind;
  }
  return std::nullopt;
}

MetricPart metric_node(MetricKind kind, std::size_t at, std::vector<MetricPart> parts = {}) {
  return std::make_shared<MetricNode>(MetricNode{kind, at, 0, {}, std::move(parts)});
}
MetricPart of_token(MetricKind kind, std::size_t at, MetricToken token) {
  return std::make_shared<MetricNode>(MetricNode{kind, at, 0, std::move(token), {}});
}

// A metric that has a name, of the example's answers.
MetricPart named_metric(std::string_view name, std::size_t at) {
  const auto answers = [&](MetricKind of, MetricKind together, MetricToken::Of whose) {
    return metric_node(together, at, {of_token(of, at, {whose, "", 0, at})});
  };
  constexpr auto kAnswer = MetricToken::Of::answer;
  if (name == "logit_diff") {
    return metric_node(MetricKind::minus, at,
                       {answers(MetricKind::logit, MetricKind::mean, kAnswer),
                        answers(MetricKind::logit, MetricKind::mean, MetricToken::Of::wrong)});
  }
  if (name == "logit") return answers(MetricKind::logit, MetricKind::mean, kAnswer);
  if (name == "prob") return answers(MetricKind::prob, MetricKind::sum, kAnswer);
  if (name == "log_prob") return answers(MetricKind::log_prob, MetricKind::log_sum, kAnswer);
  if (name == "rank") return answers(MetricKind::rank, MetricKind::min, kAnswer);
  if (name == "accuracy") return of_token(MetricKind::accuracy, at, {kAnswer, "", 0, at});
  return metric_node(name == "kl" ? MetricKind::kl : MetricKind::loss, at);
}

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Recursive descent:
//   sum     = product (("+" | "-") product)*
//   product = factor (("*" | "/") factor)*
//   factor  = "-" factor | number | "(" sum ")" | NAME | FUNCTION "(" ... ")"
class MetricParser {
 public:
  explicit MetricParser(std::string_view text) : text_(text) {}

  MetricPart whole() {
    MetricPart all = sum();
    if (peek() != '\0') expected("an operator (+ - * /) or the end");
    return all;
  }

 private:
  [[noreturn]] void fail(const std::string& what, std::size_t at) const {
    throw Error(ErrorKind::usage, fmt::format("metric: {}{}", what, pointed_at(text_, at)));
  }
  [[noreturn]] void expected(std::string_view what) {
    peek();
    const std::size_t size = at_ < text_.size() ? nn::read_character(text_, at_).length : 0;
    fail(fmt::format("expected {}, not {}", what,
                     at_ < text_.size() ? nn::quote(text_.substr(at_, size)) : "the end"),
         at_);
  }

  // The next character that is no space; '\0' at the end.
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n'))
      ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  void take(char c, std::string_view what) {
    if (peek() != c) expected(what);
    ++at_;
  }

  MetricPart sum() {
    if (++depth_ > kDeepest) fail("too many parentheses within each other", at_);
    MetricPart left = product();
    for (char c = peek(); c == '+' || c == '-'; c = peek()) {
      const std::size_t at = at_++;
      left = metric_node(c == '+' ? MetricKind::plus : MetricKind::minus, at, {left, product()});
    }
    --depth_;
    return left;
  }
  MetricPart product() {
    MetricPart left = factor();
    for (char c = peek(); c == '*' || c == '/'; c = peek()) {
      const std::size_t at = at_++;
      left = metric_node(c == '*' ? MetricKind::times : MetricKind::over, at, {left, factor()});
    }
    return left;
  }
  MetricPart factor() {
    const char c = peek();
    const std::size_t at = at_;
    if (c == '-') {
      if (++depth_ > kDeepest) fail("too many signs before each other", at_);
      ++at_;
      MetricPart negated = metric_node(MetricKind::negative, at, {factor()});
      --depth_;
      return negated;
    }
    if (c == '(') {
      ++at_;
      MetricPart inner = sum();
      take(')', "an operator (+ - * /) or ')'");
      return inner;
    }
    if (is_digit(c) || c == '.') return number();
    if (is_word(c)) return named();
    if (c == '"' || c == '\'' || c == '#' || c == '@') {
      expected(
          "a number, a metric or a function; of a token there is logit(T), prob(T), log_prob(T), "
          "rank(T)");
    }
    expected("a number, a metric (logit_diff, prob, ...), a function or '('");
  }

  MetricPart number() {
    double x = 0;
    const auto [stop, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), x);
    if (error != std::errc() || !std::isfinite(x)) expected("a number");
    auto n = std::make_shared<MetricNode>();
    n->at = at_;
    n->number = x;
    at_ = static_cast<std::size_t>(stop - text_.data());
    return n;
  }

  std::string_view word() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  MetricPart named() {
    const std::size_t at = at_;
    const std::string_view name = word();
    const bool called = peek() == '(';
    if (called) {
      if (const auto kind = kind_of(kOfToken, name)) {
        ++at_;
        peek();
        const std::size_t token_at = at_;
        MetricToken of = token();
        of.at = token_at;
        MetricPart p = of_token(*kind, at, std::move(of));
        take(')', "')' after the token");
        return p;
      }
      if (const auto kind = kind_of(kOfOne, name)) {
        ++at_;
        MetricPart p = metric_node(*kind, at, {sum()});
        take(')', "an operator (+ - * /) or ')'");
        return p;
      }
      if (const auto kind = kind_of(kOfSeveral, name)) return reduction(*kind, at);
    } else if (std::find(kNames.begin(), kNames.end(), name) != kNames.end()) {
      return named_metric(name, at);
    }
    refuse_name(name, at, called);
  }
  MetricPart reduction(MetricKind kind, std::size_t at) {
    ++at_;
    std::vector<MetricPart> parts = {sum()};
    while (peek() == ',') {
      ++at_;
      parts.push_back(sum());
    }
    take(')', "an operator (+ - * /), ',' or ')'");
    return metric_node(kind, at, std::move(parts));
  }
  [[noreturn]] void refuse_name(std::string_view name, std::size_t at, bool called) const {
    std::vector<std::string> functions, metrics(kNames.begin(), kNames.end());
    for (const NamedKind& k : kOfToken) functions.emplace_back(k.name);
    for (const NamedKind& k : kOfOne) functions.emplace_back(k.name);
    for (const NamedKind& k : kOfSeveral) functions.emplace_back(k.name);
    const auto is_one = [&](const std::vector<std::string>& names) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    if (called && is_one(metrics))
      fail(fmt::format("{} is no function; leave out the parentheses", name), at);
    if (!called && is_one(functions)) fail(fmt::format("expected '(' after {}", name), at_);
    if (name == "answer" || name == "wrong") {
      fail(fmt::format("{0} is a token; write logit({0}), prob({0}), log_prob({0}) or rank({0})",
                       name),
           at);
    }
    const auto& names = called ? functions : metrics;
    fail(fmt::format("there is no {} {}{}; there are {}", called ? "function" : "metric",
                     nn::quote(name), did_you_mean(nearest(name, names)), fmt::join(names, ", ")),
         at);
  }

  // ---- tokens
  MetricToken token() {
    const char c = peek();
    if (c == '"' || c == '\'') return {MetricToken::Of::text, quoted(c)};
    if (c == '#') return id();
    if (c == '@') return field();
    const std::size_t at = at_;
    if (is_word(c)) {
      const std::string_view name = word();
      if (name == "answer") return {MetricToken::Of::answer};
      if (name == "wrong") return {MetricToken::Of::wrong};
      at_ = at;
    }
    expected("a token: a text in quotes (\" Austin\"), an id (#123), answer, wrong or @field");
  }
  std::string quoted(char quote) {
    const std::size_t begin = at_++;
    std::string text;
    while (at_ < text_.size() && text_[at_] != quote) {
      char c = text_[at_++];
      if (c == '\\') {
        if (at_ == text_.size()) break;
        const char escaped = text_[at_++];
        if (escaped != 'n' && escaped != 't' && escaped != '\\' && escaped != '"' &&
            escaped != '\'')
          fail("expected \\n, \\t, \\\\, \\\" or \\' after a backslash", at_ - 1);
        c = escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
      }
      text += c;
    }
    if (at_ == text_.size()) fail("the text that begins here has no end; expected a quote", begin);
    ++at_;
    if (text.empty()) fail("expected a token's text, not an empty one", begin);
    return text;
  }
  MetricToken id() {
    ++at_;
    MetricToken t{MetricToken::Of::id};
    const char* begin = text_.data() + at_;
    const auto [stop, error] = std::from_chars(begin, text_.data() + text_.size(), t.id);
    if (error != std::errc() || t.id < 0) expected("a token id after '#'");
    at_ += static_cast<std::size_t>(stop - begin);
    return t;
  }
  MetricToken field() {
    ++at_;
    MetricToken t{MetricToken::Of::field, std::string(word())};
    if (t.name.empty()) expected("the name of a field after '@'");
    return t;
  }

  static constexpr int kDeepest = 100;
  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

// The first part, in the order of the text, for which it holds.
const MetricNode* first_part(const MetricNode& root,
                             const std::function<bool(const MetricNode&)>& holds) {
  if (holds(root)) return &root;
  for (const MetricPart& p : root.parts) {
    if (const MetricNode* found = first_part(*p, holds)) return found;
  }
  return nullptr;
}
bool is_of_token(const MetricNode& n) {
  return n.kind == MetricKind::logit || n.kind == MetricKind::prob ||
         n.kind == MetricKind::log_prob || n.kind == MetricKind::rank ||
         n.kind == MetricKind::accuracy;
}

}  // namespace

std::string MetricToken::text() const {
  switch (of) {
    case Of::text:
      return nn::quote(name);
    case Of::id:
      return fmt::format("#{}", id);
    case Of::answer:
      return "answer";
    case Of::wrong:
      return "wrong";
    case Of::field:
      break;
  }
  return "@" + name;
}

bool MetricSpec::reads(MetricToken::Of of) const {
  return first_part(*root, [of](const MetricNode& n) {
           return is_of_token(n) && n.token.of == of;
         }) != nullptr;
}
bool MetricSpec::contains(MetricKind k) const {
  return first_part(*root, [k](const MetricNode& n) { return n.kind == k; }) != nullptr;
}
void MetricSpec::require_gradient() const {
  const MetricNode* step = first_part(*root, [](const MetricNode& n) {
    return n.kind == MetricKind::rank || n.kind == MetricKind::accuracy;
  });
  if (step == nullptr) return;
  throw Error(ErrorKind::usage,
              fmt::format("metric: {} has no gradient: it changes in steps; log_prob or logit say "
                          "the same smoothly{}",
                          step->kind == MetricKind::rank ? "rank" : "accuracy",
                          pointed_at(text, step->at)));
}

MetricSpec parse_metric(std::string_view text) {
  MetricSpec spec{std::string(text), "metric", nullptr};
  spec.root = MetricParser(text).whole();
  const bool has_name = std::find(kNames.begin(), kNames.end(), text) != kNames.end();
  if (has_name) spec.name = spec.text;
  const auto measures = [](const MetricNode& n) {
    return is_of_token(n) || n.kind == MetricKind::loss || n.kind == MetricKind::kl;
  };
  if (first_part(*spec.root, measures) != nullptr) return spec;
  throw Error(ErrorKind::usage,
              fmt::format("metric: expected something that is measured (logit(T), prob(T), loss, "
                          "...), not numbers alone{}",
                          pointed_at(text, spec.root->at)));
}

std::vector<std::string_view> metric_names() { return {kNames.begin(), kNames.end()}; }

std::string pointed_at(std::string_view text, std::size_t at) {
  std::string line;
  for (const char c : text) line += c == '\n' || c == '\t' || c == '\r' ? ' ' : c;
  std::size_t column = 0;  // in characters
  for (std::size_t i = 0; i < std::min(at, text.size()); ++i)
    column += (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80 ? 0 : 1;
  return fmt::format("\n  {}\n  {:>{}}", line, '^', column + 1);
}

}  // namespace vitrine::interp
