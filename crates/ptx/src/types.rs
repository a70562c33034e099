//! Types, state spaces and special registers (PTX ISA 5.1, 5.2, 10).

/// A fundamental or packed type, as written after a dot (PTX ISA 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
    /// One 8-bit float with 4 exponent bits; only inside packed operands.
    E4m3,
    /// One 8-bit float with 5 exponent bits; only inside packed operands.
    E5m2,
    E4m3x2,
    E5m2x2,
    U16x2,
    S16x2,
    /// One bit; only inside packed operands of matrix instructions, as are the two that follow.
    B1,
    U4,
    S4,
}

impl Type {
    /// Bits of one value; a predicate has one.
    pub fn bits(self) -> u32 {
        match self {
            Type::Pred | Type::B1 => 1,
            Type::U4 | Type::S4 => 4,
            Type::B8 | Type::U8 | Type::S8 | Type::E4m3 | Type::E5m2 => 8,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 16,
            Type::E4m3x2 | Type::E5m2x2 => 16,
            Type::B32 | Type::U32 | Type::S32 | Type::F32 | Type::Tf32 => 32,
            Type::F16x2 | Type::Bf16x2 | Type::U16x2 | Type::S16x2 => 32,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 64,
            Type::B128 => 128,
        }
    }

    /// Bytes that a value takes in memory; a predicate has no form in memory and gives 0.
    pub fn bytes(self) -> u32 {
        self.bits() / 8
    }

    /// Whether values are signed integers.
    pub fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64 | Type::S16x2 | Type::S4)
    }

    /// Whether values are floating-point numbers, packed ones included.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Type::F16
                | Type::F16x2
                | Type::Bf16
                | Type::Bf16x2
                | Type::Tf32
                | Type::F32
                | Type::F64
                | Type::E4m3
                | Type::E5m2
                | Type::E4m3x2
                | Type::E5m2x2
        )
    }

    /// The type of a text without its dot.
    pub fn from_text(text: &str) -> Option<Type> {
        Some(match text {
            "pred" => Type::Pred,
            "b1" => Type::B1,
            "u4" => Type::U4,
            "s4" => Type::S4,
            "b8" => Type::B8,
            "b16" => Type::B16,
            "b32" => Type::B32,
            "b64" => Type::B64,
            "b128" => Type::B128,
            "u8" => Type::U8,
            "u16" => Type::U16,
            "u32" => Type::U32,
            "u64" => Type::U64,
            "s8" => Type::S8,
            "s16" => Type::S16,
            "s32" => Type::S32,
            "s64" => Type::S64,
            "f16" => Type::F16,
            "f16x2" => Type::F16x2,
            "bf16" => Type::Bf16,
            "bf16x2" => Type::Bf16x2,
            "tf32" => Type::Tf32,
            "f32" => Type::F32,
            "f64" => Type::F64,
            "e4m3" => Type::E4m3,
            "e5m2" => Type::E5m2,
            "e4m3x2" => Type::E4m3x2,
            "e5m2x2" => Type::E5m2x2,
            "u16x2" => Type::U16x2,
            "s16x2" => Type::S16x2,
            _ => return None,
        })
    }

    /// Its text without the dot.
    pub fn text(self) -> &'static str {
        match self {
            Type::Pred => "pred",
            Type::B1 => "b1",
            Type::U4 => "u4",
            Type::S4 => "s4",
            Type::B8 => "b8",
            Type::B16 => "b16",
            Type::B32 => "b32",
            Type::B64 => "b64",
            Type::B128 => "b128",
            Type::U8 => "u8",
            Type::U16 => "u16",
            Type::U32 => "u32",
            Type::U64 => "u64",
            Type::S8 => "s8",
            Type::S16 => "s16",
            Type::S32 => "s32",
            Type::S64 => "s64",
            Type::F16 => "f16",
            Type::F16x2 => "f16x2",
            Type::Bf16 => "bf16",
            Type::Bf16x2 => "bf16x2",
            Type::Tf32 => "tf32",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::E4m3 => "e4m3",
            Type::E5m2 => "e5m2",
            Type::E4m3x2 => "e4m3x2",
            Type::E5m2x2 => "e5m2x2",
            Type::U16x2 => "u16x2",
            Type::S16x2 => "s16x2",
        }
    }
}

