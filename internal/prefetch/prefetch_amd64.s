#include "textflag.h"

// func Line(p unsafe.Pointer)
TEXT ·Line(SB), NOSPLIT, $0-8
	MOVQ p+0(FP), AX
	PREFETCHT0 (AX)
	RET

// func LineBehind(p unsafe.Pointer)
TEXT ·LineBehind(SB), NOSPLIT, $0-8
	MOVQ p+0(FP), AX
	MOVQ (AX), AX
	PREFETCHT0 (AX)
	RET
