#include "apps/options/sae_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "autograd/transform/expand.h"
#include "nn/model/find_model.h"
#include "sae/end_to_end.h"
#include "tensor/error.h"
#include "tensor/files/json_reader.h"
#include "tensor/files/json_text.h"
#include "tensor/nearest.h"

namespace vitrine::app {
namespace {

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(at, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

}  // namespace

// ---- activations --------------------------------------------------------------------------------
void ActivationOptions::add_to(CommandLine& line, const std::string& heading) {
  line.heading(heading);
  line.option("--data", files_, "FILE",
              "a text that the model reads: each line a document, or JSONL with {\"text\": ...}\n"
              "or {\"tokens\": [...]} a line; may be repeated");
  line.option("--activations", patterns_, "PATTERN",
              "instead: safetensors files with activations, 'shards/*.safetensors'; may be\n"
              "repeated");
  line.option("--tensor", tensors_, "NAME", "the tensor in these files, [rows, width]");
  line.number("--context", context_, "N", "longest piece of a document (default: the model's)", 1,
              1 << 20);
  line.flag("--prepend-bos", prepend_bos_,
            "put the beginning-of-text token before every piece; it gives no row");
  line.flag("--exclude-special", exclude_special_,
            "leave out rows of the tokenizer's special tokens");
  line.flag("--special", special_, "the text of a special token becomes its one id");
}

void ActivationOptions::require(const CommandLine& line) const {
  if (files_.empty() == patterns_.empty()) {
    line.fail(files_.empty()
                  ? "there is nothing to read: give --data FILE, or --activations with --tensor"
                  : "give --data or --activations, not both");
  }
  if (!patterns_.empty() && tensors_.empty())
    line.fail("--activations needs the name of the tensor in these files: --tensor NAME");
  if (patterns_.empty() && !tensors_.empty())
    line.fail("--tensor is about --activations; a model's activations have --site");
  if (!patterns_.empty() && (context_ != 0 || prepend_bos_ || exclude_special_ || special_))
    line.fail(
        "--context, --prepend-bos, --exclude-special and --special are about texts; activations "
        "in files are taken as they are");
}

sae::TextSourceSpec ActivationOptions::spec(const nn::Model& model,
                                            const std::vector<std::string>& sites,
                                            std::uint64_t seed) const {
  sae::TextSourceSpec spec;
  for (const std::string& f : files_) spec.files.emplace_back(f);
  spec.sites = sites;
  spec.context = context_;
  spec.special = special_;
  spec.seed = seed;
  const auto bos = model.config().bos;
  spec.bos = bos_of_lines(model, prepend_bos_);
  if (exclude_special_) {
    if (!model.has_tokenizer() && !bos)
      throw TokenError(
          "--exclude-special: this model has no tokenizer that says which tokens are "
          "special");
    std::set<int> special;
    if (bos) special.insert(*bos);
    if (model.config().eos) special.insert(*model.config().eos);
    special.insert(model.config().more_ends.begin(), model.config().more_ends.end());
    if (model.has_tokenizer()) {
      for (const nn::AddedToken& token : model.tokenizer().added_tokens())
        if (token.special) special.insert(token.id);
    }
    spec.excluded.assign(special.begin(), special.end());
  }
  return spec;
}

std::unique_ptr<sae::ActivationSource> ActivationOptions::source(
    const nn::Model* model, const std::vector<std::string>& sites, std::uint64_t seed) const {
  if (from_files()) return sae::file_source(patterns_, tensors_);
  return sae::text_source(*model, spec(*model, sites, seed));
}

Json ActivationOptions::json() const {
  return {
      {"files", files_},     {"patterns", patterns_},       {"tensors", tensors_},
      {"context", context_}, {"prepend_bos", prepend_bos_}, {"exclude_special", exclude_special_},
      {"special", special_}};
}
ActivationOptions ActivationOptions::from_json(const JsonReader& json) {
  const auto texts = [&](const char* key) {
    std::vector<std::string> all;
    for (const JsonReader& item : json.at(key).list()) all.push_back(item.text());
    return all;
  };
  ActivationOptions o;
  o.files_ = texts("files");
  o.patterns_ = texts("patterns");
  o.tensors_ = texts("tensors");
  if (o.files_.empty() == o.patterns_.empty())
    json.at("files").reject("files or patterns, and not both");
  if (o.patterns_.empty() != o.tensors_.empty())
    json.at("tensors").reject("a name for each of the patterns, and for nothing else");
  o.context_ = static_cast<int>(json.at("context").whole(0, 1 << 20));
  o.prepend_bos_ = json.at("prepend_bos").flag();
  o.exclude_special_ = json.at("exclude_special").flag();
  o.special_ = json.at("special").flag();
  return o;
}

// ---- training -----------------------------------------------------------------------------------
void SaeTrainOptions::add_to(CommandLine& line) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  line.flag("--resume", resume, "go on from the last save in --out, with its settings");
  line.flag(
      "--overwrite", overwrite,
      "begin in a folder that is not empty: files of the run's names are replaced, others stay");
  activations.add_to(line, "Activations");
  line.option("--site", sites_, "SITE,...",
              "where: blocks.1.hook_mlp_out, say; several sites are trained in one pass, as are\n"
              "all settings of --sweep");
  line.option(
      "--target", target_, "SITE,...",
      "a transcoder: what it gives is this site, or a second --tensor; of several sites one\n"
      "for each, in their order: --site '*.ln2.hook_normalized' --target '*.hook_mlp_out'");
  line.flag(
      "--cross-layer", cross_layer_,
      "one transcoder of all layers: the features of each --site write to its own --target and\n"
      "to all later ones; --features and --k are those of a layer. Of --activations the first\n"
      "half of the --tensor names is read, the second half given");
  line.number("--buffer", buffer_.rows, "ROWS", "that are mixed at a time (default: 131072)",
              std::int64_t{1}, kMost);
  line.option("--buffer-type", buffer_type_, "TYPE",
              "how they are held: f32 (default), f16 or bf16")
      ->one_of({"f32", "f16", "bf16"});
  line.option("--buffer-file", buffer_file_, "FILE",
              "where they are held, mapped and removed at the end (default: in memory)");
  line.heading("SAE");
  line.option(
      "--kind", kind_, "KIND",
      "standard, topk (default), batchtopk, matryoshka, jumprelu, gated or matching_pursuit");
  line.number("--features", rules_.d_sae, "F", "how many (default: 8 for each input)",
              std::int64_t{1}, kMost);
  line.real("--k", rules_.k, "K",
            "topk, batchtopk, matryoshka: active features of a sample (default: 32);\n"
            "matching_pursuit: features that it takes at most",
            {.least = 0, .most = 1e9, .above = true});
  line.real("--residual", rules_.residual_threshold, "X",
            "matching_pursuit: it ends once what is left over has a norm below (default: 0.01;\n"
            "0: never)",
            {.least = 0, .most = 1e9});
  line.numbers("--widths", widths_, "N,...",
               "matryoshka: prefixes of features (default: a quarter, half, all)",
               NumberRange<std::int64_t>{1, kMost});
  line.real("--sparsity", rules_.sparsity, "X",
            "coefficient of the penalty: standard, gated (L1), jumprelu (L0) (default: 1)",
            {.least = 0, .most = 1e9});
  line.number("--sparsity-warmup", rules_.sparsity_warmup, "N",
              "steps in which it rises (default: 0)", std::int64_t{0}, kMost);
  line.flag("--plain-l1", plain_l1_, "standard: the penalty is not weighted by decoder norms");
  line.option("--penalty", penalty_, "KIND", "jumprelu: step (default) or tanh");
  line.real("--bandwidth", rules_.bandwidth, "X",
            "jumprelu: of the step's gradient (default: 0.05)",
            {.least = 0, .most = 1e9, .above = true});
  line.real("--aux", rules_.aux, "X",
            "coefficient of the dead features' auxiliary loss, topk kinds (default: 1)",
            {.least = 0, .most = 1e9});
  line.option("--normalize", normalise_, "HOW",
              "none (default), expected_average_only_in, layer_norm or constant_norm_rescale");
  line.option("--bias", bias_, "WHAT",
              "what b_dec begins as: zero, mean or geometric-median (default) of a sample")
      ->one_of({"zero", "mean", "geometric-median"});
  line.flag("--no-b-dec", no_b_dec_, "do not subtract b_dec from the input");
  line.flag("--no-rescale", no_rescale_, "topk kinds: rank features without their decoder norms");
  line.flag("--unit-norm", rules_.unit_norm, "decoder rows keep norm 1");
  line.flag("--skip", rules_.skip, "transcoder: with a skip connection");
  line.heading("End to end");
  line.flag(
      "--end-to-end", end_to_end_,
      "train for what the model says with the reconstruction in its site: the loss is the KL\n"
      "divergence of its predictions from those of the model as it is, and what keeps\n"
      "features few; kinds standard, topk, batchtopk, jumprelu and matching_pursuit");
  line.real("--kl", e2e_.kl, "X", "coefficient of the KL divergence, in nats (default: 1)",
            {.least = 0, .most = 1e9});
  line.real("--downstream", e2e_.downstream, "X",
            "coefficient of |a' - a|^2 at later sites, their mean (default: 0)",
            {.least = 0, .most = 1e9});
  line.option("--downstream-site", downstream_, "SITE,...",
              "which (default: the residual stream after its layer and every later one)");
  line.real("--local", e2e_.local, "X", "coefficient of |x' - x|^2 at the site (default: 0)",
            {.least = 0, .most = 1e9});
  line.heading("Training");
  line.number("--vectors", vectors_, "N", "samples in all (default: 2000000)", std::int64_t{1},
              kMost);
  line.number("--batch", rules_.batch, "N", "samples of a step (default: 4096; end to end 1024)",
              std::int64_t{1}, kMost);
  line.real("--rate", rules_.schedule.peak, "RATE", "peak learning rate (default: 0.0003)",
            {.least = 0, .most = 1000, .above = true});
  line.number("--warmup", warmup_, "N", "steps in which it rises (default: 0)", std::int64_t{0},
              kMost);
  line.option("--schedule", shape_, "SHAPE", "how it falls: constant (default), linear or cosine")
      ->one_of({"cosine", "linear", "constant"});
  line.real("--last-rate", rules_.schedule.last, "SHARE",
            "of the peak, at the last step (default: 0)", {.least = 0, .most = 1});
  line.real("--clip", rules_.clip, "X", "largest norm of the gradient (default: 1; 0: none)",
            {.least = 0, .most = 1e9});
  line.number("--dead-after", rules_.dead_after, "N",
              "samples without firing that make a feature dead (default: 4096000)", std::int64_t{1},
              kMost);
  line.number("--resample-every", rules_.resample_every, "STEPS",
              "give dead features the direction of badly reconstructed samples (default: never)",
              std::int64_t{0}, kMost);
  line.option("--sweep", sweeps_, "KEY=V,...",
              "one SAE for each value, or each combination if repeated; KEY is one of kind, k,\n"
              "features, sparsity, rate, aux, bandwidth, seed");
  line.heading("While it runs");
  line.number("--stop-after", stop_after, "N", "save and end after this step; --resume goes on",
              std::int64_t{1}, kMost);
  line.number("--log-every", log_every, "N", "steps (default: 20)", std::int64_t{1}, kMost);
  line.real("--save-every", save_every, "SECONDS", "(default: 300)", {.least = 0, .most = 1e9});
  common.add_to(line, "the folder of the run (required)");
}

void SaeTrainOptions::check(const CommandLine& line) const {
  if (common.out.empty() || common.out == "-")
    line.fail("there is no folder for the run; give --out DIR");
  const bool there = sae::SaeTrainer::exists(common.out);
  if (resume && overwrite)
    line.fail("--overwrite cannot be given with --resume, which replaces nothing");
  if (resume) {
    if (!there)
      line.fail(fmt::format("{} holds no run to go on with; leave --resume out to begin one",
                            common.out));
    for (const char* heading : {"Activations", "SAE", "End to end", "Training"}) {
      for (const std::string& name : line.given(heading))
        line.fail(fmt::format(
            "{} cannot be given with --resume: a run goes on with its own settings", name));
    }
    return;
  }
  if (!overwrite && there) {
    line.fail(
        fmt::format("{} holds a run already: add --resume to go on with it, or give another folder",
                    common.out));
  }
  if (!overwrite) require_unused_folder(common.out);
  activations.require(line);
  if (activations.from_files()) {
    if (!sites_.empty()) line.fail("--site is about a model; --activations have --tensor");
  } else if (sites_.empty()) {
    line.fail("give --site, the activations to train on: blocks.1.hook_mlp_out, say");
  }
  check_end_to_end(line);
  sae::SaeTrainingRules tried = rules_;  // values of a sweep are looked at before anything is read
  for (const Swept& sweep : sweeps(line)) {
    for (const std::string& value : sweep.values) set(line, tried, sweep.key, value);
  }
  if (normalise_ == "covariance_whitening") {
    line.fail(
        "--normalize covariance_whitening is not supported; there are none, "
        "expected_average_only_in, layer_norm and constant_norm_rescale");
  }
  if (penalty_ == "quadratic")
    line.fail(
        "--penalty quadratic, the quadratic L0 loss, is not supported; there are step and tanh");
  if (penalty_ != "step" && penalty_ != "tanh")
    line.fail(fmt::format("there is no --penalty {}; there are step and tanh", penalty_));
}

void SaeTrainOptions::check_end_to_end(const CommandLine& line) const {
  if (!end_to_end_) {
    for (const std::string& name : line.given("End to end"))
      line.fail(
          fmt::format("{} is about training for the model's predictions: add --end-to-end", name));
    return;
  }
  if (activations.from_files())
    line.fail("--end-to-end runs the model itself: give --data, texts, instead of --activations");
  for (const std::string& name : line.given("Activations")) {
    if (name.starts_with("--buffer"))
      line.fail(
          fmt::format("{} is about rows that are mixed; --end-to-end runs whole texts", name));
  }
  if (!downstream_.empty() && e2e_.downstream == 0)
    line.fail("--downstream-site needs --downstream, the coefficient of the error there");
}

std::int64_t SaeTrainOptions::batch(const CommandLine& line) const {
  constexpr std::int64_t kOfTexts = 1024;  // a batch has logits for each of its tokens
  const std::vector<std::string> given = line.given("Training");
  const bool asked = std::find(given.begin(), given.end(), "--batch") != given.end();
  return end_to_end_ && !asked ? kOfTexts : rules_.batch;
}

sae::EndToEnd SaeTrainOptions::end_to_end(const nn::Model& model, const std::string& input) const {
  sae::EndToEnd e = e2e_;
  if (e.downstream == 0) return e;
  if (!downstream_.empty()) {
    const Graph graph = model.build(nn::Model::Uniform{1, 1});
    for (const std::string& pattern : split(downstream_, ',')) {
      for (const std::string& name : select_sites(SiteSet{pattern}, graph.site_names()))
        e.sites.push_back(name);
    }
    return e;
  }
  e.sites = sae::later_streams(model, input);
  if (e.sites.empty())
    throw Error(ErrorKind::usage,
                fmt::format("--downstream: no residual stream comes after '{}'; name a site by "
                            "--downstream-site",
                            input));
  return e;
}

std::vector<std::string> SaeTrainOptions::inputs(const nn::Model* model) const {
  if (model == nullptr) {
    const std::vector<std::string>& all = activations.tensors();
    return {all.begin(), all.begin() + (cross_layer_ ? std::ssize(all) / 2 : 1)};
  }
  std::vector<std::string> names;
  for (const std::string& given : sites_) {
    for (const std::string& pattern : split(given, ',')) {
      const Graph graph = model->build(nn::Model::Uniform{1, 1});
      for (const std::string& name : select_sites(SiteSet{pattern}, graph.site_names()))
        names.push_back(name);
    }
  }
  return names;
}

std::vector<std::string> SaeTrainOptions::targets(const nn::Model* model) const {
  std::vector<std::string> names;
  if (model == nullptr) {
    const std::vector<std::string>& all = activations.tensors();
    if (cross_layer_) names.assign(all.begin() + std::ssize(all) / 2, all.end());
    else if (all.size() > 1) names.push_back(all[1]);
    return names;
  }
  if (target_.empty()) return names;
  const Graph graph = model->build(nn::Model::Uniform{1, 1});
  for (const std::string& pattern : split(target_, ',')) {
    for (const std::string& name : select_sites(SiteSet{pattern}, graph.site_names()))
      names.push_back(name);
  }
  const std::size_t sites = inputs(model).size();
  if (names.size() != 1 && names.size() != sites)
    throw Error(
        ErrorKind::usage,
        fmt::format("--target means {} sites, and --site {}: give one for each, or one for all",
                    names.size(), sites));
  return names;
}

std::vector<std::string> SaeTrainOptions::columns(const nn::Model* model) const {
  if (model == nullptr) return activations.tensors();
  std::vector<std::string> names = inputs(model);
  for (std::string& name : targets(model)) names.push_back(std::move(name));
  std::vector<std::string> once;
  for (const std::string& n : names) {
    if (std::find(once.begin(), once.end(), n) == once.end()) once.push_back(n);
  }
  return once;
}

std::vector<SaeTrainOptions::Swept> SaeTrainOptions::sweeps(const CommandLine& line) const {
  std::vector<Swept> out;
  for (const std::string& text : sweeps_) {
    const std::size_t at = text.find('=');
    if (at == std::string::npos || at == 0 || at + 1 == text.size())
      line.fail(fmt::format("--sweep takes KEY=VALUE,VALUE,..., not '{}'", text));
    out.push_back({text.substr(0, at), split(text.substr(at + 1), ',')});
  }
  return out;
}

void SaeTrainOptions::set(const CommandLine& line, sae::SaeTrainingRules& rules,
                          const std::string& key, const std::string& value) const {
  const std::string where = "--sweep " + key;
  const auto real = [&](const char* option) { return line.value_of<double>(option, value, where); };
  const std::vector<std::string> keys = {"kind", "k",         "features", "sparsity", "rate",
                                         "lr",   "bandwidth", "aux",      "seed"};
  if (key == "kind") rules.kind = sae::parse_kind(value);
  else if (key == "k") rules.k = real("--k");
  else if (key == "features") rules.d_sae = line.value_of<std::int64_t>("--features", value, where);
  else if (key == "sparsity") rules.sparsity = real("--sparsity");
  else if (key == "rate" || key == "lr") rules.schedule.peak = real("--rate");
  else if (key == "bandwidth") rules.bandwidth = real("--bandwidth");
  else if (key == "aux") rules.aux = real("--aux");
  else if (key == "seed") rules.seed = line.value_of<std::uint64_t>("--seed", value, where);
  else
    line.fail(fmt::format("--sweep knows no '{}'{}; there are {}", key,
                          did_you_mean(nearest(key, keys, 1)), fmt::join(keys, ", ")));
}

sae::SaeTrainingRules SaeTrainOptions::base_rules(const CommandLine& line,
                                                  std::int64_t steps) const {
  sae::SaeTrainingRules base = rules_;
  base.batch = batch(line);
  base.kind = sae::parse_kind(kind_);
  base.norm_weighted = !plain_l1_;
  base.apply_b_dec_to_input = !no_b_dec_;
  base.rescale_by_decoder_norm =
      !no_rescale_ && target_.empty() && activations.tensors().size() < 2;
  base.penalty = penalty_ == "tanh" ? sae::Penalty::tanh : sae::Penalty::step;
  for (const auto n : {sae::Normalisation::none, sae::Normalisation::expected_average_only_in,
                       sae::Normalisation::layer_norm, sae::Normalisation::constant_norm_rescale}) {
    if (sae::name_of(n) == normalise_) base.normalise = n;
  }
  if (sae::name_of(base.normalise) != normalise_)
    line.fail(
        fmt::format("there is no --normalize {}; there are none, expected_average_only_in, "
                    "layer_norm and constant_norm_rescale",
                    normalise_));
  base.seed = common.seed;
  base.schedule.shape = shape_ == "cosine"   ? nn::Schedule::Shape::cosine
                        : shape_ == "linear" ? nn::Schedule::Shape::linear
                                             : nn::Schedule::Shape::constant;
  base.schedule.warmup = warmup_;
  base.schedule.steps = steps;
  if (base.schedule.shape != nn::Schedule::Shape::constant && base.schedule.last == 1)
    base.schedule.last = 0;
  return base;
}

SaeTrainOptions::Variants SaeTrainOptions::variants(const CommandLine& line,
                                                    const sae::SaeTrainingRules& base) const {
  Variants variants = {{"", base}};
  for (const Swept& sweep : sweeps(line)) {
    Variants more;
    for (const auto& [name, rules] : variants) {
      for (const std::string& value : sweep.values) {
        sae::SaeTrainingRules changed = rules;
        set(line, changed, sweep.key, value);
        more.emplace_back(fmt::format("{}{}{}-{}", name, name.empty() ? "" : "_", sweep.key, value),
                          changed);
      }
    }
    variants = std::move(more);
  }
  return variants;
}

sae::TrainSettings SaeTrainOptions::settings(
    const CommandLine& line, const std::vector<std::string>& names,
    const std::vector<std::string>& targets,
    const std::function<std::int64_t(const std::string&)>& width_of, const nn::Model* model) const {
  sae::TrainSettings s;
  s.steps = (vectors_ + batch(line) - 1) / batch(line);
  const Variants all = variants(line, base_rules(line, s.steps));
  const auto add = [&](const std::vector<std::string>& read, const std::vector<std::string>& given,
                       const std::string& place) {
    for (auto [name, rules] : all) {
      rules.d_in = width_of(read[0]);
      if (rules.d_sae == 0) rules.d_sae = 8 * rules.d_in;
      if (!given.empty()) {
        rules.transcoder = true;
        rules.d_out = width_of(given[0]);
        rules.apply_b_dec_to_input = false;
      }
      if (cross_layer_) rules.layers = std::ssize(read);
      if (end_to_end_) rules.end_to_end = end_to_end(*model, read[0]);
      if (rules.kind == sae::Kind::matryoshka) {
        rules.widths = widths_;
        if (rules.widths.empty()) rules.widths = {rules.d_sae / 4, rules.d_sae / 2, rules.d_sae};
      }
      sae::check_rules(rules);
      const char* between = place.empty() || name.empty() ? "" : "_";
      s.jobs.push_back({place + between + name, rules, read, given});
    }
  };
  if (cross_layer_) {
    if (targets.size() != names.size())
      line.fail(fmt::format(
          "--cross-layer: {} activations are read and {} given; give --target one for each layer",
          names.size(), targets.size()));
    add(names, targets, "");
  }
  for (std::size_t i = 0; i < names.size() && !cross_layer_; ++i) {
    std::vector<std::string> given;
    if (!targets.empty()) given.push_back(targets[targets.size() == 1 ? 0 : i]);
    add({names[i]}, given, names.size() > 1 ? names[i] : "");
  }
  s.buffer = buffer_;
  s.buffer.dtype = float_type(buffer_type_);
  s.buffer.file = buffer_file_;
  s.buffer.seed = common.seed;
  s.bias = bias_ == "mean"   ? sae::InitialBias::mean
           : bias_ == "zero" ? sae::InitialBias::zero
                             : sae::InitialBias::geometric_median;
  return s;
}

void note_its_model(const sae::Sae& sae, bool prepends_bos, const std::string& gauge) {
  if (sae.config.prepend_bos == true && !prepends_bos)
    log("note: this SAE was trained on texts that begin with a beginning-of-text token; "
        "--prepend-bos gives them one");
  const std::vector<std::string> wanted = sae::weight_rewrites(sae);
  const nn::Gauge asked = nn::parse_gauge(gauge);
  const std::pair<const char*, bool> rewrites[] = {
      {"fold_ln", asked.fold_ln},
      {"center_writing_weights", asked.center_writing_weights},
      {"center_unembed", asked.center_unembed},
      {"fold_value_biases", asked.fold_value_biases}};
  for (const auto& [name, given] : rewrites) {
    if (!given && std::find(wanted.begin(), wanted.end(), name) != wanted.end())
      log(fmt::format(
          "note: this SAE was trained on a model with {}; --gauge {} makes the same activations",
          name, name));
  }
}

void require_fits(const sae::Sae& sae, const nn::Model& model) {
  const std::string& site = sae::trained_site(sae);
  const Graph graph = model.build(nn::Model::Uniform{1, 1});
  sae::check_site(sae, graph, site);
  Builder b(expand_sites(graph, {site}));
  try {
    (void)sae::what_is_read(sae.config, sae.name, b.at(Site{site}));
  } catch (const ShapeError& error) {
    throw CheckpointError(fmt::format("{}; is it another model's?", error.what()));
  }
}

std::vector<std::string> shipped_saes(const std::string& model) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(nn::find_model(model) / "sae", error)) {
    if (fs::exists(entry.path() / "cfg.json")) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

sae::Sae load_sae(const std::string& name, const std::string& model) {
  namespace fs = std::filesystem;
  try {
    if (fs::exists(name)) return sae::load(name);
  } catch (const sae::OtherLibraryError&) {
    throw ConfigError(
        fmt::format("{}/cfg.json: this is a folder of sparsify; 'vitrine sae convert --from {} "
                    "--out DIR' makes one of SAELens of it",
                    name, name));
  }
  const fs::path shipped = nn::find_model(model) / "sae";
  if (fs::exists(shipped / name)) {
    sae::Sae sae = sae::load(shipped / name);
    sae.name = name;
    return sae;
  }
  const std::vector<std::string> names = shipped_saes(model);
  throw FileError(fmt::format("there is no SAE '{}': no folder of this name{}", name,
                              names.empty() ? ", and none came with the model"
                                            : fmt::format("; those that came with the model are {}",
                                                          fmt::join(names, ", "))));
}

sae::TranscoderSet load_transcoder_set(const std::string& name, const std::string& model) {
  namespace fs = std::filesystem;
  if (!name.empty() && fs::exists(name)) return sae::load_transcoders(name);
  const fs::path shipped = nn::find_model(model) / "transcoders";
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(shipped, error)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  const std::string wanted = name.empty() && !names.empty() ? names[0] : name;
  if (std::find(names.begin(), names.end(), wanted) != names.end()) {
    sae::TranscoderSet set = sae::load_transcoders(shipped / wanted);
    set.name = wanted;
    return set;
  }
  if (name.empty())
    throw FileError(
        "no transcoders came with this model; train some ('vitrine sae train --cross-layer') and "
        "give their folder: --transcoders DIR");
  throw FileError(fmt::format("there are no transcoders '{}': no folder of this name{}", name,
                              names.empty() ? ", and none came with the model"
                                            : fmt::format("; those that came with the model are {}",
                                                          fmt::join(names, ", "))));
}

}  // namespace vitrine::app
