// Exercise of lesson 9: the effect of a patch from slopes along the way.
#pragma once

#include <functional>

namespace vitrine::lesson {

// slope(t), for t from 0 to 1: d metric / d t after a share t of the way from the base run's value to the other
// run's. Gives metric(1) - metric(0), within 1% of it, and asks for at most 24 slopes.
double effect(const std::function<double(double t)>& slope);

}  // namespace vitrine::lesson