/// Where a variable or an access lives (PTX ISA 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateSpace {
    /// Constant banks, read only.
    Const,
    /// Device memory.
    Global,
    /// Memory of one thread.
    Local,
    /// Parameters of a kernel or a function.
    Param,
    /// Memory of the thread block (`.shared`, `.shared::cta`).
    Shared,
    /// Memory of the blocks of the cluster (`.shared::cluster`).
    SharedCluster,
    /// No space is named: the address says which.
    Generic,
    /// `.reg`: a parameter of a `.func` that is a register.
    Register,
}

impl StateSpace {
    /// Its text without the dot.
    pub fn text(self) -> &'static str {
        match self {
            StateSpace::Const => "const",
            StateSpace::Global => "global",
            StateSpace::Local => "local",
            StateSpace::Param => "param",
            StateSpace::Shared => "shared",
            StateSpace::SharedCluster => "shared::cluster",
            StateSpace::Generic => "generic",
            StateSpace::Register => "reg",
        }
    }
}

/// A predefined read-only register (PTX ISA 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum SpecialRegister {
    /// `%tid.{x,y,z}`: axis 0 to 2, as in all below that hold one.
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Clusterid(u8),
    Nclusterid(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    IsExplicitCluster,
    Laneid,
    Warpid,
    Nwarpid,
    Smid,
    Nsmid,
    Gridid,
    LanemaskEq,
    LanemaskLe,
    LanemaskLt,
    LanemaskGe,
    LanemaskGt,
    Clock,
    ClockHi,
    Clock64,
    Globaltimer,
    GlobaltimerLo,
    GlobaltimerHi,
    DynamicSmemSize,
    TotalSmemSize,
    AggrSmemSize,
    ReservedSmemOffsetBegin,
    ReservedSmemOffsetEnd,
    ReservedSmemOffsetCap,
    CurrentGraphExec,
    /// `%reserved_smem_offset_<n>`: 0 or 1.
    ReservedSmemOffset(u8),
    /// `%envreg<n>`: 0 to 31, set by the driver.
    Envreg(u8),
}

const AXES: [&str; 3] = ["x", "y", "z"];

const PLAIN: &[(SpecialRegister, &str)] = &[
    (SpecialRegister::ClusterCtarank, "cluster_ctarank"),
    (SpecialRegister::ClusterNctarank, "cluster_nctarank"),
    (SpecialRegister::IsExplicitCluster, "is_explicit_cluster"),
    (SpecialRegister::Laneid, "laneid"),
    (SpecialRegister::Warpid, "warpid"),
    (SpecialRegister::Nwarpid, "nwarpid"),
    (SpecialRegister::Smid, "smid"),
    (SpecialRegister::Nsmid, "nsmid"),
    (SpecialRegister::Gridid, "gridid"),
    (SpecialRegister::LanemaskEq, "lanemask_eq"),
    (SpecialRegister::LanemaskLe, "lanemask_le"),
    (SpecialRegister::LanemaskLt, "lanemask_lt"),
    (SpecialRegister::LanemaskGe, "lanemask_ge"),
    (SpecialRegister::LanemaskGt, "lanemask_gt"),
    (SpecialRegister::Clock, "clock"),
    (SpecialRegister::ClockHi, "clock_hi"),
    (SpecialRegister::Clock64, "clock64"),
    (SpecialRegister::Globaltimer, "globaltimer"),
    (SpecialRegister::GlobaltimerLo, "globaltimer_lo"),
    (SpecialRegister::GlobaltimerHi, "globaltimer_hi"),
    (SpecialRegister::DynamicSmemSize, "dynamic_smem_size"),
    (SpecialRegister::TotalSmemSize, "total_smem_size"),
    (SpecialRegister::AggrSmemSize, "aggr_smem_size"),
    (SpecialRegister::ReservedSmemOffsetBegin, "reserved_smem_offset_begin"),
    (SpecialRegister::ReservedSmemOffsetEnd, "reserved_smem_offset_end"),
    (SpecialRegister::ReservedSmemOffsetCap, "reserved_smem_offset_cap"),
    (SpecialRegister::CurrentGraphExec, "current_graph_exec"),
];

