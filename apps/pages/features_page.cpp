#include "apps/pages/features_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "apps/pages/page_texts.h"
#include "interp/neurons.h"
#include "interp/readout.h"
#include "interp/steering.h"
#include "nn/families/sites.h"
#include "nn/model/sampling.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

constexpr std::int64_t kBlock = 64, kBlockOfFolder = 256;  // features of a chunk
constexpr int kBins = 24, kIntervals = 8, kExamples = 3, kNearest = 8, kTop = 5;
constexpr double kStrengths[] = {-1, 0.5, 1, 2};  // times the strongest activation

// What a picture can show, and short: three digits.
Json short_number(double x) {
  if (!std::isfinite(x)) return {};
  if (x == 0) return 0;
  const double scale = std::pow(10.0, 2 - std::floor(std::log10(std::abs(x))));
  const double value = scale >= 1 ? std::round(x * scale) / scale : std::round(x);
  return value == std::trunc(value) ? Json(static_cast<std::int64_t>(value)) : Json(value);
}

class Maker {
 public:
  Maker(const nn::Model& model, const sae::Sae& sae, const sae::FeatureContexts* found,
        const FeaturesPageSpec& spec)
      : model_(model),
        sae_(sae),
        found_(found),
        spec_(spec),
        decoder_(sae.weights.at("W_dec").contiguous()) {}

  FeaturesPage make() {
    if (found_ != nullptr) read_places();
    steer();
    layer_of_neurons();
    for (std::int64_t begin = 0; begin < count(); begin += block_size())
      add_block(begin, std::min(count(), begin + block_size()));
    if (all_texts_) chunk("texts", all_texts_->json());
    chunk("search", search_);
    chunk("words", words_json());
    data_["list"] = list_;
    data_["block"] = block_size();
    data_["window"] = spec_.window;
    page_.data = std::move(data_);
    return std::move(page_);
  }

 private:
  std::int64_t block_size() const { return spec_.in_folder ? kBlockOfFolder : kBlock; }
  std::int64_t count() const { return std::ssize(spec_.features); }
  std::int64_t feature(std::int64_t row) const {
    return spec_.features[static_cast<std::size_t>(row)];
  }
  void chunk(std::string name, const Json& json) {
    page_.chunks.push_back({std::move(name), json.line()});
  }
  int word(int id) {
    used_.insert(id);
    return id;
  }
  std::string text(int id) const {
    const int one[] = {id};
    return model_.has_tokenizer() ? model_.tokenizer().shown_tokens(one)[0]
                                  : fmt::format("#{}", id);
  }
  Tensor rows(const std::vector<std::int64_t>& features) const {
    const std::int64_t d = decoder_.dim(1);
    Tensor out = Tensor::empty({std::ssize(features), d}, DType::f32);
    for (std::size_t i = 0; i < features.size(); ++i)
      std::copy_n(decoder_.data<float>() + features[i] * d, d,
                  out.data<float>() + static_cast<std::int64_t>(i) * d);
    return out;
  }

  // ---- places of the text: the strongest contexts of each feature, then a few of each interval
  void read_places() {
    for (std::int64_t row = 0; row < count(); ++row) {
      const std::int64_t j = feature(row);
      Of of{.first = peaks_.size()};
      for (const nn::Peak& p : found_->peaks.of(j)) peaks_.push_back(p);
      for (const sae::Interval& in : sae::intervals(*found_, j, kIntervals)) {
        of.examples.insert(of.examples.begin(),
                           std::min<std::size_t>(kExamples, in.examples.size()));
        peaks_.insert(peaks_.end(), in.examples.begin(),
                      in.examples.begin() + static_cast<std::ptrdiff_t>(of.examples[0]));
      }
      of.last = peaks_.size();
      of_.push_back(std::move(of));
      for (std::size_t i = of_.back().first; i < of_.back().last; ++i)
        places_.push_back({j, peaks_[i].line, peaks_[i].position});
    }
    traces_ = sae::trace_features(model_, sae_, spec_.corpus, *found_, places_,
                                  {.window = spec_.window, .bins = kBins}, spec_.text);
    windows_ = nn::windows_around(model_, spec_.corpus, spec_.text.special, peaks_, spec_.window);
    for (const nn::Window& w : windows_) used_.insert(w.tokens.begin(), w.tokens.end());
    if (!spec_.in_folder) all_texts_.emplace(peaks_, windows_);
  }

