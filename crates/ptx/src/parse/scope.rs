//! Names of a function while it is parsed: nested scopes, register ranges, labels before their place.

use std::collections::HashMap;

use super::cursor::Place;
use super::{MAX_NESTING, ParseError, Parser};
use crate::instruction::Operand;
use crate::module::{Body, Label, LabelId, Location, Prototype, Register, RegisterId, Symbol};
use crate::types::Type;

#[derive(Clone, Copy)]
pub(super) enum Name {
    Register(RegisterId),
    Symbol(Symbol),
}

/// What `name: .branchtargets ...` and its like declare.
#[derive(Clone)]
pub(super) enum Targets {
    List(Vec<Operand>),
    /// Declared; its index in the body once it is used.
    Prototype(Prototype, Option<u32>),
}

#[derive(Default)]
pub(super) struct Scope<'a> {
    names: HashMap<&'a str, Name>,
    /// `%r<100>`: first register and how many.
    ranges: HashMap<&'a str, (u32, u32)>,
    labels: HashMap<&'a str, u32>,
    targets: HashMap<&'a str, Targets>,
}

/// A label that was used or defined. Used before its definition it belongs to the scope of the use,
/// until that scope ends and the one around it takes it over.
struct Slot {
    same_as: Option<u32>,
    position: Option<u32>,
    name: String,
    first_use: Place,
}

/// A `.loc` directive.
#[derive(Clone)]
pub(super) struct RawLocation {
    pub(super) file: u32,
    pub(super) line: u32,
    pub(super) column: u32,
    /// What was inlined, and the directive of the place at which it was: an index into the list of all.
    pub(super) inlined: Option<(String, usize)>,
    /// How many call sites there are around it.
    pub(super) depth: u32,
    /// Its entry in [`Body::inlined_at`], once it has one.
    pub(super) interned: Option<u32>,
}

#[derive(Default)]
pub(super) struct FunctionState<'a> {
    pub(super) body: Body,
    scopes: Vec<Scope<'a>>,
    slots: Vec<Slot>,
    pub(super) locations: Vec<RawLocation>,
    pub(super) location_of: HashMap<(u32, u32, u32), usize>,
    interned: HashMap<(Location, String), u32>,
    pub(super) current: Option<usize>,
    pub(super) current_location: Option<Location>,
}

impl<'a> FunctionState<'a> {
    pub(super) fn depth(&self) -> usize {
        self.scopes.len()
    }

    pub(super) fn open(&mut self) -> bool {
        self.scopes.push(Scope::default());
        self.scopes.len() <= MAX_NESTING
    }

    /// Ends a scope; labels that are still without place go to the scope around it.
    pub(super) fn close(&mut self) {
        let Some(scope) = self.scopes.pop() else { return };
        let Some(outer) = self.scopes.last_mut() else {
            return;
        };
        for (name, slot) in scope.labels {
            if self.slots[slot as usize].position.is_none() {
                match outer.labels.get(name) {
                    Some(same) => self.slots[slot as usize].same_as = Some(*same),
                    None => {
                        outer.labels.insert(name, slot);
                    }
                }
            }
        }
    }

    pub(super) fn declare(&mut self, name: &'a str, value: Name) -> bool {
        match self.scopes.last_mut() {
            Some(scope) => scope.names.insert(name, value).is_none(),
            None => false,
        }
    }

    pub(super) fn register(&mut self, name: &'a str, ty: Type) -> bool {
        let id = RegisterId(self.body.registers.len() as u32);
        self.body.registers.push(Register { name: name.to_owned(), ty });
        self.declare(name, Name::Register(id))
    }

    pub(super) fn register_range(&mut self, prefix: &'a str, count: u32, ty: Type) -> bool {
        let first = self.body.registers.len() as u32;
        let names = (0..count).map(|i| Register { name: format!("{prefix}{i}"), ty });
        self.body.registers.extend(names);
        match self.scopes.last_mut() {
            Some(scope) => scope.ranges.insert(prefix, (first, count)).is_none(),
            None => false,
        }
    }

    /// What a name stands for, innermost scope first.
    pub(super) fn find(&self, name: &str) -> Option<Name> {
        self.scopes.iter().rev().find_map(|scope| scope.find(name))
    }

