#pragma once

// FGVL_WIDE_CLONES before a function whose loop the compiler turns into vectors: it is compiled for AVX2 as well, and the processor chooses at the start. FGVL_HAS_WIDE_CLONES where the compiler can.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FGVL_HAS_WIDE_CLONES 1
#define FGVL_WIDE_CLONES __attribute__((optimize("O3"), target_clones("arch=x86-64-v3", "default")))
#else
#define FGVL_HAS_WIDE_CLONES 0
#define FGVL_WIDE_CLONES
#endif
