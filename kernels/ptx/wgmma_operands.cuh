// Operand lists of wgmma.mma_async for every N: inline assembly takes each register of D by name and number.
//
// For N columns D has N / 2 registers a thread (PTX ISA 9.7.16.5.2, "Register Fragments"):
// ZF_WGMMA_D_<N> their numbers as text, ZF_WGMMA_REGISTERS_<N>(C, d) the constraints C(d[0]), C(d[1]), ...,
// ZF_WGMMA_INPUTS_<N> the numbers of the inputs that follow them.
#pragma once

#define ZF_WGMMA_D_8 "%0, %1, %2, %3"
#define ZF_WGMMA_REGISTERS_8(C, d) C(d[0]), C(d[1]), C(d[2]), C(d[3])
#define ZF_WGMMA_INPUTS_8 "%4", "%5", "%6", "%7", "%8", "%9", "%10"
#define ZF_WGMMA_D_16 ZF_WGMMA_D_8 ", %4, %5, %6, %7"
#define ZF_WGMMA_REGISTERS_16(C, d) ZF_WGMMA_REGISTERS_8(C, d), C(d[4]), C(d[5]), C(d[6]), C(d[7])
#define ZF_WGMMA_INPUTS_16 "%8", "%9", "%10", "%11", "%12", "%13", "%14"
#define ZF_WGMMA_D_24 ZF_WGMMA_D_16 ", %8, %9, %10, %11"
#define ZF_WGMMA_REGISTERS_24(C, d) ZF_WGMMA_REGISTERS_16(C, d), C(d[8]), C(d[9]), C(d[10]), C(d[11])
#define ZF_WGMMA_INPUTS_24 "%12", "%13", "%14", "%15", "%16", "%17", "%18"
#define ZF_WGMMA_D_32 ZF_WGMMA_D_24 ", %12, %13, %14, %15"
#define ZF_WGMMA_REGISTERS_32(C, d) ZF_WGMMA_REGISTERS_24(C, d), C(d[12]), C(d[13]), C(d[14]), C(d[15])
#define ZF_WGMMA_INPUTS_32 "%16", "%17", "%18", "%19", "%20", "%21", "%22"
#define ZF_WGMMA_D_40 ZF_WGMMA_D_32 ", %16, %17, %18, %19"
#define ZF_WGMMA_REGISTERS_40(C, d) ZF_WGMMA_REGISTERS_32(C, d), C(d[16]), C(d[17]), C(d[18]), C(d[19])
#define ZF_WGMMA_INPUTS_40 "%20", "%21", "%22", "%23", "%24", "%25", "%26"
#define ZF_WGMMA_D_48 ZF_WGMMA_D_40 ", %20, %21, %22, %23"
#define ZF_WGMMA_REGISTERS_48(C, d) ZF_WGMMA_REGISTERS_40(C, d), C(d[20]), C(d[21]), C(d[22]), C(d[23])
#define ZF_WGMMA_INPUTS_48 "%24", "%25", "%26", "%27", "%28", "%29", "%30"
#define ZF_WGMMA_D_56 ZF_WGMMA_D_48 ", %24, %25, %26, %27"
#define ZF_WGMMA_REGISTERS_56(C, d) ZF_WGMMA_REGISTERS_48(C, d), C(d[24]), C(d[25]), C(d[26]), C(d[27])
#define ZF_WGMMA_INPUTS_56 "%28", "%29", "%30", "%31", "%32", "%33", "%34"
#define ZF_WGMMA_D_64 ZF_WGMMA_D_56 ", %28, %29, %30, %31"
#define ZF_WGMMA_REGISTERS_64(C, d) ZF_WGMMA_REGISTERS_56(C, d), C(d[28]), C(d[29]), C(d[30]), C(d[31])
#define ZF_WGMMA_INPUTS_64 "%32", "%33", "%34", "%35", "%36", "%37", "%38"
#define ZF_WGMMA_D_72 ZF_WGMMA_D_64 ", %32, %33, %34, %35"
#define ZF_WGMMA_REGISTERS_72(C, d) ZF_WGMMA_REGISTERS_64(C, d), C(d[32]), C(d[33]), C(d[34]), C(d[35])
#define ZF_WGMMA_INPUTS_72 "%36", "%37", "%38", "%39", "%40", "%41", "%42"
#define ZF_WGMMA_D_80 ZF_WGMMA_D_72 ", %36, %37, %38, %39"
#define ZF_WGMMA_REGISTERS_80(C, d) ZF_WGMMA_REGISTERS_72(C, d), C(d[36]), C(d[37]), C(d[38]), C(d[39])
#define ZF_WGMMA_INPUTS_80 "%40", "%41", "%42", "%43", "%44", "%45", "%46"
#define ZF_WGMMA_D_88 ZF_WGMMA_D_80 ", %40, %41, %42, %43"
#define ZF_WGMMA_REGISTERS_88(C, d) ZF_WGMMA_REGISTERS_80(C, d), C(d[40]), C(d[41]), C(d[42]), C(d[43])
#define ZF_WGMMA_INPUTS_88 "%44", "%45", "%46", "%47", "%48", "%49", "%50"
#define ZF_WGMMA_D_96 ZF_WGMMA_D_88 ", %44, %45, %46, %47"
#define ZF_WGMMA_REGISTERS_96(C, d) ZF_WGMMA_REGISTERS_88(C, d), C(d[44]), C(d[45]), C(d[46]), C(d[47])
#define ZF_WGMMA_INPUTS_96 "%48", "%49", "%50", "%51", "%52", "%53", "%54"
#define ZF_WGMMA_D_104 ZF_WGMMA_D_96 ", %48, %49, %50, %51"
#define ZF_WGMMA_REGISTERS_104(C, d) ZF_WGMMA_REGISTERS_96(C, d), C(d[48]), C(d[49]), C(d[50]), C(d[51])
#define ZF_WGMMA_INPUTS_104 "%52", "%53", "%54", "%55", "%56", "%57", "%58"
#define ZF_WGMMA_D_112 ZF_WGMMA_D_104 ", %52, %53, %54, %55"
#define ZF_WGMMA_REGISTERS_112(C, d) ZF_WGMMA_REGISTERS_104(C, d), C(d[52]), C(d[53]), C(d[54]), C(d[55])
#define ZF_WGMMA_INPUTS_112 "%56", "%57", "%58", "%59", "%60", "%61", "%62"
#define ZF_WGMMA_D_120 ZF_WGMMA_D_112 ", %56, %57, %58, %59"
#define ZF_WGMMA_REGISTERS_120(C, d) ZF_WGMMA_REGISTERS_112(C, d), C(d[56]), C(d[57]), C(d[58]), C(d[59])
#define ZF_WGMMA_INPUTS_120 "%60", "%61", "%62", "%63", "%64", "%65", "%66"
#define ZF_WGMMA_D_128 ZF_WGMMA_D_120 ", %60, %61, %62, %63"
#define ZF_WGMMA_REGISTERS_128(C, d) ZF_WGMMA_REGISTERS_120(C, d), C(d[60]), C(d[61]), C(d[62]), C(d[63])
#define ZF_WGMMA_INPUTS_128 "%64", "%65", "%66", "%67", "%68", "%69", "%70"
#define ZF_WGMMA_D_136 ZF_WGMMA_D_128 ", %64, %65, %66, %67"
#define ZF_WGMMA_REGISTERS_136(C, d) ZF_WGMMA_REGISTERS_128(C, d), C(d[64]), C(d[65]), C(d[66]), C(d[67])
#define ZF_WGMMA_INPUTS_136 "%68", "%69", "%70", "%71", "%72", "%73", "%74"
#define ZF_WGMMA_D_144 ZF_WGMMA_D_136 ", %68, %69, %70, %71"
#define ZF_WGMMA_REGISTERS_144(C, d) ZF_WGMMA_REGISTERS_136(C, d), C(d[68]), C(d[69]), C(d[70]), C(d[71])
#define ZF_WGMMA_INPUTS_144 "%72", "%73", "%74", "%75", "%76", "%77", "%78"
#define ZF_WGMMA_D_152 ZF_WGMMA_D_144 ", %72, %73, %74, %75"
#define ZF_WGMMA_REGISTERS_152(C, d) ZF_WGMMA_REGISTERS_144(C, d), C(d[72]), C(d[73]), C(d[74]), C(d[75])
#define ZF_WGMMA_INPUTS_152 "%76", "%77", "%78", "%79", "%80", "%81", "%82"
#define ZF_WGMMA_D_160 ZF_WGMMA_D_152 ", %76, %77, %78, %79"
#define ZF_WGMMA_REGISTERS_160(C, d) ZF_WGMMA_REGISTERS_152(C, d), C(d[76]), C(d[77]), C(d[78]), C(d[79])
#define ZF_WGMMA_INPUTS_160 "%80", "%81", "%82", "%83", "%84", "%85", "%86"
#define ZF_WGMMA_D_168 ZF_WGMMA_D_160 ", %80, %81, %82, %83"
#define ZF_WGMMA_REGISTERS_168(C, d) ZF_WGMMA_REGISTERS_160(C, d), C(d[80]), C(d[81]), C(d[82]), C(d[83])
#define ZF_WGMMA_INPUTS_168 "%84", "%85", "%86", "%87", "%88", "%89", "%90"
#define ZF_WGMMA_D_176 ZF_WGMMA_D_168 ", %84, %85, %86, %87"
#define ZF_WGMMA_REGISTERS_176(C, d) ZF_WGMMA_REGISTERS_168(C, d), C(d[84]), C(d[85]), C(d[86]), C(d[87])
#define ZF_WGMMA_INPUTS_176 "%88", "%89", "%90", "%91", "%92", "%93", "%94"
#define ZF_WGMMA_D_184 ZF_WGMMA_D_176 ", %88, %89, %90, %91"
#define ZF_WGMMA_REGISTERS_184(C, d) ZF_WGMMA_REGISTERS_176(C, d), C(d[88]), C(d[89]), C(d[90]), C(d[91])
#define ZF_WGMMA_INPUTS_184 "%92", "%93", "%94", "%95", "%96", "%97", "%98"
#define ZF_WGMMA_D_192 ZF_WGMMA_D_184 ", %92, %93, %94, %95"
#define ZF_WGMMA_REGISTERS_192(C, d) ZF_WGMMA_REGISTERS_184(C, d), C(d[92]), C(d[93]), C(d[94]), C(d[95])
#define ZF_WGMMA_INPUTS_192 "%96", "%97", "%98", "%99", "%100", "%101", "%102"
#define ZF_WGMMA_D_200 ZF_WGMMA_D_192 ", %96, %97, %98, %99"
#define ZF_WGMMA_REGISTERS_200(C, d) ZF_WGMMA_REGISTERS_192(C, d), C(d[96]), C(d[97]), C(d[98]), C(d[99])
#define ZF_WGMMA_INPUTS_200 "%100", "%101", "%102", "%103", "%104", "%105", "%106"
#define ZF_WGMMA_D_208 ZF_WGMMA_D_200 ", %100, %101, %102, %103"
#define ZF_WGMMA_REGISTERS_208(C, d) ZF_WGMMA_REGISTERS_200(C, d), C(d[100]), C(d[101]), C(d[102]), C(d[103])
#define ZF_WGMMA_INPUTS_208 "%104", "%105", "%106", "%107", "%108", "%109", "%110"
#define ZF_WGMMA_D_216 ZF_WGMMA_D_208 ", %104, %105, %106, %107"
#define ZF_WGMMA_REGISTERS_216(C, d) ZF_WGMMA_REGISTERS_208(C, d), C(d[104]), C(d[105]), C(d[106]), C(d[107])
#define ZF_WGMMA_INPUTS_216 "%108", "%109", "%110", "%111", "%112", "%113", "%114"
#define ZF_WGMMA_D_224 ZF_WGMMA_D_216 ", %108, %109, %110, %111"
#define ZF_WGMMA_REGISTERS_224(C, d) ZF_WGMMA_REGISTERS_216(C, d), C(d[108]), C(d[109]), C(d[110]), C(d[111])
#define ZF_WGMMA_INPUTS_224 "%112", "%113", "%114", "%115", "%116", "%117", "%118"
#define ZF_WGMMA_D_232 ZF_WGMMA_D_224 ", %112, %113, %114, %115"
#define ZF_WGMMA_REGISTERS_232(C, d) ZF_WGMMA_REGISTERS_224(C, d), C(d[112]), C(d[113]), C(d[114]), C(d[115])
#define ZF_WGMMA_INPUTS_232 "%116", "%117", "%118", "%119", "%120", "%121", "%122"
#define ZF_WGMMA_D_240 ZF_WGMMA_D_232 ", %116, %117, %118, %119"
#define ZF_WGMMA_REGISTERS_240(C, d) ZF_WGMMA_REGISTERS_232(C, d), C(d[116]), C(d[117]), C(d[118]), C(d[119])
#define ZF_WGMMA_INPUTS_240 "%120", "%121", "%122", "%123", "%124", "%125", "%126"
#define ZF_WGMMA_D_248 ZF_WGMMA_D_240 ", %120, %121, %122, %123"
#define ZF_WGMMA_REGISTERS_248(C, d) ZF_WGMMA_REGISTERS_240(C, d), C(d[120]), C(d[121]), C(d[122]), C(d[123])
#define ZF_WGMMA_INPUTS_248 "%124", "%125", "%126", "%127", "%128", "%129", "%130"
#define ZF_WGMMA_D_256 ZF_WGMMA_D_248 ", %124, %125, %126, %127"
#define ZF_WGMMA_REGISTERS_256(C, d) ZF_WGMMA_REGISTERS_248(C, d), C(d[124]), C(d[125]), C(d[126]), C(d[127])
#define ZF_WGMMA_INPUTS_256 "%128", "%129", "%130", "%131", "%132", "%133", "%134"
