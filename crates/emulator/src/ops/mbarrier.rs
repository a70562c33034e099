//! mbarriers (PTX ISA 9.7.13.15): decoding and execution. What they hold and how phases end is in
//! `mbarrier_state`.

use zeroforge_ptx::{Instruction, Modifier, Opcode, Operand, StateSpace};

use crate::check::lanes;
use crate::machine::context::{Cx, Who};
use crate::machine::warp::{LANES, Wait, Warp};
use crate::memory::window::{self, SHARED_START};
use crate::ops::mbarrier_state::{self as state, Arrival, MAX_COUNT, MAX_TRANSACTIONS, Token, Use};
pub(crate) use crate::ops::mbarrier_state::{describe_all, phase_is_over};
use crate::ops::memory::resolve;
use crate::options::Schedule;
use crate::program::decode::{Decoder, Reason, space_of};
use crate::program::inst::{Addr, Detail, Inst, NO_REGISTER, Step};
use crate::report::FindingKind;

/// Operands of an mbarrier instruction.
#[derive(Debug)]
pub(crate) struct MbarrierOp {
    space: StateSpace,
    address: Addr,
    /// Destination of the state, or of the result of a wait; [`NO_REGISTER`] for `_`.
    destination: u32,
    /// Count, bytes, parity or state, by the instruction; [`NO_REGISTER`] for a count of 1.
    value: u32,
    /// `.relaxed`: orders nothing else.
    relaxed: bool,
    expect_tx: bool,
    no_complete: bool,
    drop: bool,
    parity: bool,
    try_wait: bool,
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    use Opcode as O;
    let opcode = i.opcode();
    if opcode == O::MbarrierPendingCount {
        let mut inst = Inst::new(pending_count);
        inst.d = d.d32(d.operand(i, 0)?)?;
        inst.a = d.s64(d.operand(i, 1)?)?;
        return Ok(inst);
    }
    let arrives = matches!(opcode, O::MbarrierArrive | O::MbarrierArriveDrop);
    let waits = matches!(opcode, O::MbarrierTestWait | O::MbarrierTryWait);
    // The destination of an arrival may be left out.
    let address_at = i.operands.iter().position(|o| matches!(o, Operand::Memory(_)));
    let address_at = address_at.ok_or_else(|| "the mbarrier's address is missing".to_owned())?;
    let (address, symbol_space) = d.address(d.operand(i, address_at)?)?;
    let mut space = space_of(i);
    if space == StateSpace::Generic {
        space = symbol_space.unwrap_or(space);
    }
    let destination = match (arrives, waits, address_at) {
        (true, _, 1) => match d.operand(i, 0)? {
            Operand::Sink => NO_REGISTER,
            other => d.d64(other)?,
        },
        (_, true, _) => d.destination_predicate(d.operand(i, 0)?)?.unwrap_or(NO_REGISTER),
        _ => NO_REGISTER,
    };
    let parity = i.has(Modifier::Parity);
    let value = match i.operands.get(address_at + 1) {
        None => NO_REGISTER,
        Some(state) if waits && !parity => d.s64(state)?,
        Some(other) => d.s32(other)?,
    };
    let op = MbarrierOp {
        space,
        address,
        destination,
        value,
        relaxed: i.has(Modifier::Relaxed),
        expect_tx: i.has(Modifier::ExpectTx),
        no_complete: i.has(Modifier::NoComplete),
        drop: opcode == O::MbarrierArriveDrop,
        parity,
        try_wait: opcode == O::MbarrierTryWait,
    };
    let mut inst = Inst::new(match opcode {
        O::MbarrierInit => init,
        O::MbarrierInval => inval,
        O::MbarrierExpectTx => expect_tx,
        O::MbarrierCompleteTx => complete_tx,
        O::MbarrierArrive | O::MbarrierArriveDrop => arrive,
        _ => wait,
    });
    inst.detail = Detail::Mbarrier(Box::new(op));
    Ok(inst)
}

/// An mbarrier's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) rank: u32,
    pub(crate) offset: u32,
}

impl Place {
    /// The address in the cluster's window, for reports.
    pub(crate) fn address(self) -> u64 {
        u64::from(window::cluster_address(self.rank, self.offset))
    }
}