  // [text, position, activation, offset, activation, ...]
  Json context(std::size_t place, const PageTexts& texts) const {
    const nn::Peak& p = peaks_[place];
    Json json = {texts.text_of(p), p.position, short_number(p.activation)};
    for (const auto& [offset, activation] : traces_.around[place]) {
      json.push_back(offset);
      json.push_back(short_number(activation));
    }
    return json;
  }

  // ---- steering: the prompt's next tokens with multiples of the decoder row added
  void steer() {
    if (spec_.prompt.empty() || spec_.steered.empty() || !spec_.writes) return;
    constexpr auto kWays = static_cast<std::int64_t>(std::size(kStrengths));
    const Tensor rows_of = rows(spec_.steered);
    const std::int64_t d = rows_of.dim(1), n = rows_of.dim(0);
    Tensor vectors = Tensor::zeros({1 + n * kWays, d}, DType::f32);  // the first adds nothing
    for (std::int64_t i = 0; i < n; ++i) {
      const double peak = peak_of(spec_.steered[static_cast<std::size_t>(i)]);
      for (std::int64_t k = 0; k < kWays; ++k)
        for (std::int64_t x = 0; x < d; ++x)
          vectors.data<float>()[(1 + i * kWays + k) * d + x] =
              static_cast<float>(kStrengths[k] * peak * rows_of.data<float>()[i * d + x]);
    }
    const std::string& name =
        sae_.config.hook_name_out.empty() ? sae_.config.hook_name : sae_.config.hook_name_out;
    const Tensor logits =
        interp::steered_logits(model_, spec_.prompt, Site{name}, vectors, spec_.cancel);
    const auto top = [&](std::int64_t world) {
      Json flat = Json::list();
      const auto size = static_cast<std::size_t>(logits.dim(1));
      for (const nn::Candidate& c :
           nn::top_tokens({logits.data<float>() + world * logits.dim(1), size}, kTop)) {
        flat.push_back(word(c.id));
        flat.push_back(short_number(c.probability));
      }
      return flat;
    };
    for (std::int64_t i = 0; i < n; ++i) {
      Json& ways = steered_[spec_.steered[static_cast<std::size_t>(i)]] = Json::list();
      for (std::int64_t k = 0; k < kWays; ++k) ways.push_back(top(1 + i * kWays + k));
    }
    Json shown = Json::list();
    for (const int id : spec_.prompt) shown.push_back(text(id));
    data_["steering"] = {
        {"str_tokens", shown},
        {"strengths", std::vector<double>(std::begin(kStrengths), std::end(kStrengths))},
        {"plain", top(0)},
        {"count", n}};
  }
  double peak_of(std::int64_t j) const {
    if (found_ == nullptr) return 1;
    const auto peaks = found_->peaks.of(j);
    return peaks.empty() ? 1 : peaks[0].activation;
  }

  // ---- neurons that write what a feature writes: of the layer whose MLP's output it is
  void layer_of_neurons() {
    const std::string& name =
        sae_.config.hook_name_out.empty() ? sae_.config.hook_name : sae_.config.hook_name_out;
    for (int l = 0; l < model_.config().layers && spec_.writes; ++l) {
      if (name != site::mlp_out(l).name && name != site::resid_post(l).name) continue;
      std::vector<interp::NeuronId> ids;
      for (int i = 0; i < model_.config().d_mlp; ++i) ids.push_back({l, i});
      neurons_ = interp::output_rows(model_, ids).to(DType::f32);
      data_["neurons_of"] = l;
    }
  }

