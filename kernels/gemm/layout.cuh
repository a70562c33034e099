// How the B operand of a contraction lies in memory.
#pragma once

namespace zf {

// Rows of B: along k, along n, or along k in panels of PANEL columns ([ceil(n / PANEL)][k][PANEL], padded
// with zeros, as weights are packed).
enum class BLayout { KN, NK, PANELS };

}  // namespace zf
