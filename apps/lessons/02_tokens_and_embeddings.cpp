// Lesson 2. Tokens and embeddings: how a text becomes rows of numbers, and numbers a next word.
#include <functional>
#include <map>
#include <numeric>

#include "apps/lessons/lesson.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "nn/model/weights.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

// [snippet merges]
// Byte-pair encoding, learnt: the pair of neighbours that occurs most often becomes a token, again
// and again.
std::vector<std::string> learn_merges(std::vector<std::string> text, int count) {
  std::vector<std::string> learnt;
  while (static_cast<int>(learnt.size()) < count) {
    std::map<std::pair<std::string, std::string>, int> seen;
    for (std::size_t i = 0; i + 1 < text.size(); ++i)
      if (text[i + 1][0] != ' ') ++seen[{text[i], text[i + 1]}];  // no token spans two words
    const auto best = std::max_element(seen.begin(), seen.end(), [](const auto& a, const auto& b) {
                        return a.second < b.second;
                      })->first;
    std::vector<std::string> merged;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool pair = i + 1 < text.size() && text[i] == best.first && text[i + 1] == best.second;
      merged.push_back(pair ? text[i] + text[i + 1] : text[i]);
      if (pair) ++i;
    }
    text = merged;
    learnt.push_back(best.first + best.second);
  }
  return learnt;
}
// [/snippet merges]

void show_merges() {
  section("Where tokens come from");
  std::vector<std::string> letters;
  for (const char c : std::string(" the cat sat on the mat the cat ate the rat"))
    letters.emplace_back(1, c);
  const std::vector<std::string> learnt = learn_merges(letters, 6);
  for (std::size_t i = 0; i < learnt.size(); ++i) say("  merge {}: \"{}\"", i + 1, learnt[i]);
  expect("\" the\" is a token after so many merges",
         static_cast<double>(std::find(learnt.begin(), learnt.end(), " the") - learnt.begin() + 1),
         between(1, 6));
}

std::vector<double> row_of(const Tensor& table, std::int64_t i) {
  return table.select(0, i).to_vector<double>();
}

// [snippet cosine]
double dot(const std::vector<double>& u, const std::vector<double>& v) {
  return std::inner_product(u.begin(), u.end(), v.begin(), 0.0);
}
// The cosine of the angle between two rows of a table: 1 is the same direction, 0 unrelated.
double cosine(const Tensor& table, std::int64_t i, std::int64_t j) {
  const std::vector<double> a = row_of(table, i), b = row_of(table, j);
  return dot(a, b) / std::sqrt(dot(a, a) * dot(b, b));
}
// [/snippet cosine]

// The tokens whose rows point most nearly the way that the row of `id` does.
std::vector<int> nearest(const Tensor& table, int id, int count) {
  std::vector<std::pair<double, int>> found;
  for (int j = 0; j < table.dim(0); ++j)
    if (j != id) found.emplace_back(cosine(table, id, j), j);
  std::partial_sort(found.begin(), found.begin() + count, found.end(), std::greater<>());
  std::vector<int> ids;
  for (int i = 0; i < count; ++i) ids.push_back(found[static_cast<std::size_t>(i)].second);
  return ids;
}

// The final norm of the stream at the last position: gain times what is normalised, plus bias.
std::vector<double> normed_at_last(const nn::Model& m, const nn::Run& run) {
  const Parameters w = nn::weights(m, "ln_final.*");
  std::vector<double> x = row_of(run["ln_final.hook_normalized"].select(0, 0), 4);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    x[i] = x[i] * w.at("ln_final.w").at<float>({at}) + w.at("ln_final.b").at<float>({at});
  }
  return x;
}

}  // namespace

