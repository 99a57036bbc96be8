// An OpenBLAS in the same process, with its own threads, to measure against.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace vitrine::bench {

class PeerOpenBlas {
 public:
  // Loads the library. Its functions may be called cblas_sgemm, or have the prefix "scipy_" and the
  // suffix "64_" (64-bit sizes) that Python packages give them. Throws Error when it is not an
  // OpenBLAS, or multiplies wrongly.
  explicit PeerOpenBlas(const std::string& file);
  ~PeerOpenBlas();
  PeerOpenBlas(const PeerOpenBlas&) = delete;
  PeerOpenBlas& operator=(const PeerOpenBlas&) = delete;

  const std::string& description() const { return description_; }  // "OpenBLAS 0.3.34 SkylakeX"

  // How many threads the products after this use.
  void set_threads(int threads) const { set_threads_(threads); }

  // C [m, n] = A [m, k] B, row-major; B is stored [k, n], or [n, k] when b_transposed.
  void multiply(bool b_transposed, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
                const float* b, float* c) const;

 private:
  struct Sgemm;
  std::unique_ptr<Sgemm> sgemm_;
  void (*set_threads_)(int) = nullptr;
  std::string description_;
};

}  // namespace vitrine::bench
