//! Declarations: variables, parameters, registers.

use super::scope::{FunctionState, Name};
use super::{MAX_VARIABLE, ParseError, Parser};
use crate::module::{Linkage, Symbol, Variable};
use crate::types::{StateSpace, Type};

/// A declaration without names: `.shared .align 16 .v4 .f32`.
#[derive(Clone)]
pub(super) struct Declaration {
    pub(super) space: StateSpace,
    pub(super) linkage: Linkage,
    align: Option<u32>,
    ty: Type,
    vector: u32,
    pointer: Option<(StateSpace, u32)>,
    managed: bool,
}

pub(super) fn linkage(word: &str) -> Option<Linkage> {
    Some(match word {
        "visible" => Linkage::Visible,
        "extern" => Linkage::Extern,
        "weak" => Linkage::Weak,
        "common" => Linkage::Common,
        _ => return None,
    })
}

fn space(word: &str) -> Option<StateSpace> {
    Some(match word {
        "const" => StateSpace::Const,
        "global" => StateSpace::Global,
        "local" => StateSpace::Local,
        "param" => StateSpace::Param,
        "shared" | "shared::cta" => StateSpace::Shared,
        "reg" => StateSpace::Register,
        _ => return None,
    })
}

impl<'a> Parser<'a> {
    /// Everything before the names. The type comes last in PTX, but its parts come in any order.
    pub(super) fn declaration(&mut self, linkage: Linkage) -> Result<Declaration, ParseError> {
        self.cursor.space();
        let start = self.cursor.place();
        let mut declaration = Declaration {
            space: StateSpace::Generic,
            linkage,
            align: None,
            ty: Type::Pred,
            vector: 1,
            pointer: None,
            managed: false,
        };
        let mut has_type = false;
        loop {
            self.cursor.space();
            let place = self.cursor.place();
            let Some(word) = self.cursor.try_dotted() else { break };
            if let Some(space) = space(word) {
                match &mut declaration.pointer {
                    Some(pointer) => pointer.0 = space,
                    None if declaration.space == StateSpace::Generic => declaration.space = space,
                    None => return Err(self.cursor.error_at(place, "a second state space")),
                }
            } else if word == "align" {
                let align = self.bounded("an alignment", 1 << 20)? as u32;
                if !align.is_power_of_two() {
                    let message = format!("the alignment {align} is not a power of two");
                    return Err(self.cursor.error_at(place, message));
                }
                match &mut declaration.pointer {
                    Some(pointer) => pointer.1 = align,
                    None => declaration.align = Some(align),
                }
            } else if word == "ptr" {
                declaration.pointer = Some((StateSpace::Generic, 4));
            } else if word == "attribute" {
                declaration.managed |= self.attributes()?;
            } else if let Some(ty) = Type::from_text(word) {
                has_type = true;
                declaration.ty = ty;
            } else {
                match word {
                    "v2" => declaration.vector = 2,
                    "v4" => declaration.vector = 4,
                    _ => {
                        let word: String = word.chars().take(60).collect();
                        let message = format!("`.{word}` is not known in a declaration");
                        return Err(self.cursor.error_at(place, message));
                    }
                }
            }
        }
        if declaration.space == StateSpace::Generic {
            return Err(self.cursor.error_at(start, "the declaration has no state space"));
        }
        if !has_type {
            return Err(self.cursor.error_at(start, "the declaration has no type"));
        }
        if declaration.ty == Type::Pred && declaration.space != StateSpace::Register {
            return Err(self.cursor.error_at(start, "only registers can be predicates"));
        }
        if declaration.ty.bits() < 8 && declaration.ty != Type::Pred {
            return Err(self.cursor.error_at(start, "no variable has this type"));
        }
        Ok(declaration)
    }

    /// `.attribute(.managed, .unified(a, b))`: whether it is managed.
    fn attributes(&mut self) -> Result<bool, ParseError> {
        let mut managed = false;
        self.cursor.expect(b'(')?;
        loop {
            self.cursor.space();
            let place = self.cursor.place();
            match self.cursor.try_dotted() {
                Some("managed") => managed = true,
                Some("unified") => {
                    self.cursor.expect(b'(')?;
                    self.integer()?;
                    self.cursor.expect(b',')?;
                    self.integer()?;
                    self.cursor.expect(b')')?;
                }
                _ => return Err(self.cursor.error_at(place, "an unknown attribute")),
            }
            if !self.cursor.take(b',') {
                break;
            }
        }
        self.cursor.expect(b')')?;
        Ok(managed)
    }

    /// The dimensions after a name.
    fn dimensions(&mut self) -> Result<Vec<u64>, ParseError> {
        let mut dims = Vec::new();
        while self.cursor.take(b'[') {
            let place = self.cursor.place();
            let open = self.cursor.take(b']');
            if open {
                if !dims.is_empty() {
                    let message = "only the first dimension can be left open";
                    return Err(self.cursor.error_at(place, message));
                }
                dims.push(0);
            } else {
                dims.push(self.bounded("a dimension", MAX_VARIABLE)?);
                self.cursor.expect(b']')?;
            }
            if dims.len() > 16 {
                return Err(self.cursor.error_at(place, "more than 16 dimensions"));
            }
        }
        Ok(dims)
    }

