#include "apps/python/verbs.h"

#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <vector>

#include "apps/program.h"
#include "apps/python/arrays.h"
#include "apps/python/interrupts.h"
#include "apps/python/models.h"
#include "apps/terminal/host.h"
#include "apps/verbs/verbs.h"

namespace vitrine::python {

using namespace nb::literals;

namespace {

// What the verb says as it goes, passed on to functions of Python. One that raises stops the verb.
class Listener {
 public:
  Listener(app::Host& host, const std::optional<nb::callable>& progress,
           const std::optional<nb::callable>& log)
      : host_(host) {
    if (progress) {
      host.progress = [this, f = nb::handle(*progress)](
                          const std::string& label, const std::string& unit, double done,
                          double total) { call([&] { f(label, unit, done, total); }); };
    }
    if (log) {
      host.log = [this, f = nb::handle(*log)](std::string_view line) {
        call([&] { f(nb::str(line.data(), line.size())); });
      };
    }
  }
  // With the GIL: what a function raised.
  void check() {
    if (raised_) std::rethrow_exception(raised_);
  }

 private:
  template <class Call>
  void call(const Call& f) {
    const nb::gil_scoped_acquire held;
    if (raised_) return;
    try {
      f();
    } catch (...) {
      raised_ = std::current_exception();
      host_.cancel = true;
    }
  }

  app::Host& host_;
  std::exception_ptr raised_;
};

nb::object ask(const ModelHandle* model, const std::string& verb,
               const std::vector<std::string>& words, int columns,
               const std::optional<nb::callable>& progress,
               const std::optional<nb::callable>& log) {
  app::Host host;
  std::optional<nn::Model> running;
  host.columns = columns;
  if (model != nullptr) {
    running = model->live();
    host.model = &*running;
  }
  Listener listener(host, progress, log);
  try {
    interruptibly(host.cancel, [&] {
      const app::HostScope here(host);
      app::find_verb(verb).run({verb, words});
    });
  } catch (...) {
    listener.check();
    throw;
  }
  listener.check();
  nb::dict result;
  const auto text = [](const std::string& bytes) {
    return nb::bytes(bytes.data(), bytes.size()).attr("decode")("utf-8", "replace");
  };
  result["written"] = text(host.written);
  result["page"] = text(host.page);
  result["json"] = host.answer ? text(app::to_line(host.answer->json)) : nb::none();
  result["text"] = host.answer ? text(host.answer->text) : nb::none();
  nb::dict tensors, axes;
  if (host.answer) {
    for (const auto& [name, tensor] : host.answer->tensors) {
      tensors[name.c_str()] = to_numpy(tensor);
      const auto& of = host.answer->axes.of;
      const auto named = of.find(name), usual = of.find("");
      if (named != of.end()) axes[name.c_str()] = named->second;
      else if (usual != of.end() && static_cast<int>(usual->second.size()) == tensor.rank())
        axes[name.c_str()] = usual->second;
    }
  }
  result["tensors"] = tensors;
  result["axes"] = axes;
  nb::dict places;  // what stands for 0, 1, ... along an axis, where that is not the number
  if (host.answer) {
    for (const auto& [axis, names] : host.answer->axes.places) places[axis.c_str()] = names;
    for (const auto& [axis, labels] : host.answer->axes.labels) {
      if (!places.contains(axis.c_str())) places[axis.c_str()] = labels.texts;
    }
  }
  result["places"] = places;
  return result;
}

}  // namespace

void add_verbs(nb::module_& m) {
  m.def("ask", &ask, "model"_a.none(), "verb"_a, "words"_a, nb::kw_only(), "columns"_a = 100,
        "progress"_a = nb::none(), "log"_a = nb::none());
  m.def(
      "main",
      [](const std::vector<std::string>& words) {
        const nb::gil_scoped_release released;
        return app::run_program(words);
      },
      "words"_a);
  m.def("verbs", [] {
    std::vector<std::string> names;
    for (const app::Verb& v : app::verbs()) names.emplace_back(v.name);
    return names;
  });
}

}  // namespace vitrine::python