impl SpecialRegister {
    fn axis(self) -> Option<(&'static str, u8)> {
        Some(match self {
            SpecialRegister::Tid(i) => ("tid", i),
            SpecialRegister::Ntid(i) => ("ntid", i),
            SpecialRegister::Ctaid(i) => ("ctaid", i),
            SpecialRegister::Nctaid(i) => ("nctaid", i),
            SpecialRegister::Clusterid(i) => ("clusterid", i),
            SpecialRegister::Nclusterid(i) => ("nclusterid", i),
            SpecialRegister::ClusterCtaid(i) => ("cluster_ctaid", i),
            SpecialRegister::ClusterNctaid(i) => ("cluster_nctaid", i),
            _ => return None,
        })
    }

    /// The register of a text without its `%`: `tid.x`, `laneid`.
    pub fn from_text(text: &str) -> Option<SpecialRegister> {
        if let Some((name, axis)) = text.split_once('.') {
            let axis = AXES.iter().position(|a| *a == axis)? as u8;
            return Some(match name {
                "tid" => SpecialRegister::Tid(axis),
                "ntid" => SpecialRegister::Ntid(axis),
                "ctaid" => SpecialRegister::Ctaid(axis),
                "nctaid" => SpecialRegister::Nctaid(axis),
                "clusterid" => SpecialRegister::Clusterid(axis),
                "nclusterid" => SpecialRegister::Nclusterid(axis),
                "cluster_ctaid" => SpecialRegister::ClusterCtaid(axis),
                "cluster_nctaid" => SpecialRegister::ClusterNctaid(axis),
                _ => return None,
            });
        }
        let numbered = |prefix: &str, limit: u8| {
            let digits = text.strip_prefix(prefix)?;
            let n: u8 = digits.parse().ok()?;
            (n < limit && n.to_string() == digits).then_some(n)
        };
        if let Some(n) = numbered("envreg", 32) {
            return Some(SpecialRegister::Envreg(n));
        }
        if let Some(n) = numbered("reserved_smem_offset_", 2) {
            return Some(SpecialRegister::ReservedSmemOffset(n));
        }
        PLAIN.iter().find(|(_, name)| *name == text).map(|(register, _)| *register)
    }

    /// Its text with the `%`.
    pub fn text(self) -> String {
        if let Some((name, axis)) = self.axis() {
            return format!("%{name}.{}", AXES[usize::from(axis).min(2)]);
        }
        match self {
            SpecialRegister::Envreg(n) => format!("%envreg{n}"),
            SpecialRegister::ReservedSmemOffset(n) => format!("%reserved_smem_offset_{n}"),
            _ => {
                let name = PLAIN.iter().find(|(register, _)| *register == self);
                format!("%{}", name.map_or("", |(_, name)| name))
            }
        }
    }

    /// Its type as it is read.
    pub fn ty(self) -> Type {
        match self {
            SpecialRegister::Gridid
            | SpecialRegister::Clock64
            | SpecialRegister::Globaltimer
            | SpecialRegister::CurrentGraphExec => Type::U64,
            SpecialRegister::IsExplicitCluster => Type::Pred,
            SpecialRegister::Envreg(_) => Type::B32,
            _ => Type::U32,
        }
    }
}
