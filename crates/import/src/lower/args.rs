//! Arguments of an exported node by name. torch omits arguments that have their default, so every
//! accessor takes the ATen schema's default.

use zeroforge_artifact::Expr;
use zeroforge_graph::ValueId;

use super::Importer;
use crate::pt2::schema::{Argument, Node, OptionalTensor, SymIntArgument};

/// A number argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
}

impl Scalar {
    pub(super) fn as_f64(self) -> f64 {
        match self {
            Scalar::Bool(v) => f64::from(u8::from(v)),
            Scalar::Int(v) => v as f64,
            Scalar::Float(v) => v,
        }
    }
}

/// The arguments of one node.
#[derive(Clone, Copy)]
pub(super) struct Args<'a> {
    pub(super) node: &'a Node,
}

fn kind(arg: &Argument) -> String {
    let text = format!("{arg:?}");
    text.split(['(', ' ', '{']).next().unwrap_or("?").to_owned()
}

impl<'a> Args<'a> {
    pub(super) fn find(&self, name: &str) -> Option<&'a Argument> {
        let arg = self.node.inputs.iter().find(|a| a.name == name).map(|a| &a.arg)?;
        match arg {
            Argument::AsNone(_) => None,
            Argument::AsOptionalTensor(OptionalTensor::AsNone(_)) => None,
            arg => Some(arg),
        }
    }

    fn wrong<T>(&self, name: &str, arg: &Argument, expected: &str) -> Result<T, String> {
        Err(format!("argument `{name}` is {}, expected {expected}", kind(arg)))
    }

    pub(super) fn tensor(&self, im: &Importer<'_>, name: &str) -> Result<ValueId, String> {
        self.optional_tensor(im, name)?.ok_or_else(|| format!("argument `{name}` is missing"))
    }

    pub(super) fn optional_tensor(
        &self,
        im: &Importer<'_>,
        name: &str,
    ) -> Result<Option<ValueId>, String> {
        match self.find(name) {
            None => Ok(None),
            Some(
                Argument::AsTensor(t) | Argument::AsOptionalTensor(OptionalTensor::AsTensor(t)),
            ) => im.value(&t.name).map(Some),
            Some(other) => self.wrong(name, other, "a tensor"),
        }
    }

    pub(super) fn tensors(&self, im: &Importer<'_>, name: &str) -> Result<Vec<ValueId>, String> {
        match self.find(name) {
            Some(Argument::AsTensors(list)) => list.iter().map(|t| im.value(&t.name)).collect(),
            Some(other) => self.wrong(name, other, "tensors"),
            None => Err(format!("argument `{name}` is missing")),
        }
    }

    pub(super) fn optional_tensors(
        &self,
        im: &Importer<'_>,
        name: &str,
    ) -> Result<Vec<Option<ValueId>>, String> {
        match self.find(name) {
            Some(Argument::AsTensors(list)) => {
                list.iter().map(|t| im.value(&t.name).map(Some)).collect()
            }
            Some(Argument::AsOptionalTensors(list)) => list
                .iter()
                .map(|t| match t {
                    OptionalTensor::AsTensor(t) => im.value(&t.name).map(Some),
                    OptionalTensor::AsNone(_) => Ok(None),
                })
                .collect(),
            Some(other) => self.wrong(name, other, "tensors"),
            None => Err(format!("argument `{name}` is missing")),
        }
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, String> {
        match self.find(name) {
            None => Ok(default),
            Some(Argument::AsInt(v) | Argument::AsSymInt(SymIntArgument::AsInt(v))) => Ok(*v),
            Some(Argument::AsBool(v)) => Ok((*v).into()),
            Some(other) => self.wrong(name, other, "an integer"),
        }
    }

    pub(super) fn boolean(&self, name: &str, default: bool) -> Result<bool, String> {
        match self.find(name) {
            None => Ok(default),
            Some(Argument::AsBool(v)) => Ok(*v),
            Some(other) => self.wrong(name, other, "a bool"),
        }
    }

    pub(super) fn string(&self, name: &str) -> Result<Option<&'a str>, String> {
        match self.find(name) {
            None => Ok(None),
            Some(Argument::AsString(v)) => Ok(Some(v)),
            Some(other) => self.wrong(name, other, "a string"),
        }
    }

    pub(super) fn scalar(&self, name: &str) -> Result<Option<Scalar>, String> {
        match self.find(name) {
            None => Ok(None),
            Some(Argument::AsBool(v)) => Ok(Some(Scalar::Bool(*v))),
            Some(Argument::AsInt(v) | Argument::AsSymInt(SymIntArgument::AsInt(v))) => {
                Ok(Some(Scalar::Int(*v)))
            }
            Some(Argument::AsFloat(v)) => match v.value() {
                Some(v) => Ok(Some(Scalar::Float(v))),
                None => Err(format!("argument `{name}` is no number")),
            },
            Some(other) => self.wrong(name, other, "a number"),
        }
    }

    pub(super) fn float(&self, name: &str, default: f64) -> Result<f64, String> {
        Ok(self.scalar(name)?.map_or(default, Scalar::as_f64))
    }

    /// A size: constant or symbolic.
    pub(super) fn size(&self, im: &Importer<'_>, name: &str) -> Result<Option<Expr>, String> {
        match self.find(name) {
            None => Ok(None),
            Some(Argument::AsInt(v)) => Ok(Some(Expr::constant(*v))),
            Some(Argument::AsSymInt(s)) => im.size(s).map(Some),
            Some(other) => self.wrong(name, other, "a size"),
        }
    }

    pub(super) fn sizes(&self, im: &Importer<'_>, name: &str) -> Result<Option<Vec<Expr>>, String> {
        match self.find(name) {
            None => Ok(None),
            Some(Argument::AsInts(list)) => {
                Ok(Some(list.iter().map(|&v| Expr::constant(v)).collect()))
            }
            Some(Argument::AsSymInts(list)) => {
                list.iter().map(|s| im.size(s)).collect::<Result<_, _>>().map(Some)
            }
            Some(Argument::AsInt(v)) => Ok(Some(vec![Expr::constant(*v)])),
            Some(Argument::AsSymInt(s)) => im.size(s).map(|e| Some(vec![e])),
            Some(other) => self.wrong(name, other, "sizes"),
        }
    }

    pub(super) fn ints(&self, im: &Importer<'_>, name: &str) -> Result<Option<Vec<i64>>, String> {
        let Some(sizes) = self.sizes(im, name)? else { return Ok(None) };
        let constant = |e: &Expr| {
            e.as_const().ok_or_else(|| format!("argument `{name}` holds the symbolic size `{e}`"))
        };
        sizes.iter().map(constant).collect::<Result<_, _>>().map(Some)
    }
}
