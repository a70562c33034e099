//! What an mbarrier holds and how its phases end (PTX ISA 9.7.13.15.2-8).
//!
//! The 8 bytes are in shared memory, so that they travel with it and a plain store destroys them as it would
//! on hardware; a shadow beside them knows what the ISA makes undefined.

use crate::check::clock::{Clock, GENERIC, SHARED};
use crate::check::{WarpAccess, lanes};
use crate::machine::context::{ClusterState, Cx, Env, Who};
use crate::machine::cta::Cta;
use crate::machine::warp::Warp;
use crate::memory::window;
use crate::ops::mbarrier::Place;
use crate::report::FindingKind;

/// Most arrivals that a phase can expect.
pub(crate) const MAX_COUNT: u32 = (1 << 20) - 1;
/// Largest transaction count, up and down.
pub(crate) const MAX_TRANSACTIONS: i64 = (1 << 20) - 1;

/// The 8 bytes. NVIDIA does not document its layout; ours: pending arrivals in bits 0 to 19, expected ones
/// in 20 to 39, the transaction count in 40 to 60, the phase modulo 8 in 61 to 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

const COUNT: u64 = (1 << 20) - 1;
const TX: u64 = (1 << 21) - 1;

impl Token {
    fn new(phase: u32, pending: u32, expected: u32, tx: i64) -> Token {
        Token(
            u64::from(pending) & COUNT
                | (u64::from(expected) & COUNT) << 20
                | (tx as u64 & TX) << 40
                | u64::from(phase & 7) << 61,
        )
    }

    pub(crate) fn from_bits(bits: u64) -> Token {
        Token(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Arrivals that the phase still waits for.
    pub(crate) fn pending(self) -> u32 {
        (self.0 & COUNT) as u32
    }

    fn expected(self) -> u32 {
        (self.0 >> 20 & COUNT) as u32
    }

    /// Bytes announced less bytes arrived.
    fn tx(self) -> i64 {
        (self.0 << 3) as i64 >> 43
    }

    /// The phase modulo 8.
    pub(crate) fn phase(self) -> u32 {
        (self.0 >> 61) as u32
    }
}

/// What is known of an mbarrier beyond its 8 bytes.
#[derive(Debug)]
pub(crate) struct MbarrierShadow {
    /// Initialised and not invalidated.
    live: bool,
    /// Phases that are over.
    phase: u32,
    /// Whether the last of them was waited for.
    waited: bool,
    /// Who initialised it, as actor and count, and where.
    init: (u32, u32),
    init_by: Who,
    /// Count of the initialiser at its `fence.mbarrier_init`.
    init_fence: Option<u32>,
    /// Bytes that were announced and that arrived in this phase, and who announced last.
    announced: i64,
    arrived: i64,
    announced_by: Option<Who>,
    arrived_by: Option<Who>,
    /// The last arrival.
    last_arrival: Option<Who>,
    /// Clocks of those that arrived in this phase; of the last one that is over.
    gathering: Clock,
    released: Clock,
    /// Under which its copies are recorded.
    actor: u32,
    /// Whether a wrong transaction count was reported.
    reported: bool,
}

impl MbarrierShadow {
    /// Whether the initialiser is a lane of a warp that others of the warp are not ordered after as a whole.
    fn init_is_of_lane(&self, warp: &Warp) -> bool {
        self.init.0 == warp.actor && self.init.1 >= warp.ordered_from()
    }

    /// Whether the initialisation happened before what a lane of a warp does now.
    fn init_comes_before(&self, warp: &Warp, lane: usize) -> bool {
        let ((actor, count), lanes) = (self.init, self.init_by.lanes);
        let whole = match actor == warp.actor {
            true => lanes == 1 << lane || !self.init_is_of_lane(warp),
            false => warp.clock.seen(actor) >= count,
        };
        // The initialiser may have released for itself.
        whole || warp.clock.seen_part(actor, count, lanes, GENERIC)
    }
}

/// What an instruction does to an mbarrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Inval,
    /// Arrivals and transaction counts.
    Arrive,
    Wait,
    /// The target of an asynchronous copy.
    Copy,
}

/// An arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) count: u32,
    pub(crate) drop: bool,
    pub(crate) no_complete: bool,
}

fn load(cta: &Cta, offset: u32) -> Token {
    let at = offset as usize;
    let bytes = cta.shared[at..at + 8].try_into().unwrap_or_default();
    Token(u64::from_le_bytes(bytes))
}