    /// One variable of a declaration: name, dimensions, initialiser.
    pub(super) fn variable(
        &mut self,
        declaration: &Declaration,
        name: &str,
        with_initial: bool,
    ) -> Result<Variable, ParseError> {
        let place = self.cursor.place();
        let dims = self.dimensions()?;
        let natural = declaration.ty.bytes().max(1) * declaration.vector;
        let mut variable = Variable {
            name: name.to_owned(),
            space: declaration.space,
            linkage: declaration.linkage,
            align: declaration.align.unwrap_or(natural),
            ty: declaration.ty,
            vector: declaration.vector,
            dims,
            init: Vec::new(),
            pointer: declaration.pointer,
            managed: declaration.managed,
        };
        if variable.bytes() > MAX_VARIABLE {
            let message = format!("`{name}` is larger than {MAX_VARIABLE} bytes");
            return Err(self.cursor.error_at(place, message));
        }
        if with_initial && self.cursor.take(b'=') {
            self.initial(&mut variable)?;
        }
        Ok(variable)
    }

    /// Variables at module scope, up to the `;`.
    pub(super) fn global_variables(&mut self, linkage: Linkage) -> Result<(), ParseError> {
        let place = self.cursor.place();
        let declaration = self.declaration(linkage)?;
        if matches!(declaration.space, StateSpace::Register | StateSpace::Param | StateSpace::Local)
        {
            let message = format!("`.{}` at module scope", declaration.space.text());
            return Err(self.cursor.error_at(place, message));
        }
        loop {
            self.cursor.space();
            let place = self.cursor.place();
            let name = self.cursor.word("the name of a variable")?;
            // A declaration may come before its definition, and several times.
            let known = match self.symbols.get(name) {
                None => None,
                Some(Symbol::Global(index)) => Some(*index as usize),
                Some(_) => {
                    let message = format!("`{name}` is declared twice");
                    return Err(self.cursor.error_at(place, message));
                }
            };
            if known.is_none() {
                // Known inside its own initialiser.
                let index = self.module.variables.len() as u32;
                self.symbols.insert(name, Symbol::Global(index));
            }
            let variable = self.variable(&declaration, name, true)?;
            match known {
                None => self.module.variables.push(variable),
                Some(index) => {
                    let old = &mut self.module.variables[index];
                    let loose = |l: Linkage| matches!(l, Linkage::Extern | Linkage::Common);
                    if old.space != variable.space {
                        let message = format!("`{name}` is declared in two state spaces");
                        return Err(self.cursor.error_at(place, message));
                    }
                    if loose(old.linkage) {
                        *old = variable;
                    } else if !loose(variable.linkage) {
                        let message = format!("`{name}` is declared twice");
                        return Err(self.cursor.error_at(place, message));
                    }
                }
            }
            if !self.cursor.take(b',') {
                break;
            }
        }
        self.cursor.expect(b';')
    }

    /// Registers or variables inside a function, up to the `;`.
    pub(super) fn local_variables(
        &mut self,
        state: &mut FunctionState<'a>,
        linkage: Linkage,
    ) -> Result<(), ParseError> {
        let declaration = self.declaration(linkage)?;
        loop {
            self.cursor.space();
            let place = self.cursor.place();
            let name = self.cursor.word("a name")?;
            let new = if declaration.space == StateSpace::Register {
                if declaration.vector != 1 {
                    let message = "vector registers are not supported; declare the elements";
                    return Err(self.cursor.error_at(place, message));
                }
                if self.cursor.take(b'<') {
                    let count = self.bounded("the number of registers", 1 << 20)?;
                    self.cursor.expect(b'>')?;
                    self.count_registers(count)?;
                    state.register_range(name, count as u32, declaration.ty)
                } else {
                    self.count_registers(1)?;
                    state.register(name, declaration.ty)
                }
            } else {
                let variable = self.variable(&declaration, name, true)?;
                let index = state.body.variables.len() as u32;
                state.body.variables.push(variable);
                state.declare(name, Name::Symbol(Symbol::Local(index)))
            };
            if !new {
                let message = format!("`{name}` is declared twice in one scope");
                return Err(self.cursor.error_at(place, message));
            }
            if !self.cursor.take(b',') {
                break;
            }
        }
        self.cursor.expect(b';')
    }

    /// `(.param .b64 a, .reg .b32 b)`, its first parenthesis not yet taken.
    pub(super) fn parameters(
        &mut self,
        names: &mut Vec<&'a str>,
    ) -> Result<Vec<Variable>, ParseError> {
        self.cursor.expect(b'(')?;
        let mut all = Vec::new();
        if self.cursor.take(b')') {
            return Ok(all);
        }
        loop {
            let place = self.cursor.place();
            let declaration = self.declaration(Linkage::None)?;
            if !matches!(declaration.space, StateSpace::Param | StateSpace::Register) {
                return Err(self.cursor.error_at(place, "a parameter is `.param` or `.reg`"));
            }
            let name = self.cursor.word("the name of a parameter")?;
            let parameter = self.variable(&declaration, name, false)?;
            names.push(name);
            all.push(parameter);
            if !self.cursor.take(b',') {
                break;
            }
        }
        self.cursor.expect(b')')?;
        Ok(all)
    }
}
