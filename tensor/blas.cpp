#include "tensor/blas.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <system_error>
#include <vector>

#include "tensor/error.h"

namespace vitrine {
namespace {

// Sets an environment variable for the lifetime of the object, then restores what was there.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    setenv(name, value, 1);
  }
  ~ScopedVariable() {
    if (old_) {
      setenv(name_, old_->c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> old_;
};

// The kernels this CPU can run, by the name OpenBLAS gives them; nothing where its own choice is
// left alone.
const char* best_core() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  if (avx512) return "SkylakeX";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return __builtin_cpu_is("amd") ? "Zen" : "Haswell";
  }
#endif
  return nullptr;
}

// Beside the program first (a bundled copy), then the system's.
std::vector<std::string> candidates() {
  std::vector<std::string> files;
  std::error_code failed;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (!failed) {
    const auto folder = program.parent_path();
    for (const auto& file : {folder / "libopenblas.so.0", folder / "../lib/libopenblas.so.0"}) {
      if (std::filesystem::exists(file, failed)) files.push_back(file.lexically_normal().string());
    }
  }
  files.insert(files.end(), {"libopenblas.so.0", "libopenblas.so"});
  return files;
}

// The file that holds `symbol`, links followed; `name` when the loader does not tell.
std::string file_of(void* symbol, const std::string& name) {
  Dl_info info{};
  if (dladdr(symbol, &info) == 0 || info.dli_fname == nullptr) return name;
  std::error_code failed;
  const auto path = std::filesystem::canonical(info.dli_fname, failed);
  return failed ? info.dli_fname : path.string();
}

// Fills `out` from the loaded library; false when it lacks a symbol.
bool resolve(void* library, const std::string& file, Blas& out) {
  const auto find = [&]<class F>(const char* name, F*& function) {
    function = reinterpret_cast<F*>(dlsym(library, name));
    return function != nullptr;
  };
  void (*set_threads)(int) = nullptr;
  int (*threads)() = nullptr;
  char* (*core)() = nullptr;
  char* (*config)() = nullptr;
  if (!find("cblas_sgemm", out.sgemm) || !find("cblas_dgemm", out.dgemm) ||
      !find("cblas_sgemv", out.sgemv) || !find("cblas_dgemv", out.dgemv) ||
      !find("openblas_set_num_threads", set_threads) ||
      !find("openblas_get_num_threads", threads) || !find("openblas_get_corename", core) ||
      !find("openblas_get_config", config)) {
    return false;
  }
  set_threads(1);                      // tiles run in parallel instead, see gemm.cpp
  std::istringstream words(config());  // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..."
  std::string name;
  words >> name >> out.version;
  out.core = core();
  out.file = file_of(reinterpret_cast<void*>(out.sgemm), file);
  out.threads = threads();
  return true;
}

Blas load() {
  // OpenBLAS reads these while it is loaded, and only then.
  const ScopedVariable threads("OPENBLAS_NUM_THREADS", "1");
  std::optional<ScopedVariable> core;
  if (const char* best = best_core();
      best != nullptr && std::getenv("OPENBLAS_CORETYPE") == nullptr) {
    core.emplace("OPENBLAS_CORETYPE", best);
  }
  std::string tried;
  for (const std::string& file : candidates()) {
    Blas out{};
    void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr && resolve(library, file, out)) return out;  // stays loaded for good
    const char* reason =
        library == nullptr ? dlerror() : "it lacks cblas_* or openblas_* functions";
    tried += fmt::format("\n  {}: {}", file, reason);
    if (library != nullptr) dlclose(library);
  }
  throw Error(ErrorKind::runtime,
              fmt::format("no usable OpenBLAS, which matrix products need. Tried:{}\nInstall it: "
                          "apt install libopenblas0",
                          tried));
}

}  // namespace

const Blas& blas() {
  static const Blas loaded = load();
  return loaded;
}

std::string blas_description() {
  return fmt::format("OpenBLAS {} {}", blas().version, blas().core);
}

}  // namespace vitrine
