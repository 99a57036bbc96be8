#include "apps/python/models.h"

#include <fmt/format.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <string>

#include "apps/options/site_names.h"
#include "apps/python/arrays.h"
#include "apps/python/edits.h"
#include "apps/python/graphs.h"
#include "apps/python/interrupts.h"
#include "apps/python/metrics.h"
#include "apps/python/saes.h"
#include "apps/python/values.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/held.h"
#include "autograd/transform/rewrite.h"
#include "nn/model/find_model.h"
#include "nn/model/sampling.h"
#include "nn/model/weights.h"
#include "nn/tokenizer/save_tokenizer.h"
#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine::python {

using namespace nb::literals;

const nn::Model& ModelHandle::live() const {
  if (model) return *model;
  throw GraphError("this model is gone: it was collected together with what it referred to");
}

nn::Model ModelHandle::running(const std::atomic<bool>* cancel) const {
  nn::Model copy = live();
  copy.cancel_by(cancel);
  return copy;
}

int ModelHandle::traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self)) return 0;
  for (const nb::object& f : nb::inst_ptr<ModelHandle>(self)->functions) Py_VISIT(f.ptr());
  return 0;
}

int ModelHandle::clear(PyObject* self) {
  auto* handle = nb::inst_ptr<ModelHandle>(self);
  handle->model.reset();  // its transformations borrow the functions
  std::vector<nb::object> gone;
  gone.swap(handle->functions);
  return 0;
}

std::vector<nn::Tokens> to_prompts(const nn::Model& model, nb::handle prompts) {
  if (nb::isinstance<nb::str>(prompts)) return {model.tokens(nb::cast<std::string>(prompts))};
  std::vector<nb::object> items;
  for (const nb::handle item : nb::cast<nb::iterable>(prompts)) items.push_back(nb::borrow(item));
  if (items.empty()) return {{}};  // refused as every empty prompt is
  std::int64_t id = 0;
  if (nb::try_cast(items[0], id)) {  // [1, 2, 3]: one prompt
    nn::Tokens one;
    for (const nb::object& item : items) one.push_back(nb::cast<int>(item));
    return {one};
  }
  std::vector<nn::Tokens> all;
  for (const nb::object& item : items) {
    for (nn::Tokens& tokens : to_prompts(model, item)) all.push_back(std::move(tokens));
  }
  return all;
}

namespace {

using Text = std::variant<std::string, std::vector<int>>;

nn::Tokens to_tokens(const nn::Model& model, const Text& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) return model.tokens(*text);
  return std::get<std::vector<int>>(prompt);
}

PyType_Slot kSlots[] = {{Py_tp_traverse, reinterpret_cast<void*>(&ModelHandle::traverse)},
                        {Py_tp_clear, reinterpret_cast<void*>(&ModelHandle::clear)},
                        {0, nullptr}};

// ---- making one ---------------------------------------------------------------------------------
nn::LoadOptions load_options(nb::handle dtype, const std::string& weights, int threads,
                             const std::string& gauge, std::int64_t memory) {
  const DType type = dtype_of(dtype);
  if (!is_compute_float(type))
    throw Error(ErrorKind::usage, "a model computes in float32 or float64");
  if (weights != "stored" && weights != "widened")
    throw Error(ErrorKind::usage,
                fmt::format("weights='{}': they are 'stored' or 'widened'", weights));
  return {.dtype = type,
          .weights = weights == "stored" ? nn::Weights::stored : nn::Weights::widened,
          .threads = threads,
          .gauge = nn::parse_gauge(gauge),
          .memory = memory};
}

ModelHandle load(const std::string& name, nb::handle dtype, const std::string& weights, int threads,
                 const std::string& gauge, std::int64_t memory) {
  const nn::LoadOptions options = load_options(dtype, weights, threads, gauge, memory);
  return interruptibly([&](const std::atomic<bool>*) {
    return ModelHandle{nn::load_model(name, options), {}};
  });
}