fn store(cta: &mut Cta, offset: u32, token: Token) {
    let at = offset as usize;
    cta.shared[at..at + 8].copy_from_slice(&token.0.to_le_bytes());
}

fn shadow(state: &mut ClusterState, place: Place) -> Option<&mut MbarrierShadow> {
    state.ctas.get_mut(place.rank as usize)?.mbarriers.get_mut(&place.offset)
}

/// Phases of an mbarrier that are over.
pub(crate) fn phase(state: &ClusterState, place: Place) -> u32 {
    let cta = state.ctas.get(place.rank as usize);
    cta.and_then(|c| c.mbarriers.get(&place.offset)).map_or(0, |s| s.phase)
}

/// Whether the phase of a parity is over: the one before the current one has it.
pub(crate) fn phase_is_over(cta: &Cta, offset: u32, parity: u32) -> bool {
    load(cta, offset).phase() & 1 != parity
}

pub(crate) fn init(cx: &mut Cx<'_>, warp: &Warp, lane: usize, place: Place, count: u32) {
    let who = Who::of(warp, cx.cta().id, 1 << lane);
    let actor = cx.cluster.race.mbarrier_actor(place.rank, place.offset);
    let cta = &mut cx.cluster.ctas[place.rank as usize];
    let old = cta.mbarriers.get(&place.offset);
    let overlap = cta.mbarriers.range(place.offset.saturating_sub(7)..place.offset + 8);
    let live = overlap.filter(|(_, s)| s.live).map(|(&o, s)| (o, s.init_by)).next();
    // Phases go on counting, so that accesses under the old object stay told apart.
    let phase = old.map_or(0, |s| s.phase + 2) & !1;
    let shadow = MbarrierShadow {
        live: true,
        phase,
        waited: true,
        init: (warp.actor, warp.clock.now()),
        init_by: who,
        init_fence: None,
        announced: 0,
        arrived: 0,
        announced_by: None,
        arrived_by: None,
        last_arrival: None,
        gathering: Clock::default(),
        released: Clock::default(),
        actor,
        reported: false,
    };
    cta.mbarriers.insert(place.offset, shadow);
    store(cta, place.offset, Token::new(phase, count, count, 0));
    cta.mark_written(place.offset, 8);
    if cx.env.options.checks.protocol
        && let Some((offset, by)) = live
    {
        cx.cluster.findings.add(
            FindingKind::MbarrierMisuse,
            who,
            Some(by),
            Some(place.address()),
            || {
                format!("mbarrier.init on the mbarrier at shared offset {offset:#x}, which is in use; invalidate it first (PTX ISA 9.7.13.15.9)")
            },
        );
    }
}

pub(crate) fn inval(cx: &mut Cx<'_>, warp: &Warp, lane: usize, place: Place) {
    let who = Who::of(warp, cx.cta().id, 1 << lane);
    report_transactions(cx.cluster, cx.env, place, Some(who));
    if let Some(shadow) = shadow(cx.cluster, place) {
        shadow.live = false;
    }
}