/// The mbarriers of the lanes of the mask. Lanes whose address cannot be an mbarrier are reported and left
/// out; `own` where only mbarriers of the own block may be meant.
pub(crate) fn locate(
    cx: &mut Cx<'_>,
    warp: &Warp,
    space: StateSpace,
    address: &Addr,
    own: bool,
) -> ([Place; LANES], u32) {
    let r = resolve(warp, space, address);
    let mut places = [Place::default(); LANES];
    let mut good = r.shared & warp.mask;
    let other = warp.mask & !r.shared;
    if other != 0 {
        let address = r.addresses[other.trailing_zeros() as usize];
        cx.find(warp, other, FindingKind::MbarrierMisuse, Some(address), || {
            format!("{address:#x} is not in shared memory; mbarriers live there only (PTX ISA 9.7.13.15)")
        });
    }
    for lane in lanes(good) {
        let address = r.addresses[lane] as u32;
        let (rank, offset) = window::split_shared(address, cx.rank);
        let bit = 1 << lane;
        let cta = cx.cluster.ctas.get(rank as usize);
        let inside = cta.is_some_and(|c| c.range(offset, 8).is_some());
        let blocks = cx.cluster.ctas.len();
        let shown = Some(u64::from(address));
        if !inside {
            good &= !bit;
            cx.find(warp, bit, FindingKind::OutOfBounds, shown, || {
                format!("an mbarrier at shared offset {offset:#x} of block {rank} of {blocks} is outside of shared memory, which starts at {SHARED_START:#x}")
            });
        } else if !offset.is_multiple_of(8) {
            good &= !bit;
            cx.find(warp, bit, FindingKind::Misaligned, shown, || {
                format!("an mbarrier at shared offset {offset:#x}; it must be a multiple of 8")
            });
        } else if own && rank != cx.rank {
            good &= !bit;
            cx.find(warp, bit, FindingKind::MbarrierMisuse, shown, || {
                format!("the mbarrier is in block {rank} of the cluster; only arrive, expect_tx and complete_tx work on another block's (PTX ISA 9.7.13.15)")
            });
        }
        places[lane] = Place { rank, offset };
    }
    (places, good)
}

fn init(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Mbarrier(op) = &inst.detail else { return Step::Stop };
    let (places, good) = locate(cx, warp, op.space, &op.address, true);
    for lane in lanes(good) {
        let count = warp.r32[op.value as usize][lane];
        if count == 0 || count > MAX_COUNT {
            cx.find(
                warp,
                1 << lane,
                FindingKind::MbarrierMisuse,
                Some(places[lane].address()),
                || format!("an mbarrier for {count} arrivals; 1 to {MAX_COUNT} are allowed"),
            );
            continue;
        }
        state::init(cx, warp, lane, places[lane], count);
    }
    Step::Next
}

fn inval(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Mbarrier(op) = &inst.detail else { return Step::Stop };
    let (places, good) = locate(cx, warp, op.space, &op.address, true);
    for lane in lanes(good) {
        if state::check_use(cx, warp, lane, places[lane], Use::Inval) {
            state::inval(cx, warp, lane, places[lane]);
        }
    }
    Step::Next
}

fn bytes_of(
    op: &MbarrierOp,
    warp: &Warp,
    lane: usize,
    place: Place,
    cx: &mut Cx<'_>,
) -> Option<i64> {
    let bytes = warp.r32[op.value as usize][lane];
    if bytes > MAX_TRANSACTIONS as u32 {
        cx.find(warp, 1 << lane, FindingKind::TransactionCount, Some(place.address()), || {
            format!(
                "{bytes} bytes; an mbarrier counts up to {MAX_TRANSACTIONS} (PTX ISA 9.7.13.15.2)"
            )
        });
        return None;
    }
    Some(i64::from(bytes))
}

fn expect_tx(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Mbarrier(op) = &inst.detail else { return Step::Stop };
    let (places, good) = locate(cx, warp, op.space, &op.address, false);
    for lane in lanes(good) {
        let place = places[lane];
        if let Some(bytes) = bytes_of(op, warp, lane, place, cx)
            && state::check_use(cx, warp, lane, place, Use::Arrive)
        {
            state::expect_tx(cx, warp, lane, place, bytes);
        }
    }
    Step::Next
}

fn complete_tx(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Mbarrier(op) = &inst.detail else { return Step::Stop };
    let (places, good) = locate(cx, warp, op.space, &op.address, false);
    for lane in lanes(good) {
        let place = places[lane];
        if let Some(bytes) = bytes_of(op, warp, lane, place, cx)
            && state::check_use(cx, warp, lane, place, Use::Arrive)
        {
            let who = Who::of(warp, cx.cta().id, 1 << lane);
            state::complete_tx(cx.cluster, cx.env, place, bytes, who, None);
        }
    }
    Step::Next
}

