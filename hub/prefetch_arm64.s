#include "textflag.h"

// func Prefetch(p unsafe.Pointer)
TEXT ·Prefetch(SB), NOSPLIT, $0-8
	MOVD p+0(FP), R0
	PRFM (R0), PLDL1KEEP
	RET

// func prefetchTo(p unsafe.Pointer)
TEXT ·prefetchTo(SB), NOSPLIT, $0-8
	MOVD p+0(FP), R0
	MOVD (R0), R0
	PRFM (R0), PLDL1KEEP
	RET