/// Checks that an mbarrier may be used by lanes of a warp. False if it is not one: then nothing may be
/// done to it.
pub(crate) fn check_use(cx: &mut Cx<'_>, warp: &Warp, lane: usize, place: Place, how: Use) -> bool {
    let own = cx.rank;
    let who = Who::of(warp, cx.cta().id, 1 << lane);
    // A copy uses it when it completes, which is recorded with the copy.
    if place.rank != own && how != Use::Copy {
        crate::ops::cluster::remote_access(cx, warp, 1 << lane, place.rank, None);
    }
    let ClusterState { ctas, findings, .. } = &mut *cx.cluster;
    let address = Some(place.address());
    let Some(shadow) = ctas[place.rank as usize].mbarriers.get(&place.offset) else {
        findings.add(FindingKind::MbarrierMisuse, who, None, address, || {
            format!(
                "the mbarrier at shared offset {:#x} of block {} is not initialised",
                place.offset, place.rank
            )
        });
        return false;
    };
    if !shadow.live {
        findings.add(FindingKind::MbarrierMisuse, who, Some(shadow.init_by), address, || {
            format!("the mbarrier at shared offset {:#x} was invalidated", place.offset)
        });
        return false;
    }
    if !cx.env.options.checks.protocol {
        return true;
    }
    let (actor, count) = shadow.init;
    // A fence.mbarrier_init needs no more than the execution order that a relaxed cluster barrier gives.
    let fence_seen =
        shadow.init_fence.is_some_and(|f| ctas[own as usize].remote.has_seen(actor, f));
    if !shadow.init_comes_before(warp, lane) && !fence_seen {
        findings.add(FindingKind::Race, who, Some(shadow.init_by), address, || {
            let (by, between) = match actor == warp.actor {
                true => (" by another lane of the same warp", "bar.warp.sync (__syncwarp)"),
                false => ("", "a barrier"),
            };
            format!("the mbarrier at shared offset {:#x} is used, but nothing orders this after its mbarrier.init{by}: put {between} between", place.offset)
        });
        return true;
    }
    // PTX ISA 9.7.13.4: other blocks see an init only after a fence. A copy of the own block does not need
    // one: its mbarrier operand goes through the generic proxy (PTX ISA 9.7.9.25).
    let needs_fence = place.rank != own && matches!(how, Use::Copy | Use::Arrive);
    let (clock, lanes) = (&warp.clock, shadow.init_by.lanes);
    let seen = |f| clock.seen(actor) >= f || clock.seen_part(actor, f, lanes, GENERIC);
    let fenced = fence_seen
        || shadow.init_fence.is_some_and(seen)
        || clock.seen_async(actor) >= count
        || clock.seen_part(actor, count, lanes, SHARED);
    if needs_fence && !fenced {
        findings.add(FindingKind::MissingProxyFence, who, Some(shadow.init_by), address, || {
            let user = if how == Use::Copy { "an asynchronous copy" } else { "another block" };
            format!("{user} uses the mbarrier at shared offset {:#x}, whose initialiser executed no fence.mbarrier_init.release.cluster (or fence.proxy.async) after mbarrier.init", place.offset)
        });
    }
    true
}

/// Whether one lane of a warp may use an mbarrier where another may not.
pub(crate) fn lanes_differ(state: &ClusterState, warp: &Warp, place: Place) -> bool {
    let cta = state.ctas.get(place.rank as usize);
    cta.and_then(|c| c.mbarriers.get(&place.offset)).is_some_and(|s| s.init_is_of_lane(warp))
}

/// `fence.mbarrier_init` by lanes of a warp.
pub(crate) fn fence_init(cx: &mut Cx<'_>, warp: &mut Warp) {
    let now = warp.clock.now();
    let cta = cx.cta();
    for shadow in cta.mbarriers.values_mut() {
        let own = shadow.init.0 == warp.actor && shadow.init_by.lanes & warp.mask != 0;
        if shadow.live && own && shadow.init_fence.is_none() {
            shadow.init_fence = Some(now);
        }
    }
    warp.clock.tick();
}

pub(crate) fn expect_tx(cx: &mut Cx<'_>, warp: &Warp, lane: usize, place: Place, bytes: i64) {
    let who = Who::of(warp, cx.cta().id, 1 << lane);
    add_transactions(cx.cluster, cx.env, place, bytes, who);
    if let Some(shadow) = shadow(cx.cluster, place) {
        shadow.announced += bytes;
        shadow.announced_by = Some(who);
    }
}

/// Bytes arrive. `issued_in` is the phase in which the copy was started, if it is one.
pub(crate) fn complete_tx(
    state: &mut ClusterState,
    env: &Env<'_>,
    place: Place,
    bytes: i64,
    who: Who,
    issued_in: Option<u32>,
) {
    let Some(s) = shadow(state, place) else { return };
    if !s.live {
        if env.options.checks.protocol {
            let by = s.init_by;
            let address = Some(place.address());
            state.findings.add(FindingKind::MbarrierMisuse, who, Some(by), address, || {
                format!("a copy completes on the mbarrier at shared offset {:#x} after it was invalidated", place.offset)
            });
        }
        return;
    }
    s.arrived += bytes;
    s.arrived_by = Some(who);
    let phase = s.phase;
    if let Some(issued) = issued_in.filter(|&p| p != phase)
        && env.options.checks.protocol
        && !s.reported
    {
        s.reported = true;
        let by = s.announced_by;
        state.findings.add(
            FindingKind::TransactionCount,
            who,
            by,
            Some(place.address()),
            || {
                format!("{bytes} bytes of a copy that was started in phase {issued} of the mbarrier at shared offset {:#x} arrive in phase {phase}: fewer bytes were announced by expect_tx than were copied", place.offset)
            },
        );
    }
    add_transactions(state, env, place, -bytes, who);
    try_complete(state, place);
    state.events += 1;
}

