#include "tensor/openblas.h"

#include <mutex>

#define VITRINE_OPENBLAS_C(name) \
  VITRINE_OPENBLAS_JOIN(VITRINE_OPENBLAS_PREFIX, name, VITRINE_OPENBLAS_SUFFIX)

extern "C" {
int VITRINE_OPENBLAS_C(openblas_get_num_threads)();
void VITRINE_OPENBLAS_C(openblas_set_num_threads)(int threads);
char* VITRINE_OPENBLAS_C(openblas_get_config)();
char* VITRINE_OPENBLAS_C(openblas_get_corename)();
}

namespace vitrine::openblas {
namespace {

// Who shares OpenBLAS's own global.
struct Users {
  std::mutex mutex;
  int count = 0;
  int threads_before = 1;
};
Users& users() {
  static Users all;
  return all;
}

}  // namespace

OneThread::OneThread() {
  Users& all = users();
  const std::lock_guard lock(all.mutex);
  if (all.count++ > 0) return;
  all.threads_before = threads();
  if (all.threads_before != 1) VITRINE_OPENBLAS_C(openblas_set_num_threads)(1);
}

OneThread::~OneThread() {
  Users& all = users();
  const std::lock_guard lock(all.mutex);
  if (--all.count > 0) return;
  if (all.threads_before != 1) VITRINE_OPENBLAS_C(openblas_set_num_threads)(all.threads_before);
}

int threads() { return VITRINE_OPENBLAS_C(openblas_get_num_threads)(); }

std::string description() {
  // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH NO_AFFINITY Prescott MAX_THREADS=64"
  const std::string config = VITRINE_OPENBLAS_C(openblas_get_config)();
  const std::string release = config.substr(0, config.find(' ', config.find(' ') + 1));
  return release + ", kernels for " + VITRINE_OPENBLAS_C(openblas_get_corename)();
}

}  // namespace vitrine::openblas
