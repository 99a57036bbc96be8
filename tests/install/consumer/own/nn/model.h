// The project's own model, which has nothing to do with Vitrine's.
#pragma once

namespace own {

struct Model {
  int layers = 3;
};

}  // namespace own