fn add_transactions(state: &mut ClusterState, env: &Env<'_>, place: Place, bytes: i64, who: Who) {
    let cta = &mut state.ctas[place.rank as usize];
    let t = load(cta, place.offset);
    let tx = t.tx() + bytes;
    let kept = tx.clamp(-MAX_TRANSACTIONS, MAX_TRANSACTIONS);
    store(cta, place.offset, Token::new(t.phase(), t.pending(), t.expected(), kept));
    if tx != kept && env.options.checks.protocol {
        state.findings.add(
            FindingKind::TransactionCount,
            who,
            None,
            Some(place.address()),
            || {
                format!("the transaction count of the mbarrier at shared offset {:#x} becomes {tx}; it holds {MAX_TRANSACTIONS} bytes up and down (PTX ISA 9.7.13.15.2)", place.offset)
            },
        );
    }
}

/// Gives what a warp did before to the waiters of the current phase.
pub(crate) fn release(cx: &mut Cx<'_>, warp: &mut Warp, place: Place) {
    if let Some(shadow) = shadow(cx.cluster, place) {
        warp.release_to(&mut shadow.gathering);
    }
}

/// The same, with the warp's `cp.async` copies up to a count of their actor.
pub(crate) fn release_copies(
    cx: &mut Cx<'_>,
    warp: &mut Warp,
    place: Place,
    (actor, count): (u32, u32),
) {
    if let Some(shadow) = shadow(cx.cluster, place) {
        warp.release_to(&mut shadow.gathering);
        shadow.gathering.see_generic(actor, count);
    }
}

/// Arrives; gives the state before.
pub(crate) fn arrive(
    cx: &mut Cx<'_>,
    warp: &Warp,
    lane: usize,
    place: Place,
    arrival: Arrival,
) -> Token {
    let who = Who::of(warp, cx.cta().id, 1 << lane);
    arrive_as(cx.cluster, cx.env, place, arrival, who)
}

/// The same for asynchronous arrivals.
pub(crate) fn arrive_as(
    state: &mut ClusterState,
    env: &Env<'_>,
    place: Place,
    arrival: Arrival,
    who: Who,
) -> Token {
    let protocol = env.options.checks.protocol;
    let ClusterState { ctas, findings, .. } = &mut *state;
    let cta = &mut ctas[place.rank as usize];
    let t = load(cta, place.offset);
    let Some(s) = cta.mbarriers.get_mut(&place.offset) else { return t };
    let address = Some(place.address());
    let last = s.last_arrival;
    if protocol && !s.waited {
        findings.add(FindingKind::PhaseOverrun, who, last, address, || {
            format!("an arrival in phase {} of the mbarrier at shared offset {:#x}, but nobody waited for phase {} (PTX ISA 9.7.13.15.16: each phase needs a successful wait before the next one's arrivals)", s.phase, place.offset, s.phase.wrapping_sub(1))
        });
    }
    if arrival.count > t.pending() {
        if protocol {
            findings.add(FindingKind::PhaseOverrun, who, last, address, || {
                format!("{} arrivals at the mbarrier at shared offset {:#x}, whose phase {} expects {} and still waits for {}{}", arrival.count, place.offset, s.phase, t.expected(), t.pending(), waits_for_bytes(t))
            });
        }
        return t;
    }
    if protocol && arrival.no_complete && arrival.count == t.pending() && t.tx() == 0 {
        findings.add(FindingKind::MbarrierMisuse, who, last, address, || {
            format!("an arrival with .noComplete ends phase {} of the mbarrier at shared offset {:#x} (PTX ISA 9.7.13.15.13)", s.phase, place.offset)
        });
    }
    s.last_arrival = Some(who);
    let expected = t.expected() - if arrival.drop { arrival.count.min(t.expected()) } else { 0 };
    let next = Token::new(t.phase(), t.pending() - arrival.count, expected, t.tx());
    store(cta, place.offset, next);
    try_complete(state, place);
    state.events += 1;
    t
}

fn waits_for_bytes(t: Token) -> String {
    match t.tx() {
        0 => String::new(),
        tx => format!("; {tx} bytes are missing"),
    }
}