ModelHandle from_weights(const std::string& config_json, const nb::dict& weights,
                         const std::optional<std::string>& tokenizer, const std::string& name,
                         nb::handle dtype, int threads, const std::string& gauge,
                         std::int64_t memory) {
  nn::LoadOptions options = load_options(dtype, "stored", threads, gauge, memory);
  const nn::Config config = nn::parse_config(config_json, name + ": config");
  nn::WeightSource from{.where = name, .config = name + ": config"};
  nn::TensorsByName tensors = nn::own_names(to_tensors(weights), config, from.others);
  Parameters parameters =
      nn::parameters_of(std::move(tensors), config, options.dtype, options.weights, from);
  std::optional<nn::Tokenizer> words;
  if (tokenizer) {
    words = tokenizer->starts_with("{")
                ? nn::Tokenizer::parse_tokenizer_json(*tokenizer, name + ": tokenizer")
                : nn::Tokenizer::load(*tokenizer);
  }
  nn::Model model(config, std::move(parameters), std::move(words), options);
  model.set_name(name);
  return {std::move(model), {}};
}

// ---- running ------------------------------------------------------------------------------------
struct RunHandle {
  std::vector<nn::Tokens> prompts;
  Results results;
};

// Runs a graph that is ready, where Ctrl-C is heard.
RunHandle ran(const ModelHandle& handle, const Graph& graph, const std::vector<nn::Tokens>& tokens,
              const Fetch& fetch, const Feeds& feeds) {
  return interruptibly([&](const std::atomic<bool>* cancel) {
    nn::Run made = handle.running(cancel).run_graph(graph, tokens, fetch, feeds);
    return RunHandle{std::move(made.prompts), std::move(made.results)};
  });
}

// Graphs that a run of the model needs: with edits, a metric, gradients of it.
RunHandle run(const ModelHandle& handle, nb::handle prompts, const Patterns& sites,
              nb::handle edits, const MetricHandle* metric, const Patterns& gradients,
              const Patterns& before) {
  const std::vector<nn::Tokens> tokens = to_prompts(handle.live(), prompts);
  nn::check_prompts(tokens, handle.live().config());
  if (gradients && metric == nullptr)
    throw Error(ErrorKind::usage, "gradients of what? give metric= too");
  // Python's functions run here, with the GIL: a metric writes its nodes.
  Graph graph = handle.live().build(nn::batch_size(tokens));
  const Interventions what = to_interventions(edits, graph, tokens);
  if (!what.stages().empty()) graph = intervene(graph, what);
  Feeds feeds;
  if (metric != nullptr) {
    graph = with_metric(graph, metric->live());
    feeds = metric->live().feeds;
  }
  if (gradients) {
    for (const std::string& patterns : list_of(gradients))
      graph = gradient(graph, metric->live().name,
                       SiteSet{app::full_patterns(patterns, graph.site_names())});
  }
  Wanted wanted{sites, before, gradients, {}, {}};
  Fetch fetch = wanted.fetch(graph);
  if (metric != nullptr) {
    fetch.wants.push_back(value(metric->live()));
    const std::string each = nn::per_prompt_name(metric->live());
    if (graph.outputs().contains(each)) fetch.wants.push_back(value(each));
  }
  if (fetch.wants.empty() || !sites) fetch.wants.push_back(value("logits"));
  if (!what.stages().empty()) {
    Feeds given = handle.live().feeds(graph, tokens);
    feeds.merge(with_interventions(graph, what, given));
  }
  return ran(handle, graph, tokens, fetch, feeds);
}