  // ---- a block of features
  void add_block(std::int64_t begin, std::int64_t end) {
    if (spec_.cancel != nullptr && *spec_.cancel) throw InterruptedError("interrupted");
    const std::vector<std::int64_t> features(spec_.features.begin() + begin,
                                             spec_.features.begin() + end);
    const Tensor w = rows(features);
    const auto near = sae::neighbours(sae_, features, kNearest, model_.pool());
    std::vector<std::vector<sae::Neighbour>> neurons;
    if (neurons_) neurons = sae::nearest_rows(w, *neurons_, kNearest / 2, model_.pool());
    Tensor logits;
    if (spec_.writes) logits = interp::to_logits(model_, w);
    std::optional<PageTexts> own;
    if (found_ != nullptr && spec_.in_folder) {
      const std::size_t from = of_[static_cast<std::size_t>(begin)].first,
                        to = of_[static_cast<std::size_t>(end - 1)].last;
      own.emplace(std::span(peaks_).subspan(from, to - from),
                  std::span(windows_).subspan(from, to - from));
    }
    Json list = Json::list();
    for (std::int64_t i = 0; i < end - begin; ++i) {
      const auto at = static_cast<std::size_t>(i);
      Json json = Json::object();
      json["neighbours"] = flat(near[at]);
      if (neurons_) json["neurons"] = flat(neurons[at]);
      json["dimensions"] = dimensions(w.data<float>() + i * w.dim(1), w.dim(1));
      add_tokens(json, features[at], spec_.writes ? logits.select(0, i) : Tensor());
      if (found_ != nullptr) add_activity(json, begin + i, own ? *own : *all_texts_);
      if (const auto s = steered_.find(features[at]); s != steered_.end())
        json["steered"] = s->second;
      list.push_back(std::move(json));
    }
    Json block = {{"features", std::move(list)}};
    if (own) block["texts"] = own->json();
    chunk(fmt::format("block-{}", begin / block_size()), block);
  }

  static Json flat(const std::vector<sae::Neighbour>& near) {
    Json list = Json::list();
    for (const sae::Neighbour& n : near) {
      list.push_back(n.feature);
      list.push_back(short_number(n.cosine));
    }
    return list;
  }