/// `cp.async.mbarrier.arrive` without `.noinc` raises the pending count first, so that it balances.
pub(crate) fn raise_pending(cx: &mut Cx<'_>, warp: &Warp, lane: usize, place: Place) {
    let cta = &mut cx.cluster.ctas[place.rank as usize];
    let t = load(cta, place.offset);
    if t.pending() == MAX_COUNT {
        cx.find(warp, 1 << lane, FindingKind::MbarrierMisuse, Some(place.address()), || {
            format!("the mbarrier at shared offset {:#x} cannot wait for more than {MAX_COUNT} arrivals", place.offset)
        });
        return;
    }
    store(cta, place.offset, Token::new(t.phase(), t.pending() + 1, t.expected(), t.tx()));
}

/// Ends the phase if everything is there.
fn try_complete(state: &mut ClusterState, place: Place) {
    let cta = &mut state.ctas[place.rank as usize];
    let t = load(cta, place.offset);
    if t.pending() != 0 || t.tx() != 0 {
        return;
    }
    let Some(s) = cta.mbarriers.get_mut(&place.offset) else { return };
    s.phase += 1;
    s.waited = false;
    s.announced = 0;
    s.arrived = 0;
    s.reported = false;
    std::mem::swap(&mut s.released, &mut s.gathering);
    s.gathering.clear();
    let next = Token::new(s.phase, t.expected(), t.expected(), 0);
    store(cta, place.offset, next);
    state.events += 1;
}

/// A warp's wait for the phase before the current one was successful.
pub(crate) fn waited(cx: &mut Cx<'_>, warp: &mut Warp, place: Place, acquires: bool) {
    let Some(s) = shadow(cx.cluster, place) else { return };
    s.waited = true;
    if acquires {
        warp.clock.acquire(&s.released);
        // Copies that complete on it are seen, and the fence between the proxies is implied (PTX ISA 8.6).
        warp.clock.see(s.actor, s.phase);
    }
}

/// Checks the state operand of a wait.
pub(crate) fn check_token(cx: &mut Cx<'_>, warp: &Warp, lane: usize, place: Place, token: Token) {
    if !cx.env.options.checks.protocol {
        return;
    }
    let now = load(&cx.cluster.ctas[place.rank as usize], place.offset).phase();
    let behind = now.wrapping_sub(token.phase()) & 7;
    if behind > 1 {
        cx.find(warp, 1 << lane, FindingKind::MbarrierMisuse, Some(place.address()), || {
            format!("the state is not of the current phase of the mbarrier at shared offset {:#x} or the one before it, but {behind} phases old (PTX ISA 9.7.13.15.16)", place.offset)
        });
    }
}

/// What a copy needs to know of the mbarrier that it completes on: the actor and count under which its
/// accesses are recorded, and the phase.
pub(crate) fn copy_target(cx: &mut Cx<'_>, place: Place) -> (u32, u32, u32) {
    match shadow(cx.cluster, place) {
        Some(s) => (s.actor, s.phase + 1, s.phase),
        None => (cx.cluster.race.mbarrier_actor(place.rank, place.offset), 1, 0),
    }
}

/// A plain access by a warp: reported where it touches a live mbarrier (PTX ISA 9.7.13.15.1), and where it
/// goes to a block that is gone.
pub(crate) fn plain_access(cx: &mut Cx<'_>, warp: &Warp, access: &WarpAccess<'_>) {
    let own = match access.even {
        Some(even) => (even.first + even.span(0)) >> window::SHARED_OFFSET_BITS == 0,
        None => {
            access.addresses.iter().fold(0, |all, a| all | a) >> window::SHARED_OFFSET_BITS == 0
        }
    };
    if own && cx.cta().mbarriers.is_empty() {
        return;
    }
    if let Some(even) = access.even.filter(|_| own) {
        let (low, len) = (even.first as u32, even.span(access.bytes) as u32);
        if !near(cx.cta(), low, low + len) {
            return;
        }
    }
    let (mut low, mut high) = (u32::MAX, 0);
    let mut remote = false;
    for lane in lanes(access.lanes) {
        let (rank, offset) = window::split_shared(access.addresses[lane] as u32, cx.rank);
        remote |= rank != cx.rank;
        low = low.min(offset);
        high = high.max(offset + access.bytes);
    }
    if remote {
        crate::ops::cluster::watch(cx, warp, access);
    }
    if remote || near(cx.cta(), low, high) {
        for lane in lanes(access.lanes) {
            let (rank, offset) = window::split_shared(access.addresses[lane] as u32, cx.rank);
            range_access(cx, warp, 1 << lane, rank, offset, access.bytes);
        }
    }
}