RunHandle run_graph(const ModelHandle& handle, const Graph& graph, nb::handle prompts,
                    const Patterns& sites, const Patterns& outputs, const Patterns& before,
                    const Patterns& gradients, const Patterns& leaf_gradients,
                    const nb::dict& feeds, nb::handle edits, const MetricHandle* metric) {
  const std::vector<nn::Tokens> tokens = to_prompts(handle.live(), prompts);
  Feeds fed = to_feeds(graph, feeds);
  if (metric != nullptr) {  // which the graph has already: what it is fed
    for (const auto& [name, tensor] : metric->live().feeds) fed.insert_or_assign(name, tensor);
  }
  const Interventions what = to_interventions(edits, graph, tokens);
  if (!what.stages().empty()) {
    for (const auto& [name, tensor] :
         with_interventions(graph, what, handle.live().feeds(graph, tokens)))
      fed.insert_or_assign(name, tensor);
  }
  const Fetch fetch = Wanted{sites, before, gradients, leaf_gradients, outputs}.fetch(graph);
  return ran(handle, graph, tokens, fetch, fed);
}

nb::object decoded(const std::string& bytes) {
  return nb::bytes(bytes.data(), bytes.size()).attr("decode")("utf-8", "replace");
}

nb::dict generate(const ModelHandle& handle, const Text& prompt, int count, double temperature,
                  int top_k, double top_p, std::uint64_t seed, nb::handle edits,
                  const std::optional<nb::callable>& on_token) {
  const nn::Model& model = handle.live();
  const nn::Tokens tokens = to_tokens(model, prompt);
  const nn::Sampling sampling{temperature, top_k, top_p};
  const Interventions what = to_interventions(edits, model.build(nn::BatchSize{1, 1, 1}), {tokens});
  const nn::Tokens made = interruptibly([&](const std::atomic<bool>* cancel) {
    return nn::generate(
        model, tokens, count, sampling, random::Key{seed}.fold("generate"),
        [&](int id) {
          if (cancel != nullptr && *cancel) throw InterruptedError("interrupted");
          if (!on_token) return true;
          const nb::gil_scoped_acquire held;
          const nb::object more = (*on_token)(id);
          return more.is_none() || nb::cast<bool>(nb::bool_(more));
        },
        what);
  });
  nb::dict result;
  result["tokens"] = made;
  result["text"] = model.has_tokenizer() ? decoded(model.tokenizer().shown_text(made)) : nb::none();
  return result;
}

// ---- changed models -----------------------------------------------------------------------------
ModelHandle with_edits(const ModelHandle& handle, nb::handle edits) {
  ModelHandle changed = handle.changed();
  std::vector<nn::StandingEdit> standing = handle.live().standing();
  const int first = standing.empty() ? 0 : standing.back().stage + 1;
  const Interventions what =
      to_interventions(edits, handle.live().build(nn::BatchSize{1, 1, 1}), {});
  int stage = first;
  for (const auto& edits_of_stage : what.stages()) {
    for (const Edit& e : edits_of_stage) {
      // Its positions are those of each prompt.
      nn::StandingEdit stands{.edit = e, .stage = stage};
      if (e.where.size() == 1 && !e.where[0].pos.empty()) {
        const std::vector<std::int64_t> pos = e.where[0].pos;
        stands.edit.where[0].pos.clear();
        if (stands.edit.where[0] == Where{}) stands.edit.where.clear();
        stands.positions = [pos](const nn::Tokens& prompt) {
          std::vector<std::int64_t> places;
          for (const std::int64_t p : pos) {
            const std::int64_t at = p < 0 ? p + std::ssize(prompt) : p;
            if (at < 0 || at >= std::ssize(prompt))
              throw ContextError(
                  fmt::format("an edit at position {} of a prompt of {} tokens", p, prompt.size()));
            places.push_back(at);
          }
          return places;
        };
        std::string text = "pos ";
        for (const std::int64_t p : pos) text += fmt::format("{}{}", text.size() > 4 ? "," : "", p);
        stands.where = text;
      }
      standing.push_back(std::move(stands));
    }
    ++stage;
  }
  changed.model->stand(std::move(standing));
  return changed;
}