    pub(super) fn add_targets(&mut self, name: &'a str, targets: Targets) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.targets.insert(name, targets);
        }
    }

    /// The operand that a target list or prototype becomes.
    pub(super) fn targets(&mut self, name: &str) -> Option<Operand> {
        let scopes = self.scopes.iter_mut().rev();
        let targets = scopes.filter_map(|scope| scope.targets.get_mut(name)).next()?;
        Some(match targets {
            Targets::List(list) => Operand::List(list.clone()),
            Targets::Prototype(prototype, index) => {
                let prototypes = &mut self.body.prototypes;
                Operand::Prototype(*index.get_or_insert_with(|| {
                    prototypes.push(std::mem::take(prototype));
                    (prototypes.len() - 1) as u32
                }))
            }
        })
    }

    fn slot(&mut self, name: &'a str, place: Place) -> u32 {
        let slots = &mut self.slots;
        let mut new = || {
            let name = name.to_owned();
            slots.push(Slot { same_as: None, position: None, name, first_use: place });
            (slots.len() - 1) as u32
        };
        match self.scopes.last_mut() {
            Some(scope) => *scope.labels.entry(name).or_insert_with(new),
            None => new(),
        }
    }

    /// A use of a label; the operand is final only after [`FunctionState::finish`].
    pub(super) fn use_label(&mut self, name: &'a str, place: Place) -> Operand {
        Operand::Label(LabelId(self.slot(name, place)))
    }

    /// Gives a label its place; false if it has one in this scope.
    pub(super) fn define_label(&mut self, name: &'a str, place: Place) -> bool {
        let slot = self.slot(name, place) as usize;
        let position = self.body.instructions.len() as u32;
        self.slots[slot].position.replace(position).is_none()
    }

    /// The location of the next instruction.
    pub(super) fn location(&mut self) -> Option<Location> {
        if let Some(raw) = self.current.take() {
            let at = self.locations[raw].inlined.as_ref().map(|(_, at)| *at);
            let inlined_at = at.map(|at| {
                let label = self.locations[raw].inlined.clone().map_or(String::new(), |i| i.0);
                self.intern(at, label)
            });
            let RawLocation { file, line, column, .. } = self.locations[raw];
            self.current_location = Some(Location { file, line, column, inlined_at });
        }
        self.current_location
    }

    /// The index in `inlined_at` of a call site; `label` names what was inlined there.
    fn intern(&mut self, at: usize, label: String) -> u32 {
        // From the call site outwards, up to what has an entry; each directive comes after the one
        // that it was inlined into.
        let mut chain = vec![(at, label)];
        let mut outer = None;
        loop {
            let (raw, label) = &chain[chain.len() - 1];
            let raw = &self.locations[*raw];
            let known = raw.interned.filter(|i| self.body.inlined_functions[*i as usize] == *label);
            if known.is_some() {
                outer = known;
                chain.pop();
                break;
            }
            match raw.inlined.clone() {
                Some((label, next)) => chain.push((next, label)),
                None => break,
            }
        }
        for (raw, label) in chain.into_iter().rev() {
            let RawLocation { file, line, column, .. } = self.locations[raw];
            let location = Location { file, line, column, inlined_at: outer };
            let body = &mut self.body;
            let index = *self.interned.entry((location, label.clone())).or_insert_with(|| {
                body.inlined_at.push(location);
                body.inlined_functions.push(label);
                (body.inlined_at.len() - 1) as u32
            });
            self.locations[raw].interned = Some(index);
            outer = Some(index);
        }
        outer.unwrap_or_default()
    }

    /// Resolves the labels.
    pub(super) fn finish(mut self) -> Result<Body, (Place, String)> {
        let resolve = |slots: &[Slot], mut slot: u32| {
            while let Some(next) = slots[slot as usize].same_as {
                slot = next;
            }
            slot
        };
        let undefined = self.slots.iter().enumerate().filter(|(i, _)| {
            self.slots[resolve(&self.slots, *i as u32) as usize].position.is_none()
        });
        if let Some((_, slot)) = undefined.min_by_key(|(_, slot)| slot.first_use) {
            return Err((slot.first_use, format!("no label `{}` in this scope", slot.name)));
        }
        // In the order of their places; those at one place in the order of their first mention.
        let mut order: Vec<u32> =
            (0..self.slots.len() as u32).filter(|i| resolve(&self.slots, *i) == *i).collect();
        order.sort_by_key(|i| self.slots[*i as usize].position);
        let mut ids = vec![0; self.slots.len()];
        for (id, slot) in order.iter().enumerate() {
            ids[*slot as usize] = id as u32;
        }
        self.body.labels = order
            .iter()
            .map(|i| &self.slots[*i as usize])
            .map(|slot| Label {
                name: slot.name.clone(),
                position: slot.position.unwrap_or_default(),
            })
            .collect();
        for instruction in &mut self.body.instructions {
            for operand in &mut instruction.operands {
                let list = match operand {
                    Operand::List(list) => list.as_mut_slice(),
                    other => std::slice::from_mut(other),
                };
                for operand in list {
                    if let Operand::Label(LabelId(id)) = operand {
                        *id = ids[resolve(&self.slots, *id) as usize];
                    }
                }
            }
        }
        Ok(self.body)
    }
}

impl Scope<'_> {
    fn find(&self, name: &str) -> Option<Name> {
        if let Some(found) = self.names.get(name) {
            return Some(*found);
        }
        // `%r12` of `%r<100>`: any split into prefix and a number without leading zeros.
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count().min(8);
        (1..=digits).find_map(|length| {
            let (prefix, number) = name.split_at(name.len() - length);
            let (first, count) = *self.ranges.get(prefix)?;
            let index: u32 = number.parse().ok()?;
            let canonical = length == 1 || !number.starts_with('0');
            let found = canonical && index < count;
            found.then(|| Name::Register(RegisterId(first + index)))
        })
    }
}

impl Parser<'_> {
    /// Counts registers against the module's limit.
    pub(super) fn count_registers(&mut self, more: u64) -> Result<(), ParseError> {
        self.registers = self.registers.saturating_add(more);
        if self.registers > super::MAX_REGISTERS {
            let limit = super::MAX_REGISTERS;
            return Err(self.cursor.error(format!("more than {limit} registers in the module")));
        }
        Ok(())
    }
}