  // The dimensions along which a row is longest, w_i / |w|.
  static Json dimensions(const float* row, std::int64_t d) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(d));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    const auto most = std::min<std::ptrdiff_t>(kNearest / 2, std::ssize(order));
    std::partial_sort(
        order.begin(), order.begin() + most, order.end(), [&](std::int64_t a, std::int64_t b) {
          return std::abs(row[a]) != std::abs(row[b]) ? std::abs(row[a]) > std::abs(row[b]) : a < b;
        });
    double squares = 0;
    for (std::int64_t i = 0; i < d; ++i) squares += static_cast<double>(row[i]) * row[i];
    Json list = Json::list();
    for (std::ptrdiff_t k = 0; k < most; ++k) {
      const std::int64_t i = order[static_cast<std::size_t>(k)];
      list.push_back(i);
      list.push_back(short_number(row[i] / std::sqrt(std::max(squares, 1e-30))));
    }
    return list;
  }

  // What it raises and lowers, and its effect: how far its mean activation moves the logit that it moves most.
  void add_tokens(Json& json, std::int64_t j, const Tensor& logits) {
    list_["feature"].push_back(j);
    if (!spec_.writes) {
      json["raised"] = json["lowered"] = Json();
      if (found_ == nullptr) list_["name"].push_back("");
      return;
    }
    const auto raised = interp::highest(logits, spec_.words),
               lowered = interp::lowest(logits, spec_.words);
    const auto add = [&](const char* name, const std::vector<interp::TokenValue>& tokens) {
      Json values = Json::list(), ids = Json::list();
      for (const interp::TokenValue& t : tokens) {
        values.push_back(word(t.id));
        values.push_back(short_number(t.value));
        ids.push_back(t.id);
      }
      json[name] = std::move(values);
      search_[name].push_back(std::move(ids));
    };
    add("raised", raised);
    add("lowered", lowered);
    const double largest = std::max(std::abs(raised[0].value), std::abs(lowered[0].value));
    list_["effect"].push_back(short_number(largest * (found_ == nullptr ? 1 : found_->mean(j))));
    if (found_ != nullptr) return;
    std::string name;
    for (std::size_t k = 0; k < std::min<std::size_t>(3, raised.size()); ++k)
      name += (k ? "," : "") + text(raised[k].id);
    list_["name"].push_back(json_text(name));
  }

  void add_activity(Json& json, std::int64_t row, const PageTexts& texts) {
    const Of& of = of_[static_cast<std::size_t>(row)];
    const std::int64_t j = feature(row);
    const auto peaks = found_->peaks.of(j);
    list_["density"].push_back(short_number(found_->density(j)));
    list_["mean"].push_back(short_number(found_->mean(j)));
    list_["peak"].push_back(short_number(peaks.empty() ? 0 : peaks[0].activation));
    json["contexts"] = Json::list();
    std::map<int, int> at_peaks;  // how often each token is at a peak
    std::set<int> active;         // tokens at which it is active
    std::size_t place = of.first;
    for (std::size_t k = 0; k < peaks.size(); ++k, ++place) {
      json["contexts"].push_back(context(place, texts));
      const nn::Window& w = windows_[place];
      ++at_peaks[w.token()];
      active.insert(w.token());
      for (const auto& [offset, activation] : traces_.around[place])
        active.insert(w.tokens[static_cast<std::size_t>(w.peak + offset)]);
    }
    json["intervals"] = Json::list();
    for (std::size_t k = 0; k < of.examples.size(); ++k) json["intervals"].push_back(Json::list());
    // The places are those of the strongest interval first, the list begins with the weakest.
    for (std::size_t k = of.examples.size(); k-- > 0;)
      for (std::size_t e = 0; e < of.examples[k]; ++e)
        json["intervals"][k].push_back(context(place++, texts));
    if (!peaks.empty()) {
      const auto counts = traces_.counts_of(j);
      json["counts"] = std::vector<std::int64_t>(counts.begin(), counts.end());
    }
    search_["active"].push_back(std::vector<int>(active.begin(), active.end()));
    list_["name"].push_back(json_text(name_of(at_peaks)));
  }
  // The tokens that are most often at its peaks.
  std::string name_of(const std::map<int, int>& counts) {
    std::vector<std::pair<int, int>> order(counts.begin(), counts.end());
    std::stable_sort(order.begin(), order.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    std::string name;
    for (std::size_t k = 0; k < std::min<std::size_t>(3, order.size()); ++k)
      name += (k ? "," : "") + text(order[k].first);
    return name;
  }

  Json words_json() {
    Json words = Json::object();
    for (const int id : used_) words[fmt::format("{}", id)] = json_text(text(id));
    return words;
  }

  struct Of {  // the places of a feature in peaks_
    std::size_t first = 0, last = 0;
    std::vector<std::size_t> examples = {};  // how many of each interval, the weakest first
  };
  const nn::Model& model_;
  const sae::Sae& sae_;
  const sae::FeatureContexts* found_;
  const FeaturesPageSpec& spec_;
  Tensor decoder_;
  std::optional<Tensor> neurons_;  // [neurons, d]
  std::vector<nn::Peak> peaks_;
  std::vector<sae::FeaturePlace> places_;
  std::vector<nn::Window> windows_;
  std::vector<Of> of_;
  sae::FeatureTraces traces_;
  std::optional<PageTexts> all_texts_;
  std::map<std::int64_t, Json> steered_;
  std::set<int> used_;
  Json data_ = Json::object(), list_ = Json::object(), search_ = Json::object();
  FeaturesPage page_;
};

}  // namespace

FeaturesPage features_page(const nn::Model& model, const sae::Sae& sae,
                           const sae::FeatureContexts* found, const FeaturesPageSpec& spec) {
  return Maker(model, sae, found, spec).make();
}

}  // namespace vitrine::app
