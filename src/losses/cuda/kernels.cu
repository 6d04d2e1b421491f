#include "losses/cuda/device.cuh"
#include "losses/cuda/launch.cuh"