int main() {
  show_merges();

  section("A text is a list of numbers");
  // [snippet tokens]
  const nn::Model m = nn::load_gpt2();
  const std::string prompt = "The capital of Texas is";
  const nn::Tokens ids = m.tokens(prompt);
  // [/snippet tokens]
  std::vector<Row> rows;
  for (std::size_t i = 0; i < ids.size(); ++i)
    rows.push_back({fmt::format("\"{}\"", m.tokenizer().token_bytes(ids[i])), fmt::to_string(i),
                    fmt::to_string(ids[i])});
  table({"token", "position", "id"}, rows);
  expect("tokens of the prompt", static_cast<double>(ids.size()), near(5, 0));
  expect("decoded it is the prompt again", m.tokenizer().decode(ids) == prompt, near(1, 0));
  for (const char* text : {" Austin", "Austin", " unbelievably", " naïve"}) {
    std::string pieces;
    for (const std::string& piece : m.tokenizer().str_tokens(text))
      pieces += fmt::format(" \"{}\"", piece);
    say("  \"{}\" →{}", text, pieces);
  }
  expect("tokens of \" Austin\"", static_cast<double>(m.tokenizer().encode(" Austin").size()),
         near(1, 0));

  section("A token is a row of a table");
  // [snippet embed]
  const Parameters w = nn::weights(m, "embed.W_E,pos_embed.W_pos");
  const Tensor w_e = w.at("embed.W_E"), w_pos = w.at("pos_embed.W_pos");  // [6000, 256], [256, 256]
  const nn::Run run = m.run(prompt, sites("hook_embed,hook_pos_embed,blocks.0.hook_resid_pre"),
                            sites("ln_final.hook_normalized"), value("logits"));
  // [/snippet embed]
  say("  the table has {} rows of {} numbers", w_e.dim(0), w_e.dim(1));
  double embedding = 0, position = 0, sum = 0;
  for (std::int64_t p = 0; p < 5; ++p) {
    const Tensor what = w_e.select(0, ids[static_cast<std::size_t>(p)]), where = w_pos.select(0, p);
    embedding =
        std::max(embedding, max_abs_difference(what, run[site::embed()].select(0, 0).select(0, p)));
    position = std::max(
        position, max_abs_difference(where, run[site::pos_embed()].select(0, 0).select(0, p)));
    for (std::int64_t i = 0; i < 256; ++i)
      sum = std::max<double>(sum, std::abs(what.at<float>({i}) + where.at<float>({i}) -
                                           run[site::resid_pre(0)].at<float>({0, p, i})));
  }
  expect("hook_embed and the token's row differ by", embedding, near(0, 0));
  expect("hook_pos_embed and the position's row differ by", position, near(0, 0));
  expect("what enters the first layer and their sum differ by", sum, at_most(1e-6));

  section("Tokens that are used alike point the same way");
  for (const char* word : {" three", " said", " Mary", " mother", " Texas"}) {
    std::string line = fmt::format("  {:<9}", word);
    for (const int id : nearest(w_e, m.token(word), 5))
      line += fmt::format(" \"{}\"", m.tokenizer().token_bytes(id));
    say("{}", line);
  }
  // [snippet alike]
  const double alike = cosine(w_e, m.token(" three"), m.token(" four"));
  const double unlike = cosine(w_e, m.token(" three"), m.token(" Austin"));
  // [/snippet alike]
  expect("cosine of \" three\" and \" four\"", alike, at_least(0.2));
  expect("cosine of \" three\" and \" Austin\"", unlike, at_most(0.1));

  section("Positions that are near point the same way, too");
  std::vector<std::pair<std::string, double>> by_distance;
  for (const std::int64_t d : {1, 2, 4, 8, 16, 32})
    by_distance.emplace_back(fmt::format("20 and {}", 20 + d),
                             std::max(0.0, cosine(w_pos, 20, 20 + d)));
  bars(by_distance);
  expect("cosine of positions 20 and 21", by_distance.front().second, at_least(0.3));

  section("The way out: the same table, asked the other way round");
  // [snippet unembed]
  // What the stream says at the last position, normed; compared with the row of every token.
  const std::vector<double> said = normed_at_last(m, run);
  std::vector<std::pair<double, int>> logits;
  for (int id = 0; id < w_e.dim(0); ++id) logits.emplace_back(dot(said, row_of(w_e, id)), id);
  std::sort(logits.begin(), logits.end(), std::greater<>());
  // [/snippet unembed]
  rows.clear();
  double differs = 0;
  for (int i = 0; i < 4; ++i) {
    const auto [logit, id] = logits[static_cast<std::size_t>(i)];
    const double library = run.last_logits().at<float>({0, id});
    differs = std::max(differs, std::abs(logit - library));
    rows.push_back({fmt::format("\"{}\"", m.tokenizer().token_bytes(id)),
                    fmt::format("{:.3f}", logit), fmt::format("{:.3f}", library)});
  }
  table({"next token", "dot product", "the library's logit"}, rows);
  expect("they differ by", differs, at_most(1e-4));
  expect("the best one is \" Austin\"", logits[0].second == m.token(" Austin"), near(1, 0));
  expect("its logit", logits[0].first, near(16.63, 0.01));
}
