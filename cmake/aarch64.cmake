# Cross-compiles for aarch64 Linux with Debian's compiler and Debian's libraries for arm64 (multiarch), and runs what was
# built under qemu-user. tests/aarch64.sh says which packages that takes.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
