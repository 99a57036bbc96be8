// Lesson 4. The residual stream is shared memory: who writes, who reads.
#include <map>

#include "apps/lessons/lesson.h"
#include "interp/stream.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "nn/model/weights.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

constexpr int kLayers = 6, kLast = 4;  // layers; the last position of the prompt

// [snippet writers]
// Everything that writes to the stream, in order.
std::vector<std::string> writers() {
  std::vector<std::string> names = {"hook_embed", "hook_pos_embed"};
  for (int layer = 0; layer < kLayers; ++layer) {
    names.push_back(site::attn_out(layer).name);
    names.push_back(site::mlp_out(layer).name);
  }
  return names;
}
// [/snippet writers]

std::vector<double> at_last(const nn::Run& run, const std::string& site) {
  return run[site].select(0, 0).select(0, kLast).to_vector<double>();
}

double length(const std::vector<double>& v) {
  double squares = 0;
  for (const double x : v) squares += x * x;
  return std::sqrt(squares);
}

// [snippet direction]
// How far a vector of the stream, divided by the last norm's scale, raises " Austin" over
// " Sacramento". The norm subtracts the mean and multiplies by a gain; the unembedding has a row for
// each token.
double pushes(const std::vector<double>& written, double scale, const std::vector<double>& gain,
              const std::vector<double>& austin, const std::vector<double>& sacramento) {
  double mean = 0, sum = 0;
  for (const double x : written) mean += x / static_cast<double>(written.size());
  for (std::size_t i = 0; i < written.size(); ++i)
    sum += (written[i] - mean) / scale * gain[i] * (austin[i] - sacramento[i]);
  return sum;
}
// [/snippet direction]

double difference(const nn::Model& m, const nn::Run& run) {
  const Tensor logits = run.last_logits();
  return logits.at<float>({0, m.token(" Austin")}) - logits.at<float>({0, m.token(" Sacramento")});
}

void who_reads(const nn::Model& m, const std::string& prompt) {
  section("Who reads whom?");
  // [snippet readers]
  const interp::StreamUse use = interp::stream_use(m, m.tokens(prompt), kLast);
  const auto share = [&](const std::string& writer, int reader) {
    double sum = 0;  // over the parts of a writer: each head is one
    for (std::size_t w = 0; w < use.writers.size(); ++w)
      for (std::size_t r = 0; r < use.readers.size(); ++r)
        if (use.writers[w].starts_with(writer) && use.readers[r] == fmt::format("{}_mlp", reader))
          sum += use.share.at<double>({static_cast<int>(w), static_cast<int>(r)});
    return sum;
  };
  // [/snippet readers]
  std::vector<std::pair<std::string, std::vector<std::string>>> parts = {
      {"embedding", {"embed", "pos_embed"}}};
  for (int layer = 0; layer < kLayers; ++layer) {
    parts.push_back({fmt::format("attention {}", layer),
                     {fmt::format("L{}H", layer), fmt::format("{}_attn_b_O", layer)}});
    parts.push_back({fmt::format("MLP {}", layer), {fmt::format("{}_mlp_out", layer)}});
  }
  std::vector<Row> rows;
  std::vector<double> sums(kLayers, 0);
  for (const auto& [name, writers_of_part] : parts) {
    Row row = {name};
    for (int reader = 0; reader < kLayers; ++reader) {
      double of_part = 0;
      for (const std::string& writer : writers_of_part) of_part += share(writer, reader);
      sums[static_cast<std::size_t>(reader)] += of_part;
      row.push_back(of_part == 0 ? "·" : fmt::format("{:.0f}%", 100 * of_part));
    }
    rows.push_back(row);
  }
  table({"writer", "read by MLP 0", "MLP 1", "MLP 2", "MLP 3", "MLP 4", "MLP 5"}, rows);
  expect("shares of what MLP 5 reads add up to", sums.back(), near(1, 1e-6));
  const auto attention_1 = [&](int reader) {
    return share("L1H", reader) + share("1_attn_b_O", reader);
  };
  expect("of which attention 1 is", attention_1(5), near(0.25, 0.005));
  expect("attention 1, of what MLP 2 reads", attention_1(2), near(0.42, 0.005));
}