ModelHandle with_sae(const ModelHandle& handle, const sae::Sae& sae,
                     const std::optional<std::string>& site, const std::string& error) {
  ModelHandle changed = handle.changed();
  splice_into(*changed.model, sae, site.value_or(""), error);
  return changed;
}

ModelHandle with_rewrite(const ModelHandle& handle, const std::string& site,
                         const nb::callable& function) {
  ModelHandle changed = handle.changed();
  const nb::handle borrowed = function;  // held by `functions`
  changed.functions.push_back(nb::borrow(function));
  changed.model->transform([site, borrowed](const Graph& graph) {
    return rewrite(graph, Site{site}, [&](const Value& x) {
      const nb::gil_scoped_acquire held;
      const Lent lent(x.builder());
      return lent.taken(borrowed(lent.of(x)), "the function given to with_rewrite");
    });
  });
  return changed;
}

// ---- what it is ---------------------------------------------------------------------------------
nb::dict config_of(const ModelHandle& handle) {
  const nn::Config& c = handle.live().config();
  nb::dict d;
  d["model_type"] = c.model_type;
  d["layers"] = c.layers;
  d["heads"] = c.heads;
  d["kv_heads"] = c.kv_heads > 0 ? c.kv_heads : c.heads;
  d["d_model"] = c.d_model;
  d["d_head"] = c.head_width > 0 ? c.head_width : c.d_model / c.heads;
  d["d_mlp"] = c.d_mlp;
  d["context"] = c.context;
  d["vocabulary"] = c.vocabulary;
  d["activation"] = std::string(nn::name_of(c.activation));
  d["norm_eps"] = c.norm_eps;
  d["tied"] = c.tied;
  d["bos"] = c.bos;
  d["eos"] = c.eos;
  d["parameters"] = c.parameter_count();
  return d;
}

// Of a projection to or from heads [d, heads e] the heads apart: [heads, d, e], of b [heads, e], of W_O [heads, e, d].
Tensor with_heads(const nn::Config& c, const std::string& name, const Tensor& weight) {
  const std::string kind = name.substr(name.rfind('.') + 1);
  const std::int64_t heads =
      (kind.ends_with("K") || kind.ends_with("V")) && c.kv_heads > 0 ? c.kv_heads : c.heads;
  if (kind == "W_Q" || kind == "W_K" || kind == "W_V")
    return weight.reshape({weight.dim(0), heads, -1}).permute({1, 0, 2});
  if (kind == "b_Q" || kind == "b_K" || kind == "b_V") return weight.reshape({heads, -1});
  if (kind == "W_O") return weight.reshape({heads, -1, weight.dim(1)});
  return kind == "W_U" ? weight.transpose(0, 1) : weight;
}

nb::object weight_of(const ModelHandle& handle, const std::string& name) {
  const nn::Model& model = handle.live();
  Builder b(model.build(nn::BatchSize{1, 1, 1}));
  std::vector<std::string> names;
  Value found;
  for (const auto& [known, value] : nn::by_name(nn::weights_of(b, model.config()))) {
    names.push_back(known);
    if (known == name) found = widen(value);
  }
  if (!found.defined())
    throw Error(
        ErrorKind::usage,
        fmt::format("this model has no weight '{}'{}; the names are TransformerLens's: embed.W_E, "
                    "blocks.0.attn.W_Q, blocks.0.mlp.W_in, unembed.W_U, ...",
                    name, did_you_mean(nearest(name, names))));
  b.output("weight", found);
  const Plan plan = compile(std::move(b).finish(), fetch(value("weight")));
  const Tensor weight = interruptibly([&](const std::atomic<bool>* cancel) {
    return plan.run({}, model.parameters(), {.pool = &model.pool(), .cancel = cancel})["weight"];
  });
  return to_numpy(with_heads(model.config(), name, weight));
}

nb::dict parameters_of(const ModelHandle& handle) {
  nb::dict all;
  for (const auto& [name, tensor] : handle.live().parameters())
    all[name.c_str()] = to_numpy_read_only(tensor);
  return all;
}

