// The program `vitrine`: see program.h.
#include <algorithm>

#include "apps/program.h"

int main(int argc, char** argv) {
  return vitrine::app::run_program({argv + std::min(argc, 1), argv + argc});
}
