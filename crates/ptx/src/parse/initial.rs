//! Initialisers of variables (PTX ISA 5.4.4).

use super::{MAX_INITIAL, ParseError, Parser};
use crate::instruction::Immediate;
use crate::module::{InitialValue, Symbol, Variable};
use crate::types::Type;

/// Where elements go.
struct Sink {
    values: Vec<InitialValue>,
    /// Elements so far.
    count: u64,
    ty: Type,
}

impl Sink {
    fn bytes(&mut self, bytes: &[u8]) {
        match self.values.last_mut() {
            Some(InitialValue::Bytes(run)) => run.extend_from_slice(bytes),
            _ => self.values.push(InitialValue::Bytes(bytes.to_vec())),
        }
        self.count += 1;
    }

    fn zeros(&mut self, elements: u64) {
        let zero = vec![0; self.ty.bytes() as usize];
        for _ in 0..elements {
            self.bytes(&zero);
        }
    }
}

impl Parser<'_> {
    pub(super) fn initial(&mut self, variable: &mut Variable) -> Result<(), ParseError> {
        self.cursor.space();
        let place = self.cursor.place();
        let mut dims = variable.dims.clone();
        if variable.vector > 1 {
            dims.push(u64::from(variable.vector));
        }
        let mut sink = Sink { values: Vec::new(), count: 0, ty: variable.ty };
        if self.cursor.peek() == b'{' {
            self.group(&dims, &mut sink)?;
        } else {
            self.element(&mut sink)?;
        }
        let inner = dims.iter().skip(1).fold(1u64, |a, d| a.saturating_mul(*d)).max(1);
        // Inner dimensions are kept whole.
        let missing = (inner - sink.count % inner) % inner;
        self.count_initial(missing, sink.ty)?;
        sink.zeros(missing);
        if variable.dims.first() == Some(&0) {
            variable.dims[0] = sink.count.div_ceil(inner);
        }
        let room = variable.dims.iter().fold(1u64, |a, d| a.saturating_mul(*d));
        if sink.count > room.saturating_mul(u64::from(variable.vector)) {
            let message = format!("`{}` has more values than elements", variable.name);
            return Err(self.cursor.error_at(place, message));
        }
        variable.init = sink.values;
        Ok(())
    }

    /// `{ ... }`: the first of `dims` is its own. What it leaves out is zero.
    fn group(&mut self, dims: &[u64], sink: &mut Sink) -> Result<(), ParseError> {
        let place = self.cursor.place();
        self.cursor.expect(b'{')?;
        let inner = dims.get(1..).unwrap_or_default();
        if self.cursor.take(b'}') {
            return Ok(());
        }
        loop {
            if self.cursor.peek() == b'{' {
                if inner.is_empty() {
                    return Err(self.cursor.error("more braces than dimensions"));
                }
                let start = sink.count;
                self.group(inner, sink)?;
                let size = inner.iter().fold(1u64, |a, d| a.saturating_mul(*d));
                let used = sink.count - start;
                if used > size {
                    return Err(self.cursor.error_at(place, "more values than elements"));
                }
                self.count_initial(size - used, sink.ty)?;
                sink.zeros(size - used);
            } else {
                self.element(sink)?;
            }
            if !self.cursor.take(b',') {
                break;
            }
        }
        self.cursor.expect(b'}')
    }

    fn count_initial(&mut self, elements: u64, ty: Type) -> Result<(), ParseError> {
        let bytes = elements.saturating_mul(u64::from(ty.bytes().max(1)));
        self.initial_bytes = self.initial_bytes.saturating_add(bytes);
        if self.initial_bytes > MAX_INITIAL {
            let message = format!("initialisers of more than {MAX_INITIAL} bytes");
            return Err(self.cursor.error(message));
        }
        Ok(())
    }

    fn element(&mut self, sink: &mut Sink) -> Result<(), ParseError> {
        self.count_initial(1, sink.ty)?;
        self.cursor.space();
        let place = self.cursor.place();
        let Some(word) = self.cursor.peek_word().filter(|w| *w != "WARP_SZ") else {
            let value = self.constant()?;
            if self.cursor.peek() == b'(' {
                let message = "a mask over an address, like `0xFF(name)`, is not supported";
                return Err(self.cursor.error(message));
            }
            let bytes = encode(value, sink.ty).ok_or_else(|| {
                self.cursor.error_at(place, "the constant does not fit the variable's type")
            })?;
            sink.bytes(&bytes);
            return Ok(());
        };
        self.cursor.try_word();
        let generic = word == "generic";
        let name = if generic {
            self.cursor.expect(b'(')?;
            let name = self.cursor.word("a name")?;
            self.cursor.expect(b')')?;
            name
        } else {
            word
        };
        let symbol: Option<Symbol> = self.symbols.get(name).copied();
        let symbol = symbol
            .ok_or_else(|| self.cursor.error_at(place, format!("`{name}` is not declared")))?;
        if sink.ty.bits() < 32 || sink.ty.is_float() {
            let message = "an address needs elements of 32 or 64 bits";
            return Err(self.cursor.error_at(place, message));
        }
        let offset = match self.cursor.peek() {
            b'+' | b'-' => self.integer()?,
            _ => 0,
        };
        let size = sink.ty.bytes();
        sink.values.push(InitialValue::Address { symbol, offset, generic, size });
        sink.count += 1;
        Ok(())
    }
}

fn encode(value: Immediate, ty: Type) -> Option<Vec<u8>> {
    let size = ty.bytes() as usize;
    Some(match (value, ty) {
        (Immediate::F32(bits), Type::F32 | Type::B32) => bits.to_le_bytes().to_vec(),
        (Immediate::F32(bits), Type::F64) => f64::from(f32::from_bits(bits)).to_le_bytes().to_vec(),
        (Immediate::F64(bits), Type::F64 | Type::B64) => bits.to_le_bytes().to_vec(),
        (Immediate::F64(bits), Type::F32) => ((f64::from_bits(bits)) as f32).to_le_bytes().to_vec(),
        (Immediate::Integer(v), Type::F32) => (v as f32).to_le_bytes().to_vec(),
        (Immediate::Integer(v), Type::F64) => (v as f64).to_le_bytes().to_vec(),
        (Immediate::Integer(v), _) => {
            let mut bytes = i128::from(v).to_le_bytes().to_vec();
            bytes.truncate(size);
            bytes
        }
        _ => return None,
    })
}
