//! The modifiers: dotted parts after the opcode.

use std::fmt;

use crate::types::Type;

macro_rules! modifiers {
    ($($name:ident = $text:literal,)*) => {
        /// A dotted part of an instruction after its opcode.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names are PTX's own")]
        pub enum Modifier {
            /// `.f32` and the like.
            Type(Type),
            /// `.m64n128k16`.
            Shape {
                m: u16,
                n: u16,
                k: u16,
            },
            /// `.m8n8`.
            ShapeMn {
                m: u16,
                n: u16,
            },
            /// A plain number: `.128` of `tensormap.cp_fenceproxy`.
            Plain(u16),
            $($name,)*
        }

        impl Modifier {
            /// The modifier of a text without its dot, if there is one.
            pub fn from_text(text: &str) -> Option<Modifier> {
                match text {
                    $($text => Some(Modifier::$name),)*
                    _ => Type::from_text(text)
                        .map(Modifier::Type)
                        .or_else(|| shape(text))
                        .or_else(|| number(text).map(Modifier::Plain)),
                }
            }

            fn fixed_text(self) -> Option<&'static str> {
                match self {
                    $(Modifier::$name => Some($text),)*
                    Modifier::Type(t) => Some(t.text()),
                    _ => None,
                }
            }
        }
    };
}

