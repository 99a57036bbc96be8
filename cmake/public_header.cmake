# Copies the header FROM to TO with what it includes from the sources named as users name it (public_headers.cmake).
file(READ ${FROM} text)
string(REGEX REPLACE "(#include )\"((tensor|autograd|nn|interp|sae)/[^\"]*\")" "\\1\"vitrine/\\2" text "${text}")
file(WRITE ${TO} "${text}")