void erase_one_note(const nn::Model& m, const std::string& prompt, double whole) {
  section("Erase one note, and see who needed it");
  std::vector<Row> rows;
  std::map<std::string, double> left;  // by what was erased
  for (int layer = 0; layer < kLayers; ++layer) {
    Row row = {fmt::format("layer {}", layer)};
    // [snippet erase]
    for (const Site& note : {site::attn_out(layer), site::mlp_out(layer)}) {
      const nn::Run without =
          m.run_edited({m.tokens(prompt)}, {zero(note)}, fetch(value("logits")));
      left[note.name] = difference(m, without);
      // [/snippet erase]
      row.push_back(fmt::format("{:+.2f}", left[note.name]));
    }
    rows.push_back(row);
  }
  say("Austin over Sacramento is {:+.2f}; without what one part wrote:\n", whole);
  table({"", "its attention", "its MLP"}, rows);
  expect("without attention 1", left[site::attn_out(1).name], near(-0.93, 0.01));
  expect("without attention 0", left[site::attn_out(0).name], near(0.60, 0.01));
  expect("without attention 3", left[site::attn_out(3).name], at_least(whole));
}

}  // namespace

int main() {
  const nn::Model m = nn::load_gpt2();
  const std::string prompt = "The capital of Texas is";

  section("Nobody overwrites: the stream is a sum");
  // [snippet sum]
  const nn::Run run = m.run(prompt, sites("hook_embed,hook_pos_embed,blocks.*.hook_attn_out"),
                            sites("blocks.*.hook_mlp_out,blocks.*.hook_resid_post"),
                            sites("ln_final.hook_scale"), value("logits"));
  std::vector<double> sum(256, 0);
  for (const std::string& writer : writers()) {
    const std::vector<double> written = at_last(run, writer);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += written[i];
  }
  // [/snippet sum]
  const std::vector<double> end = at_last(run, site::resid_post(kLayers - 1).name);
  double largest = 0;
  for (std::size_t i = 0; i < sum.size(); ++i)
    largest = std::max(largest, std::abs(sum[i] - end[i]));
  std::vector<std::pair<std::string, double>> lengths;
  for (const std::string& writer : writers())
    lengths.emplace_back(writer, length(at_last(run, writer)));
  lengths.emplace_back("their sum", length(sum));
  bars(lengths);
  expect("the sum and the stream after the last layer differ by", largest, at_most(1e-4));

  section("Who wrote the answer?");
  // [snippet pushes]
  const Parameters w = nn::weights(m, "unembed.W_U,ln_final.*");
  const auto column = [&](const char* token) {
    return w.at("unembed.W_U").select(1, m.token(token)).to_vector<double>();
  };
  const std::vector<double> austin = column(" Austin"), sacramento = column(" Sacramento");
  const std::vector<double> gain = w.at("ln_final.w").to_vector<double>();
  const double scale = run["ln_final.hook_scale"].at<float>({0, kLast, 0});
  double total = 0;
  std::map<std::string, double> push_of;
  std::vector<Row> rows;
  for (const std::string& writer : writers()) {
    const double push = pushes(at_last(run, writer), scale, gain, austin, sacramento);
    rows.push_back({writer, fmt::format("{:+.2f}", push)});
    total += push_of[writer] = push;
  }
  // [/snippet pushes]
  const std::vector<double> bias = w.at("ln_final.b").to_vector<double>();
  double of_bias = 0;
  for (std::size_t i = 0; i < bias.size(); ++i) of_bias += bias[i] * (austin[i] - sacramento[i]);
  rows.push_back({"the last norm's bias", fmt::format("{:+.2f}", of_bias)});
  rows.push_back({"sum", fmt::format("{:+.2f}", total + of_bias)});
  table({"writer", "Austin over Sacramento"}, rows);
  expect("attention 1", push_of[site::attn_out(1).name], near(7.28, 0.01));
  expect("the last MLP", push_of[site::mlp_out(5).name], near(2.20, 0.01));
  expect("sum", total + of_bias, near(difference(m, run), 1e-3));

  who_reads(m, prompt);
  erase_one_note(m, prompt, difference(m, run));
}