/// Whether a block may have mbarriers in a range of shared memory.
#[inline]
pub(crate) fn near(cta: &Cta, low: u32, high: u32) -> bool {
    match (cta.mbarriers.first_key_value(), cta.mbarriers.last_key_value()) {
        (Some((&first, _)), Some((&last, _))) => low < last + 8 && first < high,
        _ => false,
    }
}

/// A plain access or a copy to or from a range of shared memory.
pub(crate) fn range_access(
    cx: &mut Cx<'_>,
    warp: &Warp,
    lanes: u32,
    rank: u32,
    offset: u32,
    len: u32,
) {
    let Some(cta) = cx.cluster.ctas.get(rank as usize) else { return };
    if !cx.env.options.checks.protocol || !near(cta, offset, offset + len) {
        return;
    }
    let mut hit = cta.mbarriers.range(offset.saturating_sub(7)..offset + len);
    let Some((at, by)) = hit.find(|(_, s)| s.live).map(|(&at, s)| (at, s.init_by)) else { return };
    let who = Who::of(warp, cx.cta().id, lanes);
    let address = Some(u64::from(window::cluster_address(rank, offset)));
    cx.cluster.findings.add(FindingKind::MbarrierMisuse, who, Some(by), address, || {
        format!("{len} bytes at shared offset {offset:#x} are accessed, but a live mbarrier is at {at:#x} (PTX ISA 9.7.13.15.1)")
    });
}

/// Reports an mbarrier whose announced and arrived bytes disagree.
fn report_transactions(state: &mut ClusterState, env: &Env<'_>, place: Place, at: Option<Who>) {
    let cta = &state.ctas[place.rank as usize];
    let t = load(cta, place.offset);
    let Some(s) = cta.mbarriers.get(&place.offset) else { return };
    if !s.live || s.reported || t.tx() == 0 || !env.options.checks.protocol {
        return;
    }
    let who = at.or(s.announced_by).or(s.arrived_by).unwrap_or(s.init_by);
    let other = s.arrived_by.filter(|&w| w != who);
    let (announced, arrived, phase) = (s.announced, s.arrived, s.phase);
    state.findings.add(FindingKind::TransactionCount, who, other, Some(place.address()), || {
        format!("phase {phase} of the mbarrier at shared offset {:#x} of block {} was told to expect {announced} bytes and got {arrived}", place.offset, place.rank)
    });
    if let Some(s) = shadow(state, place) {
        s.reported = true;
    }
}

/// Nothing goes on: phases that have all their arrivals wait for bytes that will not come.
pub(crate) fn report_stuck(state: &mut ClusterState, env: &Env<'_>) {
    for place in places(state) {
        if load(&state.ctas[place.rank as usize], place.offset).pending() == 0 {
            report_transactions(state, env, place, None);
        }
    }
}

/// The cluster is over.
pub(crate) fn at_exit(state: &mut ClusterState, env: &Env<'_>) {
    for place in places(state) {
        report_transactions(state, env, place, None);
    }
}

fn places(state: &ClusterState) -> Vec<Place> {
    let all = state.ctas.iter().flat_map(|cta| {
        let live = cta.mbarriers.iter().filter(|(_, s)| s.live);
        live.map(|(&offset, _)| Place { rank: cta.rank, offset })
    });
    all.collect()
}

/// The state of every mbarrier of a cluster, for reports; starts with a line break unless empty.
pub(crate) fn describe_all(state: &ClusterState, env: &Env<'_>) -> String {
    let mut out = String::new();
    for place in places(state) {
        let t = load(&state.ctas[place.rank as usize], place.offset);
        out.push_str(&format!(
            "\n    mbarrier at shared offset {:#x} of block {}: phase {}, waits for {} of {} arrivals and {} bytes",
            place.offset,
            place.rank,
            phase(state, place),
            t.pending(),
            t.expected(),
            t.tx()
        ));
        let cta = &state.ctas[place.rank as usize];
        if let Some(last) = cta.mbarriers.get(&place.offset).and_then(|s| s.last_arrival) {
            out.push_str(&format!("; the last to arrive was {}", env.kernel.party(last)));
        }
    }
    out
}
