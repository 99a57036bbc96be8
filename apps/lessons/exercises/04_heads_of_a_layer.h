// Exercise of lesson 4: which head wrote the answer.
#pragma once

#include <vector>

namespace vitrine::exercise {

using Vector = std::vector<double>;

// How far a head pushes one token over another: z [e]; w_o [e][d]; gain, austin, sacramento [d].
double push_of_head(const Vector& z, const std::vector<Vector>& w_o, double scale,
                    const Vector& gain, const Vector& austin, const Vector& sacramento);

}  // namespace vitrine::exercise