fn arrive(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Mbarrier(op) = &inst.detail else { return Step::Stop };
    let (places, good) = locate(cx, warp, op.space, &op.address, false);
    // What the warp did before is given to the phase once per mbarrier, not per lane.
    let mut released: Option<(Place, u32)> = None;
    for lane in lanes(good) {
        let place = places[lane];
        let bit = 1 << lane;
        if place.rank != cx.rank && op.destination != NO_REGISTER {
            cx.find(warp, bit, FindingKind::MbarrierMisuse, Some(place.address()), || {
                "an arrival at another block's mbarrier gives no state; use `_` (PTX ISA 9.7.13.15.13)"
                    .to_owned()
            });
        }
        if !state::check_use(cx, warp, lane, place, Use::Arrive) {
            continue;
        }
        if op.expect_tx {
            match bytes_of(op, warp, lane, place, cx) {
                Some(bytes) => state::expect_tx(cx, warp, lane, place, bytes),
                None => continue,
            }
        }
        let count = match op.value {
            r if r != NO_REGISTER && !op.expect_tx => warp.r32[r as usize][lane],
            _ => 1,
        };
        if count == 0 || count > MAX_COUNT {
            cx.find(warp, bit, FindingKind::MbarrierMisuse, Some(place.address()), || {
                format!("{count} arrivals at once; 1 to {MAX_COUNT} are allowed")
            });
            continue;
        }
        let phase = state::phase(cx.cluster, place);
        if !op.relaxed && released != Some((place, phase)) {
            state::release(cx, warp, place);
            released = Some((place, phase));
        }
        let arrival = Arrival { count, drop: op.drop, no_complete: op.no_complete };
        let token = state::arrive(cx, warp, lane, place, arrival);
        if op.destination != NO_REGISTER {
            warp.r64[op.destination as usize][lane] = token.bits();
        }
    }
    Step::Next
}

/// `test_wait` and `try_wait`. A `try_wait` that would give false parks the fragment until the phase is
/// over: hardware may wait as long as it likes, too, and the code loops anyway. Random schedules let some
/// time out, so that code which does not loop is found.
fn wait(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Mbarrier(op) = &inst.detail else { return Step::Stop };
    let (places, good) = locate(cx, warp, op.space, &op.address, true);
    let mut over = 0u32;
    let mut park = None;
    let mut known: Option<(Place, u32, bool)> = None;
    for lane in lanes(good) {
        let place = places[lane];
        let parity = if op.parity {
            let parity = warp.r32[op.value as usize][lane];
            if parity > 1 {
                cx.find(
                    warp,
                    1 << lane,
                    FindingKind::MbarrierMisuse,
                    Some(place.address()),
                    || format!("phase parity {parity}; it is 0 or 1"),
                );
            }
            parity & 1
        } else {
            let token = Token::from_bits(warp.r64[op.value as usize][lane]);
            state::check_token(cx, warp, lane, place, token);
            token.phase() & 1
        };
        // Lanes mostly wait for the same.
        let done = match known {
            Some((p, q, done)) if (p, q) == (place, parity) => done,
            _ => {
                let usable = state::check_use(cx, warp, lane, place, Use::Wait);
                let cta = &cx.cluster.ctas[place.rank as usize];
                let done = !usable || phase_is_over(cta, place.offset, parity);
                if done && usable {
                    state::waited(cx, warp, place, !op.relaxed);
                }
                let differ = state::lanes_differ(cx.cluster, warp, place);
                known = (!differ).then_some((place, parity, done));
                done
            }
        };
        over |= u32::from(done) << lane;
        if !done && park.is_none() {
            park = Some(Wait::Mbarrier { offset: place.offset, parity });
        }
    }
    // Lanes without a usable address go on.
    over |= warp.mask & !good;
    if op.try_wait && over == 0 {
        let times_out = matches!(cx.env.options.schedule, Schedule::Random(_))
            && cx.cluster.random.below(8) == 0;
        if let Some(wait) = park.filter(|_| !times_out) {
            warp.wait = Some(wait);
            return Step::Wait;
        }
    }
    if op.destination != NO_REGISTER {
        warp.set_predicate(op.destination, over);
    }
    Step::Next
}

fn pending_count(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    for lane in lanes(warp.mask) {
        let token = Token::from_bits(warp.r64[inst.a as usize][lane]);
        warp.r32[inst.d as usize][lane] = token.pending();
    }
    Step::Next
}