modifiers! {
    Ftz = "ftz",
    Sat = "sat",
    Satfinite = "satfinite",
    Relu = "relu",
    Approx = "approx",
    Full = "full",
    Wide = "wide",
    Hi = "hi",
    Lo = "lo",
    Cc = "cc",
    Rn = "rn",
    Rz = "rz",
    Rm = "rm",
    Rp = "rp",
    Rni = "rni",
    Rzi = "rzi",
    Rmi = "rmi",
    Rpi = "rpi",
    Rna = "rna",
    Noftz = "noftz",
    NaN = "NaN",
    Nan = "nan",
    Eq = "eq",
    Ne = "ne",
    Lt = "lt",
    Le = "le",
    Gt = "gt",
    Ge = "ge",
    Ls = "ls",
    Hs = "hs",
    Equ = "equ",
    Neu = "neu",
    Ltu = "ltu",
    Leu = "leu",
    Gtu = "gtu",
    Geu = "geu",
    Num = "num",
    And = "and",
    Or = "or",
    Xor = "xor",
    Add = "add",
    Min = "min",
    Max = "max",
    Inc = "inc",
    Dec = "dec",
    Exch = "exch",
    Cas = "cas",
    Popc = "popc",
    Finite = "finite",
    Infinite = "infinite",
    Number = "number",
    Notanumber = "notanumber",
    Normal = "normal",
    Subnormal = "subnormal",
    Left = "l",
    Right = "r",
    Wrap = "wrap",
    Clamp = "clamp",
    Shiftamt = "shiftamt",
    F4e = "f4e",
    B4e = "b4e",
    Rc8 = "rc8",
    Ecl = "ecl",
    Ecr = "ecr",
    Rc16 = "rc16",
    To = "to",
    Const = "const",
    Global = "global",
    Local = "local",
    Param = "param",
    ParamEntry = "param::entry",
    ParamFunc = "param::func",
    Shared = "shared",
    SharedCta = "shared::cta",
    SharedCluster = "shared::cluster",
    Generic = "generic",
    Weak = "weak",
    Volatile = "volatile",
    Relaxed = "relaxed",
    Acquire = "acquire",
    Release = "release",
    AcqRel = "acq_rel",
    Sc = "sc",
    Mmio = "mmio",
    Cta = "cta",
    Cluster = "cluster",
    Gpu = "gpu",
    Sys = "sys",
    Ca = "ca",
    Cg = "cg",
    Cs = "cs",
    Cv = "cv",
    Lu = "lu",
    Wb = "wb",
    Wt = "wt",
    Nc = "nc",
    L1 = "L1",
    L2 = "L2",
    L1EvictNormal = "L1::evict_normal",
    L1EvictUnchanged = "L1::evict_unchanged",
    L1EvictFirst = "L1::evict_first",
    L1EvictLast = "L1::evict_last",
    L1NoAllocate = "L1::no_allocate",
    L2EvictNormal = "L2::evict_normal",
    L2EvictFirst = "L2::evict_first",
    L2EvictLast = "L2::evict_last",
    L2EvictUnchanged = "L2::evict_unchanged",
    L2CacheHint = "L2::cache_hint",
    L2Cache64B = "L2::64B",
    L2Cache128B = "L2::128B",
    L2Cache256B = "L2::256B",
    Fractional = "fractional",
    Range = "range",
    Cvt = "cvt",
    V2 = "v2",
    V4 = "v4",
    V8 = "v8",
    Unified = "unified",
    Up = "up",
    Down = "down",
    Bfly = "bfly",
    Idx = "idx",
    Uni = "uni",
    All = "all",
    Any = "any",
    Ballot = "ballot",
    Sync = "sync",
    Arrive = "arrive",
    Red = "red",
    Aligned = "aligned",
    ExpectTx = "expect_tx",
    NoComplete = "noComplete",
    Parity = "parity",
    Noinc = "noinc",
    Count = "count",
    Bytes = "bytes",
    MbarrierCompleteTxBytes = "mbarrier::complete_tx::bytes",
    BulkGroup = "bulk_group",
    Read = "read",
    MulticastCluster = "multicast::cluster",
    Tile = "tile",
    Im2col = "im2col",
    Im2colW = "im2col::w",
    Im2colW128 = "im2col::w::128",
    Im2colNoOffs = "im2col_no_offs",
    TileGather4 = "tile::gather4",
    TileScatter4 = "tile::scatter4",
    CpMask = "cp_mask",
    Dim1 = "1d",
    Dim2 = "2d",
    Dim3 = "3d",
    Dim4 = "4d",
    Dim5 = "5d",
    Alias = "alias",
    Async = "async",
    AsyncGeneric = "async::generic",
    Tensormap = "tensormap",
    TensormapGeneric = "tensormap::generic",
    SyncRestrictSharedCta = "sync_restrict::shared::cta",
    SyncRestrictSharedCluster = "sync_restrict::shared::cluster",
    X1 = "x1",
    X2 = "x2",
    X4 = "x4",
    Trans = "trans",
    Row = "row",
    Col = "col",
    A = "a",
    B = "b",
    C = "c",
    D = "d",
    Sp = "sp",
    SpOrderedMetadata = "sp::ordered_metadata",
    GlobalAddress = "global_address",
    Rank = "rank",
    BoxDim = "box_dim",
    GlobalDim = "global_dim",
    GlobalStride = "global_stride",
    ElementStride = "element_stride",
    Elemtype = "elemtype",
    InterleaveLayout = "interleave_layout",
    SwizzleMode = "swizzle_mode",
    SwizzleAtomicity = "swizzle_atomicity",
    FillMode = "fill_mode",
    AccF32 = "acc::f32",
    Mask = "mask",
    B1024 = "b1024",
    Abs = "abs",
    Xorsign = "xorsign",
    Gl = "gl",
}

fn number(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    if plain && (text == "0" || !text.starts_with('0')) { text.parse().ok() } else { None }
}

fn shape(text: &str) -> Option<Modifier> {
    let (m, rest) = text.strip_prefix('m')?.split_once('n')?;
    let m = number(m)?;
    match rest.split_once('k') {
        Some((n, k)) => Some(Modifier::Shape { m, n: number(n)?, k: number(k)? }),
        None => Some(Modifier::ShapeMn { m, n: number(rest)? }),
    }
}

impl Modifier {
    /// The type, if it is one.
    pub fn as_type(self) -> Option<Type> {
        match self {
            Modifier::Type(t) => Some(t),
            _ => None,
        }
    }

    /// The text with its dot: `.f32`, `.L2::cache_hint`, `.m64n128k16`.
    pub fn text(self) -> String {
        format!(".{self}")
    }
}

/// The text without its dot.
impl fmt::Display for Modifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Modifier::Shape { m, n, k } => write!(f, "m{m}n{n}k{k}"),
            Modifier::ShapeMn { m, n } => write!(f, "m{m}n{n}"),
            Modifier::Plain(n) => write!(f, "{n}"),
            fixed => f.write_str(fixed.fixed_text().unwrap_or_default()),
        }
    }
}
