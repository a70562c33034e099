//! What instructions do, one file per family. `decode` picks the family; a family's `decode` picks the
//! function that executes the instruction.

pub(crate) mod atomic;
pub(crate) mod barrier;
pub(crate) mod bulk;
pub(crate) mod bulk_copy;
pub(crate) mod call;
pub(crate) mod cluster;
pub(crate) mod compare;
pub(crate) mod control;
pub(crate) mod convert;
pub(crate) mod cp_async;
pub(crate) mod fence;
pub(crate) mod float;
pub(crate) mod format;
pub(crate) mod half;
pub(crate) mod integer;
pub(crate) mod logic;
pub(crate) mod matrix;
pub(crate) mod mbarrier;
pub(crate) mod mbarrier_state;
pub(crate) mod memory;
pub(crate) mod mma;
pub(crate) mod mov;
pub(crate) mod pending;
pub(crate) mod registers;
pub(crate) mod soft;
pub(crate) mod tensormap;
pub(crate) mod tma;
pub(crate) mod tma_copy;
pub(crate) mod warp;
pub(crate) mod wgmma;

use zeroforge_ptx::{Instruction, Modifier, Opcode, StateSpace, Type};

use crate::program::decode::{Decoder, Reason, space_of};
use crate::program::inst::Inst;

/// Decodes an instruction.
pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    use Opcode as O;
    let float = i.types().any(|t| t.is_float());
    match i.opcode() {
        O::Add | O::Sub | O::Mul | O::Mad | O::Fma | O::Div | O::Abs | O::Neg | O::Min | O::Max
            if float =>
        {
            match i.ty() {
                Some(Type::F32 | Type::F64) => float::decode(d, i),
                _ => half::decode(d, i),
            }
        }
        O::Testp | O::Copysign | O::Rcp | O::Sqrt | O::Rsqrt | O::Sin | O::Cos | O::Lg2 => {
            float::decode(d, i)
        }
        O::Ex2 | O::Tanh => match i.ty() {
            Some(Type::F32) => float::decode(d, i),
            _ => half::decode(d, i),
        },
        O::Fma => half::decode(d, i),
        O::Add
        | O::Sub
        | O::Mul
        | O::Mad
        | O::Mul24
        | O::Mad24
        | O::Sad
        | O::Div
        | O::Rem
        | O::Abs
        | O::Neg
        | O::Min
        | O::Max
        | O::Popc
        | O::Clz
        | O::Bfind
        | O::Fns
        | O::Brev
        | O::Bfe
        | O::Bfi
        | O::Szext
        | O::Bmsk
        | O::Dp4a
        | O::Dp2a
        | O::Addc
        | O::Subc
        | O::Madc => integer::decode(d, i),
        O::Set | O::Setp | O::Selp | O::Slct => compare::decode(d, i),
        O::And
        | O::Or
        | O::Xor
        | O::Not
        | O::Cnot
        | O::Lop3
        | O::Shf
        | O::Shl
        | O::Shr
        | O::Prmt => logic::decode(d, i),
        O::Cvt | O::CvtPack => convert::decode(d, i),
        O::Mov | O::Cvta | O::Isspacep => mov::decode(d, i),
        O::Ld | O::Ldu | O::St => memory::decode(d, i),
        O::Prefetch | O::Prefetchu | O::Applypriority | O::DiscardL2 | O::CreatePolicy => {
            memory::decode_hint(d, i)
        }
        O::PrefetchTensormap => tma::decode_prefetch_map(d, i),
        O::Atom | O::Red => atomic::decode(d, i),
        O::Bra
        | O::BrxIdx
        | O::Ret
        | O::Exit
        | O::Trap
        | O::Brkpt
        | O::Nanosleep
        | O::Pmevent
        | O::GriddepcontrolLaunchDependents
        | O::GriddepcontrolWait => control::decode(d, i),
        O::Bar | O::Barrier => barrier::decode(d, i),
        O::Membar | O::Fence | O::FenceProxy | O::FenceMbarrierInit | O::FenceProxyTensormap => {
            fence::decode(d, i)
        }
        O::ShflSync
        | O::VoteSync
        | O::MatchSync
        | O::Activemask
        | O::ReduxSync
        | O::ElectSync
        | O::BarWarpSync => warp::decode(d, i),
        O::Mapa | O::Getctarank | O::BarrierClusterArrive | O::BarrierClusterWait => {
            cluster::decode(d, i)
        }
        O::MbarrierInit
        | O::MbarrierInval
        | O::MbarrierExpectTx
        | O::MbarrierCompleteTx
        | O::MbarrierArrive
        | O::MbarrierArriveDrop
        | O::MbarrierTestWait
        | O::MbarrierTryWait
        | O::MbarrierPendingCount => mbarrier::decode(d, i),
        O::CpAsync
        | O::CpAsyncCommitGroup
        | O::CpAsyncWaitGroup
        | O::CpAsyncWaitAll
        | O::CpAsyncMbarrierArrive => cp_async::decode(d, i),
        O::CpAsyncBulk
        | O::CpReduceAsyncBulk
        | O::CpAsyncBulkPrefetch
        | O::CpAsyncBulkCommitGroup
        | O::CpAsyncBulkWaitGroup
        | O::StAsync
        | O::RedAsync => bulk::decode(d, i),
        O::CpAsyncBulkTensor | O::CpReduceAsyncBulkTensor | O::CpAsyncBulkPrefetchTensor => {
            tma::decode(d, i)
        }
        O::MmaSync => mma::decode(d, i),
        O::Ldmatrix | O::Stmatrix | O::Movmatrix => matrix::decode(d, i),
        O::WgmmaMmaAsync | O::WgmmaFence | O::WgmmaCommitGroup | O::WgmmaWaitGroup => {
            wgmma::decode(d, i)
        }
        O::Setmaxnreg => registers::decode(d, i),
        O::Call => Err("a call that was not put into its caller".to_owned()),
        O::MultimemLdReduce | O::MultimemSt | O::MultimemRed => {
            refuse("memory of several GPUs is not emulated")
        }
        O::TensormapReplace | O::TensormapCpFenceproxy => tensormap::decode(d, i),
        O::MmaSpSync | O::WgmmaMmaAsyncSp => refuse("sparse matrix products are not emulated"),
        O::WmmaLoad | O::WmmaStore | O::WmmaMma => {
            refuse("wmma is not emulated; use mma.sync or wgmma")
        }
        O::Stacksave | O::Stackrestore | O::Alloca => {
            refuse("stack memory of variable size is not emulated")
        }
    }
}

fn refuse(reason: &str) -> Result<Inst, Reason> {
    Err(reason.to_owned())
}

/// Whether an instruction can tell other blocks something, or learn from them: then the order in which
/// blocks run matters.
pub(crate) fn communicates(i: &Instruction) -> bool {
    let space = space_of(i);
    let global = matches!(space, StateSpace::Global | StateSpace::Generic);
    let wide = [Modifier::Gpu, Modifier::Sys].iter().any(|&m| i.has(m));
    match i.opcode() {
        Opcode::Atom | Opcode::Red => global,
        Opcode::Ld | Opcode::St => {
            let strong = [
                Modifier::Relaxed,
                Modifier::Acquire,
                Modifier::Release,
                Modifier::Volatile,
                Modifier::Mmio,
            ];
            global && strong.iter().any(|&m| i.has(m))
        }
        Opcode::Fence | Opcode::Membar => wide || i.has(Modifier::Gl),
        Opcode::CpReduceAsyncBulk | Opcode::CpReduceAsyncBulkTensor => i.has(Modifier::Global),
        _ => false,
    }
}