void add_tokenizer(nb::class_<ModelHandle>& c) {
  c.def_prop_ro("has_tokenizer", [](const ModelHandle& h) { return h.live().has_tokenizer(); })
      .def(
          "tokens",
          [](const ModelHandle& h, const Text& prompt) { return to_tokens(h.live(), prompt); },
          "prompt"_a,
          "The ids of a prompt: of a text those that the tokenizer gives, what it puts before "
          "every prompt included. Raises TokenError.")
      .def(
          "token",
          [](const ModelHandle& h, const std::string& text) { return h.live().token(text); },
          "text"_a,
          "The id of a text that is one token. Raises TokenError otherwise, naming the text with a "
          "leading space if that is one.")
      .def(
          "text",
          [](const ModelHandle& h, const std::vector<int>& ids) {
            return decoded(h.live().tokenizer().decode(ids));
          },
          "ids"_a, "The text of ids.")
      .def(
          "str_tokens",
          [](const ModelHandle& h, const Text& prompt) {
            return h.live().tokenizer().shown_tokens(to_tokens(h.live(), prompt));
          },
          "prompt"_a, "Each token as text, as TransformerLens's to_str_tokens gives them.");
}

void add_run(nb::module_& m) {
  nb::class_<RunHandle>(m, "Run",
                        "The result of a run: run['blocks.2.attn.hook_pattern'] is a NumPy array "
                        "[batch, head, query, key], no copy.")
      .def_ro("results", &RunHandle::results)
      .def_prop_ro(
          "prompts", [](const RunHandle& r) { return r.prompts; }, "The token ids that were run.")
      .def_prop_ro(
          "logits", [](const RunHandle& r) { return to_numpy(r.results.view("logits")); },
          "[batch, position, vocabulary]; of prompts of several lengths see last_logits and "
          "sequence.")
      .def_prop_ro(
          "last_logits",
          [](const RunHandle& r) {
            return to_numpy(nn::Run{r.prompts, r.results}.last_logits());
          },
          "[batch, vocabulary], after the last token of each prompt.")
      .def(
          "__getitem__",
          [](const RunHandle& r, const std::string& name) {
            return to_numpy(r.results.view(name));
          },
          "name"_a)
      .def(
          "grad",
          [](const RunHandle& r, const std::string& site) {
            return to_numpy(r.results.view(grad_name(site)));
          },
          "site"_a)
      .def(
          "before",
          [](const RunHandle& r, const std::string& site) {
            return to_numpy(r.results.view(before_name(site)));
          },
          "site"_a)
      .def(
          "sequence",
          [](const RunHandle& r, const std::string& name, int prompt) {
            return to_numpy(r.results.view(name, prompt));
          },
          "name"_a, "prompt"_a, "The part of one prompt alone: [1, its length, ...].")
      .def("__contains__",
           [](const RunHandle& r, const std::string& name) { return r.results.contains(name); })
      .def("__iter__", [](const RunHandle& r) { return nb::iter(nb::cast(r.results.names())); })
      .def("__len__", [](const RunHandle& r) { return r.results.names().size(); })
      .def("keys", [](const RunHandle& r) { return r.results.names(); })
      .def("__repr__", [](const RunHandle& r) {
        return fmt::format("<vitrine.Run of {} prompts, {} values>", r.prompts.size(),
                           r.results.names().size());
      });
}

}  // namespace

