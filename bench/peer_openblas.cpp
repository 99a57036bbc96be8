#include "bench/peer_openblas.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <sstream>
#include <vector>

#include "tensor/error.h"

namespace vitrine::bench {
namespace {

// The C interface of BLAS (netlib.org/blas, cblas.h): cblas_sgemm with sizes of type Int.
enum Order { kRowMajor = 101 };
enum Transpose { kNo = 111, kYes = 112 };
template <class Int>
using Function = void (*)(Order, Transpose, Transpose, Int m, Int n, Int k, float alpha,
                          const float*, Int lda, const float*, Int ldb, float beta, float*,
                          Int ldc);

template <class F>
F find(void* library, const std::string& name) {
  return reinterpret_cast<F>(dlsym(library, name.c_str()));
}

}  // namespace

// Whichever of the two the library has.
struct PeerOpenBlas::Sgemm {
  Function<int> narrow = nullptr;
  Function<std::int64_t> wide = nullptr;

  template <class Int>
  static void call(Function<Int> f, bool b_transposed, std::int64_t m, std::int64_t n,
                   std::int64_t k, const float* a, const float* b, float* c) {
    const auto to_int = [](std::int64_t x) { return static_cast<Int>(x); };
    f(kRowMajor, kNo, b_transposed ? kYes : kNo, to_int(m), to_int(n), to_int(k), 1.f, a, to_int(k),
      b, to_int(b_transposed ? k : n), 0.f, c, to_int(n));
  }
};

PeerOpenBlas::PeerOpenBlas(const std::string& file) : sgemm_(std::make_unique<Sgemm>()) {
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);  // stays loaded
  if (library == nullptr) throw Error(ErrorKind::input, dlerror());
  char* (*config)() = nullptr;
  char* (*core)() = nullptr;
  for (const char* prefix : {"", "scipy_"}) {
    for (const char* suffix : {"", "64_"}) {
      const auto name = [&](const char* rest) {
        return fmt::format("{}{}{}", prefix, rest, suffix);
      };
      const std::string sgemm = name("cblas_sgemm");
      if (dlsym(library, sgemm.c_str()) == nullptr) continue;
      if (*suffix == '\0') {
        sgemm_->narrow = find<Function<int>>(library, sgemm);
      } else {
        sgemm_->wide = find<Function<std::int64_t>>(library, sgemm);
      }
      set_threads_ = find<void (*)(int)>(library, name("openblas_set_num_threads"));
      config = find<char* (*)()>(library, name("openblas_get_config"));
      core = find<char* (*)()>(library, name("openblas_get_corename"));
    }
  }
  if (set_threads_ == nullptr || config == nullptr || core == nullptr) {
    throw Error(ErrorKind::input, fmt::format("{} is not an OpenBLAS: it lacks cblas_sgemm, or the "
                                              "openblas_* functions of the same naming",
                                              file));
  }
  std::istringstream words(config());  // "OpenBLAS 0.3.34 USE64BITINT DYNAMIC_ARCH ..."
  std::string name, version;
  words >> name >> version;
  description_ = fmt::format("{} {} {}", name, version, core());

  // A library whose sizes are of another width than its name says would give something else.
  const std::vector<float> a = {1, 2, 3, 4, 5, 6}, b = {1, 0, 2, 0, 1, 1};
  std::vector<float> c(4);
  multiply(false, 2, 2, 3, a.data(), b.data(), c.data());
  if (c != std::vector<float>{8, 3, 20, 6}) {
    throw Error(ErrorKind::input, fmt::format("{} does not multiply matrices rightly", file));
  }
}

PeerOpenBlas::~PeerOpenBlas() = default;

void PeerOpenBlas::multiply(bool b_transposed, std::int64_t m, std::int64_t n, std::int64_t k,
                            const float* a, const float* b, float* c) const {
  if (sgemm_->narrow != nullptr) {
    Sgemm::call(sgemm_->narrow, b_transposed, m, n, k, a, b, c);
  } else {
    Sgemm::call(sgemm_->wide, b_transposed, m, n, k, a, b, c);
  }
}

}  // namespace vitrine::bench
