#include "textflag.h"

// func Prefetch(p unsafe.Pointer)
TEXT ·Prefetch(SB), NOSPLIT, $0-8
	MOVQ p+0(FP), AX
	PREFETCHT0 (AX)
	RET

// func prefetchTo(p unsafe.Pointer)
TEXT ·prefetchTo(SB), NOSPLIT, $0-8
	MOVQ p+0(FP), AX
	MOVQ (AX), AX
	PREFETCHT0 (AX)
	RET