void add_models(nb::module_& m) {
  add_run(m);
  m.def("default_model", [] { return nn::find_model("").string(); });
  m.def("load", &load, "name"_a = "", nb::kw_only(), "dtype"_a = "float32", "weights"_a = "stored",
        "threads"_a = 0, "gauge"_a = "raw", "memory"_a = 0);
  m.def("from_weights", &from_weights, "config_json"_a, "weights"_a, nb::kw_only(),
        "tokenizer"_a = nb::none(), "name"_a = "weights", "dtype"_a = "float32", "threads"_a = 0,
        "gauge"_a = "raw", "memory"_a = 0);
  nb::class_<ModelHandle> c(m, "Model", nb::type_slots(kSlots));
  c.def_prop_ro("name", [](const ModelHandle& h) { return h.live().name(); })
      .def_prop_ro("config", &config_of)
      .def_prop_ro("gauge", [](const ModelHandle& h) { return nn::name_of(h.live().gauge()); })
      .def_prop_ro("parameters", &parameters_of)
      .def("weight", &weight_of, "name"_a)
      .def_prop_ro("threads", [](const ModelHandle& h) { return h.live().pool().threads(); })
      .def_prop_ro("edits",
                   [](const ModelHandle& h) {
                     std::vector<std::string> all;
                     for (const nn::StandingEdit& e : h.live().standing())
                       all.push_back(e.to_text());
                     return all;
                   })
      .def(
          "build",
          [](const ModelHandle& h, std::int64_t batch, std::int64_t tokens) {
            return h.live().build(nn::Model::Uniform{batch, tokens});
          },
          "batch"_a = 1, "tokens"_a = 1)
      .def(
          "build_for",
          [](const ModelHandle& h, nb::handle prompts) {
            return h.live().build(nn::batch_size(to_prompts(h.live(), prompts)));
          },
          "prompts"_a)
      .def(
          "feeds",
          [](const ModelHandle& h, const Graph& graph, nb::handle prompts) {
            return to_dict(h.live().feeds(graph, to_prompts(h.live(), prompts)));
          },
          "graph"_a, "prompts"_a)
      .def("run", &run, "prompts"_a, "sites"_a = nb::none(), nb::kw_only(), "edits"_a = nb::none(),
           "metric"_a = nb::none(), "gradients"_a = nb::none(), "before"_a = nb::none())
      .def("run_graph", &run_graph, "graph"_a, "prompts"_a, "sites"_a = nb::none(), nb::kw_only(),
           "outputs"_a = nb::none(), "before"_a = nb::none(), "gradients"_a = nb::none(),
           "leaf_gradients"_a = nb::none(), "feeds"_a = nb::dict(), "edits"_a = nb::none(),
           "metric"_a = nb::none())
      .def("generate", &generate, "prompt"_a, "count"_a, nb::kw_only(), "temperature"_a = 0.0,
           "top_k"_a = 0, "top_p"_a = 1.0, "seed"_a = 0, "edits"_a = nb::none(),
           "on_token"_a = nb::none())
      .def(
          "loss",
          [](const ModelHandle& h, nb::handle prompts) {
            const std::vector<nn::Tokens> tokens = to_prompts(h.live(), prompts);
            const nn::Loss found = interruptibly([&](const std::atomic<bool>* cancel) {
              return nn::loss(h.running(cancel), tokens);
            });
            return nb::make_tuple(found.mean, to_numpy(found.per_token));
          },
          "prompts"_a)
      .def("with_edits", &with_edits, "edits"_a)
      .def("with_sae", &with_sae, "sae"_a, "site"_a = nb::none(), "error"_a = "keep")
      .def("with_rewrite", &with_rewrite, "site"_a, "function"_a)
      .def(
          "in_gauge",
          [](const ModelHandle& h, const std::string& gauge) {
            return ModelHandle{h.live().in_gauge(nn::parse_gauge(gauge)), {}};
          },
          "gauge"_a)
      .def(
          "save",
          [](const ModelHandle& h, const std::string& folder, nb::handle dtype) {
            std::filesystem::create_directories(folder);
            nn::save_checkpoint(folder, h.live().config(), h.live().parameters(), dtype_of(dtype));
            if (h.live().has_tokenizer()) nn::save_tokenizer(h.live().tokenizer(), folder);
          },
          "folder"_a, "dtype"_a = "float32");
  add_tokenizer(c);
  add_sweeps(m, c);
}

}  // namespace vitrine::python
