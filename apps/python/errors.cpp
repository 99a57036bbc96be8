#include "apps/python/errors.h"

#include <array>
#include <exception>
#include <filesystem>
#include <new>
#include <string>

#include "tensor/error.h"

namespace vitrine::python {
namespace {

namespace nb = nanobind;

// One kind, and what else it is in Python's own words.
struct Kind {
  const char* name;
  PyObject* also;  // null: an Exception and no more
  const char* doc;
};

// An exception class, which lives as long as Python does.
PyObject* make(nb::module_& m, PyObject* base, const Kind& kind) {
  const nb::object bases = kind.also == nullptr ? nb::steal(PyTuple_Pack(1, base))
                                                : nb::steal(PyTuple_Pack(2, base, kind.also));
  const std::string name = std::string("vitrine.") + kind.name;
  PyObject* made = PyErr_NewExceptionWithDoc(name.c_str(), kind.doc, bases.ptr(), nullptr);
  if (made == nullptr) throw nb::python_error();
  m.attr(kind.name) = nb::borrow(made);
  return made;
}

struct Types {
  PyObject *error, *usage, *shape, *graph, *file, *save, *config, *checkpoint, *token, *context,
      *site, *numeric;
};

PyObject* type_of(const Types& types, const Error& error) {
  if (dynamic_cast<const ShapeError*>(&error) != nullptr) return types.shape;
  if (dynamic_cast<const GraphError*>(&error) != nullptr) return types.graph;
  if (dynamic_cast<const FileError*>(&error) != nullptr) return types.file;
  if (dynamic_cast<const SaveError*>(&error) != nullptr) return types.save;
  if (dynamic_cast<const ConfigError*>(&error) != nullptr) return types.config;
  if (dynamic_cast<const CheckpointError*>(&error) != nullptr) return types.checkpoint;
  if (dynamic_cast<const TokenError*>(&error) != nullptr) return types.token;
  if (dynamic_cast<const ContextError*>(&error) != nullptr) return types.context;
  if (dynamic_cast<const SiteError*>(&error) != nullptr) return types.site;
  switch (error.kind()) {
    case ErrorKind::usage:
      return types.usage;
    case ErrorKind::numeric:
      return types.numeric;
    case ErrorKind::interrupted:
      return PyExc_KeyboardInterrupt;
    default:
      return types.error;
  }
}

}  // namespace

void add_errors(nb::module_& m) {
  auto* types = new Types();
  types->error =
      make(m, PyExc_Exception, {"Error", nullptr, "What went wrong; its kinds are below."});
  const auto kind = [&](const char* name, PyObject* also, const char* doc) {
    return make(m, types->error, {name, also, doc});
  };
  types->usage = kind("UsageError", PyExc_ValueError,
                      "Arguments that do not fit each other, or are outside their range.");
  types->shape = kind("ShapeError", PyExc_ValueError, "Shapes or dtypes that do not fit together.");
  types->graph = kind("GraphError", nullptr,
                      "A graph that is not well formed, or a plan asked for what it cannot give.");
  types->file = kind("FileError", PyExc_OSError,
                     "A file that is missing, unreadable, truncated or malformed.");
  types->save = kind("SaveError", PyExc_OSError,
                     "A file that could not be written; the old one is untouched.");
  types->config =
      kind("ConfigError", nullptr, "A model configuration that is malformed or not supported.");
  types->checkpoint =
      kind("CheckpointError", nullptr, "Weights that do not fit their configuration.");
  types->token = kind("TokenError", PyExc_ValueError,
                      "Text or ids that the tokenizer or the model does not know.");
  types->context =
      kind("ContextError", PyExc_ValueError, "A prompt longer than the model's context, or empty.");
  types->site = kind("SiteError", PyExc_LookupError,
                     "A site that the model does not have; the nearest names are in the message.");
  types->numeric = kind("NumericError", PyExc_ArithmeticError, "NaN where a number should be.");
  nb::register_exception_translator(
      [](const std::exception_ptr& thrown, void* payload) {
        const auto& known = *static_cast<const Types*>(payload);
        try {
          std::rethrow_exception(thrown);
        } catch (const Error& error) {
          PyErr_SetString(type_of(known, error), error.what());
        } catch (const std::filesystem::filesystem_error& error) {
          PyErr_SetString(known.file, error.what());
        } catch (const std::bad_alloc&) {
          PyErr_SetString(PyExc_MemoryError,
                          "out of memory; try a shorter prompt, fewer sites, or smaller batches");
        }
      },
      types);
}

}  // namespace vitrine::python
